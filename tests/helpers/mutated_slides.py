"""Slides of many formats, and what may befall a file: cut, flipped bits, loops, sizes that lie, bombs."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from dicom_files import nested_dicom, write_dicom_series
from kfb_files import write_kfb
from PIL import Image as Pillow
from slide_files import Image, Scene, shrink
from tiff_checks import OME, ome_image
from tiff_files import (
    DEFLATE,
    FLOAT,
    JPEG,
    JPEG2000,
    LONG,
    LZW,
    NONE,
    PACKBITS,
    RATIONAL,
    SHORT,
    SLONG,
    WEBP,
    ZSTD,
    Page,
    encoded_bytes,
    page_of,
    tiff_bytes,
)

__all__ = ["DAMAGES", "MPP", "Seed", "mutated", "seeds", "write_mutants"]

MPP = 1.0
_BOMB_BYTES = 100_000_000
_NUMBERS = (0, 1, 2, 0x7FFF, 0xFFFF, 2**20, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1)
_APERIO = "Aperio Image Library v1\r\n{}x{}|AppMag = 10|MPP = 1.0"


@dataclass(frozen=True)
class Seed:
    """A slide that is whole.

    Attributes:
        head: bytes that say what the rest is, where the file is no TIFF.
        pages: of a TIFF, to make another one of.
        beside: other files of the slide, by name.
        states_mpp: whether the file says its um/px.
    """

    name: str
    suffix: str
    content: bytes
    size: tuple[int, int]
    head: int = 0
    pages: tuple[Page, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)
    states_mpp: bool = True


def seeds() -> list[Seed]:
    """The same two scenes in every format that there is a writer for."""
    field_, wide = _scene(330, 280, 1), _scene(1100, 270, 2)
    found = [_tiff(f"tiff {name}", array, code) for array in (field_,) for name, code in _CODECS.items()]
    found += [
        _tiff("svs", wide, JPEG, aperio=True),
        _tiff("svs jpeg 2000", field_, JPEG2000, aperio=True),
        _tiff("bigtiff", wide, DEFLATE, big=True),
        _tiff("tiff big endian", field_, LZW, order=">"),
        _tiff("tiff strips", field_, DEFLATE, tile=None),
        _ome(wide),
        _ndpi(field_),
        _kfb(wide),
        *(_dicom(field_, codec) for codec in ("jpeg", "jpeg 2000", "uncompressed", "jpeg-ls", "rle")),
        *_pictures(field_),
    ]
    return found


_CODECS = {
    "none": NONE,
    "jpeg": JPEG,
    "lzw": LZW,
    "deflate": DEFLATE,
    "jpeg 2000": JPEG2000,
    "packbits": PACKBITS,
    "zstd": ZSTD,
    "webp": WEBP,
}


def _scene(width: int, height: int, seed: int) -> Image:
    scene = Scene(width, height, seed=seed)
    for x in range(60, width - 40, 400):  # few, since each costs the time of a crop's classification
        scene.cell(x + 60, height / 3, pink=True)
        scene.small_dark_cell(x, height / 2)
    noisy = scene.pixels + 2 * scene.rng.standard_normal(scene.pixels.shape, np.float32)
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


def _pages(array: Image, code: int, tile: int | None, order: str) -> tuple[Page, ...]:
    first = page_of(array, compression=code, tile=tile, order=order)
    second = page_of(shrink(array, 2), compression=code, tile=tile, order=order).set(254, LONG, 1)
    first.set(282, RATIONAL, 10_000, 1).set(283, RATIONAL, 10_000, 1).set(296, SHORT, 3)
    return first, second


def _tiff(
    name: str,
    array: Image,
    code: int,
    tile: int | None = 128,
    order: str = "<",
    big: bool = False,
    aperio: bool = False,
) -> Seed:
    pages, size = _pages(array, code, tile, order), (array.shape[1], array.shape[0])
    if aperio:
        pages[0].text(270, _APERIO.format(*size))
    options: dict[str, object] = {"order": order, "big": big}
    content = tiff_bytes(pages, order, big)
    return Seed(name, ".svs" if aperio else ".tif", content, size, pages=pages, options=options)


def _ome(array: Image) -> Seed:
    height, width = array.shape[:2]
    first, second = _pages(array, JPEG, 128, "<")
    first.inner.append(second)
    spacing = 'PhysicalSizeX="1.0" PhysicalSizeY="1.0"'
    first.text(270, OME.format(ome_image(0, width, height, spacing)))
    return Seed("ome-tiff", ".ome.tif", tiff_bytes([first]), (width, height), pages=(first,))


def _ndpi(array: Image) -> Seed:
    """As NDPI is: one strip that is one JPEG, Hamamatsu's own tags, and links of 64 bits."""
    array = np.ascontiguousarray(array[:, :320])  # of whole blocks, and rows of whole restart intervals
    height, width = array.shape[:2]
    data = _picture(array, "JPEG", quality=90, subsampling=0, restart_marker_blocks=10)
    page = Page({}, [b"\0\0\0\0", data])
    page.set(256, LONG, width).set(257, LONG, height).set(258, SHORT, 8, 8, 8).set(259, SHORT, JPEG)
    page.set(262, SHORT, 6).set(273, LONG, 12).set(277, SHORT, 3).set(278, LONG, height).set(279, LONG, len(data))
    page.set(282, RATIONAL, 10_000, 1).set(283, RATIONAL, 10_000, 1).set(296, SHORT, 3)
    page.text(271, "Hamamatsu").set(65420, LONG, 1).set(65421, FLOAT, 10.0).set(65424, SLONG, 0)
    return Seed("ndpi", ".ndpi", tiff_bytes([page]) + bytes(4), (width, height))


