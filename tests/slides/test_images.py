"""Plain images: every kind of pixel as it is meant, upright, within bounds of memory, or refused by what it is."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from slide_files import textured

from stride_monai.errors import SlideError
from stride_monai.slides import open_slide
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.readers.image import ImageReader
from stride_monai.units import Box

ARRAY = textured(60, 80)


def _read(path: Path, reader: str = "auto") -> Pixels:
    with open_slide(path, 0.25, reader=reader) as slide:
        return slide.read(slide.box)


def _on_white(image: Image.Image) -> Pixels:
    rgba = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_upright_whatever_the_orientation_tag(tmp_path: Path, suffix: str, tag: int) -> None:
    exif = Image.Exif()
    exif[274] = tag
    path = tmp_path / f"a.{suffix}"
    options = {"jpg": {"quality": 95}, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(ARRAY).save(path, exif=exif, dpi=(50_800, 101_600), **options)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    with open_slide(path, 0.25, reader="image") as slide:
        np.testing.assert_array_equal(slide.read(slide.box), upright)
        np.testing.assert_array_equal(slide.read(Box(5, 7, 45, 50)), upright[7:50, 5:45])
        assert slide.notes == ((f"turned upright (orientation {tag} of the file)",) if tag > 1 else ())
    if suffix == "png":
        stated = ImageReader(path).stated
        wide = (0.25, 0.5) if tag > 4 else (0.5, 0.25)
        assert (stated.mpp_x, stated.mpp_y) == pytest.approx(wide, rel=1e-3)


def _palette() -> Image.Image:
    image = Image.fromarray(ARRAY).quantize(16)
    image.info["transparency"] = 3
    return image


def _color_key() -> Image.Image:
    array = ARRAY.copy()
    array[:20] = (10, 200, 30)
    image = Image.fromarray(array)
    image.info["transparency"] = (10, 200, 30)
    return image


def _alpha(mode: str) -> Image.Image:
    image = Image.fromarray(ARRAY).convert(mode)
    image.putalpha(Image.fromarray(textured(60, 80, seed=3)[..., 0]))
    return image


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("png", lambda: Image.fromarray(ARRAY).convert("1")),
        ("png", lambda: Image.fromarray(ARRAY).convert("L")),
        ("png", lambda: _alpha("L")),
        ("png", lambda: _alpha("RGB")),
        ("webp", lambda: _alpha("RGB")),
        ("png", _palette),
        ("png", _color_key),
        ("png", lambda: Image.fromarray(ARRAY).quantize(2)),
        ("bmp", lambda: Image.fromarray(ARRAY).quantize(16)),
        ("jp2", lambda: Image.fromarray(ARRAY)),
        ("jpg", lambda: Image.fromarray(ARRAY).convert("CMYK")),
    ],
)
def test_every_kind_of_pixel_is_seen_on_white(tmp_path: Path, suffix: str, make: Callable[[], Image.Image]) -> None:
    image, path = make(), tmp_path / f"a.{suffix}"
    image.save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    allowed = 40 if suffix == "jpg" else 1
    assert np.abs(_read(path).astype(int) - _on_white(image)).max() <= allowed


@pytest.mark.parametrize("kind", ["text", "compressed text", "profile"])
def test_what_a_png_says_besides_its_pixels_may_be_long(tmp_path: Path, kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    if kind != "profile":
        info.add_text("Description", "x" * 70_000_000 if kind == "text" else "y" * 3_000_000, zip=kind != "text")
    profile = {"icc_profile": b"\0" * 3_000_000} if kind == "profile" else {}
    Image.fromarray(ARRAY).save(tmp_path / "a.png", pnginfo=info, **profile)
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), ARRAY)


def _png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(ARRAY).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _half(kind: str) -> bytes:
    whole = _encoded(kind)
    return whole[: len(whole) // 2]


def _zeroed(data: bytes, size: int | None = None) -> bytes:
    """As a copy that was broken off may be: zeros from the middle on, all or some."""
    at = len(data) // 2
    return data[:at] + bytes(len(data) - at) if size is None else data[:at] + bytes(size) + data[at + size :]


def _animation(kind: str) -> bytes:
    more = [Image.fromarray(textured(60, 80, seed=seed)) for seed in (1, 2)]
    return _encoded(kind, save_all=True, append_images=more)


def _wider(jpeg: bytes) -> bytes:
    """A JPEG whose header states 20,000 x 20,000 px."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", 20_000, 20_000) + jpeg[at + 4 :]


def _deep_jp2(codec: str) -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    return bytes(imagecodecs.jpeg2k_encode(ARRAY.astype(np.uint16) * 16, level=0, codecformat=codec))


