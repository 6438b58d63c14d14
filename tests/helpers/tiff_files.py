"""A small writer of TIFFs as odd as need be: any tag, any order of pages, any kind of pixels, damage included."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BYTE, ASCII, SHORT, LONG, RATIONAL, SLONG, FLOAT, LONG8 = 1, 2, 3, 4, 5, 9, 11, 16
_LETTERS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SLONG: "i", FLOAT: "f", LONG8: "Q", 7: "B"}
NONE, LZW, JPEG, DEFLATE, PACKBITS, JPEG2000, ZSTD, WEBP = 1, 5, 7, 8, 32773, 34712, 50000, 50001
_ENCODE: dict[int, Callable[[bytes], bytes]] = {
    NONE: lambda data: data,
    LZW: imagecodecs.lzw_encode,
    DEFLATE: imagecodecs.zlib_encode,
    PACKBITS: imagecodecs.packbits_encode,
    ZSTD: imagecodecs.zstd_encode,
}


@dataclass
class Page:
    """A page: tags (number -> type, values), its tiles or strips, and the pages that its SubIFDs name."""

    tags: dict[int, tuple[int, Sequence[float]]]
    segments: list[bytes] = field(default_factory=list)
    inner: list[Page] = field(default_factory=list)

    def set(self, tag: int, kind: int, *values: float) -> Page:
        self.tags[tag] = (kind, values)
        return self

    def text(self, tag: int, text: str) -> Page:
        self.tags[tag] = (ASCII, text.encode() + b"\0")
        return self


def page_of(
    samples: Array,
    photometric: int = 2,
    tile: int | None = 32,
    compression: int = NONE,
    bits: int = 8,
    planar: bool = False,
    predictor: bool = False,
    order: str = "<",
) -> Page:
    """A page of samples [h, w, n]; ``tile`` None for strips of 16 rows."""
    height, width, count = samples.shape
    across, down = (tile, tile) if tile else (width, 16)
    planes = [samples[..., i : i + 1] for i in range(count)] if planar else [samples]
    segments = []
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if tile:
                    short = (down - part.shape[0], across - part.shape[1])
                    part = np.pad(part, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
                segments.append(_encoded(np.ascontiguousarray(part), photometric, compression, bits, predictor, order))
    page = Page({}, segments)
    page.set(256, LONG, width).set(257, LONG, height).set(258, SHORT, *[bits] * count).set(259, SHORT, compression)
    page.set(262, SHORT, photometric).set(277, SHORT, count).set(284, SHORT, 2 if planar else 1)
    if predictor:
        page.set(317, SHORT, 2)
    if tile:
        page.set(322, LONG, across).set(323, LONG, down)
    else:
        page.set(278, LONG, down)
    return page


def _encoded(part: Array, photometric: int, compression: int, bits: int, predictor: bool, order: str) -> bytes:
    if compression == JPEG:
        stored = "YCBCR" if photometric == 6 else "RGB"
        colors = {"colorspace": "RGB", "outcolorspace": stored} if part.shape[2] == 3 else {}
        image = part if part.shape[2] > 1 else part[..., 0]
        return bytes(imagecodecs.jpeg8_encode(image, level=95, **colors))
    if compression == JPEG2000:
        return bytes(imagecodecs.jpeg2k_encode(part if part.shape[2] > 1 else part[..., 0], level=0, codecformat="j2k"))
    if compression == WEBP:
        return bytes(imagecodecs.webp_encode(part, lossless=True))
    if predictor:
        part = imagecodecs.delta_encode(part, axis=1)
    if bits == 8:
        data = part.astype(np.uint8).tobytes()
    elif bits == 16:
        data = part.astype(f"{order}u2").tobytes()
    else:
        shifts = np.arange(bits - 1, -1, -1)
        rows = (part.reshape(part.shape[0], -1, 1) >> shifts & 1).astype(np.uint8)
        data = np.packbits(rows.reshape(part.shape[0], -1), axis=1).tobytes()
    return encoded_bytes(data, compression)


def encoded_bytes(data: bytes, compression: int) -> bytes:
    """Bytes in one of the compressions of bytes."""
    return bytes(_ENCODE[compression](data))


def tiff_bytes(pages: Sequence[Page], order: str = "<", big: bool = False) -> bytes:
    """The file: header, then the pages in a chain, SubIFDs before the page that names them."""
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0)))
    link = len(out) - (8 if big else 4)  # where the offset of the next page goes
    for page in pages:
        at, following = _append(out, page, order, big)
        struct.pack_into(order + ("Q" if big else "I"), out, link, at)
        link = following
    return bytes(out)


def _append(out: bytearray, page: Page, order: str, big: bool) -> tuple[int, int]:
    """Where the directory of a page begins, and where it names the next one."""
    inner = [_append(out, other, order, big)[0] for other in page.inner]
    offsets = []
    for segment in page.segments:
        offsets.append(len(out) if segment else 0)
        out += segment + b"\0" * (len(segment) % 2)
    tags = dict(page.tags)
    tiled = 322 in tags
    wide = LONG8 if big else LONG
    tags.setdefault(324 if tiled else 273, (wide, offsets))
    tags.setdefault(325 if tiled else 279, (LONG, [len(segment) for segment in page.segments]))
    if inner:
        tags[330] = (wide, inner)
    entries = []
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
        count = len(values) // (2 if kind == RATIONAL else 1)
        if len(data) > (8 if big else 4):
            where = len(out)
            out += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + ("Q" if big else "I"), where)
        entries.append((tag, kind, count, data.ljust(8 if big else 4, b"\0")))
    at = len(out)
    out += struct.pack(order + ("Q" if big else "H"), len(entries))
    for tag, kind, count, data in entries:
        out += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + data
    out += b"\0" * (8 if big else 4)
    return at, len(out) - (8 if big else 4)
