"""TIFFs of every odd kind: a reader shows the true picture or refuses the file by name, and all that read agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import shrink, textured
from tiff_checks import (
    KINDS,
    READERS,
    assert_true,
    made,
    ome_file,
    ome_image,
    picture,
    pixels_of,
    seen,
    with_mpp,
    write,
)
from tiff_files import (
    DEFLATE,
    JPEG,
    JPEG2000,
    LONG,
    LZW,
    NONE,
    PACKBITS,
    SHORT,
    WEBP,
    ZSTD,
    Page,
    page_of,
    tiff_bytes,
)

from stride_monai.errors import SlideError
from stride_monai.slides import open_slide
from stride_monai.slides.orientation import orientation_of
from stride_monai.units import Box


@dataclass(repr=False)
class OddFile:
    """A file, the upright picture that it means, how exact that is, and how it was made."""

    data: bytes
    picture: Any
    tolerance: int
    recipe: str

    def __repr__(self) -> str:
        return self.recipe


@st.composite
def odd_files(draw: st.DrawFn) -> OddFile:
    """A file of one picture in any form, with pages beside it that are none; its picture, and how exact it is."""
    height, width = draw(st.integers(33, 90)), draw(st.integers(33, 90))
    kind = draw(st.sampled_from([*["rgb"] * 8, *KINDS[:-1]]))
    tile = draw(st.sampled_from([16, 32, 64, None]))
    order, big = draw(st.sampled_from("<>")), draw(st.booleans())
    pixels = pixels_of(kind, height, width)
    codecs = [NONE, LZW, DEFLATE, PACKBITS, ZSTD]
    if kind in ("rgb", "gray") and tile:
        codecs += [JPEG, JPEG2000]
    if kind == "rgb":
        codecs += [WEBP]
    compression = draw(st.sampled_from(codecs))
    plain = compression in (NONE, LZW, DEFLATE, PACKBITS, ZSTD)
    planar = plain and pixels.samples.shape[2] > 1 and draw(st.booleans())
    predictor = compression in (LZW, DEFLATE, ZSTD) and pixels.bits in (8, 16) and draw(st.booleans())
    photometric = 6 if compression == JPEG and kind == "rgb" and draw(st.booleans()) else pixels.photometric
    form = {"tile": tile, "compression": compression, "planar": planar, "predictor": predictor, "order": order}
    turn = orientation_of(draw(st.integers(1, 8)))

    def page(samples: Any) -> Page:
        return made(page_of(samples, photometric, bits=pixels.bits, **form), pixels).set(274, SHORT, turn.tag)

    full = with_mpp(page(pixels.samples), 0.25)
    levels = []
    if kind in ("rgb", "gray"):
        reduced = [shrink(pixels.samples, 2), shrink(pixels.samples, 4)][: draw(st.integers(0, 2))]
        levels = [page(samples).set(254, LONG, 1) for samples in reduced]
    beside = [page_of(textured(40, 100, seed=9), tile=tile).set(254, LONG, 1)]  # another aspect
    beside.append(page_of(textured(44, 64, seed=9), tile=tile).set(254, LONG, 9))
    beside.append(page_of(textured(60, 60, seed=9), tile=tile).text(270, "label"))
    beside = draw(st.lists(st.sampled_from(beside), max_size=2, unique_by=id))
    thumbnail = page_of(shrink(textured(height, width, seed=3), 3), tile=tile, order=order).set(254, LONG, 1)
    pages = [thumbnail] if draw(st.booleans()) else []
    if levels and draw(st.booleans()):
        full.inner, levels = levels, []
    first = draw(st.booleans())
    data = tiff_bytes([*pages, *beside, full, *levels] if first else [*pages, full, *levels, *beside], order, big)
    recipe = f"{width}x{height} {kind} {form} {photometric=} {turn.tag=} {big=} {first=}"
    recipe += f" {len(levels)} levels {len(full.inner)} SubIFDs {len(pages)} thumbnail {len(beside)} beside"
    return OddFile(data, turn.upright(pixels.picture), 24 if compression == JPEG else 1, recipe)


@settings(deadline=None, max_examples=150)
@given(odd_files())
def test_a_reader_shows_the_true_picture_or_refuses_it(tmp_path_factory: Any, file: OddFile) -> None:
    path = tmp_path_factory.mktemp("odd") / "odd.tif"
    path.write_bytes(file.data)
    assert_true(path, file.picture, file.tolerance)
    small = {}
    for reader in READERS:
        try:
            with open_slide(path, reader=reader) as slide:
                assert slide.mpp == pytest.approx(0.25, rel=1e-3)
                small[reader] = slide.read(slide.box, 0.5).astype(int)
        except SlideError:
            pass
    for other in small.values():  # through whatever level
        assert np.abs(other - small["tiff"]).max() <= 12


# What is refused, and what it is


def float_page() -> Page:
    page = page_of(np.zeros((64, 64, 3), np.uint8), tile=None)
    page.segments = [b"\0" * (16 * 64 * 3 * 4)] * 4
    return page.set(258, SHORT, 32, 32, 32).set(339, SHORT, 3, 3, 3)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (float_page, "32-bit float samples"),
        (lambda: page_of(np.zeros((64, 64, 3), np.uint16), bits=16).set(339, SHORT, 2), "16-bit signed samples"),
        (lambda: page_of(np.zeros((64, 64, 3), np.uint16), bits=16), "no tag says which value is white"),
        (lambda: page_of(np.zeros((64, 64, 3), np.uint16), bits=16).set(281, SHORT, 3012), "no tag says which"),
        (lambda: page_of(picture(64, 64).repeat(2, 2)[..., :4], 5).set(332, SHORT, 2), "inks that are not the four"),
        (lambda: page_of(picture(64, 64).repeat(2, 2)[..., :4], 5, bits=16), "inks that are not the four"),
        (
            lambda: page_of(picture(64, 64).repeat(2, 2)[..., :5], 5),
            "inks that are not the four",
        ),
        (lambda: page_of(picture(64, 64), 8), "CIELab"),
        (lambda: page_of(picture(64, 64), 1), "channels, not colours"),
        (lambda: page_of(picture(64, 64).repeat(2, 2)), "6 samples per pixel"),
        (lambda: page_of(picture(64, 64), 6), "YCbCr with subsampled colours"),
        (lambda: page_of(picture(64, 64)[..., :1], 3), "palette that does not fit"),
        (lambda: page_of(picture(64, 64)).set(259, SHORT, 4), "CCITT fax"),
        (lambda: page_of(picture(64, 64)).set(259, SHORT, 65000), "compression 65000 (unknown)"),
        (lambda: page_of(picture(64, 64), compression=LZW).set(317, SHORT, 3), "predictor 3"),
        (lambda: page_of(picture(64, 64)).set(258, SHORT, 5, 6, 5), "5, 6 bits in one picture"),
        (lambda: page_of(picture(64, 64)).set(32997, LONG, 3), "a volume"),
        (lambda: page_of(picture(64, 64), compression=DEFLATE).set(259, SHORT, 6), "JPEG of the old style"),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.svs"])
def test_what_cannot_be_read_rightly_is_refused_with_what_it_is(
    tmp_path: Path, page: Any, words: str, name: str
) -> None:
    made_page = page()
    if name == "a.svs":
        made_page.text(270, "Aperio Image Library v1\r\n64x64|MPP = 0.25")
    path = write(tmp_path / name, made_page)
    for reader in READERS:
        said = seen(path, reader)
        assert words in said
        assert "copy it again" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pixels(tmp_path: Path, kind: str) -> None:
    pixels = pixels_of(kind, 70, 50)
    for tile in (32, None):
        page = made(page_of(pixels.samples, pixels.photometric, tile, bits=pixels.bits), pixels)
        path = write(tmp_path / "a.tif", page)
        if pixels.refused:
            assert pixels.refused in seen(path, "auto")
        else:
            assert_true(path, pixels.picture, 1)


@pytest.mark.parametrize("damaged", [False, True])
def test_16_bit_samples_that_use_all_bits_tell_what_is_white(tmp_path: Path, damaged: bool) -> None:
    rgb = picture(96, 96)
    page = page_of(rgb.astype(np.uint16) * 257, bits=16, compression=ZSTD)
    if damaged:
        page.segments[0] = b"\0" * len(page.segments[0])
    with open_slide(write(tmp_path / "a.tif", page), 0.25) as slide:
        assert "65535" in slide.notes[0]
        np.testing.assert_array_equal(slide.read(Box(64, 0, 96, 96)), rgb[:, 64:])


@pytest.mark.parametrize("kind", ["cmyk", "alpha"])
def test_jpeg_of_four_colors(tmp_path: Path, kind: str) -> None:
    pixels = pixels_of(kind, 64, 64)
    page = made(page_of(pixels.samples, pixels.photometric, tile=64), pixels).set(259, SHORT, JPEG)
    page.segments = [imagecodecs.jpeg8_encode(pixels.samples, level=98, colorspace="CMYK", outcolorspace="CMYK")]
    assert_true(write(tmp_path / "a.tif", page), pixels.picture, 12)


def test_significant_bits_of_ome_say_what_is_white(tmp_path: Path) -> None:
    rgb = picture(64, 64)
    deep = (rgb.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    image = ome_image(0, 64, 64, size='SignificantBits="12"').replace("uint8", "uint16")
    assert_true(ome_file(tmp_path / "a.ome.tif", page_of(deep, bits=16), images=image), rgb, 1)
