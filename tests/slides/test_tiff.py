"""TIFFs of every odd kind: a reader shows the true picture or refuses the file by name, and all that read agree."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide_files import shrink, textured
from tiff_files import (
    ASCII,
    DEFLATE,
    JPEG,
    JPEG2000,
    LONG,
    LZW,
    NONE,
    PACKBITS,
    RATIONAL,
    SHORT,
    WEBP,
    ZSTD,
    Page,
    page_of,
    tiff_bytes,
)

from stride_monai.errors import RegionError, SlideError, SpacingError
from stride_monai.slides import open_slide
from stride_monai.slides.orientation import orientation_of
from stride_monai.slides.tiff import read_layout
from stride_monai.units import Box

READERS = ("auto", "openslide", "tiff", "image")


@dataclass(frozen=True)
class Pixels:
    """Samples of a page as stored and the RGB picture that they mean."""

    samples: Any
    picture: Any
    photometric: int
    bits: int = 8
    extra: int | None = None
    white: int | None = None  # MaxSampleValue
    refused: str = ""  # what the error says


def pixels_of(kind: str, height: int, width: int) -> Pixels:
    rgb = textured(height, width, seed=3)
    gray = rgb[..., :1]
    alpha = np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width, 1)
    cover = alpha.astype(int)
    on_white = ((rgb.astype(int) * cover + 255 * (255 - cover)) / 255 + 0.5).astype(np.uint8)
    premultiplied = (rgb.astype(int) * cover / 255 + 0.5).astype(np.uint8)
    inks = np.concatenate([255 - rgb, alpha // 2], 2)
    three = lambda one: np.repeat(one, 3, axis=2)  # noqa: E731
    deep = {bits: (rgb.astype(np.uint32) * ((1 << bits) - 1) + 127) // 255 for bits in (10, 12, 16)}
    dark = (deep[12]).astype(np.uint16)
    return {
        "rgb": Pixels(rgb, rgb, 2),
        "gray": Pixels(gray, three(gray), 1),
        "white is zero": Pixels(255 - gray, three(gray), 0),
        "1 bit": Pixels(gray >> 7, three(np.where(gray >> 7, 255, 0).astype(np.uint8)), 1, 1),
        "4 bits": Pixels(gray >> 4, three((gray >> 4) * 17), 1, 4),
        "palette": Pixels(gray, np.stack([gray[..., 0], 255 - gray[..., 0], gray[..., 0] // 2], axis=2), 3),
        "alpha": Pixels(np.concatenate([rgb, alpha], 2), on_white, 2, extra=2),
        "premultiplied": Pixels(np.concatenate([premultiplied, alpha], 2), on_white, 2, extra=1),
        "unspecified": Pixels(np.concatenate([rgb, alpha], 2), rgb, 2, extra=0),
        "no word of it": Pixels(np.concatenate([rgb, alpha], 2), rgb, 2),
        "cmyk": Pixels(inks, np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), 5),
        "10 bits": Pixels(deep[10], rgb, 2, 10),
        "12 bits": Pixels(deep[12], rgb, 2, 12),
        "12 of 16 bits": Pixels(dark, rgb, 2, 16, white=4095),
        "16 of 16 bits": Pixels(deep[16].astype(np.uint16), rgb, 2, 16, white=65535),
        "16 bright bits": Pixels(deep[16].astype(np.uint16), rgb, 2, 16),
        "16 bits": Pixels(dark, rgb, 2, 16, refused="16-bit samples, and no tag says which value is white"),
    }[kind]


KINDS = [
    *("rgb", "gray", "white is zero", "1 bit", "4 bits", "palette", "alpha", "premultiplied", "unspecified"),
    *("no word of it", "cmyk", "10 bits", "12 bits", "12 of 16 bits", "16 of 16 bits", "16 bright bits", "16 bits"),
]


def made(page: Page, pixels: Pixels) -> Page:
    if pixels.extra is not None:
        page.set(338, SHORT, pixels.extra)
    if pixels.white is not None:
        page.set(281, SHORT, *[pixels.white] * pixels.samples.shape[2])
    if pixels.photometric == 3:
        steps = np.arange(256)
        page.set(320, SHORT, *(np.concatenate([steps, 255 - steps, steps // 2]) * 257).tolist())
    return page


def with_mpp(page: Page, mpp: float, unit: int = 3) -> Page:
    per = {2: 25_400, 3: 10_000}[unit]
    page.set(282, RATIONAL, round(per / mpp * 1000), 1000).set(283, RATIONAL, round(per / mpp * 1000), 1000)
    return page.set(296, SHORT, unit)


def seen(path: Path, reader: str, mpp: float | None = 0.25, **options: int) -> Any:
    """The whole picture, or the reason why the reader refuses the file."""
    try:
        with open_slide(path, mpp, reader, **options) as slide:
            return slide.read(slide.box)
    except SlideError as error:
        said = str(error)
    assert path.name in said
    return said


def assert_true(path: Path, picture: Any, tolerance: int, must_read: bool = True) -> None:
    """Each reader shows the picture or refuses the file; ``auto`` shows it."""
    for reader in READERS:
        got = seen(path, reader)
        if isinstance(got, str):
            assert not (must_read and reader in ("auto", "tiff")), got
        else:
            assert got.shape == picture.shape, reader
            assert np.abs(got.astype(int) - picture).max() <= tolerance, reader


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


# What a file states about itself

OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'


def ome_image(
    number: int,
    width: int,
    height: int,
    size: str = "",
    planes: str = "",
    name: str = "",
    z: int = 1,
    c: int = 3,
    t: int = 1,
) -> str:
    pixels = f'ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" {size}'
    return (
        f'<Image ID="Image:{number}" Name="{name}"><Pixels {pixels} SizeZ="{z}" SizeC="{c}" SizeT="{t}">'
        f"{planes}</Pixels></Image>"
    )


def write(path: Path, *pages: Page, **options: Any) -> Path:
    path.write_bytes(tiff_bytes(pages, **options))
    return path


def mpp_of(path: Path, reader: str = "auto") -> float | str:
    """um/px, or why the file is refused; every reader that opens the file says the same."""
    found: dict[str, float | str] = {}
    for name in (reader, *READERS):
        try:
            with open_slide(path, reader=name) as slide:
                found[name] = slide.mpp
        except SpacingError as error:
            found[name] = str(error)
        except SlideError:
            pass
    assert len({value if isinstance(value, str) else round(value, 6) for value in found.values()}) == 1, found
    return found[reader]


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        ("0.25", None, 0.25),
        ("0.25", "µm", 0.25),
        ("0.25", "&#181;m", 0.25),
        ("250", "nm", 0.25),
        ("0.00025", "mm", 0.25),
        ("2500", "Å", 0.25),
        ("2.5e-7", "m", 0.25),
        ("0.00000984252", "in", 0.25),
        ("0,25", "µm", 0.25),
        ("1", "pixel", "neither"),
        ("0.25", "reference frame", "neither"),
        ("0", "µm", "neither"),
    ],
)
@pytest.mark.parametrize("tags", [None, 72, 0.5])
def test_ome_xml_states_um_per_px(
    tmp_path: Path, size: str, unit: str | None, expected: float | str, tags: float | None
) -> None:
    stated = " ".join(f'PhysicalSize{a}="{size}"' + (f' PhysicalSize{a}Unit="{unit}"' if unit else "") for a in "XY")
    page = page_of(textured(64, 64)).text(270, OME.format(ome_image(0, 64, 64, stated)))
    if tags is not None:
        with_mpp(page, tags if tags < 1 else 25_400 / tags, 2)
    found = mpp_of(write(tmp_path / "a.ome.tif", page))
    assert expected in found if isinstance(found, str) else found == pytest.approx(expected, rel=1e-4)


def test_ome_xml_without_a_size_leaves_it_to_the_tags(tmp_path: Path) -> None:
    page = page_of(textured(64, 64)).text(270, OME.format(ome_image(0, 64, 64)))
    assert mpp_of(write(tmp_path / "a.ome.tif", with_mpp(page, 0.5))) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("micron", 4, 0.25),
        ("um", 4, 0.25),
        ("\\u00B5m", 4, 0.25),
        ("µm", 4, 0.25),
        ("nm", 0.004, 0.25),
        ("mm", 4000, 0.25),
        ("cm", 40_000, 0.25),
        ("inch", 101_600, 0.25),
        ("pixel", 1, "neither"),
        ("parsec", 4, "neither"),
    ],
)
def test_imagej_states_um_per_px_in_its_own_unit(
    tmp_path: Path, unit: str, per_unit: float, expected: float | str
) -> None:
    page = page_of(textured(64, 64)).text(270, f"ImageJ=1.53t\nunit={unit}\nloop=false\n")
    page.set(282, RATIONAL, round(per_unit * 1000), 1000).set(283, RATIONAL, round(per_unit * 1000), 1000)
    found = mpp_of(write(tmp_path / "a.tif", page.set(296, SHORT, 1)))
    assert expected in found if isinstance(found, str) else found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("compression", [JPEG, JPEG2000])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("AppMag = 40|MPP = 0", 0.25),
        ("AppMag = 20|MPP = 0,2527", 0.2527),
        ("AppMag = 40,0", 0.25),
        ("MPP = 0.25", 0.25),
    ],
)
def test_aperio_states_um_per_px(tmp_path: Path, compression: int, said: str, expected: float) -> None:
    text = f"Aperio Image Library v11\r\n64x64 (32x32) Q=70|{said}|Left = 1"
    page = page_of(textured(64, 64), compression=compression).text(270, text)
    assert mpp_of(write(tmp_path / "a.svs", page)) == pytest.approx(expected, rel=1e-4)


# Pages that are no levels, and files of several pictures


def picture(height: int, width: int, seed: int = 0) -> Any:
    return textured(height, width, seed)


@pytest.mark.parametrize("aperio", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: page_of(picture(60, 150, 5)).set(254, LONG, 9), id="macro by its type"),
        pytest.param(lambda: page_of(picture(60, 150, 5)).set(254, LONG, 1), id="of another aspect"),
        pytest.param(lambda: page_of(picture(64, 64, 5)).set(254, LONG, 9), id="macro of the same aspect"),
        pytest.param(lambda: page_of(picture(64, 64, 5)).set(254, LONG, 1).text(270, "label 64x64"), id="label"),
        pytest.param(lambda: page_of(picture(64, 64, 5)).set(254, LONG, 1).text(270, "Macro image"), id="macro"),
        pytest.param(lambda: page_of(picture(64, 64, 5)[..., :1], 1).set(254, LONG, 5), id="mask"),
        pytest.param(lambda: page_of(picture(64, 64, 5)[..., :1], 1).set(254, LONG, 1), id="of another kind"),
        pytest.param(lambda: page_of(picture(64, 64, 5), tile=None).set(254, LONG, 1), id="thumbnail in strips"),
        pytest.param(lambda: page_of(picture(200, 100, 5)).text(270, "Aperio\nmacro 200x100"), id="larger macro"),
    ],
)
def test_pages_that_are_no_levels(tmp_path: Path, other: Any, aperio: bool) -> None:
    full = picture(128, 128)
    page = with_mpp(page_of(full), 0.25)
    if aperio:
        page.text(270, "Aperio Image Library v1\r\n128x128|AppMag = 40|MPP = 0.25")
    path = write(tmp_path / "a.tif", page, other())
    for reader in READERS[:3]:
        if not isinstance(seen(path, reader), str):
            with open_slide(path, reader=reader) as slide:
                assert [(level.width, level.height) for level in slide.facts.levels] == [(128, 128)]
                assert np.array_equal(slide.read(slide.box), full)
    assert_true(path, full, 0)


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("tile", [32, None])
def test_a_thumbnail_that_comes_first(tmp_path: Path, flag: int, tile: int | None) -> None:
    full = picture(128, 160)
    thumbnail = page_of(shrink(full, 4), tile=tile).set(254, LONG, flag)
    levels = [page_of(shrink(full, 2)).set(254, LONG, 1)]
    assert_true(write(tmp_path / "a.tif", thumbnail, with_mpp(page_of(full), 0.25), *levels), full, 0)


def test_the_picture_may_be_in_a_sub_directory(tmp_path: Path) -> None:
    full = picture(128, 160)
    first = page_of(shrink(full, 4)).set(254, LONG, 1)
    first.inner = [with_mpp(page_of(full), 0.25)]
    assert_true(write(tmp_path / "a.tif", first), full, 0)


def ome_file(path: Path, *pages: Page, images: str) -> Path:
    pages[0].text(270, OME.format(images))
    return write(path, *pages)


def test_the_image_of_several_is_a_choice_that_is_said(tmp_path: Path) -> None:
    one, two, three = (picture(size, 64, seed) for seed, size in enumerate((64, 96, 64)))
    pages = [with_mpp(page_of(array), 0.25) for array in (one, two, three)]
    images = "".join(ome_image(i, 64, a.shape[0]) for i, a in enumerate((one, two, three)))
    path = ome_file(tmp_path / "a.ome.tif", *pages, images=images)
    plain = write(tmp_path / "a.tif", *[with_mpp(page_of(array), 0.25) for array in (one, two, picture(50, 99))])
    for file in (path, plain):
        with open_slide(file) as slide:
            assert slide.notes == ("the file holds 3 images; image 2 was read, the others were not",)
            assert np.array_equal(slide.read(slide.box), two)
        assert np.array_equal(seen(file, "auto", image=1), one)
        assert "there is no image 4" in seen(file, "auto", image=4)
    assert np.array_equal(seen(path, "auto", image=3), three)
    assert "knows one picture" in seen(path, "image", image=3)
    field = tmp_path / "a.png"
    Image.fromarray(one).save(field)
    assert "in TIFFs only" in seen(field, "auto", image=2)
    assert np.array_equal(seen(field, "auto", image=1, plane=1), one)


@pytest.mark.parametrize("order", ["XYZCT", "XYCTZ"])
def test_the_plane_of_several_is_a_choice_that_is_said(tmp_path: Path, order: str) -> None:
    arrays = [picture(64, 64, seed) for seed in range(4)]
    pages = [with_mpp(page_of(array), 0.25) for array in arrays]
    xml = ome_image(0, 64, 64, z=2, t=2).replace("XYCZT", order)
    path = ome_file(tmp_path / "a.ome.tif", *pages, images=xml)
    plain = write(tmp_path / "a.tif", *[with_mpp(page_of(array), 0.25) for array in arrays])
    stack = [with_mpp(page_of(array), 0.25) for array in arrays]
    stack[0].text(270, "ImageJ=1.53t\nimages=4\nslices=2\nframes=2\n")
    for file in (path, plain, write(tmp_path / "j.tif", *stack)):
        with open_slide(file, 0.25) as slide:
            (note,) = slide.notes
            assert note.startswith("the picture has 4 planes (")
            assert note.endswith("); plane 1 was read, the others were not")
            assert np.array_equal(slide.read(slide.box), arrays[0])
        for number, array in enumerate(arrays, start=1):
            assert np.array_equal(seen(file, "auto", plane=number), array)
        assert "it has 4 planes, there is no plane 5" in seen(file, "auto", plane=5)


def test_channels_in_planes_are_no_color_picture(tmp_path: Path) -> None:
    gray = [picture(64, 64, seed)[..., :1] for seed in range(3)]
    path = ome_file(tmp_path / "a.ome.tif", *[page_of(g, 1) for g in gray], images=ome_image(0, 64, 64, c=3))
    stack = [page_of(g, 1) for g in gray]
    stack[0].text(270, "ImageJ=1.53t\nimages=3\nchannels=3\nmode=composite\n")
    for file in (path, write(tmp_path / "j.tif", *stack)):
        assert "3 channels in separate planes, no colour picture" in seen(file, "auto")
        assert np.array_equal(seen(file, "auto", plane=2), gray[1].repeat(3, 2))


def test_ome_tiff_data_says_which_page_is_which(tmp_path: Path) -> None:
    arrays = [picture(64, 64, seed) for seed in range(3)]
    blocks = "".join(f'<TiffData IFD="{page}" FirstZ="{z}" PlaneCount="1"/>' for z, page in enumerate((2, 0, 1)))
    images = ome_image(0, 64, 64, z=3, planes=blocks)
    path = ome_file(tmp_path / "a.ome.tif", *[page_of(array) for array in arrays], images=images)
    assert [int(np.abs(seen(path, "auto", plane=n + 1) - arrays[p]).max()) for n, p in enumerate((2, 0, 1))] == [0] * 3


UUID = '<UUID FileName="{}.ome.tif">{}</UUID>'


@pytest.mark.parametrize("uuid", [None, "urn:uuid:1", "urn:uuid:2"])
@pytest.mark.parametrize("files", [1, 2])
def test_a_renamed_file_knows_its_planes(tmp_path: Path, uuid: str | None, files: int) -> None:
    array = picture(64, 64)
    names = [UUID.format(f"{number}", f"urn:uuid:{number}") for number in range(1, files + 1)]
    blocks = "".join(f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">{name}</TiffData>' for z, name in enumerate(names))
    root = "<OME" if uuid is None else f'<OME UUID="{uuid}"'
    text = OME.format(ome_image(0, 64, 64, z=files, planes=blocks)).replace("<OME", root)
    path = write(tmp_path / "renamed.ome.tif", page_of(array).text(270, text))
    plane = {None: 1 if files == 1 else None, "urn:uuid:1": 1, "urn:uuid:2": 2 if files == 2 else None}[uuid]
    for number in range(1, files + 1):
        found = seen(path, "auto", plane=number)
        if number == plane:
            assert np.array_equal(found, array)
        else:
            assert "does not stand in this file" in found
            assert plane is None or f"choose --plane {plane}" in found


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1"])
def test_ome_xml_in_an_encoding_of_old(tmp_path: Path, encoding: str) -> None:
    size = 'PhysicalSizeX="0.25" PhysicalSizeXUnit="\u00b5m"'
    text = OME.format(ome_image(0, 64, 64, size)).replace("1.0", f'1.0" encoding="{encoding}', 1)
    page = page_of(picture(64, 64))
    page.tags[270] = (ASCII, text.encode(encoding) + b"\0")
    assert mpp_of(write(tmp_path / "a.ome.tif", page)) == 0.25


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            ome_image(0, 64, 64, z=2, planes=f"<TiffData>{UUID.format('b', 'u')}</TiffData>" * 2)
            + f"<TiffData>{UUID.format('c', 'v')}</TiffData>",
            "not stand in this",
        ),
        ('<BinaryOnly MetadataFile="a.companion.ome" UUID="u"/>', "stands in another file"),
        (ome_image(0, 99, 64), "contradicts itself"),
        (ome_image(0, 64, 64) + "<", "OME-XML is damaged"),
        (ome_image(0, 64, 64).replace('SizeZ="1"', 'SizeZ="many"'), "SizeZ is no number"),
        ("", "describes no image"),
    ],
)
def test_ome_xml_that_does_not_fit_is_refused(tmp_path: Path, images: str, words: str) -> None:
    path = ome_file(tmp_path / "a.ome.tif", page_of(picture(64, 64)), images=images)
    assert words in seen(path, "auto")


def test_labels_of_ome_are_no_images_and_levels_are_found(tmp_path: Path) -> None:
    full = picture(128, 128)
    page = with_mpp(page_of(full), 0.25)
    page.inner = [page_of(shrink(full, 2)).set(254, LONG, 1), page_of(shrink(full, 4)).set(254, LONG, 1)]
    images = ome_image(0, 200, 200, name="label") + ome_image(1, 128, 128) + ome_image(2, 300, 100, name="macro image")
    path = ome_file(tmp_path / "a.ome.tif", page_of(picture(200, 200)), page, page_of(picture(100, 300)), images=images)
    with open_slide(path, 0.25) as slide:
        assert [level.width for level in slide.facts.levels] == [128, 64, 32]
        assert (slide.facts.reader, slide.facts.format, slide.notes) == ("tiff", "ome-tiff", ())
        assert np.array_equal(slide.read(slide.box), full)


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


# Damage: refused before anything is decoded, or counted


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


@pytest.mark.parametrize("codec", ["zlib_encode", "zstd_encode", "lzw_encode"])
def test_a_bomb_takes_no_more_than_its_tile(tmp_path: Path, codec: str) -> None:
    import imagecodecs

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
    command = [sys.executable, "-c", _MUTATE, str(Path(__file__).parent), str(tmp_path / "a.tif"), "400"]
    # Without these a machine of many cores has an address space of many GiB, whatever is read.
    one = dict.fromkeys(("MALLOC_ARENA_MAX", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env={**os.environ, **one})
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
