"""Decoded tiles are kept up to a size, and of threads that want one at the same time one decodes it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest

from stride_monai.slides.protocol import Pixels
from stride_monai.slides.readers.tiles import TileCache

TILE = np.zeros((10, 10, 3), np.uint8)


def test_threads_that_want_one_tile_have_it_decoded_once() -> None:
    cache, begun, all_ask = TileCache(), count(), threading.Barrier(8)
    decoding = threading.Event()

    def decode() -> Pixels:
        next(begun)
        assert decoding.wait(10)  # until the others have asked, too
        return TILE

    def ask(_: int) -> Pixels:
        if all_ask.wait(10) == 0:
            threading.Timer(0.05, decoding.set).start()
        return cache.get((0, 7), decode)

    with ThreadPoolExecutor(8) as pool:
        assert all(tile is TILE for tile in pool.map(ask, range(8)))
    assert next(begun) == 1


def test_what_fails_is_tried_again_by_the_next() -> None:
    cache = TileCache()

    def fail() -> Pixels:
        raise ValueError("damaged")

    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            cache.get((0, 0), fail)
    assert cache.get((0, 0), lambda: TILE) is TILE


def test_the_oldest_go_first() -> None:
    cache, decoded = TileCache(3 * TILE.nbytes), list[int]()

    def get(key: int) -> None:
        cache.get((0, key), lambda: decoded.append(key) or TILE)  # type: ignore[func-returns-value]

    for key in (0, 1, 2, 0, 3, 0, 2, 3, 1):
        get(key)
    assert decoded == [0, 1, 2, 3, 1]
    cache.clear()
    get(3)
    assert decoded[-2:] == [1, 3]
