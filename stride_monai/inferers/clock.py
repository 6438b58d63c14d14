"""Seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Clock"]


class Clock:
    """Adds up seconds by stage; kept out of findings, which are the same whenever they are made.

    Attributes:
        seconds: by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What passed since the last lap, or since the clock was made, belongs to the stage that it ends."""
        now = time.perf_counter()
        self.add(stage, now - self._last)
        self._last = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What passes within the block belongs to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def divide(self, stage: str, shares: Mapping[str, float]) -> None:
        """Divide the seconds of a stage among the stages that were worked on meanwhile.

        Args:
            shares: stage -> seconds that threads spent on it; their sum is not the time that passed.
        """
        spent, total = self.seconds.pop(stage, 0.0), sum(shares.values())
        for name, share in shares.items():
            self.add(name, spent * share / total if total else 0.0)

    def add(self, stage: str, seconds: float) -> None:
        """So many seconds more."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
