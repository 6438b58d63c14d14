"""What an import refuses, with file and line, and what it leaves out when it is told to."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import dataset_samples as samples
import pytest
from imports import one_field, run_import

from stride_monai.data import read_cells
from stride_monai.data.cells import read_regions
from stride_monai.errors import ManifestError

BROKEN = (
    "aa.png,1,LSIL,50,60\n"
    "aa.png,2,LSIL,nan,60\n"  # line 3
    "aa.png,3,LSIL,fifty,60\n"
    "aa.png,4,LSIL,500,60\n"
    "aa.png,1,LSIL,70,60\n"
    "aa.png,6,LSIL,50,60\n"
    "aa.png,7,NILM,50,60\n"
    "aa.png,8,,80,80\n"
    "gone.png,9,LSIL,50,60\n"
    "gone.png,10,LSIL,60,60\n"
    ",11,LSIL,60,60\n"
    "aa.png,12,LSIL,60,60,7,7\n"  # line 13
    "aa.png,13,LSIL,90,90\n"
)


def test_every_broken_row_is_listed_with_its_line(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", BROKEN)
    with pytest.raises(ManifestError) as caught:
        run_import("cric", source, tmp_path / "out")
    message = str(caught.value)
    assert "in has 9 broken rows or images" in message
    assert "--skip-broken" in message
    assert not (tmp_path / "out" / "manifest.csv").exists()
    with (tmp_path / "out" / "problems.csv").open(newline="") as stream:
        rows = {row["line"]: row for row in csv.DictReader(stream)}
    for line, kind, text in (
        (3, "row", "non-finite nucleus_x nan"),
        (4, "row", "invalid nucleus_x 'fifty'"),
        (5, "box", "(499.5, 59.5) is outside the image of 200x200 px"),
        (6, "duplicate", "cell id '1' is that of classifications.csv line 2 too"),
        (8, "contradiction", "'NILM' here, 'LSIL' at classifications.csv line 2"),
        (9, "label", "the cell has no label"),
        (10, "image", "the image gone.png does not exist; its 2 cells are lost"),
        (12, "image", "the row names no image"),
        (13, "row", "7 cells under 5 columns"),
    ):
        row = rows.pop(f"line {line}")
        assert (row["file"], row["kind"], row["left_out"]) == ("classifications.csv", kind, "yes")
        assert text in row["problem"]
        assert text in message
    twice = rows.pop("line 7")  # nothing is lost by taking it once
    assert twice["problem"] == "the same cell as classifications.csv line 2: it is imported once"
    assert not twice["left_out"]
    assert not rows


def test_broken_rows_are_left_out_on_request_and_counted(tmp_path: Path) -> None:
    report = run_import("cric", one_field(tmp_path / "in", BROKEN), tmp_path / "out", skip=True, complete=True)
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1", "13"]
    counts = {"row": 3, "box": 1, "duplicate": 1, "note: duplicate": 1, "contradiction": 1, "label": 1, "image": 2}
    assert report.problems == counts
    assert json.loads((tmp_path / "out" / "import.json").read_text())["problems"] == report.problems
    # Of an image that lost a cell nobody can say any more that every lesion is marked.
    assert read_regions(tmp_path / "out") == {}


@pytest.mark.parametrize("cell_id", ["1", "2", ""])
def test_a_cell_that_is_listed_twice_is_imported_once(cell_id: str, tmp_path: Path) -> None:
    """As in many published sets; every lesion of the image stays marked."""
    source = one_field(tmp_path / "in", f"aa.png,1,LSIL,50,60\naa.png,{cell_id},LSIL,50,60\n")
    report = run_import("cric", source, tmp_path / "out", complete=True)
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1"]
    assert report.problems == {"note: duplicate": 1}
    assert list(read_regions(tmp_path / "out")) == ["aa"]


def test_a_clean_import_can_be_called_complete(tmp_path: Path) -> None:
    run_import("cric", one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out", complete=True)
    assert list(read_regions(tmp_path / "out")) == ["aa"]
    assert not (tmp_path / "out" / "problems.csv").exists()


@pytest.mark.parametrize(
    ("name", "damage", "where"),
    [
        ("yolo", ("labels/train/a.txt", "0.25 0.6", "25 60"), r"a\.txt line 1: the values are not between 0 and 1"),
        ("yolo", ("labels/train/a.txt", "0.18 0.36", "0.18 0.36 0.9"), r"a\.txt line 1: there are 6 values"),
        ("yolo", ("labels/train/a.txt", "1 0.1", "1 x"), r"a\.txt line 2: invalid value 'x'"),
        ("yolo", ("labels/train/a.txt", "0.18 0.36", "0 0.36"), r"a\.txt line 1: box .* is empty"),
        ("voc", ("Annotations/a.xml", ">68<", ">6800<"), r"a\.xml line 5: box .* px outside the image"),
        ("voc", ("Annotations/a.xml", ">68<", "><"), r"a\.xml line 5: invalid xmax ''"),
        ("voc", ("Annotations/a.xml", "</object>", ""), r"a\.xml line 9 is no XML"),
        ("voc", ("Annotations/a.xml", "<width>200", "<width>300"), "is 200x200 px, the data set says 300x200"),
        ("coco", ("annotations/instances_train2017.json", '"id": 9', '"id": 7'), "image 2: image id 7 is that of"),
        (
            "coco",
            ("annotations/instances_train2017.json", "20.5, 20]", "20.5, -20]"),
            r"annotation 4 \(id 4\): box .* is empty",
        ),
        (
            "coco",
            ("annotations/instances_train2017.json", "20.5, 20]", "20.5]"),
            r"annotation 4 \(id 4\): its bbox has 3 values, not 4",
        ),
        (
            "coco",
            ("annotations/instances_train2017.json", '"category_id": 1', '"category_id": 5'),
            "unknown category 5",
        ),
        ("coco", ("annotations/instances_train2017.json", "20.5, 20]", "NaN, 20]"), r"\(id 4\): non-finite width nan"),
        (
            "sipakmed",
            ("im_Koilocytotic/im_Koilocytotic/001_cyt01.dat", "60,70", "60;7o"),
            r"001_cyt01\.dat line 3: invalid y '7o'",
        ),
        ("tianchi", ("labels/T1.json", '"x": 45', '"x": "?"'), r"T1\.json entry 3: invalid x '\?'"),
        ("riva", ("annotations/train.csv", "100.5,90.25", "1000.5,90.25"), r"train\.csv line 2: the point"),
        ("cervix93", ("dataset/EDF/frame000.csv", ",", ";"), r"frame000\.csv line 1: invalid value '.*'"),
        ("geojson", ("slide 1.png.geojson", "[80, 80], ", '["a", 80], '), r"feature 2: invalid x 'a'"),
    ],
)
def test_broken_rows_of_every_format_are_named(
    tmp_path: Path, name: str, damage: tuple[str, str, str], where: str
) -> None:
    source = getattr(samples, name)(tmp_path / "in")
    (source / "labels" / "T2.json").unlink(missing_ok=True)
    file, old, new = damage
    text = (source / file).read_text()
    assert old in text
    (source / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ManifestError, match=where):
        run_import(name, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (
            'aa.png,1,LSIL,50,60\naa.png,2,"LSIL,60,60\naa.png,3,LSIL,70,70\n',
            r"classifications\.csv line 3: unexpected end",
        ),
        ('aa.png,"1,LSIL,50,60\naa.png,2",LSIL,60,60\naa.png,3,LSIL,9,9\n', r"csv lines 2-3: a quotation mark joins"),
    ],
)
def test_an_open_quotation_mark_swallows_no_row(tmp_path: Path, rows: str, where: str) -> None:
    with pytest.raises(ManifestError, match=where):
        run_import("cric", one_field(tmp_path / "in", rows), tmp_path / "out")


def test_cells_without_an_id_take_none_that_is_given(tmp_path: Path) -> None:
    rows = "aa.png,2,LSIL,50,60\naa.png,,LSIL,60,60\naa.png,,LSIL,70,60\naa.png,1,LSIL,80,60\n"
    run_import("cric", one_field(tmp_path / "in", rows), tmp_path / "out")
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["2", "3", "4", "1"]


def test_coco_ids_that_contradict_or_are_none(tmp_path: Path) -> None:
    source = samples.coco(tmp_path / "in")
    path = source / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    first, *_ = content["annotations"]
    first["segmentation"] = [[]]  # as some tools write "no polygon"
    samples.as_json(path, content)
    assert run_import("coco", source, tmp_path / "out").counts["cells"] == 3
    first |= {"image_id": [7], "category_id": [0]}
    content["annotations"].append({"id": 5, "image_id": 9, "category_id": [0], "bbox": [1, 1, 9, 9]})
    samples.as_json(path, content)
    with pytest.raises(ManifestError, match=r"1\): it names no image of the file; .* category_id is \[0\], no name"):
        run_import("coco", source, tmp_path / "b")
    content["categories"].append({"id": 0, "name": "NILM"})
    samples.as_json(path, content)
    with pytest.raises(ManifestError, match="category 3: id 0 is 'ascus' and 'NILM'"):
        run_import("coco", source, tmp_path / "b")


def test_an_image_is_in_one_split(tmp_path: Path) -> None:
    source = samples.voc(tmp_path / "voc")
    samples.text(source / "ImageSets" / "Main" / "test.txt", "a\n")
    with pytest.raises(ManifestError, match=r"val\.txt line 1: 'a' is in the list of another split too"):
        run_import("voc", source, tmp_path / "out")
    source = samples.riva(tmp_path / "riva")
    with (source / "annotations" / "val.csv").open("a") as stream:
        stream.write("LSIL_45_3.png,50,50,100,100,LSIL,4\n")
    with pytest.raises(
        ManifestError, match=r"val\.csv line 3: image 'LSIL_45_3' is in another split too, .*train\.csv line 2"
    ):
        run_import("riva", source, tmp_path / "out")
    source = samples.cervix93(tmp_path / "c")
    table = source / "dataset" / "labels.csv"
    table.write_text(table.read_text().replace("H,0", "H,2"))
    with pytest.raises(ManifestError, match=r"labels\.csv line 2: set is '2'"):
        run_import("cervix93", source, tmp_path / "out")


def test_a_region_that_lost_a_cell_is_no_longer_complete(tmp_path: Path) -> None:
    source = samples.tianchi(tmp_path / "t")
    path = source / "labels" / "T1.json"
    (source / "labels" / "T2.json").unlink()
    path.write_text(path.read_text().replace('"w": 30', '"w": -30', 1))
    report = run_import("tianchi", source, tmp_path / "out", skip=True)
    assert read_regions(tmp_path / "out") == {}
    assert report.problems == {"box": 1, "note: region": 3}  # two regions, and the lesion outside of both
    source = samples.riva(tmp_path / "r")
    (source / "images" / "val" / "HSIL_2_1.png").rename(source / "images" / "val" / "ENDO_1_1.png")
    table = source / "annotations" / "val.csv"
    table.write_text(table.read_text().replace("HSIL_2_1", "ENDO_1_1") + "ENDO_1_1.png,1,1,100,100,HSIL,5,7,7\n")
    run_import("riva", source, tmp_path / "out2", skip=True)
    assert set(read_regions(tmp_path / "out2")) == {"LSIL_45_3"}  # two images have the stem of the row that was lost


def test_qupath_objects_without_ids_or_shape(tmp_path: Path) -> None:
    source = samples.geojson(tmp_path / "g")
    path = source / "slide 1.png.geojson"
    content = json.loads(path.read_text())
    for feature in content["features"]:
        feature["id"] = "PathAnnotationObject"  # QuPath 0.2
    content["features"][2]["geometry"] = {"type": "MultiPolygon", "coordinates": [[[[1, 1], [9, 1], [9, 9]]]] * 2}
    content["features"][2]["geometry"]["coordinates"][1] = [[[11, 1], [19, 1], [19, 9]]]
    samples.as_json(path, content["features"])
    report = run_import("geojson", source, tmp_path / "out")
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1", "2", "3", "4"]
    assert report.problems == {"note: parts": 1}
    run_import("geojson", path.rename(source / "slide 1.json"), tmp_path / "b")  # by name, whatever its suffix
    content["features"][2]["geometry"]["coordinates"] = []
    content["features"][1]["nucleusGeometry"] = {"type": "Point", "coordinates": [60, 60]}
    samples.as_json(path, content)
    with pytest.raises(
        ManifestError, match=r"feature 2: the nucleus is a point.* feature 3: the feature's geometry is empty"
    ):
        run_import("geojson", source, tmp_path / "c")
