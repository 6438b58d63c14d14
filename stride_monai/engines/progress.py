"""How far a cohort is, whoever works on it, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stride_monai.data.bags.bag import BAG_SUFFIX

__all__ = ["Progress", "duration"]

_LOOK_EVERY = 60.0


class Progress:
    """Counts the slides that are done, here and by other processes, and estimates the time left from what was made.

    Args:
        folder: where the bags appear. It is listed at most once a minute.
        slide_ids: all slides of the run.
        clock: seconds; for tests.
    """

    def __init__(self, folder: Path, slide_ids: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.total, self._clock = folder, len(slide_ids), clock
        self._open = set(slide_ids)
        self._start = self._looked = clock()
        self._made_here = self._found = 0
        self._there = self._bags()

    def step(self, slide_id: str, made: bool) -> str:
        """A slide is done with (made, there already, or failed); returns a line for the log."""
        self._open.discard(slide_id)
        self._made_here += made
        self._look()
        done, elapsed = self.total - len(self._open), self._clock() - self._start
        line = f"{done} of {self.total} slides"
        if self._open and self._made_here + self._found:
            left = elapsed / (self._made_here + self._found) * len(self._open)
            line += f", about {duration(left)} left"
        return line

    def summary(self) -> str:
        """A line for the end of the run."""
        took, bags = duration(self._clock() - self._start), len(self._bags())
        return f"{self._made_here} bags made here in {took}; {self.folder.name} has {bags} bags"

    def _look(self) -> None:
        """Notice what others have made."""
        if self._clock() - self._looked < _LOOK_EVERY:
            return
        self._looked = self._clock()
        new = self._bags() - self._there
        self._there |= new
        self._found += len(new & self._open)
        self._open -= new

    def _bags(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        return {path.name.removesuffix(BAG_SUFFIX) for path in self.folder.glob(f"*{BAG_SUFFIX}")}


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
