"""Plain images (PNG, JPEG, JPEG 2000, WebP, BMP, TIFF without tiles) as slides of one level."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from stride_monai.errors import SlideError
from stride_monai.slides.orientation import TAG, orientation_of, upright_reader
from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError
from stride_monai.slides.readers.tiff import TiffReader
from stride_monai.slides.tiff.decode import is_cut_jpeg
from stride_monai.slides.tiff.directory import is_tiff
from stride_monai.units import Box

__all__ = ["MAX_BYTES", "ImageReader", "own_limits"]

MAX_BYTES = 4_000_000_000
"""Largest memory that decoding a plain image may take: it is held whole, a colour image at 4 bytes per pixel."""

_AT_A_TIME = 2**20  # bytes
_MAX_TEXT = 256 * 2**20  # bytes of a PNG's texts and colour profile, which are not used


class _Kind(NamedTuple):
    """What a format costs and what it can promise.

    Attributes:
        overhead: bytes of memory per pixel that the decoder takes besides the picture, at most.
        ratio: bytes of pixels in a byte of the file, at most; a header that promises more is false.
        magic: how such files begin.
    """

    overhead: float
    ratio: float
    magic: tuple[bytes, ...]


_KINDS = {
    "PNG": _Kind(0, 1032, (b"\x89PNG",)),  # the most that Deflate can do
    "JPEG": _Kind(0, 1400, (b"\xff\xd8\xff",)),  # a bit for each block of 64 values, colours 16 times as coarse
    "MPO": _Kind(0, 1400, ()),
    "JPEG2000": _Kind(16, float("inf"), (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")),
    "WEBP": _Kind(12, float("inf"), (b"RIFF",)),
    "BMP": _Kind(0, float("inf"), (b"BM",)),
}
# How common files begin that are no slides, from byte 0 or 4: a user is told what was given.
_FOREIGN = {b"GIF8": "GIF", b"%PDF": "PDF", b"PK\x03\x04": "ZIP", b"\xff\x0a": "JPEG XL", b"JXL ": "JPEG XL"}
_FOREIGN |= {b"ftypavif": "AVIF", b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIC"}
_PROGRESSIVE_BYTES = 6  # the coefficients of a JPEG that gets better from scan to scan are all kept
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_UNCOMPRESSED_BMP = {0, 3}
_ONE_BYTE = {"1", "L", "P"}
_TRANSPARENT = {"LA", "PA", "RGBA"}
_globals_lock = threading.Lock()


class ImageReader:
    """A field image held in memory (:class:`~stride_monai.slides.Reader`), as Pillow decodes it.

    The picture is upright: the orientation tag of EXIF or TIFF is applied. Transparency is seen on white.

    Attributes:
        notes: what was decided where the file leaves a choice.
    """

    name = "image"

    def __init__(self, path: Path) -> None:
        self._name = path.name
        if is_tiff(path):
            self._take(path, TiffReader(path))
            return
        try:
            with own_limits():
                image, self.format, turn = _decoded(path)
        except UnidentifiedImageError as error:
            raise _unknown(path) from error
        except MemoryError as error:
            raise SlideError(f"{path.name}: there is not enough memory for this image", _TO_PYRAMID) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise SlideError(f"{path.name}: the image is damaged ({error})", "copy it again from its source") from error
        self._image: Image.Image | None = image
        self._turn = orientation_of(turn)
        self.level_sizes: tuple[tuple[int, int], ...] = (self._turn.size(*image.size),)
        self.bounds = (0, 0, *self.level_sizes[0])
        x, y = _um_per_px(image.info.get("dpi"))
        self.stated = StatedFacts(y, x) if self._turn.swaps else StatedFacts(x, y)
        self.notes = _notes(image, self._turn.tag)
        image.info = {key: value for key, value in image.info.items() if key == "transparency"}  # the rest may be large

    def _take(self, path: Path, tiff: TiffReader) -> None:
        """A TIFF's picture, from the one place that knows what a TIFF is."""
        try:
            width, height = tiff.level_sizes[0]
            if tiff.tiled:
                raise SlideError(f"{path.name}: a tiled TIFF is no plain image", "use --reader tiff")
            _check_memory(path, (width, height), 4 * width * height)
            self._image = Image.fromarray(tiff.read_level(0, 0, 0, width, height))
        finally:
            tiff.close()
        upright = upright_reader(tiff, tiff.orientation)
        self._turn = tiff.orientation
        self.format, self.stated, self.notes = "tiff", upright.stated, tuple(getattr(upright, "notes", ()))
        self.level_sizes = (self._turn.size(width, height),)
        self.bounds = (0, 0, *self.level_sizes[0])

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        image = self._image
        if image is None:
            raise SlideError(f"{self._name} is closed")
        box = self._turn.box_stored(Box(x, y, x + width, y + height), *image.size)
        x0, y0, x1, y1 = (round(edge) for edge in box)
        return np.ascontiguousarray(self._turn.upright(_rgb(image.crop((x0, y0, x1, y1)))))

    def close(self) -> None:
        self._image = None


