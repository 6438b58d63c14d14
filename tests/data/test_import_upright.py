"""Labels of pictures with an orientation tag land on the cell, in every format, or the import says what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dataset_samples as samples
import pytest
from imports import run_import
from PIL import Image

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.importers import ImportReport
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.slides import open_slide
from stride_monai.units import Box

STATE_SIZES = ("coco", "voc", "herlev")  # Herlev by the size of the mask
DRAWN = (*STATE_SIZES, "yolo", "geojson", "riva", "tianchi", "cric", "sipakmed")
CASES = [(name, tag) for name in DRAWN for tag in (range(1, 9) if name in {"coco", "yolo"} else (3, 5, 6))]
NAMES = {"sipakmed": "im_Koilocytotic/001.png", "herlev": "severe_dysplastic/1.jpg"}


def _run(name: str, source: Path, out: Path, skip: bool = False, **options: Any) -> ImportReport:
    return run_import(name, source, out, skip, **{"point_um": 1.5, **options})


def _labeled(name: str, folder: Path, tag: int, on: str) -> None:
    """A picture, and its labels as drawn on the upright picture, or on the stored one."""
    picture = folder / NAMES.get(name, "a.jpg")
    size, stored = samples.turned(picture, tag)
    where = (samples.TURNED_SIZE, samples.TURNED_CELL) if on == "upright" else (size, stored)
    samples.cell_in(name, folder, picture, *where)


def _darkness(folder: Path) -> float:
    """Mean of what the only cell's box shows; about 76 for the nucleus, 238 for the glass."""
    (cell,), (slide,) = read_cells(folder / "cells.csv"), read_manifest(folder / "manifest.csv")
    if cell.outline:
        assert {round(side) for corner in cell.outline for side in corner} == set(samples.TURNED_CELL)
    with open_slide(slide.path, mpp=slide.mpp) as opened:
        return float(opened.read(cell.box).mean())


@pytest.mark.parametrize(("name", "tag"), CASES)
def test_labels_on_the_upright_picture(name: str, tag: int, tmp_path: Path) -> None:
    _labeled(name, tmp_path / "in", tag, "upright")
    report = _run(name, tmp_path / "in", tmp_path / "out")
    assert _darkness(tmp_path / "out") < 120
    said = [note for note in report.warnings if "orientation tag" in note]
    assert bool(said) == (tag != 1)
    assert all(
        f"({tag}), and are read upright; their labels are taken as drawn on the upright" in note for note in said
    )
    shown = name in STATE_SIZES and tag > 4
    assert all(("as the sizes that the data set states show" in note) == shown for note in said)


@pytest.mark.parametrize(("name", "tag"), [case for case in CASES if case[1] != 1])
def test_labels_on_the_stored_picture(name: str, tag: int, tmp_path: Path) -> None:
    _labeled(name, tmp_path / "in", tag, "stored")
    known = name in STATE_SIZES and tag > 4  # a stated size of 60x80 px tells; nothing else does
    report = _run(name, tmp_path / "in", tmp_path / "out", labels_on="" if known else "stored")
    assert _darkness(tmp_path / "out") < 120
    assert any(
        "1 pictures have an orientation tag" in n and "as it is stored, and were turned" in n for n in report.warnings
    )


def test_one_picture_whose_size_shows_it_tells_of_the_others(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name, tag in (("a", 6), ("b", 3)):
        size, box = samples.turned(source / f"{name}.jpg", tag)
        samples.cell_in("voc", source, source / f"{name}.jpg", size, box)
        (source / "a.xml").rename(source / f"{name}.labels.xml")
    _run("voc", source, tmp_path / "out")
    assert {cell.box for cell in read_cells(tmp_path / "out" / "cells.csv")} == {Box(*samples.TURNED_CELL)}


def test_pictures_whose_sizes_contradict_each_other(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name, on in (("a", "upright"), ("b", "stored")):
        size, box = samples.turned(source / f"{name}.jpg", 6)
        where = (samples.TURNED_SIZE, samples.TURNED_CELL) if on == "upright" else (size, box)
        samples.cell_in("voc", source, source / f"{name}.jpg", *where)
        (source / "a.xml").rename(source / f"{name}.labels.xml")
    with pytest.raises(ConfigError, match="of the upright picture for 'a', of the stored one for 'b': say on which"):
        _run("voc", source, tmp_path / "out")
    with pytest.raises(ConfigError, match="--labels-on is 'both': use upright or stored"):
        _run("voc", source, tmp_path / "out", labels_on="both")


def test_a_size_that_is_neither_is_refused(tmp_path: Path) -> None:
    samples.turned(tmp_path / "in" / "a.jpg", 6)
    samples.cell_in("coco", tmp_path / "in", tmp_path / "in" / "a.jpg", (80, 61), samples.TURNED_CELL)
    with pytest.raises(ManifestError, match=r"a\.jpg is 80x60 px, the data set says 80x61"):
        _run("coco", tmp_path / "in", tmp_path / "out")


def test_a_picture_without_drawn_labels_needs_no_word(tmp_path: Path) -> None:
    samples.turned(tmp_path / "in" / "LSIL" / "a.jpg", 6)
    report = _run("folder", tmp_path / "in", tmp_path / "out")
    assert not any("orientation" in note for note in report.warnings)
    (cell,) = read_cells(tmp_path / "out" / "cells.csv")
    assert cell.box == Box(0, 0, *samples.TURNED_SIZE)


def test_boxes_of_a_huge_picture_come_from_its_header(tmp_path: Path) -> None:
    Image.new("1", (14000, 13500)).save(tmp_path / "a.png")  # Pillow itself refuses 189 Mpx
    samples.text(tmp_path / "a.txt", "0 0.5 0.5 0.01 0.01\n")
    samples.text(tmp_path / "classes.txt", "HSIL\n")
    _run("yolo", tmp_path, tmp_path / "out")
    (cell,) = read_cells(tmp_path / "out" / "cells.csv")
    assert cell.box == pytest.approx((6930, 6682.5, 7070, 6817.5))


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut short"])
def test_pictures_that_cannot_be_read_are_named(content: bytes | None, tmp_path: Path) -> None:
    whole = samples.field(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    samples.text(tmp_path / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    samples.text(tmp_path / "classes.txt", "HSIL\n")
    with pytest.raises(ManifestError, match=r"a\.txt: the image a\.png cannot be read"):
        _run("yolo", tmp_path, tmp_path / "out")
