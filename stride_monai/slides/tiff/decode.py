"""One tile or strip of a TIFF: from its bytes to its samples. A header that lies is found before memory is taken."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt

from stride_monai.slides.tiff.directory import FileBytes
from stride_monai.slides.tiff.page import JPEG, JPEG2000, Page

__all__ = ["Samples", "decode_rgb_jpeg", "decode_segment", "first_tile_contradicts", "is_cut_jpeg", "uses_16_bits"]

Samples = npt.NDArray[Any]
"""uint8 or uint16 ``[height, width, samples]`` as stored: no colour conversion, but for JPEG's YCbCr."""

_BYTES: dict[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.zlib_decode,
    32773: imagecodecs.packbits_decode,
    32946: imagecodecs.zlib_decode,
    34925: imagecodecs.lzma_decode,
    50000: imagecodecs.zstd_decode,
}
_IMAGES: dict[int, Callable[..., Any]] = {
    34927: imagecodecs.webp_decode,
    34933: imagecodecs.png_decode,
    34934: imagecodecs.jpegxr_decode,
    50001: imagecodecs.webp_decode,
    50002: imagecodecs.jpegxl_decode,
    52546: imagecodecs.jpegxl_decode,
}
_RGB, _YCBCR = 2, 6  # photometric interpretations, as imagecodecs numbers colour spaces too
_UNKNOWN, _GRAY, _FOUR = 0, 1, 4
_TILES_TRIED = 16
_HALF_OF_16_BITS = 0x7FFF
_MOST_PARTS = 1 << 16  # of one JPEG 2000 tile; a header may state any number, and each takes memory
_ALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # tables, whose numbers lie among those of the frame headers


