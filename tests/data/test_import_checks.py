"""What an import refuses, with file and line; what it leaves out when it is told to; maps and groups."""

from __future__ import annotations

import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset_samples as samples
import plug_ins
import pytest
from PIL import Image

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.importers import IMPORTERS, ImportOptions, MappedLabel, import_dataset, load_format
from stride_monai.data.importers.labels import BETHESDA, LabelMap, read_map
from stride_monai.data.importers.reading import ImageIndex
from stride_monai.data.regions import read_regions
from stride_monai.data.splits import split_cohort
from stride_monai.errors import ConfigError, ManifestError, OutputError

HEADER = "image_filename,cell_id,bethesda_system,nucleus_x,nucleus_y\n"


def _cric(folder: Path, rows: str, encoding: str = "utf-8") -> Path:
    samples.field(folder / "aa.png", [(50, 60)])
    samples.text(folder / "classifications.csv", HEADER + rows, encoding)
    return folder


def _run(name: str, source: Path, out: Path, skip: bool = False, own_map: Any = None, **options: Any) -> Any:
    overwrite = options.pop("overwrite", False)
    options.setdefault("mpp", 0.25)
    return import_dataset(source, out, load_format(name), ImportOptions(**options), own_map, skip, overwrite)


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
    source = _cric(tmp_path / "in", BROKEN)
    with pytest.raises(ManifestError) as caught:
        _run("cric", source, tmp_path / "out")
    message = str(caught.value)
    assert "in has 9 broken rows or images" in message
    assert "--skip-broken" in message
    assert not (tmp_path / "out" / "manifest.csv").exists()
    with (tmp_path / "out" / "problems.csv").open(newline="") as stream:
        rows = {row["line"]: row for row in csv.DictReader(stream)}
    for line, kind, text in (
        (3, "row", "nucleus_x is nan"),
        (4, "row", "nucleus_x 'fifty' is no number"),
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
    report = _run("cric", _cric(tmp_path / "in", BROKEN), tmp_path / "out", skip=True, complete=True)
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1", "13"]
    counts = {"row": 3, "box": 1, "duplicate": 1, "note: duplicate": 1, "contradiction": 1, "label": 1, "image": 2}
    assert report.problems == counts
    assert json.loads((tmp_path / "out" / "import.json").read_text())["problems"] == report.problems
    # Of an image that lost a cell nobody can say any more that every lesion is marked.
    assert read_regions(tmp_path / "out") == {}


@pytest.mark.parametrize("cell_id", ["1", "2", ""])
def test_a_cell_that_is_listed_twice_is_imported_once(cell_id: str, tmp_path: Path) -> None:
    """As in many published sets; every lesion of the image stays marked."""
    source = _cric(tmp_path / "in", f"aa.png,1,LSIL,50,60\naa.png,{cell_id},LSIL,50,60\n")
    report = _run("cric", source, tmp_path / "out", complete=True)
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1"]
    assert report.problems == {"note: duplicate": 1}
    assert list(read_regions(tmp_path / "out")) == ["aa"]


def test_a_clean_import_can_be_called_complete(tmp_path: Path) -> None:
    _run("cric", _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out", complete=True)
    assert list(read_regions(tmp_path / "out")) == ["aa"]
    assert not (tmp_path / "out" / "problems.csv").exists()


@pytest.mark.parametrize(
    ("name", "damage", "where"),
    [
        ("yolo", ("labels/train/a.txt", "0.25 0.6", "25 60"), r"a\.txt line 1: the values are not between 0 and 1"),
        ("yolo", ("labels/train/a.txt", "0.18 0.36", "0.18 0.36 0.9"), r"a\.txt line 1: there are 6 values"),
        ("yolo", ("labels/train/a.txt", "1 0.1", "1 x"), r"a\.txt line 2: value 'x' is no number"),
        ("yolo", ("labels/train/a.txt", "0.18 0.36", "0 0.36"), r"a\.txt line 1: box .* is empty"),
        ("voc", ("Annotations/a.xml", ">68<", ">6800<"), r"a\.xml line 5: box .* px outside the image"),
        ("voc", ("Annotations/a.xml", ">68<", "><"), r"a\.xml line 5: xmax '' is no number"),
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
            "there is no category 5",
        ),
        ("coco", ("annotations/instances_train2017.json", "20.5, 20]", "NaN, 20]"), r"\(id 4\): width is nan"),
        (
            "sipakmed",
            ("im_Koilocytotic/im_Koilocytotic/001_cyt01.dat", "60,70", "60;7o"),
            r"001_cyt01\.dat line 3: y '7o' is no number",
        ),
        ("tianchi", ("labels/T1.json", '"x": 45', '"x": "?"'), r"T1\.json entry 3: x '\?' is no number"),
        ("riva", ("annotations/train.csv", "100.5,90.25", "1000.5,90.25"), r"train\.csv line 2: the point"),
        ("cervix93", ("dataset/EDF/frame000.csv", ",", ";"), r"frame000\.csv line 1: value '.*' is no number"),
        ("geojson", ("slide 1.png.geojson", "[80, 80], ", '["a", 80], '), r"feature 2: x 'a' is no number"),
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
        _run(name, source, tmp_path / "out")


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
        _run("cric", _cric(tmp_path / "in", rows), tmp_path / "out")


def test_cells_without_an_id_take_none_that_is_given(tmp_path: Path) -> None:
    rows = "aa.png,2,LSIL,50,60\naa.png,,LSIL,60,60\naa.png,,LSIL,70,60\naa.png,1,LSIL,80,60\n"
    _run("cric", _cric(tmp_path / "in", rows), tmp_path / "out")
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["2", "3", "4", "1"]


def test_labels_that_differ_in_a_sign_only_keep_their_targets(tmp_path: Path) -> None:
    rows = "aa.png,1,p16+,50,60\naa.png,2,p16-,60,60\naa.png,3,lsil,70,60\n"
    own = {"p16+": MappedLabel("HSIL"), "p16-": MappedLabel("NILM"), "LSIL ": MappedLabel("ASC-US")}
    _run("cric", _cric(tmp_path / "in", rows), tmp_path / "out", own_map=own)
    assert [cell.label for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["HSIL", "NILM", "ASC-US"]
    labels = LabelMap({}, own)
    assert labels.get("P16") is None  # which of the two, nobody says
    assert labels.get("?") is None
    assert labels.unused(["p16-", "p16+"]) == ["LSIL "]


def test_one_of_several_tables_is_not_taken_at_random(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (source / "classifications.csv").rename(source / "part1.csv")
    samples.text(source / "part2.csv", HEADER)
    with pytest.raises(ManifestError, match=r"in holds 2 tables, part1\.csv and part2\.csv"):
        _run("cric", source, tmp_path / "out")
    _run("cric", source / "part1.csv", tmp_path / "out")


def test_names_of_images_match_however_an_accent_is_written(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "u\u0308.png,1,LSIL,50,60\nx.1,2,LSIL,50,60\n")
    samples.field(source / "\u00fc.png")
    samples.field(source / "x.png")
    with pytest.raises(ManifestError, match=r"in has 1 broken .* the image x\.1 does not exist"):
        _run("cric", source, tmp_path / "out")


def test_files_in_upper_case_are_read(tmp_path: Path) -> None:
    voc, yolo, qupath = samples.voc(tmp_path / "v"), samples.yolo(tmp_path / "y"), samples.geojson(tmp_path / "g")
    for path in (voc / "Annotations" / "a.xml", yolo / "labels" / "train" / "a.txt", qupath / "slide 1.png.geojson"):
        path.rename(path.with_suffix(path.suffix.upper()))
    assert _run("voc", voc, tmp_path / "v_out").counts["cells"] == 1
    assert _run("yolo", yolo, tmp_path / "y_out").counts["cells"] == 3
    assert _run("geojson", qupath, tmp_path / "g_out").counts["cells"] == 4


def test_coco_ids_that_contradict_or_are_none(tmp_path: Path) -> None:
    source = samples.coco(tmp_path / "in")
    path = source / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    first, *_ = content["annotations"]
    first["segmentation"] = [[]]  # as some tools write "no polygon"
    samples.as_json(path, content)
    assert _run("coco", source, tmp_path / "out").counts["cells"] == 3
    first |= {"image_id": [7], "category_id": [0]}
    content["annotations"].append({"id": 5, "image_id": 9, "category_id": [0], "bbox": [1, 1, 9, 9]})
    samples.as_json(path, content)
    with pytest.raises(ManifestError, match=r"1\): it names no image of the file; .* category_id is \[0\], no name"):
        _run("coco", source, tmp_path / "b")
    content["categories"].append({"id": 0, "name": "NILM"})
    samples.as_json(path, content)
    with pytest.raises(ManifestError, match="category 3: id 0 is 'ascus' and 'NILM'"):
        _run("coco", source, tmp_path / "b")


def test_coco_files_beside_the_images_of_their_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        samples.field(tmp_path / "in" / split / "001.png")
        content = {
            "images": [{"id": 0, "file_name": "001.png"}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
            "categories": [{"id": 1, "name": "LSIL"}],
        }
        samples.as_json(tmp_path / "in" / split / "_annotations.coco.json", content)
    _run("coco", tmp_path / "in", tmp_path / "out")
    records = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [(r.slide_id, r.split) for r in records] == [("train--001", "train"), ("valid--001", "validation")]
    samples.as_json(tmp_path / "in" / "valid" / "_annotations.coco.json", [])
    with pytest.raises(ManifestError, match=r"valid/_annotations\.coco\.json: it is no COCO file"):
        _run("coco", tmp_path / "in", tmp_path / "b")


def test_yolo_files_that_contradict_or_are_left_over(tmp_path: Path) -> None:
    source = samples.yolo(tmp_path / "in")
    samples.field(source / "images" / "train" / "a.jpg")
    _run("yolo", source, tmp_path / "out")  # two pictures of one label file: neither is empty
    ids = [cell.slide_id for cell in read_cells(tmp_path / "out" / "cells.csv")]
    assert sorted(set(ids)) == ["b", "images--train--a.jpg", "images--train--a.png"]
    samples.text(source / "labels" / "README.txt", "How cells were marked\n")
    _run("yolo", source, tmp_path / "out", overwrite=True)
    samples.text(source / "labels" / "train" / "gone.txt", "LSIL 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ManifestError, match=r"labels/train/gone\.txt: the label file has no image"):
        _run("yolo", source, tmp_path / "b")
    samples.text(source / "old.yaml", "names: [NILM, LSIL]\n")
    with pytest.raises(ManifestError, match=r"data\.yaml and old\.yaml name the classes otherwise"):
        _run("yolo", source, tmp_path / "b")


def test_an_image_is_in_one_split(tmp_path: Path) -> None:
    source = samples.voc(tmp_path / "voc")
    samples.text(source / "ImageSets" / "Main" / "test.txt", "a\n")
    with pytest.raises(ManifestError, match=r"val\.txt line 1: 'a' is in the list of another split too"):
        _run("voc", source, tmp_path / "out")
    source = samples.riva(tmp_path / "riva")
    with (source / "annotations" / "val.csv").open("a") as stream:
        stream.write("LSIL_45_3.png,50,50,100,100,LSIL,4\n")
    with pytest.raises(
        ManifestError, match=r"val\.csv line 3: image 'LSIL_45_3' is in another split too, .*train\.csv line 2"
    ):
        _run("riva", source, tmp_path / "out")
    source = samples.cervix93(tmp_path / "c")
    table = source / "dataset" / "labels.csv"
    table.write_text(table.read_text().replace("H,0", "H,2"))
    with pytest.raises(ManifestError, match=r"labels\.csv line 2: set is '2'"):
        _run("cervix93", source, tmp_path / "out")


def test_two_files_of_one_image_are_not_joined(tmp_path: Path) -> None:
    source = samples.voc(tmp_path / "voc")
    text = (source / "Annotations" / "a.xml").read_text()
    samples.text(source / "Annotations" / "b.xml", text.replace(">68<", ">99<"))
    with pytest.raises(ManifestError, match=r"Annotations/b\.xml: image 'a' is that of Annotations/a\.xml too"):
        _run("voc", source, tmp_path / "out")
    assert _run("voc", source, tmp_path / "out", skip=True).counts["cells"] == 1
    source = samples.tianchi(tmp_path / "t")
    (source / "labels" / "T2.json").unlink()
    samples.as_json(source / "more" / "T1.json", [{"x": 1, "y": 1, "w": 9, "h": 9, "class": "HSIL"}])
    with pytest.raises(ManifestError, match=r"more/T1\.json: image 'T1' is that of labels/T1\.json too"):
        _run("tianchi", source, tmp_path / "out2")


def test_a_region_that_lost_a_cell_is_no_longer_complete(tmp_path: Path) -> None:
    source = samples.tianchi(tmp_path / "t")
    path = source / "labels" / "T1.json"
    (source / "labels" / "T2.json").unlink()
    path.write_text(path.read_text().replace('"w": 30', '"w": -30', 1))
    report = _run("tianchi", source, tmp_path / "out", skip=True)
    assert read_regions(tmp_path / "out") == {}
    assert report.problems == {"box": 1, "note: region": 3}  # two regions, and the lesion outside of both
    source = samples.riva(tmp_path / "r")
    (source / "images" / "val" / "HSIL_2_1.png").rename(source / "images" / "val" / "ENDO_1_1.png")
    table = source / "annotations" / "val.csv"
    table.write_text(table.read_text().replace("HSIL_2_1", "ENDO_1_1") + "ENDO_1_1.png,1,1,100,100,HSIL,5,7,7\n")
    _run("riva", source, tmp_path / "out2", skip=True)
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
    report = _run("geojson", source, tmp_path / "out")
    assert [cell.cell_id for cell in read_cells(tmp_path / "out" / "cells.csv")] == ["1", "2", "3", "4"]
    assert report.problems == {"note: parts": 1}
    _run("geojson", path.rename(source / "slide 1.json"), tmp_path / "b")  # by name, whatever its suffix
    content["features"][2]["geometry"]["coordinates"] = []
    content["features"][1]["nucleusGeometry"] = {"type": "Point", "coordinates": [60, 60]}
    samples.as_json(path, content)
    with pytest.raises(
        ManifestError, match=r"feature 2: the nucleus is a point.* feature 3: the feature's geometry is empty"
    ):
        _run("geojson", source, tmp_path / "c")


def test_qupath_files_that_cannot_be_unpacked(tmp_path: Path) -> None:
    source = samples.geojson(tmp_path / "g")
    packed = bytearray(gzip.compress((source / "slide 1.png.geojson").read_bytes()))
    (source / "slide 1.png.geojson").unlink()
    (source / "slide 1.geojson.gz").write_bytes(packed)
    with pytest.raises(ManifestError, match="unknown encoding: klingon"):
        _run("geojson", source, tmp_path / "out", encoding="klingon")
    packed[20:30] = b"0123456789"
    (source / "slide 1.geojson.gz").write_bytes(packed)
    with pytest.raises(ManifestError, match=r"slide 1\.geojson\.gz cannot be read"):
        _run("geojson", source, tmp_path / "out")


def test_files_that_nothing_names_are_told(tmp_path: Path) -> None:
    source = samples.sipakmed(tmp_path / "s")
    samples.field(source / "im_Koilocytotic" / "im_Koilocytotic" / "002.bmp")
    assert any("named by no annotation" in note for note in _run("sipakmed", source, tmp_path / "a").warnings)
    source = samples.cervix93(tmp_path / "c")
    samples.field(source / "dataset" / "EDF" / "frame009.png")
    assert any("e.g. frame009.png" in note for note in _run("cervix93", source, tmp_path / "b").warnings)
    source = samples.folder_per_class(tmp_path / "f")
    samples.text(source / "train" / "NILM" / "x.gif", "")
    assert any("e.g. train/NILM/x.gif" in note for note in _run("folder", source, tmp_path / "d").warnings)
    source = samples.herlev(tmp_path / "h")
    (source / "normal_columnar" / "153-001.BMP").unlink()
    with pytest.raises(ManifestError, match=r"normal_columnar/153-001-d\.bmp: the mask has no picture"):
        _run("herlev", source, tmp_path / "e")
    source = samples.voc(tmp_path / "v")
    path = source / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<xmin>1<", "<xmin>0<"))
    assert any("1 boxes begin at pixel 0" in note for note in _run("voc", source, tmp_path / "g").warnings)


def test_images_that_are_damaged_are_named(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\nbb.png,2,LSIL,50,60\n")
    content = samples.field(source / "bb.png").read_bytes()
    (source / "bb.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ManifestError, match=r"classifications\.csv line 3: the image bb\.png cannot be read .*; its 1 cells"
    ):
        _run("cric", source, tmp_path / "out")


def test_a_wrong_encoding_is_named_by_line_and_can_be_given(tmp_path: Path) -> None:
    rows = "aa.png,1,LSIL,50,60\naa.png,2,\u65e0\u5f02\u5e38,80,80\n"  # "nothing abnormal", in Chinese
    source = _cric(tmp_path / "in", rows, "gbk")
    with pytest.raises(ManifestError, match=r"classifications\.csv cannot be read as text: line 3 is not UTF-8"):
        _run("cric", source, tmp_path / "out")
    _run("cric", source, tmp_path / "out", own_map={"\u65e0\u5f02\u5e38": MappedLabel("NILM")}, encoding="gbk")
    assert read_cells(tmp_path / "out" / "cells.csv")[1].raw_label == "\u65e0\u5f02\u5e38"


def test_labels_without_a_target_are_all_listed(tmp_path: Path) -> None:
    rows = "aa.png,1,CIN2,50,60\naa.png,2,CIN2,80,80\naa.png,3,blob,90,90\naa.png,4,LSIL,99,99\n"
    with pytest.raises(ManifestError) as caught:
        _run("cric", _cric(tmp_path / "in", rows), tmp_path / "out")
    assert "2 labels that no map knows: 'CIN2' (2), 'blob' (1)" in str(caught.value)
    assert '{"CIN2": "?", "blob": "?"}' in str(caught.value)


def test_the_own_map_wins_label_by_label_and_is_saved(tmp_path: Path) -> None:
    rows = "aa.png,1,CIN2,50,60\naa.png,2,asc_us,80,80\naa.png,3,blob,90,90\naa.png,4,Blob,99,99\naa.png,5,LSIL,9,9\n"
    path = samples.as_json(
        tmp_path / "map.json",
        {
            "cin2": {"label": "HSIL", "lossy": True, "subtype": "CIN 2"},
            "BLOB": "exclude",
            "LSIL": "ascus",
            "nix": "NILM",
        },
    )
    report = _run("cric", _cric(tmp_path / "in", rows), tmp_path / "out", own_map=read_map(path))
    cells = read_cells(tmp_path / "out" / "cells.csv")
    assert [(c.label, c.raw_label, c.subtype, c.lossy) for c in cells] == [
        ("HSIL", "CIN2", "CIN 2", True),
        ("ASC-US", "asc_us", "", False),
        ("ASC-US", "LSIL", "", False),
    ]
    assert report.counts["cells_excluded"] == {"blob": 1, "Blob": 1}
    assert any("labels of --map that the data set does not have: nix" in warning for warning in report.warnings)
    saved = json.loads((tmp_path / "out" / "labels.json").read_text())["labels"]
    assert saved["CIN2"] == {"label": "HSIL", "lossy": True, "subtype": "CIN 2", "count": 1}
    assert read_map(tmp_path / "out" / "labels.json")["CIN2"] == MappedLabel("HSIL", True, "CIN 2")


def test_a_map_to_no_target_is_refused(tmp_path: Path) -> None:
    path = samples.as_json(tmp_path / "map.json", {"a": "CIN1", "b": 3, "c": "LSIL"})
    with pytest.raises(ManifestError, match=r"'a': 'CIN1', 'b': 3"):
        read_map(path)
    with pytest.raises(ManifestError, match="line 1 is not JSON"):
        read_map(samples.text(tmp_path / "bad.json", "{"))
    with pytest.raises(ManifestError, match="holds no map"):
        read_map(samples.as_json(tmp_path / "list.json", ["LSIL"]))


def test_formats_whose_labels_are_not_bethesda_guess_nothing() -> None:
    assert LabelMap(BETHESDA).get("ascus") == MappedLabel("ASC-US")
    assert LabelMap({}, bethesda=False).get("LSIL") is None
    assert LabelMap({}).get("ASC-H/HSIL") == MappedLabel("ASC-H/HSIL")


@pytest.mark.parametrize("name", IMPORTERS.built_in)
def test_every_default_map_leads_to_targets(name: str, tmp_path: Path) -> None:
    form = load_format(name)
    assert form.name == name
    path = samples.as_json(tmp_path / "map.json", {label: target._asdict() for label, target in form.labels.items()})
    assert read_map(path) == dict(form.labels)


def test_um_per_px_is_never_guessed(tmp_path: Path) -> None:
    source = samples.folder_per_class(tmp_path / "f")
    with pytest.raises(ConfigError, match=r"um/px of 6 images is not known, e\.g\. of 1\.png: state it with --mpp"):
        _run("folder", source, tmp_path / "out", mpp=None)
    with pytest.raises(ConfigError, match="--mpp is -1"):
        _run("folder", source, tmp_path / "out", mpp=-1.0)


def test_a_slide_may_state_its_own_um_per_px(tmp_path: Path) -> None:
    from slide_files import textured, write_pyramid

    samples.geojson(tmp_path / "in")
    (tmp_path / "in" / "slide 1.png").unlink()
    write_pyramid(tmp_path / "in" / "slide 1.tiff", textured(300, 300), mpp=0.5)
    (tmp_path / "in" / "slide 1.png.geojson").rename(tmp_path / "in" / "slide 1.geojson")
    _run("geojson", tmp_path / "in", tmp_path / "out", mpp=None)
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].mpp is None
    assert read_cells(tmp_path / "out" / "cells.csv")[1].box.width == pytest.approx(22.8 / 0.5)


def test_a_negative_image_with_a_lesion_is_a_contradiction(tmp_path: Path) -> None:
    source = samples.cervix93(tmp_path / "in")
    with pytest.raises(
        ManifestError, match="a cell of label 'nucleus in N' on image 'frame002', which is NILM as a whole"
    ):
        _run("cervix93", source, tmp_path / "out", own_map={"nucleus in N": MappedLabel("LSIL")})


def test_patients_and_slides_from_file_names(tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "riva")
    rules = {"slide_from": r"([A-Z]+_\d+)_\d+\.png$", "patient_from": r"images/(\w+)/", "centre": "BA"}
    report = _run("riva", source, tmp_path / "out", **rules)
    records = {record.slide_id: record for record in read_manifest(tmp_path / "out" / "manifest.csv")}
    assert (records["LSIL_45_3"].specimen, records["LSIL_45_3"].patient) == ("LSIL_45", "train")
    assert {record.centre for record in records.values()} == {"BA"}
    assert report.counts["specimens"] == 3
    assert not any("is not known" in warning for warning in report.warnings)
    with pytest.raises(ManifestError, match=r"--slide-from '\(x\)' finds nothing in images/train/LSIL_45_3\.png"):
        _run("riva", source, tmp_path / "b", slide_from="(x)")
    with pytest.raises(ManifestError, match="finds nothing in images"):
        _run("riva", source, tmp_path / "b", slide_from=r"(\d{9})?_")
    with pytest.raises(ConfigError, match="has no group"):
        _run("riva", source, tmp_path / "b", slide_from="x")
    with pytest.raises(ConfigError, match="is no regular expression"):
        _run("riva", source, tmp_path / "b", patient_from="(")


def test_options_that_a_format_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'sipakmed' has no option 'parts': its options are: part \(fields"):
        _run("sipakmed", samples.sipakmed(tmp_path / "in"), tmp_path / "out", values={"parts": "cropped"})
    with pytest.raises(ConfigError, match="part is 'cells'"):
        _run("sipakmed", tmp_path / "in", tmp_path / "out", values={"part": "cells"})


def test_a_cohort_is_replaced_only_on_request_and_then_wholly(tmp_path: Path) -> None:
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    own = samples.text(out / "cells.csv", "made by hand\n")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"holds cells\.csv, not written by stride-monai"):
            _run("cric", source, out, overwrite=overwrite)
    own.unlink()
    _run("cric", source, out, complete=True)
    split_cohort(out)
    with pytest.raises(OutputError, match=r"holds a manifest\.csv already"):
        _run("cric", source, out)
    before = (out / "cells.csv").read_bytes()
    samples.text(source / "classifications.csv", HEADER + "aa.png,1,LSIL,nan,60\n")
    with pytest.raises(ManifestError, match="nucleus_x is nan"):
        _run("cric", source, out, overwrite=True)
    assert (out / "cells.csv").read_bytes() == before  # what is refused destroys nothing
    samples.text(source / "classifications.csv", HEADER + "aa.png,1,LSIL,50,60\n")
    _run("cric", source, out, overwrite=True)
    names = {"manifest.csv", "cells.csv", "labels.json", "import.json"}
    assert {path.name for path in out.iterdir()} == {*names, "files.json"}
    assert set(json.loads((out / "files.json").read_text())["files"]) == names


@pytest.mark.parametrize("name", ["labels.json", "manifest.csv", "problems.csv", "split.json", "files.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_tool_wrote_is_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    """Not even in the source itself, and where the import is refused."""
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (source / name).write_text('{"labels": ["LSIL"]}' if name.endswith("json") else "image,label\naa.png,LSIL\n")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(OutputError, match=name) as refused:
        _run("cric", source, source, overwrite=overwrite)
    assert "--overwrite" not in str(refused.value), "no advice that leads to a loss"
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_problems_of_an_import_before_are_replaced_and_those_of_a_user_not(tmp_path: Path) -> None:
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,nan,60\n"), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(ManifestError):
            _run("cric", source, out)
    assert [path.name for path in out.iterdir()] == ["problems.csv"]
    (out / "problems.csv").write_text("my notes\n")
    with pytest.raises(OutputError, match=r"problems\.csv"):
        _run("cric", source, out)
    assert (out / "problems.csv").read_text() == "my notes\n"


def test_a_table_that_somebody_filled_in_is_not_replaced(tmp_path: Path) -> None:
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    _run("cric", source, out)
    (out / "notes.txt").write_text("mine")
    mine = (out / "manifest.csv").read_text().replace("\naa,", "\naa ,")
    (out / "manifest.csv").write_text(mine)
    with pytest.raises(OutputError, match=r"holds manifest\.csv, not written by stride-monai or changed since"):
        _run("cric", source, out, overwrite=True)
    assert (out / "manifest.csv").read_text() == mine
    (out / "manifest.csv").unlink()
    _run("cric", source, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_cohort_without_a_list_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """As versions before wrote them."""
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    _run("cric", source, out)
    split_cohort(out)
    (out / "files.json").unlink()
    _run("cric", source, out, overwrite=True)
    assert not (out / "split.json").exists()


def test_an_import_that_stopped_halfway_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    _run("cric", source, out)
    real = os.replace

    def stops(source: Path, target: Path) -> None:
        if Path(target) == out / "labels.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        _run("cric", source, out, overwrite=True, point_um=3.0)
    assert not (out / "manifest.csv").exists(), "where it stands, the cohort is complete"
    monkeypatch.undo()
    _run("cric", source, out, overwrite=True, point_um=3.0)
    assert read_manifest(out / "manifest.csv")


def test_text_that_a_spreadsheet_would_calculate_comes_back_as_it_was(tmp_path: Path) -> None:
    source, out = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    (source / "aa.png").rename(source / "=cmd.png")
    samples.text(source / "classifications.csv", HEADER + "=cmd.png,1,LSIL,50,60\n")
    _run("cric", source, out, centre="@home", own_map=None)
    text = (out / "manifest.csv").read_text()
    assert "'=cmd," in text
    assert "'@home" in text
    (record,) = read_manifest(out / "manifest.csv")
    assert (record.slide_id, record.centre) == ("=cmd", "@home")
    assert {cell.slide_id for cell in read_cells(out / "cells.csv")} == {"=cmd"}


@pytest.mark.parametrize("name", ["tianchi", "coco", "riva", "yolo"])
def test_a_cohort_beside_the_annotations_is_none_of_them(name: str, tmp_path: Path) -> None:
    source = getattr(samples, name)(tmp_path / "in")
    first = _run(name, source, source / "cohort", skip=True)
    again = _run(name, source, source / "cohort", skip=True, overwrite=True)
    assert (again.counts, again.problems, again.warnings) == (first.counts, first.problems, first.warnings)


def test_a_folder_of_images_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone, the folder of --images, does not exist"):
        _run("yolo", samples.yolo(tmp_path / "in"), tmp_path / "out", images=tmp_path / "gone")


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"holds no \*\.json or \*\.csv"):
        _run("cric", tmp_path / "empty", tmp_path / "out")
    broken = _cric(tmp_path / "broken", "aa.png,1,LSIL,nan,60\n")
    (broken / "aa.png").unlink()
    with pytest.raises(ManifestError, match=r"no labelled cell or image that can be used: see .*problems\.csv"):
        _run("cric", broken, tmp_path / "out", skip=True)
    with pytest.raises(ManifestError, match="does not exist"):
        _run("coco", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ManifestError, match="holds no labelled cell or image"):
        _run("folder", tmp_path / "empty", tmp_path / "out")


def test_images_elsewhere_and_of_one_name(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (source / "aa.png").rename(tmp_path / "pictures" / "deep" / "AA.PNG")
    _run("cric", source, tmp_path / "out", images=tmp_path / "pictures")
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].path.name == "AA.PNG"
    samples.field(tmp_path / "pictures" / "other" / "aa.png")
    with pytest.raises(ManifestError, match=r"line 2: 2 images are named 'aa\.png'"):
        _run("cric", source, tmp_path / "out", images=tmp_path / "pictures", overwrite=True)
    index = ImageIndex(tmp_path / "pictures")
    assert index.find("other/aa.png") == tmp_path / "pictures" / "other" / "aa.png"
    assert set(index.ids.values()) == {"deep--AA", "other--aa"}


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    samples.field(source / "zz.png")
    report = _run("cric", source, tmp_path / "out")
    assert any("1 images are named by no annotation and are not imported, e.g. zz.png" in w for w in report.warnings)


def test_a_picture_with_transparency_or_gray_is_an_image(tmp_path: Path) -> None:
    source = _cric(tmp_path / "in", "aa.png,1,LSIL,50,60\nbb.png,2,LSIL,5,6\n")
    Image.new("RGBA", (20, 20)).save(source / "aa.png")
    Image.new("L", (20, 20)).save(source / "bb.png")
    with pytest.raises(ManifestError, match=r"has 1 broken rows or images: .* line 2: the point"):
        _run("cric", source, tmp_path / "out")


FORMAT = replace(load_format("folder"), name="mine")


def test_another_package_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_ins.add(monkeypatch, IMPORTERS, mine=FORMAT)
    source = samples.folder_per_class(tmp_path / "f")
    report = import_dataset(source, tmp_path / "out", load_format("mine"), ImportOptions(mpp=0.5))
    assert report.counts["cells"] == 6
