"""KFB, the format of KFBio's scanners: the library ``kfbslide`` (extra ``kfb``) reads header and index, we the tiles.

Its own way with pixels is not ours: where a tile is damaged it looks for a JPEG nearby, which may be another tile's,
and it stretches a tile of another size than the index states. Here such a tile cannot be decoded, as in every other
format.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stride_monai.errors import MissingExtraError, RegionError, SlideError
from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError
from stride_monai.slides.readers.tiles import TileCache
from stride_monai.slides.tiff.decode import decode_rgb_jpeg
from stride_monai.slides.tiff.directory import FileBytes, TiffError

__all__ = ["KfbReader", "is_kfb"]

_SEEN_VERSION = "1.6"
"""The one that the library's author had files of."""

_MOST_TILE_SIDE = 4096  # px; a header may state any number, and each tile is held in memory
_COPY = "copy it again from the scanner"


class _Tile(NamedTuple):
    """Where a tile's JPEG lies in the file, and its size in px."""

    offset: int
    bytes: int
    width: int
    height: int


class KfbReader:
    """A slide of a KFBio scanner (:class:`~stride_monai.slides.Reader`). Label and macro image are never decoded.

    A tile that the index does not name was not scanned and is white; one that it names and that is not there, or is no
    JPEG of the stated size, cannot be decoded.
    """

    name = format = "kfb"

    def __init__(self, path: Path) -> None:
        if not is_kfb(path):
            raise UnknownFormatError(f"{path.name}: not a KFB file")
        self._path = path
        slide = _opened(path)
        try:
            header, index = slide._info.header, slide._index
        finally:
            slide.close()
        self._side = int(header.tile_size)
        scales = [index.level_scales[level] for level in range(index.level_count)]
        self.level_sizes: tuple[tuple[int, int], ...] = index.level_dimensions()
        self._check(header.format, scales, header.scan_scale)
        self.bounds = (0, 0, *self.level_sizes[0])
        mpp = float(f"{header.mpp:.6g}")  # stored as a 32-bit float, whose further digits say nothing
        self.stated = StatedFacts(mpp, mpp, float(header.scan_scale))
        version = f"{header.version:.3g}"
        self.notes = () if version == _SEEN_VERSION else (f"KFB version {version}; known is {_SEEN_VERSION}",)
        self._tiles = [_tiles_of(index, scale) for scale in scales]
        self._file = FileBytes(path)
        self._cache = TileCache()
        self._check_held()

    def _check(self, compression: str, scales: list[float], full: int) -> None:
        """Raises:
        SlideError: what the header states makes no slide.
        """
        if compression != "JPEG":
            raise SlideError(f"{self._path.name}: KFB tiles of the compression '{compression}' are not read")
        if not scales or scales[0] != full:
            raise self._damaged("it holds no tiles of the full resolution")
        if not 0 < self._side <= _MOST_TILE_SIDE:
            raise self._damaged(f"it states tiles of {self._side} px")
        if min(min(size) for size in self.level_sizes) < 1:
            raise self._damaged("it states a level without pixels")

    def _check_held(self) -> None:
        """Raises:
        SlideError: more than half of the tiles lie beyond the end of the file, or one beside the picture: nobody knows
            where it belongs, and its place would be white.
        """
        for (width, height), level in zip(self.level_sizes, self._tiles, strict=True):
            # The size of a lower level may be rounded down, its tiles not.
            beside = sum(x >= width + self._side or y >= height + self._side for x, y in level)
            if beside:
                self._file.close()
                raise self._damaged(f"{beside:,} of {len(level):,} tiles of a level lie beside the picture")
        tiles = [tile for level in self._tiles for tile in level.values()]
        held = sum(tile.offset + tile.bytes <= self._file.size for tile in tiles)
        if held * 2 < len(tiles):
            self._file.close()
            raise self._damaged(f"{len(tiles) - held:,} of its {len(tiles):,} tiles lie beyond the end of the file")

    def _damaged(self, why: str) -> SlideError:
        return SlideError(f"{self._path.name}: the KFB file is damaged ({why})", _COPY)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        side = self._side
        out = np.full((height, width, 3), 255, np.uint8)
        for top in range(y // side * side, y + height, side):
            for left in range(x // side * side, x + width, side):
                tile = self._tiles[level].get((left, top))
                if tile is None:
                    continue
                x0, x1 = max(x, left), min(x + width, left + side)
                y0, y1 = max(y, top), min(y + height, top + side)
                if x1 > left + tile.width or y1 > top + tile.height:
                    raise self._unreadable(level, left, top, "it is too small")
                pixels = self._decoded(level, left, top, tile)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _decoded(self, level: int, left: int, top: int, tile: _Tile) -> Pixels:
        def decode() -> Pixels:
            return decode_rgb_jpeg(self._file.read(tile.offset, tile.bytes), tile.width, tile.height)

        try:
            return self._cache.get((level, tile.offset), decode)
        except TiffError as error:
            raise self._unreadable(level, left, top, error.what) from error
        except Exception as error:  # the decoder raises errors of its own kind
            raise self._unreadable(level, left, top, str(error) or type(error).__name__) from error

    def _unreadable(self, level: int, left: int, top: int, why: str) -> RegionError:
        return RegionError(f"{self._path.name}: the tile at ({left}, {top}) of level {level} cannot be decoded ({why})")

    def close(self) -> None:
        self._file.close()
        self._cache.clear()


def is_kfb(path: Path) -> bool:
    """Whether a file begins as KFB does: the mark of its first section, and the name in it."""
    with path.open("rb") as stream:
        head = stream.read(7)
    return head[1:] == b"\x01\xee\xeeKFB"


def _opened(path: Path) -> Any:
    try:
        kfbslide = importlib.import_module("kfbslide")
    except ImportError as error:
        raise MissingExtraError("kfbslide", "kfb", f"{path.name}: reading KFB") from error
    try:
        return kfbslide.OpenSlide(str(path))
    except Exception as error:  # of a damaged file it raises anything
        raise SlideError(f"{path.name}: the KFB file is damaged ({error})", _COPY) from error


def _tiles_of(index: Any, scale: float) -> Mapping[tuple[int, int], _Tile]:
    """The tiles of one level by their left and top edge in the level's px."""
    found = {}
    for entry, offset in zip(index.entries, index.offsets, strict=True):
        if entry["scale"] == scale:
            found[entry["x"], entry["y"]] = _Tile(offset, entry["size"], entry["width"], entry["height"])
    return found
