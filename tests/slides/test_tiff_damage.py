"""Damage in a TIFF is refused before anything is decoded, or counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tiff_files
from tiff_checks import (
    OME,
    READERS,
    assert_true,
    picture,
    seen,
    with_mpp,
    write,
)
from tiff_files import (
    ASCII,
    DEFLATE,
    JPEG,
    JPEG2000,
    LONG,
    LZW,
    RATIONAL,
    SHORT,
    ZSTD,
    Page,
    page_of,
    tiff_bytes,
)

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides import open_slide
from stride_monai.slides.parts import FolderView
from stride_monai.slides.tiff.layout import read_layout


def jpeg_header(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 9 :]


def jpeg2000_header(data: bytes, size: int) -> bytes:
    at = data.index(b"\xff\x51") + 6
    return data[:at] + size.to_bytes(4, "big") * 2 + data[at + 8 :]


def changed(page: Page, change: Any) -> Page:
    page.segments = [change(segment) for segment in page.segments]
    return page


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (lambda: page_of(picture(64, 64)).set(256, LONG, 0), "a picture of 0x64 px"),
        (lambda: page_of(picture(64, 64)).set(256, LONG, 300_000).set(257, LONG, 300_000), "87890625 tiles, it has 4"),
        (lambda: page_of(picture(64, 64), compression=ZSTD).set(322, LONG, 2**31 - 16), "tiles of 2147483632x32 px"),
        (lambda: page_of(picture(64, 64)).set(322, LONG, 0), "tiles of 0x32 px"),
        (lambda: page_of(picture(64, 64), tile=None).set(257, LONG, 300_000), "strips, it has 4"),
        (lambda: page_of(picture(64, 64), tile=None).set(278, LONG, 2**32 - 1).set(257, LONG, 2**31 - 1), "damaged"),
        (lambda: page_of(picture(64, 64)).set(325, LONG, 0, 0, 0, 0), "holds none of its 4 tiles"),
        (lambda: page_of(picture(64, 64)).set(324, LONG, 0, 0, 0, 0), "holds none of its 4 tiles"),
        (lambda: page_of(picture(64, 64)).set(324, LONG, *[10**9] * 4), "4 of its 4 tiles lie beyond its end"),
        (lambda: page_of(picture(64, 64)).set(325, LONG, *[2**32 - 1] * 4), "4 of its 4 tiles lie beyond its end"),
        (lambda: page_of(picture(64, 64)).set(325, LONG, *[100] * 4), "fewer bytes than pixels"),
        (lambda: page_of(picture(64, 64)).set(277, SHORT, 0), "0 samples per pixel"),
        (lambda: page_of(picture(64, 64)).set(324, RATIONAL, *[8, 1] * 4), "tag 324 holds no whole numbers"),
        (lambda: page_of(picture(64, 64)).set(325, RATIONAL, *[9, 1] * 4), "tag 325 holds no whole numbers"),
        (lambda: page_of(picture(64, 64)).set(258, RATIONAL, 8, 1), "tag 258 holds no whole numbers"),
        (
            lambda: changed(page_of(picture(64, 64), compression=JPEG), lambda d: jpeg_header(d, 30_000, 30_000)),
            "30000x30000",
        ),
        (
            lambda: changed(page_of(picture(64, 64), compression=JPEG2000), lambda d: jpeg2000_header(d, 40_000)),
            "40000x40000",
        ),
        (lambda: changed(page_of(picture(64, 64), compression=JPEG), lambda d: d[:-60]), "cut short"),
        (
            lambda: changed(page_of(picture(64, 64), compression=JPEG2000), lambda d: d[:-400] + bytes(400)),
            "cut short",
        ),
        (lambda: changed(page_of(picture(64, 64), compression=JPEG), lambda d: b"\0" * len(d)), "it is no JPEG"),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_damage_is_refused_with_its_cause(tmp_path: Path, page: Any, words: str, big: bool) -> None:
    path = write(tmp_path / "a.tif", page(), big=big)
    assert words in seen(path, "tiff")
    assert isinstance(seen(path, "auto"), str)
    if "lies" not in words and "x30000" not in words:
        with pytest.raises(SlideError, match=r"a\.tif"), open_slide(path, 0.25) as slide:
            slide.overview()


@pytest.mark.parametrize("hint", ["leica", "philips", "trestle", "ventana"])
@pytest.mark.parametrize("tag", [(256, LONG, 0), (322, LONG, 2**31 - 16), (256, LONG, 300_000)])
def test_no_claim_of_a_scanner_gets_round_the_checks(tmp_path: Path, hint: str, tag: tuple[int, int, int]) -> None:
    page = page_of(picture(64, 64)).set(*tag)
    page.text(305, {"philips": "Philips", "trestle": "MedScan"}.get(hint, ""))
    page.text(270, '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"/>' if hint == "leica" else "")
    page.tags[700] = (1, b"<iScan/>" if hint == "ventana" else b"")
    for reader in READERS:
        assert "damaged" in seen(write(tmp_path / "a.tif", page), reader)


def test_directories_in_a_loop(tmp_path: Path) -> None:
    data = bytearray(tiff_bytes([page_of(picture(64, 64)), page_of(picture(64, 64))]))
    data[-4:] = data[4:8]
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert "form a loop" in seen(path, "auto")


def test_directories_of_very_many_tags(tmp_path: Path) -> None:
    """Where directories overlap, a small file may state thousands, each of as many tags as can be."""
    pages = [page_of(picture(64, 64)) for _ in range(70)]
    for page in pages:
        page.tags |= dict.fromkeys(range(1000, 5000), (SHORT, (0,)))
    assert "too many tags" in seen(write(tmp_path / "a.tif", *pages), "auto")
    pages[0].tags |= dict.fromkeys(range(5000, 6000), (SHORT, (0,)))
    assert "damaged or cut off" in seen(write(tmp_path / "a.tif", pages[0]), "auto")


def test_elements_of_ome_xml_nested_too_deep(tmp_path: Path) -> None:
    """Each may be asked for all that it holds, which took hours, some of them in the command that looks for slides."""
    page = page_of(picture(64, 64)).text(270, OME.format("<Image>" * 100_000 + "</Image>" * 100_000))
    for name in ("a.ome.tif", "b.ome.tif"):
        assert "its elements are nested too deep" in seen(write(tmp_path / name, page), "auto")
    assert FolderView(tmp_path).wholes == []


@pytest.mark.parametrize("codec", ["zlib_encode", "zstd_encode", "lzw_encode"])
def test_a_bomb_takes_no_more_than_its_tile(tmp_path: Path, codec: str) -> None:

    code = {"zlib_encode": DEFLATE, "zstd_encode": ZSTD, "lzw_encode": LZW}[codec]
    bomb = bytes(getattr(imagecodecs, codec)(b"\0" * 30_000_000))
    page = changed(page_of(picture(64, 64), compression=code), lambda _: bomb)
    got = seen(write(tmp_path / "a.tif", page), "tiff")
    assert isinstance(got, str) or not got.any()  # LZW ends where the tile is full


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
@pytest.mark.parametrize("aperio", [False, True])
@pytest.mark.parametrize("tag", [324, 325])
def test_a_tile_that_the_file_does_not_hold_is_never_white(tmp_path: Path, reader: str, aperio: bool, tag: int) -> None:
    full = picture(128, 128)
    page = with_mpp(page_of(full, compression=JPEG, tile=64), 0.25)
    if aperio:
        page.text(270, "Aperio Image Library v1\r\n128x128|AppMag = 40|MPP = 0.25")
    if tag == 324:
        page.segments[1] = b""  # offset and byte count are 0
    else:
        page.set(325, LONG, *[0 if i == 1 else len(segment) for i, segment in enumerate(page.segments)])
    with open_slide(write(tmp_path / "a.tif", page), reader=reader) as slide:
        assert slide.facts.reader == reader
        assert slide.notes == ("1 of 4 tiles are not in the file",)
        with pytest.raises(RegionError, match=r"a\.tif.*does not hold it"):
            slide.read(type(slide.box)(60, 0, 100, 40))
        part = slide.read(type(slide.box)(0, 0, 64, 128)).astype(int)
        assert np.abs(part - full[:, :64]).max() < 24


@pytest.mark.parametrize("stored", ["YCBCR", "RGB"])
@pytest.mark.parametrize("tag", [2, 6])
@pytest.mark.parametrize("aperio", [False, True])
def test_jpeg_tiles_that_say_themselves_what_their_colors_are(
    tmp_path: Path, stored: str, tag: int, aperio: bool
) -> None:
    """imagecodecs writes a marker of JFIF or Adobe into each tile; where the tag contradicts it the tile is right."""
    full = picture(128, 128)
    page = page_of(full, 6 if stored == "YCBCR" else 2, compression=JPEG).set(262, SHORT, tag)
    if aperio:
        page.text(270, "Aperio Image Library v1\r\n128x128|AppMag = 40|MPP = 0.25")
    assert_true(write(tmp_path / "a.tif", page), full, 24)


@pytest.mark.parametrize("tail", [b"\0" * 200, b"\xff" * 3, b"rubbish" * 400])
def test_bytes_after_the_end_of_a_jpeg_tile(tmp_path: Path, tail: bytes) -> None:
    full = picture(128, 128)
    page = changed(page_of(full, compression=JPEG), lambda data: data + tail)
    assert_true(write(tmp_path / "a.tif", page), full, 24)


def test_nothing_of_a_tag_reaches_the_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = page_of(picture(64, 64)).text(270, "CANARY PATIENT").text(315, "CANARY PATIENT")
    page.tags[282] = (ASCII, b"CANARY PATIENT\0")
    page.set(322, LONG, 2**31 - 16)
    path = write(tmp_path / "a.tif", page)
    for reader in READERS:
        assert "CANARY" not in seen(path, reader)
    out, err = capfd.readouterr()
    assert "CANARY" not in out + err


def test_a_file_that_is_no_tiff_has_no_layout(tmp_path: Path) -> None:
    for content in (b"", b"II", b"II*", b"not a tiff at all", b"\x89PNG\r\n"):
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        assert read_layout(path) is None


# Mutated files, in a process whose memory is limited: nothing but the true error, whatever is read

_MUTATE = """
import faulthandler, random, re, resource, struct, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from slide_files import shrink, textured
from tiff_files import *
from stride_monai.errors import StrideError
from stride_monai.slides import open_slide
from stride_monai.slides.parts import FolderView
faulthandler.enable()
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # by threads' stacks and libraries
resource.setrlimit(resource.RLIMIT_AS, (held + (3 << 30),) * 2)
full, path = textured(70, 90), Path(sys.argv[2])
files = []
for code in (NONE, LZW, JPEG, DEFLATE, PACKBITS, JPEG2000, ZSTD, WEBP):
    pages = [page_of(full, compression=code), page_of(shrink(full, 2), compression=code).set(254, LONG, 1)]
    files.append(tiff_bytes(pages, big=code == LZW))
    pages[0].text(270, "Aperio Image Library v1|MPP = 0.25")
    files.append(tiff_bytes(pages))
