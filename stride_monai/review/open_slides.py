"""Slides that stay open between requests: so many, no more, each closed when nobody reads it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stride_monai.slides import Slide

__all__ = ["OpenSlides"]


class _Held:
    """An open slide and who uses it."""

    def __init__(self) -> None:
        self.opening = threading.Lock()
        self.slide: Slide | None = None
        self.users = 0
        self.dropped = False


class OpenSlides:
    """The slides last used, open.

    Args:
        capacity: how many stay open while nobody reads them.
    """

    def __init__(self, capacity: int = 8) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()

    @contextmanager
    def use(self, key: str, open_it: Callable[[], Slide]) -> Iterator[Slide]:
        """The slide of this key, opened by the first who asks; several threads may read it at once.

        Raises:
            StrideError: it cannot be opened; the next who asks tries again.
        """
        held = self._take(key)
        try:
            with held.opening:
                if held.slide is None:
                    held.slide = open_it()
            yield held.slide
        finally:
            self._give_back(key, held)

    def _take(self, key: str) -> _Held:
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.users += 1
            self._held.move_to_end(key)
            idle = [name for name, other in self._held.items() if not other.users]
            for name in idle[: max(0, len(self._held) - self._capacity)]:
                self._close(self._held.pop(name))
            return held

    def _give_back(self, key: str, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            if held.users:
                return
            if held.slide is None and self._held.get(key) is held:  # it could not be opened
                del self._held[key]
            elif held.dropped:
                self._close(held)

    @staticmethod
    def _close(held: _Held) -> None:
        if held.slide is not None:
            held.slide.close()

    def close(self) -> None:
        """Close all; those that are being read, when that is done."""
        with self._lock:
            for held in self._held.values():
                held.dropped = True
                if not held.users:
                    self._close(held)
            self._held.clear()
