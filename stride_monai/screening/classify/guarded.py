"""Classifying in a process of its own: a file that aborts it, stalls or fills the memory costs its own cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stride_monai.guard import Guard, Limits, OverMemoryError, OverTimeError, ProcessEndedError
from stride_monai.names import readable
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.inputs import CellInput
from stride_monai.screening.classify.results import ClassifiedCell, Used, failed_cell
from stride_monai.screening.guarded import Allowance, networks_in, why_ended

__all__ = ["GuardedCells", "worker"]

_SECONDS, _SECONDS_PER_FILE = 600.0, 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """Load the networks. The answer is what classifies."""


Handle: TypeAlias = Callable[[Load | Sequence[CellInput], Callable[..., None]], Any]


def worker(config: ClassifyConfig) -> Handle:
    """A handler of requests, for :class:`~stride_monai.guard.Guard`: to load, and then to classify some cells."""
    from stride_monai.screening.classify.classifier import CellsClassifier, load_cells_classifier

    loaded: list[CellsClassifier] = []

    def handle(request: Load | Sequence[CellInput], report: Callable[..., None]) -> Used | list[ClassifiedCell]:
        if isinstance(request, Load):
            loaded.append(load_cells_classifier(config))
            return loaded[-1].used
        return loaded[-1](request)

    return handle


class GuardedCells:
    """Classifies cells in one process, which is started when there is something to read and anew where it ended.

    Args:
        on_load: told when networks begin to be loaded (True) and when they are (False).
        target: what the other process runs, see :class:`~stride_monai.guard.Guard`.

    Attributes:
        used: what classifies; None as long as nothing has been loaded.

    As a context manager it ends the process with the block.
    """

    def __init__(
        self,
        config: ClassifyConfig,
        on_load: Callable[[bool], None] = lambda _: None,
        target: str = f"{__name__}:worker",
    ) -> None:
        self.used: Used | None = None
        self._guard, self._on_load = Guard(target, config), on_load
        self._loaded = 0  # in which process there are networks

    def __call__(self, cells: Sequence[CellInput]) -> list[ClassifiedCell]:
        """Each cell's class, in order.

        Raises:
            BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked, or give no numbers.
        """
        tried = [cell for cell in cells if not cell.problem]
        answers = iter(self._tried(tried))
        return [failed_cell(cell, cell.problem) if cell.problem else next(answers) for cell in cells]

    def _tried(self, cells: Sequence[CellInput]) -> list[ClassifiedCell]:
        if not cells:
            return []
        if self._guard.process != self._loaded or self._loaded == 0:
            self._on_load(True)
            try:
                self.used = networks_in(self._guard, Load())
            finally:
                self._on_load(False)
            self._loaded = self._guard.process
        files = dict.fromkeys(cell.path for cell in cells)
        seconds = _SECONDS + _SECONDS_PER_FILE * len(files)
        try:
            answer: list[ClassifiedCell] = self._guard.call(list(cells), Limits(seconds, Allowance().limits().memory))
            return answer
        except (ProcessEndedError, OverTimeError, OverMemoryError) as error:
            if len(files) == 1:
                return [failed_cell(cell, _why(cell.path, seconds, error)) for cell in cells]
        # Which of them it was shows each file alone; the cells of one file stand or fall together.
        done = {path: iter(self._tried([cell for cell in cells if cell.path == path])) for path in files}
        return [next(done[cell.path]) for cell in cells]

    def __enter__(self) -> GuardedCells:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


def _why(path: Path, seconds: float, error: ProcessEndedError | OverTimeError | OverMemoryError) -> str:
    name = readable(path.name)
    match error:
        case ProcessEndedError():
            return f"{name} ended the process that read it ({error.how}): {why_ended(error.how)}"
        case OverTimeError():
            return f"{name} was not read after {seconds:g} s: check the file"
        case _:
            return f"{name} took too much memory ({error.what}): check the file"
