"""Files of data sets: which are meant, which are left over, which cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path

import dataset_samples as samples
import pytest
from imports import HEADER, one_field, run_import
from PIL import Image

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.importers import MappedLabel
from stride_monai.data.importers.reading import ImageIndex
from stride_monai.errors import ConfigError, ManifestError


def test_one_of_several_tables_is_not_taken_at_random(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (source / "classifications.csv").rename(source / "part1.csv")
    samples.text(source / "part2.csv", HEADER)
    with pytest.raises(ManifestError, match=r"in holds 2 tables, part1\.csv and part2\.csv"):
        run_import("cric", source, tmp_path / "out")
    run_import("cric", source / "part1.csv", tmp_path / "out")


def test_names_of_images_match_however_an_accent_is_written(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "u\u0308.png,1,LSIL,50,60\nx.1,2,LSIL,50,60\n")
    samples.field(source / "\u00fc.png")
    samples.field(source / "x.png")
    with pytest.raises(ManifestError, match=r"in has 1 broken .* the image x\.1 does not exist"):
        run_import("cric", source, tmp_path / "out")


def test_files_in_upper_case_are_read(tmp_path: Path) -> None:
    voc, yolo, qupath = samples.voc(tmp_path / "v"), samples.yolo(tmp_path / "y"), samples.geojson(tmp_path / "g")
    for path in (voc / "Annotations" / "a.xml", yolo / "labels" / "train" / "a.txt", qupath / "slide 1.png.geojson"):
        path.rename(path.with_suffix(path.suffix.upper()))
    assert run_import("voc", voc, tmp_path / "v_out").counts["cells"] == 1
    assert run_import("yolo", yolo, tmp_path / "y_out").counts["cells"] == 3
    assert run_import("geojson", qupath, tmp_path / "g_out").counts["cells"] == 4


def test_coco_files_beside_the_images_of_their_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        samples.field(tmp_path / "in" / split / "001.png")
        content = {
            "images": [{"id": 0, "file_name": "001.png"}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
            "categories": [{"id": 1, "name": "LSIL"}],
        }
        samples.as_json(tmp_path / "in" / split / "_annotations.coco.json", content)
    run_import("coco", tmp_path / "in", tmp_path / "out")
    records = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [(r.slide_id, r.split) for r in records] == [("train--001", "train"), ("valid--001", "validation")]
    samples.as_json(tmp_path / "in" / "valid" / "_annotations.coco.json", [])
    with pytest.raises(ManifestError, match=r"valid/_annotations\.coco\.json: it is no COCO file"):
        run_import("coco", tmp_path / "in", tmp_path / "b")


def test_yolo_files_that_contradict_or_are_left_over(tmp_path: Path) -> None:
    source = samples.yolo(tmp_path / "in")
    samples.field(source / "images" / "train" / "a.jpg")
    run_import("yolo", source, tmp_path / "out")  # two pictures of one label file: neither is empty
    ids = [cell.slide_id for cell in read_cells(tmp_path / "out" / "cells.csv")]
    assert sorted(set(ids)) == ["b", "images--train--a.jpg", "images--train--a.png"]
    samples.text(source / "labels" / "README.txt", "How cells were marked\n")
    run_import("yolo", source, tmp_path / "out", overwrite=True)
    samples.text(source / "labels" / "train" / "gone.txt", "LSIL 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ManifestError, match=r"labels/train/gone\.txt: the label file has no image"):
        run_import("yolo", source, tmp_path / "b")
    samples.text(source / "old.yaml", "names: [NILM, LSIL]\n")
    with pytest.raises(ManifestError, match=r"data\.yaml and old\.yaml name the classes otherwise"):
        run_import("yolo", source, tmp_path / "b")


def test_two_files_of_one_image_are_not_joined(tmp_path: Path) -> None:
    source = samples.voc(tmp_path / "voc")
    text = (source / "Annotations" / "a.xml").read_text()
    samples.text(source / "Annotations" / "b.xml", text.replace(">68<", ">99<"))
    with pytest.raises(ManifestError, match=r"Annotations/b\.xml: image 'a' is that of Annotations/a\.xml too"):
        run_import("voc", source, tmp_path / "out")
    assert run_import("voc", source, tmp_path / "out", skip=True).counts["cells"] == 1
    source = samples.tianchi(tmp_path / "t")
    (source / "labels" / "T2.json").unlink()
    samples.as_json(source / "more" / "T1.json", [{"x": 1, "y": 1, "w": 9, "h": 9, "class": "HSIL"}])
    with pytest.raises(ManifestError, match=r"more/T1\.json: image 'T1' is that of labels/T1\.json too"):
        run_import("tianchi", source, tmp_path / "out2")


def test_qupath_files_that_cannot_be_unpacked(tmp_path: Path) -> None:
    source = samples.geojson(tmp_path / "g")
    packed = bytearray(gzip.compress((source / "slide 1.png.geojson").read_bytes()))
    (source / "slide 1.png.geojson").unlink()
    (source / "slide 1.geojson.gz").write_bytes(packed)
    with pytest.raises(ManifestError, match="unknown encoding: klingon"):
        run_import("geojson", source, tmp_path / "out", encoding="klingon")
    packed[20:30] = b"0123456789"
    (source / "slide 1.geojson.gz").write_bytes(packed)
    with pytest.raises(ManifestError, match=r"slide 1\.geojson\.gz cannot be read"):
        run_import("geojson", source, tmp_path / "out")


def test_files_that_nothing_names_are_told(tmp_path: Path) -> None:
    source = samples.sipakmed(tmp_path / "s")
    samples.field(source / "im_Koilocytotic" / "im_Koilocytotic" / "002.bmp")
    assert any("named by no annotation" in note for note in run_import("sipakmed", source, tmp_path / "a").warnings)
    source = samples.cervix93(tmp_path / "c")
    samples.field(source / "dataset" / "EDF" / "frame009.png")
    assert any("e.g. frame009.png" in note for note in run_import("cervix93", source, tmp_path / "b").warnings)
    source = samples.folder_per_class(tmp_path / "f")
    samples.text(source / "train" / "NILM" / "x.gif", "")
    assert any("e.g. train/NILM/x.gif" in note for note in run_import("folder", source, tmp_path / "d").warnings)
    source = samples.herlev(tmp_path / "h")
    (source / "normal_columnar" / "153-001.BMP").unlink()
    with pytest.raises(ManifestError, match=r"normal_columnar/153-001-d\.bmp: the mask has no picture"):
        run_import("herlev", source, tmp_path / "e")
    source = samples.voc(tmp_path / "v")
    path = source / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<xmin>1<", "<xmin>0<"))
    assert any("1 boxes begin at pixel 0" in note for note in run_import("voc", source, tmp_path / "g").warnings)


def test_images_that_are_damaged_are_named(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\nbb.png,2,LSIL,50,60\n")
    content = samples.field(source / "bb.png").read_bytes()
    (source / "bb.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ManifestError, match=r"classifications\.csv line 3: the image bb\.png cannot be read .*; its 1 cells"
    ):
        run_import("cric", source, tmp_path / "out")


def test_a_wrong_encoding_is_named_by_line_and_can_be_given(tmp_path: Path) -> None:
    rows = "aa.png,1,LSIL,50,60\naa.png,2,\u65e0\u5f02\u5e38,80,80\n"  # "nothing abnormal", in Chinese
    source = one_field(tmp_path / "in", rows, "gbk")
    with pytest.raises(ManifestError, match=r"classifications\.csv cannot be read as text: line 3 is not UTF-8"):
        run_import("cric", source, tmp_path / "out")
    run_import("cric", source, tmp_path / "out", own_map={"\u65e0\u5f02\u5e38": MappedLabel("NILM")}, encoding="gbk")
    assert read_cells(tmp_path / "out" / "cells.csv")[1].raw_label == "\u65e0\u5f02\u5e38"


def test_a_folder_of_images_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone, the folder of --images, does not exist"):
        run_import("yolo", samples.yolo(tmp_path / "in"), tmp_path / "out", images=tmp_path / "gone")


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"holds no \*\.json or \*\.csv"):
        run_import("cric", tmp_path / "empty", tmp_path / "out")
    broken = one_field(tmp_path / "broken", "aa.png,1,LSIL,nan,60\n")
    (broken / "aa.png").unlink()
    with pytest.raises(ManifestError, match=r"no labelled cell or image that can be used: see .*problems\.csv"):
        run_import("cric", broken, tmp_path / "out", skip=True)
    with pytest.raises(ManifestError, match="does not exist"):
        run_import("coco", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ManifestError, match="holds no labelled cell or image"):
        run_import("folder", tmp_path / "empty", tmp_path / "out")


def test_images_elsewhere_and_of_one_name(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (source / "aa.png").rename(tmp_path / "pictures" / "deep" / "AA.PNG")
    run_import("cric", source, tmp_path / "out", images=tmp_path / "pictures")
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].path.name == "AA.PNG"
    samples.field(tmp_path / "pictures" / "other" / "aa.png")
    with pytest.raises(ManifestError, match=r"line 2: 2 images are named 'aa\.png'"):
        run_import("cric", source, tmp_path / "out", images=tmp_path / "pictures", overwrite=True)
    index = ImageIndex(tmp_path / "pictures")
    assert index.find("other/aa.png") == tmp_path / "pictures" / "other" / "aa.png"
    assert set(index.ids.values()) == {"deep--AA", "other--aa"}


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    samples.field(source / "zz.png")
    report = run_import("cric", source, tmp_path / "out")
    assert any("1 images are named by no annotation and are not imported, e.g. zz.png" in w for w in report.warnings)


def test_a_picture_with_transparency_or_gray_is_an_image(tmp_path: Path) -> None:
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\nbb.png,2,LSIL,5,6\n")
    Image.new("RGBA", (20, 20)).save(source / "aa.png")
    Image.new("L", (20, 20)).save(source / "bb.png")
    with pytest.raises(ManifestError, match=r"has 1 broken rows or images: .* line 2: the point"):
        run_import("cric", source, tmp_path / "out")