@contextmanager
def own_limits() -> Iterator[None]:
    """Pillow's guards are module globals: that on a picture's size is set aside, our own check follows; that on texts
    is raised, since a long text says nothing against the picture."""
    with _globals_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        Image.MAX_IMAGE_PIXELS = None
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


def _decoded(path: Path) -> tuple[Image.Image, str, object]:
    """The picture, decoded, its format, and the orientation that is still to be applied."""
    with Image.open(path, formats=[kind for kind in _KINDS if kind != "MPO"]) as image:
        bits = _bits(path, image)
        _check_kind(path, image, bits)
        _check_size(path, image)
        _check_data(path, image)
        image.load()
        kind = str(image.format).lower()
        try:
            turn = image.getexif().get(TAG)
        except Exception:  # a damaged EXIF block raises anything; viewers pass over it, and so its picture is upright
            turn = 1
        if bits > 8:
            return _upper_bits(path, image), kind, turn
        return (image.copy() if kind == "webp" else image), kind, turn  # a copy, since WebP's decoder keeps its canvas


_TO_PYRAMID = "convert it to a tiled pyramid, e.g. by 'vips tiffsave --tile --pyramid'"


def _check_kind(path: Path, image: Image.Image, bits: int) -> None:
    """Raises:
    SlideError: a kind of picture that cannot be shown as it is meant.
    """
    if bits > 8 and (image.format != "PNG" or "transparency" in image.info):
        raise _too_deep(path, bits)
    if bits == 8 and image.mode not in _EIGHT_BIT:
        raise SlideError(f"{path.name}: pixels of kind {image.mode} are not supported", "convert it to 8-bit RGB")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        what = f"an animation of {_pictures(image)} pictures, not one picture"
        raise SlideError(f"{path.name}: {what}", "save the picture that is meant as a file of its own")


def _too_deep(path: Path, bits: int) -> SlideError:
    what = f"{bits}-bit samples; only those of 8 bits are read, and PNGs that use all 16"
    return SlideError(f"{path.name}: {what}", "convert it to 8 bits, by the range that its values really have")


def _upper_bits(path: Path, image: Image.Image) -> Image.Image:
    """The upper 8 bits of a PNG of 16, of which Pillow keeps all only in grey ones.

    Raises:
        SlideError: the colours stay in the lower half of the range: perhaps not all bits are used.
    """
    if image.mode not in _EIGHT_BIT:
        gray = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        gray.info = image.info
        image = gray
    if max(int(np.asarray(image.getchannel(band)).max()) for band in image.getbands() if band != "A") < 128:
        raise _too_deep(path, 16)
    return image


def _bits(path: Path, image: Image.Image) -> int:
    """Bits per sample, which Pillow cuts to eight in silence; 8 where a format has no others."""
    if image.format == "PNG" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return 16
    if image.format == "JPEG2000":
        with path.open("rb") as stream:
            head = stream.read(1 << 20)
        at = head.find(b"\xff\x4f\xff\x51") + 42  # start of the codestream, its sizes, the first sample's precision
        return (head[at] & 0x7F) + 1 if 42 <= at < len(head) else 8
    return 8


