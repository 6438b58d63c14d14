"""Slides: pixels in. Any slide file, um/px, reading at any resolution, the deposit, tile grids, streams of tiles.

Nothing here imports torch or MONAI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stride_monai.slides.grid import Tile, TileGrid
from stride_monai.slides.protocol import Pixels, Reader, StatedFacts, UnknownFormatError
from stride_monai.slides.readers import ReaderReport, is_slide_path, probe_readers, reader_names
from stride_monai.slides.slide import Slide, open_slide
from stride_monai.slides.streaming import stream_tiles

if TYPE_CHECKING:
    from stride_monai.slides.foreground import Foreground, find_foreground

__all__ = [
    "Foreground",
    "Pixels",
    "Reader",
    "ReaderReport",
    "Slide",
    "StatedFacts",
    "Tile",
    "TileGrid",
    "UnknownFormatError",
    "find_foreground",
    "is_slide_path",
    "open_slide",
    "probe_readers",
    "reader_names",
    "stream_tiles",
]


def __getattr__(name: str) -> Any:
    """The foreground is looked for when it is used: who only names or opens slides does not wait for SciPy."""
    if name in {"Foreground", "find_foreground"}:
        from stride_monai.slides import foreground

        return getattr(foreground, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