def decode_segment(page: Page, index: int, file: FileBytes) -> Samples:
    """The samples of a tile or strip: of each colour's plane, one behind the other, where they are apart.

    Raises:
        ValueError: it is not there, holds something else, is cut short, or is damaged; decoders and the file raise
            errors of their own kinds too.
    """
    segments = page.segments
    if segments.absent.flat[index]:
        raise ValueError("the file does not hold it")
    height = page.segment_height
    if not page.tiled:
        height = min(height, page.height - index // segments.columns * height)
    samples = 1 if page.planar else page.samples
    planes = []
    for number in range(index, segments.planes * segments.absent.size, segments.absent.size):
        data = file.read(int(segments.offsets[number]), int(segments.counts[number]))
        planes.append(_decode(page, data, height, page.segment_width, samples))
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def uses_16_bits(page: Page) -> bool:
    """Whether the colours of a 16-bit page reach the upper half of the range, in any of some tiles.

    Those of a camera of 10 to 15 bits cannot, and a bright background does where the whole range is used.
    """
    number = page.segments.absent.size
    for index in dict.fromkeys(np.linspace(0, number - 1, min(number, _TILES_TRIED), dtype=int).tolist()):
        try:
            samples = decode_segment(page, index, page.directory.file)
        except Exception:  # every codec raises errors of its own kind; the tile is reported where it is read
            continue
        if samples[..., : 3 if samples.shape[2] >= 3 else 1].max() > _HALF_OF_16_BITS:
            return True
    return False


def _decode(page: Page, data: bytes, height: int, width: int, samples: int) -> Samples:
    """The samples of one tile, strip, or plane of one.

    Args:
        height, width, samples: what the tags say that there is; the result has this shape. Some programs write the last
            tiles of a row or column as small JPEGs; then it is smaller.

    Raises:
        ValueError: it holds something else, is cut short, or is damaged; decoders raise errors of their own kinds too.
    """
    if page.compression in JPEG:
        return _jpeg(page, data, height, width, samples)
    if page.compression in JPEG2000:
        return _jpeg2000(page, data, height, width, samples)
    dtype = np.dtype(np.uint8 if page.bits[0] <= 8 else np.uint16)
    codec = _IMAGES.get(page.compression)
    if codec is not None:
        shape = (height, width) if samples == 1 else (height, width, samples)
        return np.asarray(codec(data, out=np.empty(shape, dtype))).reshape(height, width, samples)
    return _plain(page, data, height, width, samples)


def _plain(page: Page, data: bytes, height: int, width: int, samples: int) -> Samples:
    """Without compression, or compressed as a string of bytes."""
    bits = page.bits[0]
    line = (width * samples * bits + 7) // 8
    if page.fill_order == 2:
        data = bytes(imagecodecs.bitorder_decode(data))
    if page.compression != 1:
        # A last strip may be filled up to the rows of the others.
        most = line * max(height, page.segment_height)
        data = _BYTES[page.compression](data, out=most)
    if len(data) < line * height:
        raise ValueError(f"it holds {len(data)} bytes of {line * height}")
    data = data[: line * height]
    if bits in (8, 16):
        stored = np.frombuffer(data, np.uint8 if bits == 8 else np.dtype(f"{page.directory.shape.order}u2"))
        image = stored.astype(stored.dtype.newbyteorder("="), copy=False).reshape(height, width, samples)
    else:
        kind = np.uint8 if bits < 8 else np.uint16
        image = imagecodecs.packints_decode(data, kind, bits, runlen=width * samples)
        image = image.reshape(height, width, samples)
    if page.predictor == 2 and page.compression != 1:
        image = imagecodecs.delta_decode(image, axis=1)
    return np.asarray(image)


def _jpeg(page: Page, data: bytes, height: int, width: int, samples: int) -> Samples:
    head = _jpeg_head(data)
    if (head.height > height or head.width > width) and not _padded(head, page, height, width):
        raise ValueError(f"its JPEG header states {head.width}x{head.height} px instead of {width}x{height}")
    if head.samples != samples:
        raise ValueError(f"its JPEG header states {head.samples} colours instead of {samples}")
    if data.rfind(b"\xff\xd9") < head.scan:
        raise ValueError("cut short")  # the decoder would fill the rest with grey and say nothing
    color, out = None, None
    if samples == 1:
        out = _GRAY
    elif samples == 4 and head.ycbcr:
        raise ValueError("its four colours are YCCK")
    elif samples in (2, 4):  # as stored: a decoder knows four colours as CMYK only, and two by no name
        color = out = _FOUR if samples == 4 else _UNKNOWN
    elif page.photometric == _YCBCR and not page.extra:
        out = _RGB
    elif page.photometric == _RGB and not page.extra:
        # A marker in the tile itself is believed; without one they are not YCbCr, as the tag says: Aperio's.
        color, out = None if head.ycbcr is not None else _RGB, _RGB
    decoded = imagecodecs.jpeg8_decode(data, tables=page.jpeg_tables, colorspace=color, outcolorspace=out)
    if decoded.dtype != np.uint8:
        raise ValueError("no 8-bit pixels in it")
    return np.asarray(decoded).reshape(head.height, head.width, samples)[:height]


class _JpegHead(NamedTuple):
    width: int
    height: int
    samples: int
    ycbcr: bool | None  # whether the colours are YCbCr, by a marker of JFIF or Adobe; None without one
    scan: int  # where the first scan begins


def first_tile_contradicts(page: Page) -> bool:
    """Whether the header of a page's first JPEG or JPEG 2000 tile says something else than the page's tags: a larger
    picture, or colours stored in another way."""
    segments = page.segments
    first = int(np.flatnonzero(~segments.absent.ravel())[0])
    data = page.directory.file.read(int(segments.offsets[first]), min(int(segments.counts[first]), 1 << 16))
    try:
        if page.compression in JPEG2000:
            return _jpeg2000_size(data)[:2] != (page.segment_width, page.segment_height)
        if page.compression not in JPEG:
            return False
        head = _jpeg_head(data)
    except ValueError:
        return False  # damaged: it fails where it is read
    other_colors = head.samples == 3 and head.ycbcr is (page.photometric != _YCBCR)
    return other_colors or head.width > page.segment_width or head.height > page.segment_height


def decode_rgb_jpeg(data: bytes, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A JPEG of exactly this size as uint8 ``[height, width, 3]`` RGB.

    Raises:
        ValueError: it has another size or no colours, is cut short, or is damaged; decoders raise errors of their own.
    """
    head = _jpeg_head(data)
    if (head.width, head.height, head.samples) != (width, height, 3):
        stated = f"{head.width}x{head.height} px and {head.samples} colours"
        raise ValueError(f"its JPEG header states {stated} instead of {width}x{height} and 3")
    if data.rfind(b"\xff\xd9") < head.scan:
        raise ValueError("cut short")
    return np.asarray(imagecodecs.jpeg8_decode(data, outcolorspace=_RGB), np.uint8).reshape(height, width, 3)


def is_cut_jpeg(data: bytes | mmap.mmap) -> bool:
    """Whether a JPEG lacks its end: the decoder would fill the rest with grey and say nothing. One whose header is
    damaged counts as whole: the decoder finds that.
    """
    try:
        return data.rfind(b"\xff\xd9") < _jpeg_head(data).scan
    except ValueError:
        return False


def _jpeg_head(data: bytes | mmap.mmap) -> _JpegHead:
    """What the frame header says; bytes of the entropy-coded part are not looked at.

    Raises:
        ValueError: no JPEG, or one without frame or scan.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("it is no JPEG")
    at, frame, ycbcr = 2, None, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("its JPEG header is damaged")
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2  # the former is a fill byte
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if marker == 0xE0 and data[at + 4 : at + 8] == b"JFIF":
            ycbcr = True
        elif marker == 0xEE and data[at + 4 : at + 9] == b"Adobe" and length >= 14 and ycbcr is None:
            ycbcr = data[at + 15] != 0
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME and at + 10 <= len(data):
            if frame is not None:
                raise ValueError("its JPEG header states two pictures")
            high, wide, count = struct.unpack_from(">HHB", data, at + 5)
            frame = (wide, high, count)
        elif marker == 0xDA:
            if frame is None:
                break
            return _JpegHead(*frame, ycbcr, at)
        at += 2 + length
    raise ValueError("it is a JPEG without a picture")


def _padded(head: _JpegHead, page: Page, height: int, width: int) -> bool:
    """A last strip may be filled up to the rows of the others, or to whole blocks."""
    rows = max(page.segment_height, -(-height // 16) * 16)
    return not page.tiled and head.width == width and height <= head.height <= rows


def _jpeg2000(page: Page, data: bytes, height: int, width: int, samples: int) -> Samples:
    wide, high, count, parts = _jpeg2000_size(data)
    if (wide, high) != (width, height):
        raise ValueError(f"its JPEG 2000 header states {wide}x{high} px instead of {width}x{height}")
    if count != samples:
        raise ValueError(f"its JPEG 2000 header states {count} colours instead of {samples}")
    if parts > _MOST_PARTS:
        raise ValueError(f"its JPEG 2000 header states {parts} parts")
    if b"\xff\xd9" not in data:
        raise ValueError("cut short")  # as with JPEG
    decoded = imagecodecs.jpeg2k_decode(data)
    if decoded.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"it holds {decoded.dtype} pixels")
    return np.asarray(decoded).reshape(height, width, samples)


def _jpeg2000_size(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, number of colours and of parts by the codestream's header.

    Raises:
        ValueError: no JPEG 2000.
    """
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC and SIZ, within boxes or not
    if at < 0 or at + 42 > len(data):
        raise ValueError("it is no JPEG 2000")
    x1, y1, x0, y0, part_width, part_height = struct.unpack_from(">6I", data, at + 8)
    if not part_width or not part_height:
        raise ValueError("its JPEG 2000 header is damaged")
    width, height = x1 - x0, y1 - y0
    parts = (width // part_width + 1) * (height // part_height + 1)
    return width, height, struct.unpack_from(">H", data, at + 40)[0], parts
