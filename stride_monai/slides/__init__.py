"""Slides: pixels in. Any slide file, um/px, reading at any resolution, the deposit, tile grids, streams of tiles.

Nothing here imports torch or MONAI.
"""

from __future__ import annotations

from stride_monai.slides.foreground import Foreground, find_foreground
from stride_monai.slides.grid import Tile, TileGrid
from stride_monai.slides.protocol import Pixels, Reader, StatedFacts, UnknownFormatError
from stride_monai.slides.readers import ReaderReport, is_slide_path, probe_readers, reader_names
from stride_monai.slides.slide import Slide, open_slide
from stride_monai.slides.streaming import stream_tiles

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
