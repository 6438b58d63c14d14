"""Decoded tiles that readers keep, since neighbouring regions overlap."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from stride_monai.slides.protocol import Pixels

__all__ = ["TileCache"]

_BYTES = 64 * 2**20
_Key = tuple[int, int]


class TileCache:
    """The most recently used tiles, up to a number of bytes.

    Of several threads that want a tile at the same time one decodes it and the others wait for it.
    """

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._tiles: OrderedDict[_Key, Pixels] = OrderedDict()
        self._begun: dict[_Key, Future[Pixels]] = {}
        self._lock = threading.Lock()

    def get(self, key: _Key, decode: Callable[[], Pixels]) -> Pixels:
        """The tile of that name, decoded if it is not kept.

        Raises:
            Exception: what ``decode`` raises, for each that waits for the tile.
        """
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
            begun = self._begun.get(key)
            mine = self._begun.setdefault(key, Future())
        if begun is not None:
            return begun.result()
        try:
            tile = decode()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            self._put(key, tile)
            mine.set_result(tile)
            return tile
        finally:
            with self._lock:
                self._begun.pop(key, None)

    def _put(self, key: _Key, tile: Pixels) -> None:
        with self._lock:
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                _, oldest = self._tiles.popitem(last=False)
                self._bytes -= oldest.nbytes

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._bytes = 0