def _tall(bmp: bytes) -> bytes:
    """A BMP whose header states 30,000 rows."""
    return bmp[:22] + struct.pack("<i", 30_000) + bmp[26:]


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"optimize": True}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {})]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_an_empty_field_may_be_a_small_file(tmp_path: Path, kind: str, options: dict[str, bool], mode: str) -> None:
    path = tmp_path / "blank"
    Image.new(mode, (4096, 4096), 1).save(path, kind, **options)
    assert open_slide(path, 0.25).width == 4096


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("grey16.png", lambda: _png(4, 4, 16, 0, (b"\0" + b"\1\2" * 4) * 4), "16-bit"),
        ("rgb48.png", lambda: _png(4, 4, 16, 2, (b"\0" + b"\1\2" * 12) * 4), "16-bit"),
        ("grey16alpha.png", lambda: _png(4, 4, 16, 4, (b"\0" + b"\1\2" * 8) * 4), "16-bit"),
        ("rgba64.png", lambda: _png(4, 4, 16, 6, (b"\0" + b"\1\2" * 16) * 4), "16-bit"),
        ("deep.jp2", lambda: _deep_jp2("jp2"), "16-bit"),
        ("deep.j2k", lambda: _deep_jp2("j2k"), "16-bit"),
        ("a.gif", lambda: _encoded("GIF"), "GIF files are not read"),
        ("gif.png", lambda: _encoded("GIF"), "GIF files are not read"),
        ("phone.heic", lambda: b"\0\0\0\x18ftypheic" + bytes(50), "HEIC files are not read"),
        ("phone.jpg", lambda: b"\0\0\0\x18ftypmif1" + bytes(50), "HEIC files are not read"),
        ("report.tif", lambda: b"%PDF-1.7" + bytes(50), "PDF files are not read"),
        ("slides.svs", lambda: b"PK\x03\x04" + bytes(50), "ZIP files are not read"),
        ("moving.png", lambda: _animation("PNG"), "animation of 3 pictures"),
        ("moving.webp", lambda: _animation("WEBP"), "animation of 3 pictures"),
        ("cut.png", lambda: _half("PNG"), "damaged"),
        ("cut.jpg", lambda: _half("JPEG"), "damaged"),
        ("cut.bmp", lambda: _half("BMP"), "damaged"),
        ("cut.webp", lambda: _half("WEBP"), "damaged"),
        ("cut.jp2", lambda: _half("JPEG2000"), "damaged"),
        ("head.jpg", lambda: _encoded("JPEG")[:100], "damaged"),
        ("zeros.png", lambda: _zeroed(_encoded("PNG")), "damaged"),
        ("zeros.jpg", lambda: _zeroed(_encoded("JPEG", quality=98)), "cut short"),
        ("zeros_progressive.jpg", lambda: _zeroed(_encoded("JPEG", quality=98, progressive=True)), "cut short"),
        (
            "zeros_behind_a_thumbnail.jpg",
            lambda: _zeroed(_encoded("JPEG", quality=100, exif=b"Exif\0\0" + _encoded("JPEG", quality=5))),
            "cut short",
        ),
        ("hole.png", lambda: _zeroed(_encoded("PNG", compress_level=0), 64), "a checksum of its data is wrong"),
        (
            "twelve.jpg",
            lambda: _encoded("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
            "begins as a JPEG",
        ),
        ("huge.png", lambda: _png(30_000, 30_000, 8, 2, b"\0" * 1000), "more than a file of"),
        ("huge.jpg", lambda: _wider(_encoded("JPEG")), "more than a file of"),
        ("huge_grey.jpg", lambda: _wider(_encoded("JPEG", mode="L")), "more than a file of"),
        ("huge.bmp", lambda: _tall(_encoded("BMP")), "more than a file of"),
        ("nothing.png", lambda: _png(0, 5, 8, 2, b"\0" * 5), "0x5|begins as a PNG"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_what_it_is(
    tmp_path: Path, name: str, make: Callable[[], bytes], why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(SlideError, match=why) as caught:
        open_slide(path, 0.25)
    assert name in str(caught.value)


@pytest.mark.parametrize("kind", ["gray", "rgb", "alpha"])
def test_a_png_that_uses_16_bits_is_read(tmp_path: Path, kind: str) -> None:
    array = {"gray": ARRAY[..., :1], "rgb": ARRAY, "alpha": np.dstack([ARRAY, ARRAY[..., :1]])}[kind]
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in array)
    (tmp_path / "a.png").write_bytes(_png(80, 60, 16, {1: 0, 3: 2, 4: 6}[array.shape[2]], rows))
    expected = _on_white(Image.fromarray(array)) if kind == "alpha" else np.broadcast_to(array, ARRAY.shape)
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), expected)


def test_of_several_pictures_in_a_photograph_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    other = Image.fromarray(textured(60, 80, seed=5))
    Image.fromarray(ARRAY).save(path, "MPO", save_all=True, append_images=[other], quality=95)
    with open_slide(path, 0.25) as slide:
        assert slide.notes == ("the first of 2 pictures in the file",)
        assert np.abs(slide.read(slide.box).astype(int) - ARRAY).mean() < 5


_PEAK = """
import re, sys
from pathlib import Path
import stride_monai.slides.slide
from stride_monai.slides.readers.image import ImageReader
# Not ru_maxrss: a process begins with that of the one that started it.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
reader = ImageReader(Path(sys.argv[1]))
reader.read_level(0, 4000, 3000, 512, 512)
print((peak() - before) * 1024 / (reader.level_sizes[0][0] * reader.level_sizes[0][1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read as Linux tells it")
def test_a_large_picture_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8000, 6000), (240, 239, 235)).save(path)
    ran = subprocess.run([sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 4.6  # bytes per pixel; Pillow keeps 4
