"""TIFF and SVS by direct decoding of the tiles asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides.protocol import PictureChoice, Pixels, UnknownFormatError
from stride_monai.slides.readers.tiles import TileCache
from stride_monai.slides.tiff.color import Colors
from stride_monai.slides.tiff.decode import decode_segment
from stride_monai.slides.tiff.directory import FileBytes, TiffError, is_tiff
from stride_monai.slides.tiff.layout import open_layout

__all__ = ["TiffReader"]


class TiffReader:
    """A tiled or striped TIFF (:class:`~stride_monai.slides.Reader`): SVS, OME-TIFF, ImageJ's, and plain ones
    with levels in pages or SubIFDs; grey, colours, palettes and alpha, of 1 to 16 bits; JPEG, JPEG 2000, ZSTD, Deflate,
    LZW, WebP and others. What it is stands in its layout (:mod:`stride_monai.slides.tiff.layout`).

    A tile that the file does not hold cannot be decoded: what was there is not known. Decoded tiles are kept in a small
    cache, since neighbouring regions overlap.

    Args:
        file: its bytes, where they are not to be read from the path: a remote file, which the path only names.

    Attributes:
        tiled: whether the picture is in tiles, else it is in strips.
        orientation: of the stored picture; the pixels given here are those stored.
        notes: sentences on what else the file holds.
    """

    name = "tiff"
    chooses = True
    fresh = True

    def __init__(self, path: Path, choice: PictureChoice | None = None, file: FileBytes | None = None) -> None:
        if not is_tiff(file or path):
            raise UnknownFormatError(f"{path.name}: not a TIFF")
        self._path = path
        self._file = file or FileBytes(path)
        try:
            layout = open_layout(path, self._file, choice)
            if not layout.levels:
                raise SlideError(f"{path.name}: the format {layout.vendor} is read by OpenSlide only")
            self._levels = layout.levels
            self._colors = self._all_colors(layout.white)
        except BaseException:
            self._file.close()
            raise
        self.format = layout.vendor
        self.stated = layout.stated
        self.tiled = self._levels[0].tiled
        self.orientation = layout.orientation
        self.notes, self.focal_planes = layout.notes, layout.focal_planes
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(page.size for page in self._levels)
        self.bounds = (0, 0, *self.level_sizes[0])
        self._cache = TileCache()

    def _all_colors(self, white: int) -> list[Colors]:
        try:
            return [Colors(page, white) for page in self._levels]
        except TiffError as error:
            raise SlideError(f"{self._path.name}: {error.what}", error.advice) from error

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        page = self._levels[level]
        tile_width, tile_height = page.segment_width, page.segment_height
        columns = page.segments.columns
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
                tile_x, tile_y = column * tile_width, row * tile_height
                x0, x1 = max(x, tile_x), min(x + width, tile_x + tile_width)
                y0, y1 = max(y, tile_y), min(y + height, tile_y + tile_height)
                target = out[y0 - y : y1 - y, x0 - x : x1 - x]
                tile = self._segment(level, row * columns + column)
                part = tile[y0 - tile_y : y1 - tile_y, x0 - tile_x : x1 - tile_x]
                if part.shape != target.shape:
                    raise self._damaged(level, row * columns + column, "it is too small")
                target[...] = part
        return out

    def _segment(self, level: int, index: int) -> Pixels:
        """One decoded tile or strip."""
        return self._cache.get((level, index), lambda: self._decoded(level, index))

    def _decoded(self, level: int, index: int) -> Pixels:
        try:
            return self._colors[level].rgb(decode_segment(self._levels[level], index, self._file))
        except TiffError as error:
            raise self._damaged(level, index, error.what) from error
        except SlideError:  # the file cannot be reached any more: no fault of the tile's
            raise
        except Exception as error:  # every codec raises errors of its own kind
            raise self._damaged(level, index, str(error) or type(error).__name__) from error

    def _damaged(self, level: int, index: int, why: str) -> RegionError:
        return RegionError(f"{self._path.name}: tile {index} of level {level} cannot be decoded ({why})")

    def close(self) -> None:
        self._file.close()
        self._cache.clear()
