"""How far a run is, whoever works on it, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Set

__all__ = ["Progress", "duration"]

_LOOK_EVERY = 60.0


class Progress:
    """Counts the slides that are done, here and by other processes, and estimates the time left from what was made.

    Args:
        ids: all slides of the run.
        look: gives the ids of all that is there, whoever made it, where processes share a folder. Called at most once a
            minute.
        clock: seconds; for tests.
    """

    def __init__(
        self, ids: Iterable[str], look: Callable[[], Set[str]] = set, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open, self._look, self._clock = set(ids), look, clock
        self.total, self.made = len(self._open), 0
        self._start = self._looked = clock()
        self._found = 0
        self._there = set(look())

    def step(self, slide_id: str, made: bool) -> str:
        """A slide is done with (made, there already, or failed); returns a line for the log."""
        self._open.discard(slide_id)
        self.made += made
        self._notice()
        done, elapsed = self.total - len(self._open), self._clock() - self._start
        line = f"{done} of {self.total} slides"
        if self._open and self.made + self._found:
            line += f", about {duration(elapsed / (self.made + self._found) * len(self._open))} left"
        return line

    def took(self) -> str:
        """The time since the beginning, in words."""
        return duration(self._clock() - self._start)

    def _notice(self) -> None:
        """See what others have made."""
        if self._clock() - self._looked < _LOOK_EVERY:
            return
        self._looked = self._clock()
        new = self._look() - self._there
        self._there |= new
        self._found += len(new & self._open)
        self._open -= new


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
