"""What the doctor says of a slide."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import toy_reader
from PIL import Image
from slide_files import textured, write_pyramid

from stride_monai.inferers.adequacy import quality_of
from stride_monai.phantom import render_slide
from stride_monai.screening.doctor import Check, examine_slide, examine_slide_guarded
from stride_monai.slides import Foreground


def said(path: Path, mpp: float | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine_slide(path, mpp)}


def test_a_path_that_is_no_file_is_a_problem_like_any_other(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "absent.svs", "does not exist"), (tmp_path, "is a folder")):
        (check,) = examine_slide(path)
        assert check.state == "problem"
        assert what in check.detail
        assert check.advice


def test_a_slide_of_several_files_is_shown_whole_and_its_parts_name_it(tmp_path: Path) -> None:
    render_slide(tmp_path / "A", "NILM", diameter_mm=0.15, margin_mm=0.1, mpp=0.5, file_format="dicom")
    for path in (tmp_path / "A", tmp_path / "A" / "level-0.dcm"):
        checks = said(path)
        assert checks["slide"].detail.endswith("read by openslide")
        assert "more of the slide: label.dcm" in checks["files"].detail
    (tmp_path / "s.svs").touch()
    (tmp_path / "s_label.png").touch()
    (check,) = examine_slide(tmp_path / "s_label.png")
    assert (check.state, check.advice) == ("problem", "name s.svs itself")
    turned = tmp_path / "t.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(textured(64, 80)).save(turned, exif=exif)
    assert said(turned, 0.3)["chosen"].detail == "turned upright (orientation 6 of the file)"


def test_what_opens_and_cannot_be_decoded_is_a_problem(tmp_path: Path) -> None:
    whole = write_pyramid(tmp_path / "a.tif", textured(512, 1024))
    checks = said(whole, 0.5)
    assert checks["pixels"].state == "ok"
    assert checks["um/px"].detail.startswith("0.5 (given")
    content = bytearray(whole.read_bytes())
    first_tile = content.index(b"\xff\xd8")
    content[first_tile : first_tile + 40] = bytes(40)
    part = tmp_path / "b.tif"
    part.write_bytes(content)
    check = said(part, 0.5)["pixels"]
    assert check.state == "problem"
    assert "cannot be decoded" in check.detail


@pytest.mark.realdata
def test_the_real_slide_that_opens_and_cannot_be_read(real_data: Path) -> None:
    (problem,) = (c for c in examine_slide(real_data / "wsi" / "unreadable.svs") if c.state == "problem")
    assert "no part of it can be decoded" in problem.detail


def test_a_good_field_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "field.png"
    Image.fromarray(textured(64, 64)).save(path)
    assert [check.name for check in examine_slide(path, 0.3) if check.state == "problem"] == []


@pytest.mark.parametrize(
    ("happens", "seconds", "says"),
    [
        ("open:abort", 60, r"a\.toy ends the process that reads it \(SIGABRT\)"),
        ("read:segfault", 60, r"a\.toy ends the process that reads it \(SIGSEGV\)"),
        ("open:sleep", 2, r"a\.toy was not read after 2 s"),
        ("read:exit", 60, r"a\.toy: unexpected SystemExit: 3"),
    ],
)
def test_a_file_that_ends_or_stalls_its_reader_is_a_problem_like_any_other(
    happens: str, seconds: float, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_reader.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    path = tmp_path / "a.toy"
    path.write_text(happens)
    *others, last = examine_slide_guarded(path, seconds=seconds)
    assert (last.name, last.state) == ("slide", "problem")
    assert re.match(says, last.detail)
    assert last.advice
    assert bool(others) == happens.startswith("read")


def test_a_guarded_examination_says_what_one_in_this_process_says(tmp_path: Path) -> None:
    path = tmp_path / "field.png"
    Image.fromarray(textured(64, 64)).save(path)
    for mpp in (0.3, None):
        assert examine_slide_guarded(path, mpp) == examine_slide(path, mpp)


def test_the_plane_that_is_looked_into_is_said_and_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([textured(64, 80, seed) for seed in range(3)]), photometric="rgb", metadata=None)
    said_of = {plane: {c.name: c for c in examine_slide(path, 0.3, plane=plane)} for plane in (None, 2, 4)}
    what = "the picture has 3 planes (pages of one size); plane {} was read, the others were not"
    assert said_of[None]["chosen"].detail == what.format(1)
    assert said_of[2]["chosen"].detail == what.format(2)
    assert said_of[4]["slide"].detail == "stack.tif: it has 3 planes, there is no plane 4"


def test_what_was_not_read_of_a_file_stands_in_its_findings() -> None:
    foreground = Foreground(np.ones((10, 10), np.uint8), 32.0, 0.01, ("Air bubbles.",))
    found = SimpleNamespace(
        foreground=foreground, estimated_cells=9000, focus=1.0, tiles_read=4, unreadable=0, stain=None
    )
    quality = quality_of(found, SimpleNamespace(reader="tiff"), 0, ("the file holds 3 images",))  # type: ignore[arg-type]
    assert quality.notes == ("The file holds 3 images.", "Air bubbles.")