files.append(tiff_bytes([page_of(full, tile=None, planar=True, order=">")], order=">"))
rng = random.Random(0)
for _ in range(int(sys.argv[3])):
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(max(0, len(data) - 450), len(data)) if rng.random() < 0.6 else rng.randrange(len(data))
        kind = rng.randrange(8)
        if kind == 0 and at > 8:
            del data[at:]
        elif kind < 4 and at + 4 <= len(data):
            struct.pack_into("<I", data, at, rng.choice([0, 1, 2**31, 2**32 - 1, 65535, 300_000, rng.randrange(2**32)]))
        else:
            data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    for reader in ("openslide", "tiff", "image"):
        try:
            with open_slide(path, 0.25, reader) as slide:
                slide.overview(64)
                slide.read(type(slide.box)(0, 0, 64, 64))
        except StrideError as error:
            assert path.name in str(error), error
# Not ru_maxrss: a process begins with that of the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
print(f"peak {peak:.2f} GiB")
assert peak < 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits and peaks are read as Linux tells them")
def test_mutated_files_cost_neither_the_process_nor_the_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MUTATE, str(Path(tiff_files.__file__).parent), str(tmp_path / "a.tif"), "400"]
    # Without these a machine of many cores has an address space of many GiB, whatever is read.
    one = dict.fromkeys(("MALLOC_ARENA_MAX", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env={**os.environ, **one})
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