def _kfb(array: Image) -> Seed:
    with tempfile.TemporaryDirectory() as folder:
        places = write_kfb(Path(folder) / "a.kfb", array, MPP, 10, side=128)
        content = (Path(folder) / "a.kfb").read_bytes()
    head = min(place.offset for place in places.values())
    return Seed("kfb", ".kfb", content, (array.shape[1], array.shape[0]), head=head)


def _dicom(array: Image, codec: str) -> Seed:
    with tempfile.TemporaryDirectory() as folder:
        main = write_dicom_series(Path(folder), [array], codec, MPP, side=128, identity=codec)
        beside = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path != main}
        content = main.read_bytes()
    head = content.rindex(b"\xe0\x7f\x10\x00")
    return Seed(f"dicom {codec}", ".dcm", content, (array.shape[1], array.shape[0]), head=head, beside=beside)


def _pictures(array: Image) -> list[Seed]:
    size = (array.shape[1], array.shape[0])
    dpi = (25_400 / MPP, 25_400 / MPP)
    made = {
        "png": (".png", _picture(array, "PNG", dpi=dpi), 100),
        "jpeg": (".jpg", _picture(array, "JPEG", dpi=tuple(map(int, dpi)), quality=90), 640),
        "jpeg progressive": (".jpg", _picture(array, "JPEG", dpi=tuple(map(int, dpi)), progressive=True), 640),
        "bmp": (".bmp", _picture(array, "BMP", dpi=tuple(map(int, dpi))), 54),
        "webp": (".webp", _picture(array, "WEBP", quality=90), 40),
        "jp2": (".jp2", _picture(array, "JPEG2000"), 200),
    }
    silent = ("webp", "jp2")
    return [
        Seed(name, suffix, content, size, head=head, states_mpp=name not in silent)
        for name, (suffix, content, head) in made.items()
    ]


