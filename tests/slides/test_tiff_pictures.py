"""Pages of a TIFF that are no levels, and files of several pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import shrink
from tiff_checks import (
    OME,
    READERS,
    assert_true,
    mpp_of,
    ome_file,
    ome_image,
    picture,
    seen,
    with_mpp,
    write,
)
from tiff_files import (
    ASCII,
    LONG,
    page_of,
)

from stride_monai.slides import open_slide


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
        (ome_image(0, 64, 64).replace('SizeZ="1"', 'SizeZ="many"'), "invalid SizeZ"),
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
