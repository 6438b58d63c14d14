"""Reading a whole slide in a process of its own, to see whether that ends well before it is read in this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from stride_monai.errors import SlideError
from stride_monai.guard import (
    Guard,
    Limits,
    OverMemoryError,
    OverTimeError,
    ProcessEndedError,
    UnexpectedError,
    memory_limit,
)
from stride_monai.slides.grid import TileGrid
from stride_monai.slides.slide import open_slide
from stride_monai.slides.streaming import stream_tiles

__all__ = ["rehearse"]

_TILE_PX = 1024
_SECONDS = 3600.0
_SHARE_OF_MEMORY = 0.8
Request: TypeAlias = tuple[Path, float | None, Sequence[float]]


def rehearse(path: Path, mpp: float | None, resolutions: Sequence[float], seconds: float = _SECONDS) -> None:
    """Read a slide as it will be read, and keep nothing.

    Args:
        mpp: um/px that wins over the file's own.
        resolutions: um/px at which it will be read.
        seconds: after which it is given up.

    Raises:
        SlideError: it cannot be opened, or reading it ends a process, takes too long or fills the memory.
    """
    whole = memory_limit()
    limits = Limits(seconds, whole and int(_SHARE_OF_MEMORY * whole))
    try:
        with Guard(f"{__name__}:_reader") as guard:
            guard.call((path, mpp, tuple(resolutions)), limits)
    except (ProcessEndedError, OverTimeError, OverMemoryError, UnexpectedError) as error:
        match error:
            case ProcessEndedError():
                what = f"reading {path.name} ends the process ({error.how})"
            case OverTimeError():
                what = f"{path.name} was not read after {seconds:g} s"
            case OverMemoryError():
                what = f"reading {path.name} fills the memory ({error.what})"
            case _:
                what = f"{path.name}: {error.what}"
        raise SlideError(what, "copy it again from the scanner") from error


def _reader() -> Callable[[Request, Callable[..., None]], Any]:
    def read(request: Request, report: Callable[..., None]) -> None:
        path, mpp, resolutions = request
        with open_slide(path, mpp=mpp) as slide:
            for resolution in resolutions:
                at = max(resolution, slide.mpp)
                grid = TileGrid(slide.width, slide.height, slide.mpp, at, _TILE_PX, 0)
                for _ in stream_tiles(slide, list(grid), at):
                    pass

    return read