def _picture(array: Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


# What befalls them. Each takes a seed and chance, and gives the bytes; None where a format has nothing of the kind.

Damage = Callable[[Seed, random.Random], "bytes | None"]


def mutated(seed: Seed, damage: str, chance: random.Random) -> bytes | None:
    """A seed with damage of a kind; None where the format has nothing of the kind."""
    return DAMAGES[damage](seed, chance)


def _cut(seed: Seed, chance: random.Random) -> bytes:
    """Anywhere, or near the end, where TIFFs of this package's writers keep what says where the rest is."""
    size = len(seed.content)
    return seed.content[: chance.choice((chance.randrange(1, size), size - chance.randrange(1, min(size, 200))))]


def _flipped(places: Callable[[Seed], Sequence[range]], most: int) -> Damage:
    def flip(seed: Seed, chance: random.Random) -> bytes:
        data, where = bytearray(seed.content), [place for place in places(seed) if len(place)]
        for _ in range(chance.randint(1, most)):
            data[chance.choice(chance.choice(where))] ^= 1 << chance.randrange(8)
        return bytes(data)

    return flip


def _numbers(seed: Seed, chance: random.Random) -> bytes:
    """Numbers of the directory, or the head, that are as large or small as can be."""
    data, where = bytearray(seed.content), _directory(seed)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice(where)
        at = min(chance.choice(place), len(data) - 4)
        order = chance.choice("<>")
        struct.pack_into(f"{order}I", data, at, chance.choice((*_NUMBERS, chance.randrange(2**32))))
    return bytes(data)


def _sizes(seed: Seed, chance: random.Random) -> bytes | None:
    """Its width, its height, or the side of its tiles, stated otherwise wherever the head states it."""
    data = bytearray(seed.content)
    places = []
    for value in (*seed.size, 128):
        for code in ("<I", ">I", "<H", ">H"):
            for place in _directory(seed):
                found, wanted = place.start, struct.pack(code, value)
                while (found := data.find(wanted, found, place.stop)) >= 0:
                    places.append((found, code))
                    found += 1
    if not places:
        return None
    for at, code in chance.sample(places, min(len(places), chance.randint(1, 2))):
        lie = chance.choice([n for n in (0, 1, 40_000, *_NUMBERS) if n < 256 ** struct.calcsize(code)])
        struct.pack_into(code, data, at, lie)
    return bytes(data)


def _zeroed(seed: Seed, chance: random.Random) -> bytes:
    """A block that was never written, as after a copy that was broken off."""
    data, size = bytearray(seed.content), chance.choice((16, 512, 4096, 65_536))
    at = chance.randrange(len(data))
    data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


def _shifted(seed: Seed, chance: random.Random) -> bytes:
    """Some bytes too many, or too few: all that follows is elsewhere."""
    at, size = chance.randrange(len(seed.content)), chance.choice((1, 2, 7, 512))
    if chance.random() < 0.5:
        return seed.content[:at] + seed.content[at + size :]
    return seed.content[:at] + chance.randbytes(size) + seed.content[at:]


def _loop(seed: Seed, chance: random.Random) -> bytes | None:
    """A directory whose next one, or whose inner one, comes before it or is itself."""
    parts = _tiff_parts(seed.content)
    if parts is None:
        return None
    data = bytearray(seed.content)
    links = parts.links[1:] + parts.inner
    at, code = chance.choice(links)
    struct.pack_into(code, data, at, chance.choice([place.start for place in parts.directories]))
    return bytes(data)


def _bomb(seed: Seed, chance: random.Random) -> bytes | None:
    """What is small in the file and large, or deep, where it is read."""
    if seed.name == "ome-tiff":
        page = replace(seed.pages[0], tags=dict(seed.pages[0].tags))
        page.text(270, chance.choice((_laughs, _nested_xml))())
        return tiff_bytes([page])
    if seed.name.startswith("dicom"):
        return nested_dicom(seed.content, chance.choice((500, 5_000, 20_000)))
    if seed.name == "png":
        return _png_bomb(seed.content, chance)
    if seed.name.startswith("jpeg"):
        return _many_scans(seed.content)
    codes = {code: name for name, code in _CODECS.items()}
    code = seed.pages[0].tags[259][1][0] if seed.pages else -1
    if codes.get(code) not in ("lzw", "deflate", "zstd", "packbits"):
        return None
    pages = [replace(page, segments=list(page.segments)) for page in seed.pages]
    for page in chance.choice((pages[:1], pages[1:], pages)):
        for at in range(len(page.segments)):
            if chance.random() < 0.7:
                page.segments[at] = _zeros(code)
    return tiff_bytes(pages, **seed.options)  # type: ignore[arg-type]


@cache
def _zeros(code: int) -> bytes:
    # The encoder of PackBits takes quadratic time for a run.
    return b"\x81\0" * (_BOMB_BYTES // 128) if code == PACKBITS else encoded_bytes(bytes(_BOMB_BYTES), code)


@cache
def _laughs() -> str:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "ha">{entities}]>{OME.partition("?>")[2].format("&a9;")}'


@cache
def _nested_xml() -> str:
    return OME.format("<Image>" * 200_000 + "</Image>" * 200_000)


def _png_bomb(content: bytes, chance: random.Random) -> bytes:
    """A text, or pixels, that grow a thousandfold."""
    kind = chance.choice((b"zTXt", b"iCCP", b"IDAT"))
    body = (b"" if kind == b"IDAT" else b"Comment\0\0") + zlib.compress(bytes(_BOMB_BYTES), 9)
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + chunk + content[33:]


def _many_scans(content: bytes) -> bytes:
    """Each scan of a progressive JPEG costs a walk over all of its blocks, however few its bytes."""
    end = content.rindex(b"\xff\xd9")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + b"\x00"
    return content[:end] + scan * 20_000 + content[end:]


DAMAGES: dict[str, Damage] = {
    "cut": _cut,
    "bits of the header": _flipped(lambda seed: [range(min(32, len(seed.content)))], 2),
    "bits of the directory": _flipped(lambda seed: _directory(seed), 4),
    "bits of the data": _flipped(lambda seed: [range(seed.head, len(seed.content))], 24),
    "numbers": _numbers,
    "sizes": _sizes,
    "zeroed": _zeroed,
    "shifted": _shifted,
    "loop": _loop,
    "bomb": _bomb,
}


def _directory(seed: Seed) -> list[range]:
    parts = _tiff_parts(seed.content)
    return [range(min(seed.head or 64, len(seed.content)))] if parts is None else parts.directories


@dataclass(frozen=True)
class _Parts:
    """Where the directories of a TIFF lie, and where each link to one stands, with the code of its number."""

    directories: list[range]
    links: list[tuple[int, str]]
    inner: list[tuple[int, str]]


def _tiff_parts(content: bytes) -> _Parts | None:
    if content[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return None
    order, big = "<" if content[:1] == b"I" else ">", content[2:3] == b"+"
    number, each, offset = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    parts = _Parts([], [(8 if big else 4, offset)], [])
    waiting = [parts.links[0]]
    while waiting:
        link = waiting.pop()
        (at,) = struct.unpack_from(link[1], content, link[0])
        if not at:
            continue
        (count,) = struct.unpack_from(number, content, at)
        first = at + struct.calcsize(number)
        end = first + count * each
        parts.directories.append(range(at, end + struct.calcsize(offset)))
        for entry in range(first, end, each):
            if struct.unpack_from(f"{order}H", content, entry)[0] == 330:
                parts.inner.append((entry + (12 if big else 8), offset))
        parts.links.append((end, offset))
        waiting += [(end, offset), *parts.inner] if len(parts.directories) == 1 else [(end, offset)]
    return parts


def write_mutants(folder: Path, numbers: Iterable[int], seed: int) -> dict[str, tuple[str, str]]:
    """Damaged slides by their ids: format and damage. Formats come in turn, then damages, and the rest is chance.

    ``mpp.csv`` beside them lists those that do not state their um/px.
    """
    whole, kinds, found, rows = seeds(), list(DAMAGES), {}, []
    for number in numbers:
        chance = random.Random(f"{seed} {number}")
        one, at = whole[number % len(whole)], number // len(whole)
        data = None
        while data is None:
            damage = kinds[at % len(kinds)]
            data, at = mutated(one, damage, chance), at + 1
        name = f"{number:05d}"
        path = folder / f"{name}{one.suffix}"
        if one.beside:
            path = folder / name / f"level-0{one.suffix}"
            path.parent.mkdir()
            for other, content in one.beside.items():
                (path.parent / other).write_bytes(content)
        path.write_bytes(data)
        if not one.states_mpp:
            rows.append(f"{path.name},{name},{MPP}")
        found[path.parent.name if one.beside else path.stem] = one.name, damage
    (folder / "mpp.csv").write_text("\n".join(["path,slide_id,mpp", *rows, ""]), encoding="utf-8")
    return found