def _check_size(path: Path, image: Image.Image) -> None:
    """Before anything is decoded: is the size possible, and does the picture fit in memory?

    Raises:
        SlideError: it is not, or does not.
    """
    width, height = image.size
    kind = _KINDS[str(image.format)]
    if width < 1 or height < 1:
        raise SlideError(f"{path.name}: the header states a size of {width}x{height} px", "copy it again")
    # A palette, and grey, may be stored at 1 bit per pixel, but not in a JPEG.
    bits = 1 if image.mode in _ONE_BYTE and image.format not in {"JPEG", "MPO"} else 8 * len(image.getbands())
    uncompressed = image.format == "BMP" and image.info.get("compression") in _UNCOMPRESSED_BMP
    ratio = 2 if uncompressed else kind.ratio  # a BMP may keep 24 bits in 16
    if width * height * bits / 8 > path.stat().st_size * ratio:
        raise SlideError(
            f"{path.name}: the header states {width}x{height} px, more than a file of {path.stat().st_size:,} bytes "
            "can hold",
            "it is damaged or cut short; copy it again",
        )
    overhead = _PROGRESSIVE_BYTES if image.info.get("progressive") else kind.overhead
    _check_memory(path, image.size, width * height * ((1 if image.mode in _ONE_BYTE else 4) + overhead))


def _check_data(path: Path, image: Image.Image) -> None:
    """What the decoders pass over: they make up the rest of a picture whose file has zeros instead of data.

    Raises:
        ValueError: the data is cut short or damaged.
    """
    if image.format == "JPEG":
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if is_cut_jpeg(data):
                raise ValueError("it is cut short")
    elif image.format == "PNG":
        with path.open("rb") as stream:
            stream.seek(8)
            while len(head := stream.read(8)) == 8:
                size, kind = struct.unpack(">I4s", head)
                if kind == b"IDAT":
                    _check_sum(stream, size, zlib.crc32(kind))
                else:
                    stream.seek(size + 4, os.SEEK_CUR)


def _check_sum(stream: BinaryIO, size: int, crc: int) -> None:
    for at in range(0, size, _AT_A_TIME):
        crc = zlib.crc32(stream.read(min(_AT_A_TIME, size - at)), crc)
    stated = stream.read(4)
    if len(stated) < 4:
        raise ValueError("it is cut short")
    if stated != crc.to_bytes(4, "big"):
        raise ValueError("a checksum of its data is wrong")


def _check_memory(path: Path, size: tuple[int, int], needed: float) -> None:
    if needed > MAX_BYTES:
        raise SlideError(
            f"{path.name}: {size[0]}x{size[1]} px is too large for a plain image, which is held in memory whole "
            f"({needed / 1e9:.1f} GB, at most {MAX_BYTES / 1e9:.1f})",
            _TO_PYRAMID,
        )


def _unknown(path: Path) -> SlideError:
    """Why Pillow knows no such image: a damaged file of a format that it knows is told from a foreign one."""
    with path.open("rb") as stream:
        head = stream.read(16)
    for name, kind in _KINDS.items():
        if name != "BMP" and head.startswith(kind.magic) and (name != "WEBP" or head[8:12] == b"WEBP"):
            what = f"it begins as a {name} file but cannot be read as one"
            return SlideError(f"{path.name}: {what}", "it is damaged or of a rare kind; save it as 8-bit RGB")
    for magic, foreign in _FOREIGN.items():
        if head.startswith(magic) or head.startswith(magic, 4):
            return SlideError(f"{path.name}: {foreign} files are not read", "give the picture as PNG or TIFF")
    return UnknownFormatError(f"{path.name}: not an image")


def _pictures(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _notes(image: Image.Image, tag: int) -> tuple[str, ...]:
    several = _pictures(image)
    notes = [f"turned upright (orientation {tag} of the file)"] if tag != 1 else []
    return (*notes, f"the first of {several} pictures in the file") if several > 1 else tuple(notes)


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))


def _um_per_px(dpi: Any) -> tuple[float | None, float | None]:
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None, None
    x, y = (25_400.0 / float(d) if float(d) > 0 else None for d in dpi)
    return x, y
