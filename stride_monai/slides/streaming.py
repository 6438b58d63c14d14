"""Tiles read ahead by threads, handed over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TypeVar

from stride_monai.errors import RegionError
from stride_monai.slides.grid import Tile
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.slide import Slide

__all__ = ["done_ahead", "stream_tiles"]

Item = TypeVar("Item")
Made = TypeVar("Made")


def done_ahead(
    pool: Executor, function: Callable[[Item], Made], items: Iterable[Item], ahead: int
) -> Generator[Made, None, None]:
    """``function`` of each item, done by a pool and yielded in the order of the items.

    At most ``ahead`` results are begun or kept besides the one in the caller's hands; items are taken as they are
    needed. Closing the generator cancels what has not begun and waits for what has.
    """
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        wait([future for future in waiting if not future.cancel()])


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

    def read(tile: Tile) -> tuple[Tile, Pixels | RegionError]:
        try:
            return tile, slide.read(tile.box, mpp)
        except RegionError as error:
            return tile, error

    with (
        ThreadPoolExecutor(workers, thread_name_prefix="tiles") as pool,
        closing(done_ahead(pool, read, tiles, prefetch or 4 * workers)) as found,
    ):
        yield from found
