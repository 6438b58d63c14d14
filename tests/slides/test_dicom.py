"""DICOM slides: what OpenSlide refuses is read by wsidicom, what neither reads is refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from slide_files import textured

from stride_monai.errors import MissingExtraError, RegionError, SlideError
from stride_monai.slides import open_slide
from stride_monai.units import Box

needs("pydicom", "dicom")
needs("wsidicom", "dicom")

from dicom_files import frame_places, nested_dicom, write_dicom_series  # noqa: E402

ARRAY = textured(300, 500)
WHOLE = Box(0, 0, 500, 300)


@pytest.mark.parametrize("codec", ["jpeg-ls", "jpeg xl", "rle"])
def test_what_openslide_refuses_is_read(tmp_path: Path, codec: str) -> None:
    path = write_dicom_series(tmp_path / "片 1", [ARRAY], codec)
    with pytest.raises(SlideError, match=r"level-0\.dcm: OpenSlide cannot open it.*transfer syntax") as caught:
        open_slide(path, reader="openslide")
    assert str(tmp_path) not in str(caught.value)
    for file in ("level-0.dcm", "level-1.dcm", "label.dcm"):  # any file of the series is the slide
        with open_slide(path.with_name(file)) as slide:
            assert (slide.facts.reader, slide.mpp, slide.width, slide.height) == ("dicom", 0.25, 500, 300)
            assert [level.width for level in slide.facts.levels] == [500, 250]
            assert np.array_equal(slide.read(WHOLE), ARRAY)
            assert np.array_equal(slide.read(Box(200, 100, 330, 290)), ARRAY[100:290, 200:330])


@pytest.mark.parametrize("codec", ["uncompressed", "jpeg", "jpeg 2000"])
def test_both_readers_agree(tmp_path: Path, codec: str) -> None:
    path = write_dicom_series(tmp_path / "a", [ARRAY], codec)
    with open_slide(path) as left, open_slide(path, reader="dicom") as right:
        assert (left.facts.reader, right.facts.reader) == ("openslide", "dicom")
        assert left.mpp == pytest.approx(right.mpp)
        for box in (WHOLE, Box(-40, -30, 90, 70), Box(133.3, 111.7, 311.1, 270.2), Box(400, 200, 560, 360)):
            for mpp in (0.25, 0.5, 0.8):
                assert np.abs(left.read(box, mpp).astype(int) - right.read(box, mpp)).max() <= 2


def test_focal_planes_are_chosen(tmp_path: Path) -> None:
    other = textured(300, 500, seed=1)
    path = write_dicom_series(tmp_path / "a", [ARRAY, other])
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(WHOLE), ARRAY)
        assert slide.notes == ("the slide has 2 focal planes; plane 1 was read, the others were not",)
    with open_slide(path, plane=2) as slide:
        assert np.array_equal(slide.read(WHOLE), other)
    with pytest.raises(SlideError, match="2 focal planes, there is no plane 3"):
        open_slide(path, plane=3, reader="dicom")


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom_series(tmp_path / "a", [ARRAY])
    monkeypatch.setitem(sys.modules, "wsidicom", None)
    with pytest.raises(MissingExtraError, match="kind that OpenSlide does not read"):
        open_slide(path, reader="dicom")
    with pytest.raises(SlideError, match=r"transfer syntax.*pip install 'stride-monai\[dicom\]'") as caught:
        open_slide(path)
    assert "copy it again" not in str(caught.value)


def test_what_neither_reads_is_said(tmp_path: Path) -> None:
    for keyword, words in (("ImageType", "states no ImageType"), ("BitsStored", "lacks what a slide must state")):
        path = write_dicom_series(tmp_path / keyword, [ARRAY], leave_out=keyword)
        with pytest.raises(SlideError, match=words) as caught:
            open_slide(path)
        assert "export it again" in str(caught.value)
        assert "copy it again" not in str(caught.value)


def test_a_damaged_level_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """The library passes over it, and the slide would be a coarser one."""
    path = write_dicom_series(tmp_path / "a", [ARRAY])
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x20\0\x52\0")])  # after the series' UID
    with pytest.raises(SlideError, match=r"level-0\.dcm of its series cannot be read"):
        open_slide(path.with_name("level-1.dcm"))
    path.write_bytes(content[:400])
    with open_slide(path.with_name("level-1.dcm")) as slide:
        assert slide.notes == ("level-0.dcm may belong to it, too, but cannot be read",)


def test_a_damaged_frame_leaves_the_rest_readable(tmp_path: Path) -> None:
    path = write_dicom_series(tmp_path / "a", [ARRAY])
    offset, size = frame_places(path)[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    with open_slide(path) as slide:
        with pytest.raises(RegionError, match=r"level-0\.dcm: region"):
            slide.read(Box(10, 10, 60, 60))
        assert np.array_equal(slide.read(Box(256, 0, 500, 300)), ARRAY[:, 256:])


def test_a_label_alone_and_a_report_are_no_slides(tmp_path: Path) -> None:
    path = write_dicom_series(tmp_path / "a", [ARRAY])
    for file in path.parent.glob("level*"):
        file.unlink()
    with pytest.raises(SlideError, match="label, overview or thumbnail"):
        open_slide(path.with_name("label.dcm"), reader="dicom")


def test_sequences_nested_too_deep_reach_no_library(tmp_path: Path) -> None:
    """Reading all files of the folder, libdicom recurses until the stack is full."""
    path = write_dicom_series(tmp_path / "a", [ARRAY], "jpeg")
    whole = path.read_bytes()
    path.write_bytes(nested_dicom(whole, 50))
    with open_slide(path) as slide:
        assert slide.width == 500
    path.write_bytes(nested_dicom(whole, 20_000))
    for reader in ("auto", "openslide", "dicom"):
        with pytest.raises(SlideError, match=r"^level-0\.dcm: the DICOM sequences are nested deeper than any slide's"):
            open_slide(path, reader=reader)
        with pytest.raises(
            SlideError, match=r"^level-1\.dcm: the DICOM sequences of level-0\.dcm beside it are nested"
        ):
            open_slide(path.with_name("level-1.dcm"), reader=reader)
