"""Work in a process of its own, under limits: what aborts, stalls or fills the memory there costs that work alone.

Imports nothing heavy. The process that is guarded lives no longer than the one that guards it.
"""

from __future__ import annotations

from stride_monai.guard.memory import memory_in_use, memory_limit
from stride_monai.guard.process import Guard, Limits, OverMemoryError, OverTimeError, ProcessEndedError, UnexpectedError
from stride_monai.guard.stops import Stopped, stoppable

__all__ = [
    "Guard",
    "Limits",
    "OverMemoryError",
    "OverTimeError",
    "ProcessEndedError",
    "Stopped",
    "UnexpectedError",
    "memory_in_use",
    "memory_limit",
    "stoppable",
]
