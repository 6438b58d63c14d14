"""One page of a TIFF: its size, its kind of pixels and where its tiles lie, checked against each other and the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stride_monai.slides.tiff.directory import Directory, TiffError

__all__ = ["JPEG", "JPEG2000", "Page", "Segments", "check_segment_size", "has_picture", "read_page"]

JPEG = frozenset({6, 7})
JPEG2000 = frozenset({33003, 33004, 33005, 34712})
_BYTE_CODECS = {1: "none", 5: "LZW", 8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34925: "LZMA", 50000: "ZSTD"}
_IMAGE_CODECS = {50001: "WebP", 34927: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 34933: "PNG", 34934: "JPEG XR"}
_REFUSED_CODECS = {2: "CCITT", 3: "CCITT fax", 4: "CCITT fax", 34887: "LERC", 22610: "JPEG XR"}

_MAX_SIDE = 2**31 - 1
_MAX_SEGMENT_BYTES = 400_000_000  # decoded at once: what a strip or tile may cost in memory
_SPLIT_PIXELS = 2**20  # read at a time of a picture that is one strip without compression
_LARGEST_SPARE_TILE = 4096  # px: a tile may be this much larger than its picture

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLORS = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 4: "mask", 32803: "CFA", 34892: "linear raw"}
_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_SAMPLE_KINDS = {1: "", 2: "signed ", 3: "float ", 4: "", 5: "complex ", 6: "complex "}
_CONVERT = "convert it to a tiled 8-bit RGB TIFF"


class Segments(NamedTuple):
    """The tiles or strips of a page: numbers of columns and colour planes, and where each lies in the file."""

    columns: int
    planes: int
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    absent: npt.NDArray[np.bool_]  # [rows, columns]: the file does not hold it, or not all of it
    incomplete: bool  # whether any is absent


@dataclass(frozen=True, eq=False)
class Page:
    """A page as its tags state it.

    Attributes:
        bits: per sample, the largest of the samples.
        subfile: NewSubfileType: 1 is a reduction, 2 a page of several, 4 a mask, 9 a macro image.
        extra: meaning of the samples beyond the colours: 0 unknown, 1 premultiplied alpha, 2 alpha.
        segment_width, segment_height: of a tile or strip, px.
        split: the picture is one strip without compression, read as strips of ``segment_height``.
    """

    directory: Directory
    width: int
    height: int
    bits: tuple[int, ...]
    sample_format: int
    samples: int
    photometric: int
    planar: bool
    compression: int
    predictor: int
    fill_order: int
    extra: tuple[int, ...]
    orientation: int
    subfile: int
    tiled: bool
    segment_width: int
    segment_height: int
    split: bool

    @property
    def reduced(self) -> bool:
        """Whether the tags call it a reduction of another page."""
        return bool(self.subfile & 1)

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def area(self) -> int:
        return self.width * self.height

    @cached_property
    def description(self) -> str:
        return self.directory.text(270)

    @cached_property
    def jpeg_tables(self) -> bytes | None:
        if self.directory.count(347) > 1 << 16:
            raise TiffError("the TIFF directory is damaged (its JPEG tables are too large)")
        return self.directory.integers(347).astype(np.uint8).tobytes() or None

    @cached_property
    def segments(self) -> Segments:
        """Where the tiles lie.

        Raises:
            TiffError: their number or their sizes do not fit the picture's.
        """
        check_segment_size(self)
        columns, rows = -(-self.width // self.segment_width), -(-self.height // self.segment_height)
        planes = self.samples if self.planar else 1
        offsets, counts = _stated_places(self, rows, columns, planes)
        end = np.uint64(self.directory.file.size)
        beyond = (counts > end) | (offsets > end - np.minimum(counts, end))
        absent = ((counts == 0) | (offsets == 0) | beyond).reshape(planes, rows, columns).any(axis=0)
        kind = "tile" if self.tiled else "strip"
        if 2 * int(beyond.sum()) > len(beyond):
            raise TiffError(f"the file is cut short: {beyond.sum()} of its {len(beyond)} {kind}s lie beyond its end")
        if absent.all():
            raise TiffError(f"the file holds none of its {absent.size} {kind}s")
        return Segments(columns, planes, offsets, counts, absent, bool(absent.any()))

    def same_picture(self, other: Page) -> bool:
        """Whether, to the rounding of a pixel or two, this page can be a smaller version of the other."""
        scale = other.width / self.width
        return scale > 1 and abs(other.height - self.height * scale) <= 2 * scale

    @property
    def kind(self) -> tuple[object, ...]:
        """What the samples mean, however they are compressed; YCbCr is another way to store RGB."""
        colors = _RGB if self.photometric == _YCBCR else self.photometric
        return colors, self.bits, self.sample_format, self.samples

    def check(self) -> None:
        """Refuse now, in one sentence, what could not be read rightly later.

        Raises:
            TiffError: an unsupported kind of pixels, or sizes that contradict each other.
        """
        why = _unsupported(self)
        if why:
            raise TiffError(why, _CONVERT)
        _ = self.segments


def has_picture(directory: Directory) -> bool:
    """Whether a directory describes a picture at all; some hold metadata only."""
    return 256 in directory and 257 in directory


def read_page(directory: Directory) -> Page:
    """A page from its tags.

    Raises:
        TiffError: its size is no size.
    """
    width, height = directory.number(256, 0), directory.number(257, 0)
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise TiffError(f"the TIFF directory is damaged (a picture of {width}x{height} px)")
    samples = directory.number(277, 1)
    if not 0 < samples <= 0xFFFF:
        raise TiffError(f"the TIFF directory is damaged ({samples} samples per pixel)")
    tiled = 322 in directory
    across = directory.number(322, 0) if tiled else width
    down = directory.number(323, 0) if tiled else min(directory.number(278, height), height)
    if across <= 0 or down <= 0:
        raise TiffError(f"the TIFF directory is damaged ({'tiles' if tiled else 'strips'} of {across}x{down} px)")
    compression = directory.number(259, 1)
    planar = directory.number(284, 1) == 2 and samples > 1
    older = {2: 1, 3: 2}.get(directory.number(255, 1), 0) if 254 not in directory else 0
    split = not tiled and compression == 1 and not planar and down == height and width * height > _SPLIT_PIXELS
    return Page(
        directory=directory,
        width=width,
        height=height,
        bits=tuple(dict.fromkeys(int(n) for n in directory.integers(258, 64))) or (1,),
        sample_format=directory.number(339, 1),
        samples=samples,
        photometric=directory.number(262, _RGB if samples >= 3 else _BLACK_IS_ZERO),
        planar=planar,
        compression=compression,
        predictor=directory.number(317, 1),
        fill_order=directory.number(266, 1),
        extra=tuple(int(n) for n in directory.integers(338, 64)),
        orientation=directory.number(274, 1),
        subfile=directory.number(254, older),
        tiled=tiled,
        segment_width=across,
        segment_height=max(1, _SPLIT_PIXELS // width) if split else down,
        split=split,
    )


def _unsupported(page: Page) -> str:
    """What the pixels are if they cannot be read rightly; "" where they can."""
    bits = page.bits[0]
    colors = _SAMPLES.get(page.photometric)
    codecs = JPEG | JPEG2000 | _BYTE_CODECS.keys() | _IMAGE_CODECS.keys()
    if page.compression not in codecs:
        name = _REFUSED_CODECS.get(page.compression, "unknown")
        return f"TIFF compression {page.compression} ({name}) is not supported"
    if page.sample_format in (2, 3, 5, 6):
        return (
            f"{bits}-bit {_SAMPLE_KINDS[page.sample_format]}samples; only unsigned ones of up to 16 bits are supported"
        )
    if len(page.bits) > 1:
        return f"samples of {', '.join(map(str, page.bits))} bits in one picture"
    if not (1 <= bits <= 16) or (page.compression in JPEG and bits != 8):
        return f"{bits}-bit samples{' in JPEG' if page.compression in JPEG else ''} are not supported"
    if colors is None:
        name = _COLORS.get(page.photometric, "unknown")
        return f"colours of kind {page.photometric} ({name}) are not supported"
    if page.directory.number(32997, 1) > 1:
        return "a volume, not a picture"
    extra = page.samples - colors
    if page.photometric == _YCBCR and page.compression in JPEG and not page.planar and extra > 0:
        return f"JPEG of {page.samples} colours"
    if extra < 0 or extra > 1 or (page.photometric == _PALETTE and extra):
        what = f"{page.samples} samples per pixel where its kind of colour has {colors}"
        return what + (": channels, not colours" if colors == 1 and extra > 0 else "")
    return _unsupported_detail(page, bits)


def _unsupported_detail(page: Page, bits: int) -> str:
    if page.photometric == _PALETTE and (bits > 8 or page.directory.count(320) != 3 << bits):
        return "a palette that does not fit its pixels"
    if page.photometric == _CMYK and (bits != 8 or page.samples > 4 or page.directory.number(332, 1) != 1):
        return "inks that are not the four of CMYK at 8 bits"
    if page.photometric == _CMYK and page.compression in JPEG2000 | _IMAGE_CODECS.keys():
        return "CMYK in such a compression"
    if page.photometric == _YCBCR and page.compression not in JPEG | JPEG2000 | _IMAGE_CODECS.keys():
        halves = page.directory.integers(530, 2).tolist() or [2, 2]
        if halves != [1, 1]:
            return "YCbCr with subsampled colours that are not JPEG-compressed"
        if bits != 8:
            return f"{bits}-bit YCbCr"
    predicted = page.predictor != 1 and page.compression in _BYTE_CODECS and page.compression != 1
    if predicted and (page.predictor != 2 or bits not in (8, 16)):
        return f"predictor {page.predictor} of {bits}-bit samples"
    if page.compression == 6 and 347 not in page.directory and not _begins_as_jpeg(page):
        return "JPEG of the old style, without the tables in each tile"
    return ""


def _begins_as_jpeg(page: Page) -> bool:
    segments = page.segments
    there = np.flatnonzero(~segments.absent.ravel())
    if not len(there):
        return True
    return page.directory.file.read(int(segments.offsets[there[0]]), 2) == b"\xff\xd8"


def check_segment_size(page: Page) -> None:
    """Refuse a size of tiles that would take a library's memory.

    Raises:
        TiffError: the tiles are far larger than the picture, or than what is decoded at once.
    """
    across, down = page.segment_width, page.segment_height
    kind = "tile" if page.tiled else "strip"
    spare = across > max(2 * page.width, _LARGEST_SPARE_TILE) or down > max(2 * page.height, _LARGEST_SPARE_TILE)
    if page.tiled and spare:
        size = f"tiles of {across}x{down} px in a picture of {page.width}x{page.height} px"
        raise TiffError(f"the TIFF directory is damaged ({size})")
    if across * down * page.samples * (2 if page.bits[0] > 8 else 1) > _MAX_SEGMENT_BYTES:
        raise TiffError(f"one {kind} of {across}x{down} px is too large to be read by parts", _CONVERT)


def _stated_places(
    page: Page, rows: int, columns: int, planes: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Offsets and byte counts of the segments, checked against the picture's size before they are read."""
    directory, kind = page.directory, "tile" if page.tiled else "strip"
    at, size = (324, 325) if page.tiled and 324 in directory else (273, 279)
    wanted = 1 if page.split else rows * columns * planes
    uncounted = size not in directory and page.compression == 1  # allowed by readers of old
    held = directory.count(at) if uncounted else min(directory.count(at), directory.count(size))
    if held < wanted:
        needs = f"{page.width}x{page.height} px need {wanted} {kind}s, it has {held}"
        raise TiffError(f"the TIFF directory is damaged ({needs})")
    offsets = directory.integers(at, wanted).astype(np.uint64)
    if page.compression != 1:
        return offsets, directory.integers(size, wanted).astype(np.uint64)
    full = _full_sizes(page, rows, columns, planes)
    counts = full if uncounted else directory.integers(size, wanted).astype(np.uint64)
    if page.split:
        counts, stated = full, counts
        if 0 < stated[0] < counts.sum() or not stated[0]:
            raise TiffError("the TIFF directory is damaged (a strip with fewer bytes than pixels)")
        return offsets + np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.uint64), counts
    if bool(((counts < full) & (counts > 0)).any()):
        raise TiffError(f"the TIFF directory is damaged ({kind}s with fewer bytes than pixels)")
    return offsets, counts


def _full_sizes(page: Page, rows: int, columns: int, planes: int) -> npt.NDArray[np.uint64]:
    """Bytes of each uncompressed segment, of plane after plane and row after row; the last strip may be shorter."""
    samples = 1 if page.planar else page.samples
    line = (page.segment_width * samples * page.bits[0] + 7) // 8
    heights = np.full(rows, page.segment_height, np.uint64)
    if not page.tiled:
        heights[-1] = page.height - (rows - 1) * page.segment_height
    return np.tile(np.repeat(heights * np.uint64(line), columns), planes)
