"""TIFF and SVS by direct decoding of tiles: tifffile reads the directory, imagecodecs decodes the tiles asked for."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError

__all__ = ["TiffReader"]

_CACHE_BYTES = 64 * 2**20
_MAX_SEGMENT_PIXELS = 256_000_000  # one tile or strip: a striped file with one huge strip is no slide to read by parts
_JPEG = {6, 7}
_APERIO_YCBCR = 33003
_REDUCED = 1
_LABEL_OR_MACRO = re.compile(r"\b(label|macro)\b", re.IGNORECASE)
_CENTIMETRE_IN_UM = {2: 25_400.0, 3: 10_000.0}  # ResolutionUnit: inch, centimetre
_OME_UNITS_IN_UM = {"µm": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}


class TiffReader:
    """A tiled or striped 8-bit TIFF (:class:`~stride_monai.slides.protocol.Reader`): SVS, OME-TIFF with SubIFD levels,
    and plain pyramids; JPEG, JPEG 2000, ZSTD, Deflate, LZW, WebP or no compression.

    Decoded tiles are kept in a small cache, since neighbouring regions overlap.
    """

    name = "tiff"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tiff = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise UnknownFormatError(f"{path.name}: not a TIFF") from error
        except Exception as error:  # damaged headers fail in many ways (struct, index, value, memory errors)
            raise SlideError(f"{path.name}: the TIFF header is damaged ({error})") from error
        try:
            self._levels = _levels(path, self._tiff)
            self.format = _format(self._tiff)
            self.stated = _stated(self._tiff)
        except SlideError:
            self._tiff.close()
            raise
        except Exception as error:  # as above
            self._tiff.close()
            raise SlideError(f"{path.name}: the TIFF directory is damaged ({error})") from error
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(
            (int(page.imagewidth), int(page.imagelength)) for page in self._levels
        )
        self.bounds = (0, 0, *self.level_sizes[0])
        self._file = _FileBytes(path)
        self._cache = _Cache(_CACHE_BYTES)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        page = self._levels[level]
        tile_width, tile_height = _segment_size(page)
        columns = -(-page.imagewidth // tile_width)
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
                tile_x, tile_y = column * tile_width, row * tile_height
                x0, x1 = max(x, tile_x), min(x + width, tile_x + tile_width)
                y0, y1 = max(y, tile_y), min(y + height, tile_y + tile_height)
                target = out[y0 - y : y1 - y, x0 - x : x1 - x]
                tile = self._segment(level, row * columns + column)
                if tile is None:
                    target[...] = 255  # a sparse file: the writer left out what holds nothing
                    continue
                part = tile[y0 - tile_y : y1 - tile_y, x0 - tile_x : x1 - tile_x]
                if part.shape != target.shape:
                    raise self._damaged(level, row * columns + column, "it is too small")
                target[...] = part
        return out

    def _segment(self, level: int, index: int) -> Pixels | None:
        """One decoded tile or strip; None where the file holds none."""
        cached = self._cache.get((level, index))
        if cached is not None:
            return cached
        page = self._levels[level]
        try:
            offset, size = page.dataoffsets[index], page.databytecounts[index]
        except IndexError as error:
            raise self._damaged(level, index, "it is not in the file's directory") from error
        if size == 0:
            return None
        try:
            data = self._file.read(offset, size)
            if page.compression in _JPEG and b"\xff\xd9" not in data[-64:]:
                raise ValueError("cut short")  # the decoder would fill the rest with grey and say nothing
            decoded = page.decode(data, index, **_jpeg_tables(page))[0]
            tile = _rgb(decoded, page)
        except Exception as error:  # every codec raises errors of its own kind
            raise self._damaged(level, index, str(error) or type(error).__name__) from error
        self._cache.put((level, index), tile)
        return tile

    def _damaged(self, level: int, index: int, why: str) -> RegionError:
        return RegionError(f"{self._path.name}: tile {index} of level {level} cannot be decoded ({why})")

    def close(self) -> None:
        self._tiff.close()
        self._file.close()
        self._cache.clear()


class _FileBytes:
    """Bytes at an offset, from any thread."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._stream.fileno(), size, offset)
        else:  # Windows
            with self._lock:
                self._stream.seek(offset)
                data = self._stream.read(size)
        if len(data) != size:
            raise ValueError("it lies beyond the end of the file")
        return data

    def close(self) -> None:
        self._stream.close()


