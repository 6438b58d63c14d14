"""Slides that stay open for the next caller, as loaders need them that read a crop here and a tile there."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from stride_monai.slides.slide import Slide, open_slide

__all__ = ["cached_slide"]

_OPEN_SLIDES = 8


def cached_slide(path: Path | str, mpp: float | None = None) -> Slide:
    """An open slide, kept open for the next caller in this process; the eight last used stay open.

    The slide is not for the caller to close. A worker process opens its own: a handle that was inherited by a fork
    shares its file position with the parent's. A file that has changed is opened again.

    Raises:
        SlideError, SpacingError: as :func:`stride_monai.slides.open_slide`.
    """
    try:
        stat = Path(path).stat()
        version = (stat.st_mtime_ns, stat.st_size)
    except OSError:
        version = (0, 0)  # open_slide says what is wrong
    return _opened(str(path), mpp, version, os.getpid())


@lru_cache(maxsize=_OPEN_SLIDES)
def _opened(path: str, mpp: float | None, version: tuple[int, int], process: int) -> Slide:
    return open_slide(path, mpp=mpp)
