"""Work in a process of its own, under limits: what aborts, stalls or fills the memory there costs that work alone.

Imports nothing heavy. The process that is guarded lives no longer than the one that guards it.
"""

from __future__ import annotations

from stride_monai.guard.memory import memory_in_use, memory_limit
from stride_monai.guard.process import Guard, Limits, OverMemoryError, OverTimeError, ProcessEndedError, UnexpectedError
from stride_monai.guard.stops import Stopped, if_stopped, signals_held, stoppable, unbroken

__all__ = [
    "Guard",
    "Limits",
    "OverMemoryError",
    "OverTimeError",
    "ProcessEndedError",
    "Stopped",
    "UnexpectedError",
    "if_stopped",
    "memory_in_use",
    "memory_limit",
    "signals_held",
    "stoppable",
    "unbroken",
]