class _Cache:
    """The most recently used tiles, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._tiles: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Pixels | None:
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: tuple[int, int], tile: Pixels) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                _, oldest = self._tiles.popitem(last=False)
                self._bytes -= oldest.nbytes

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._bytes = 0


def _levels(path: Path, tiff: Any) -> list[Any]:
    """The pages of the pyramid, finest first: the first page and its reductions, never a label or macro image."""
    first = tiff.pages[0]
    if first.is_ndpi:
        raise SlideError(f"{path.name}: NDPI is read by OpenSlide only")
    _check(path, first)
    others = [*(first.pages or []), *(tiff.pages[i] for i in range(1, len(tiff.pages)))]
    levels = [first]
    for page in others:
        if _is_level(page, first) and page.imagewidth < levels[-1].imagewidth:
            _check(path, page)
            levels.append(page)
    return levels


def _is_level(page: Any, first: Any) -> bool:
    if not isinstance(page, tifffile.TiffPage) or page.is_tiled != first.is_tiled:
        return False
    reduced = bool(page.subfiletype & _REDUCED)
    if _LABEL_OR_MACRO.search(page.description or "") or page.subfiletype & ~_REDUCED or not (page.is_tiled or reduced):
        return False
    if page.samplesperpixel != first.samplesperpixel or page.photometric != first.photometric:
        return False
    # Same picture, to the rounding of a pixel or two.
    scale = first.imagewidth / page.imagewidth
    return bool(abs(first.imagelength - page.imagelength * scale) <= 2 * scale)


def _check(path: Path, page: Any) -> None:
    """Refuse now, in one sentence, what could not be decoded later.

    Raises:
        SlideError: a kind of TIFF that is not supported.
    """
    compression = int(page.compression)
    why = ""
    if compression != 1 and compression not in tifffile.TIFF.DECOMPRESSORS:
        why = f"TIFF compression {compression} is unknown"
    elif page.bitspersample != 8 or page.dtype != np.uint8:
        why = f"{page.bitspersample}-bit samples, only 8-bit ones are supported"
    elif page.planarconfig != 1 and page.samplesperpixel > 1:
        why = "colours in separate planes"
    elif page.samplesperpixel not in (1, 3, 4) or page.photometric not in (0, 1, 2, 6):
        why = f"{page.samplesperpixel} samples per pixel of colour kind {int(page.photometric)}"
    elif page.imagedepth != 1:
        why = "a volume, not a picture"
    elif len(page.dataoffsets) == 0:
        why = "no image data"
    else:
        width, height = _segment_size(page)
        if width * height > _MAX_SEGMENT_PIXELS:
            why = f"not tiled, and one strip of {width}x{height} px is too large"
    if why:
        raise SlideError(f"{path.name}: {why}", "convert it to a tiled 8-bit RGB TIFF")


def _segment_size(page: Any) -> tuple[int, int]:
    """(width, height) of a tile or strip."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), max(1, min(int(page.rowsperstrip), int(page.imagelength)))


def _jpeg_tables(page: Any) -> dict[str, Any]:
    return {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG else {}


def _rgb(decoded: Any, page: Any) -> Pixels:
    """uint8 RGB from a decoded segment of shape [1, height, width, samples]."""
    if decoded is None or decoded.dtype != np.uint8:
        raise ValueError("no 8-bit pixels in it")
    image = decoded.reshape(decoded.shape[-3:])
    if image.shape[2] == 1:
        grey = 255 - image if page.photometric == 0 else image
        return np.repeat(grey, 3, axis=2)
    if image.shape[2] == 4:
        cover = image[..., 3:].astype(np.uint16)
        return np.asarray((image[..., :3] * cover + 255 * (255 - cover) + 127) // 255, np.uint8)
    if page.compression == _APERIO_YCBCR or (page.photometric == 6 and page.compression not in _JPEG):
        return _from_ycbcr(image)
    return np.ascontiguousarray(image)


def _from_ycbcr(image: Pixels) -> Pixels:
    """JFIF YCbCr to RGB; JPEG decoders do it themselves, the others leave it to us."""
    y, cb, cr = (image[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.clip(rgb + 0.5, 0, 255).astype(np.uint8)


def _format(tiff: Any) -> str:
    if tiff.is_svs:
        return "aperio"
    return "ome-tiff" if tiff.is_ome else "tiff"


def _stated(tiff: Any) -> StatedFacts:
    """um/px and objective power from Aperio's description, OME-XML, or TIFF's resolution tags, in that order."""
    page = tiff.pages[0]
    description = page.description or ""
    if tiff.is_svs:
        mpp = _number_after("MPP", description)
        return StatedFacts(mpp, mpp, _number_after("AppMag", description))
    if tiff.is_ome:
        x, y = _ome_mpp(tiff.ome_metadata or "")
        if x is not None or y is not None:
            return StatedFacts(x, y)
    unit = _CENTIMETRE_IN_UM.get(int(page.tags.valueof(296, 2)))
    return StatedFacts(_from_resolution(page, 282, unit), _from_resolution(page, 283, unit))


def _number_after(key: str, text: str) -> float | None:
    found = re.search(rf"\b{key}\s*=\s*([0-9.eE+-]+)", text)
    try:
        return float(found.group(1)) if found else None
    except ValueError:
        return None


def _ome_mpp(xml: str) -> tuple[float | None, float | None]:
    try:
        pixels = next(e for e in ElementTree.fromstring(xml).iter() if e.tag.rpartition("}")[2] == "Pixels")
    except (ElementTree.ParseError, StopIteration):
        return None, None
    x, y = (_ome_length(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY")
    return x, y


def _ome_length(value: str | None, unit: str) -> float | None:
    try:
        return float(value) * _OME_UNITS_IN_UM[unit] if value is not None else None
    except (ValueError, KeyError):
        return None


def _from_resolution(page: Any, tag: int, unit: float | None) -> float | None:
    value = page.tags.valueof(tag)
    if unit is None or not isinstance(value, tuple) or len(value) != 2 or 0 in value:
        return None
    return float(unit * value[1] / value[0])
