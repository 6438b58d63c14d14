"""Decoded tiles that readers keep, since neighbouring regions overlap."""

from __future__ import annotations

import threading
from collections import OrderedDict

from stride_monai.slides.protocol import Pixels

__all__ = ["TileCache"]

_BYTES = 64 * 2**20


class TileCache:
    """The most recently used tiles, up to a number of bytes."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._tiles: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Pixels | None:
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: tuple[int, int], tile: Pixels) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                _, oldest = self._tiles.popitem(last=False)
                self._bytes -= oldest.nbytes

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._bytes = 0
