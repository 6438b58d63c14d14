"""Tiles read ahead by threads, handed over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from stride_monai.errors import RegionError
from stride_monai.slides.grid import Tile
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.slide import Slide

__all__ = ["stream_tiles"]


def stream_tiles(
    slide: Slide, tiles: Sequence[Tile], mpp: float, workers: int = 2, prefetch: int | None = None
) -> Iterator[tuple[Tile, Pixels | RegionError]]:
    """Tiles of a slide, decoded ahead by threads and yielded in the order given.

    At most ``prefetch`` tiles are in memory besides the one in the caller's hands. Closing the generator (or leaving
    the loop and dropping it) cancels what has not begun and waits for what has.

    Args:
        mpp: um/px of the pixels.
        prefetch: tiles read ahead; by default four per thread.

    Yields:
        The tile, and its pixels (uint8 ``[h, w, 3]``) or the :class:`~stride_monai.errors.RegionError` that says why it
        cannot be decoded: the caller counts it and goes on.
    """
    if workers < 1 or (prefetch is not None and prefetch < 1):
        raise ValueError("stream_tiles needs at least one worker and one tile read ahead")
    ahead = prefetch or 4 * workers

    def read(tile: Tile) -> Pixels | RegionError:
        try:
            return slide.read(tile.box, mpp)
        except RegionError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
    waiting: deque[tuple[Tile, Future[Pixels | RegionError]]] = deque()
    try:
        for tile in tiles:
            waiting.append((tile, pool.submit(read, tile)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
