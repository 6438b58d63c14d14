"""What a runtime is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Run", "Runtime"]

Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]
"""From one input to one output, of the shapes that the network was exported with; several threads may call it."""


class Runtime(Protocol):
    """Computes an exported network with one input and one output.

    Each call is computed by one thread, in float32, so that its bits depend neither on how many threads there are nor
    on what else is computed.
    """

    name: str

    def convert(self, program: ExportedProgram, folder: Path) -> None:
        """Write the network into an empty folder, in the runtime's own form and in full precision."""
        ...

    def load(self, folder: Path, threads: int) -> Run:
        """Load what :meth:`convert` wrote, for as many calls at a time as ``threads``."""
        ...
