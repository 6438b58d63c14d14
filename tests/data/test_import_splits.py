"""The publisher's split is kept, however it is written; linked folders and files are read; nothing is lost unsaid."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import dataset_samples as samples
import pytest
from imports import run_import

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.cells import read_regions
from stride_monai.data.importers.split_names import split_in_path, split_named
from stride_monai.errors import ConfigError, ManifestError

NAMES = "\nnames: [HSIL]\n"
LISTS = {"train.txt": "./images/a.png\n./images/b.png\n", "val.txt": "./images/c.png\n"}
EXPECTED = {"a": "train", "b": "train", "c": "validation"}


def _splits(out: Path) -> dict[str, str | None]:
    return {record.slide_id: record.split for record in read_manifest(out / "manifest.csv")}


def _yolo(folder: Path, files: Mapping[str, str], images: str = "images", labels: str = "labels") -> Path:
    for seed, name in enumerate("abc"):
        samples.field(folder / images / f"{name}.png", size=(40, 40), seed=seed)
        samples.text(folder / labels / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    for name, content in files.items():
        samples.text(folder / name, content)
    return folder


def _voc(folder: Path, lists: Mapping[str, str], place: str = "ImageSets/Main") -> Path:
    box = "<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    for seed, name in enumerate("abc"):
        samples.field(folder / "JPEGImages" / f"{name}.png", size=(40, 40), seed=seed)
        content = f"<annotation><filename>{name}.png</filename><object><name>HSIL</name>{box}</object></annotation>"
        samples.text(folder / "Annotations" / f"{name}.xml", content)
    for name, content in lists.items():
        samples.text(folder / place / f"{name}.txt", content)
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {**LISTS, "data.yaml": "train: train.txt\nval: val.txt" + NAMES},
        {**LISTS, "data.yaml": "nc: 1" + NAMES},
        {**LISTS, "classes.txt": "HSIL\n"},
        {"f/1.txt": LISTS["train.txt"], "f/2.txt": LISTS["val.txt"], "a.yml": "train: f/1.txt\nval: [f/2.txt]" + NAMES},
        {
            "data.yaml": "path: /content/ds\ntrain: /content/ds/t.txt\nval: /content/ds/v.txt" + NAMES,
            "t.txt": "/content/ds/images/a.png\n/content/ds/images/b.png\n",
            "v.txt": "C:\\ds\\images\\c.png\n",
        },
        {
            "data.yaml": "train: [t1.txt, t2.txt]\nval: ../images/c.png" + NAMES,
            "t1.txt": "images/a.png",
            "t2.txt": "\ufeffb.png",
        },
        {
            "obj.data": "classes = 1\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
            "obj.names": "HSIL\n",
            "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/b.png\n",
            "valid.txt": "data/obj_train_data/c.png\n",
        },
    ],
    ids=["yaml", "beside", "no yaml", "other names", "another machine", "several", "darknet"],
)
def test_yolo_lists_of_names(files: dict[str, str], tmp_path: Path) -> None:
    run_import("yolo", _yolo(tmp_path / "in", files), tmp_path / "out")
    assert _splits(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize(
    ("folders", "yaml"),
    [
        (("images/set1", "images/set2"), "train: images/set1\nval: [images/set2]"),
        (("images/set1", "images/set2"), "path: ../datasets/x\ntrain: images/set1/*.png\nval: /home/u/x/images/set2/"),
        (("one/images", "two/images"), "train: ../one/images\nval: ../two/images\ntest: ../three/images"),
        (("images/train2017", "images/val2017"), "nc: 1"),
    ],
)
def test_yolo_folders(folders: tuple[str, str], yaml: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for seed, folder in enumerate(folders):
        samples.field(source / folder / f"{seed}.png", size=(40, 40), seed=seed)
        samples.text(source / folder.replace("images", "labels") / f"{seed}.txt", "0 0.5 0.5 0.5 0.5\n")
    samples.text(source / "data.yaml", yaml + NAMES)
    report = run_import("yolo", source, tmp_path / "out")
    assert _splits(tmp_path / "out") == {"0": "train", "1": "validation"}
    assert any("test: ../three/images: there is no such" in note for note in report.warnings) == ("three" in yaml)


@pytest.mark.parametrize(
    ("yaml", "what"),
    [
        ("train: t.txt\nval: v.txt", r"data\.yaml train: t\.txt: there is no such folder, list or image"),
        ("train: images\nval: images", r"data\.yaml val: images: '.*a\.png' is in the list of another split too"),
        ("train: train.txt\nval: both.txt", r"both\.txt line 1: 'b\.png' is in the list of another split too"),
        ("train: train.txt\nval: gone.txt", r"gone\.txt line 1: the list for 'validation' names none of the images"),
    ],
)
def test_yolo_splits_that_contradict_or_lead_nowhere(yaml: str, what: str, tmp_path: Path) -> None:
    files = {"train.txt": LISTS["train.txt"], "both.txt": "b.png\nc.png\n", "gone.txt": "x.png\n"}
    source = _yolo(tmp_path / "in", {**files, "data.yaml": yaml + NAMES})
    if "train.txt" not in yaml:
        (source / "train.txt").unlink()
    with pytest.raises(ManifestError, match=what):
        run_import("yolo", source, tmp_path / "out")


def test_a_split_that_was_not_downloaded_is_no_other(tmp_path: Path) -> None:
    yaml = "train: ../train/images\nval: ../valid/images" + NAMES
    source = _yolo(tmp_path / "in", {"data.yaml": yaml}, "train/images", "train/labels")
    report = run_import("yolo", source, tmp_path / "out")
    assert set(_splits(tmp_path / "out").values()) == {"train"}
    assert any("val: ../valid/images: there is no such folder" in note for note in report.warnings)


def test_of_several_yaml_files_the_user_names_one(tmp_path: Path) -> None:
    files = {"1.yaml": "train: train.txt\nval: val.txt" + NAMES, "2.yaml": "train: val.txt\nval: train.txt" + NAMES}
    source = _yolo(tmp_path / "in", {**LISTS, **files})
    with pytest.raises(ManifestError, match="in the list of another split too"):
        run_import("yolo", source, tmp_path / "out")
    run_import("yolo", source, tmp_path / "out", values={"data": "2.yaml"})
    assert _splits(tmp_path / "out") == {"a": "validation", "b": "validation", "c": "train"}
    with pytest.raises(ConfigError, match=r"data is '3\.yaml', but in holds no such file"):
        run_import("yolo", source, tmp_path / "b", values={"data": "3.yaml"})


@pytest.mark.parametrize(
    ("lists", "place", "expected"),
    [
        ({"train": "a\nb\n", "val": "c\n", "trainval": "a\nb\nc\n"}, "ImageSets/Main", EXPECTED),
        ({"HSIL_train": "a  1\nb -1\n", "HSIL_val": "c  0\n", "NILM_train": "a -1\nb 1\n"}, "ImageSets/Main", EXPECTED),
        ({"train2017": "a.png\nb.png\n", "val2017": "c.png\n"}, "ImageSets", EXPECTED),
        ({"train": "/VOC/JPEGImages/a.png\n/VOC/JPEGImages/b.png\n", "val": "C:\\x\\c.png\n"}, ".", EXPECTED),
        ({"trainval": "a\nb\n", "test": "c\n"}, "ImageSets/Main", {"a": "train", "b": "train", "c": "test"}),
        ({"train": "a\nb\n"}, "ImageSets/Main", {"a": "train", "b": "train", "c": None}),
    ],
    ids=["pascal", "by class", "suffixes", "paths", "trainval", "one is in none"],
)
def test_voc_lists(lists: dict[str, str], place: str, expected: dict[str, str], tmp_path: Path) -> None:
    report = run_import("voc", _voc(tmp_path / "in", lists, place), tmp_path / "out")
    assert _splits(tmp_path / "out") == expected
    assert any("1 of 3 images are in no split" in note for note in report.warnings) == (None in expected.values())
    assert any("no list says which of them are for validation" in n for n in report.warnings) == ("test" in lists)


def test_voc_lists_that_contradict_or_name_nothing(tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", {"train": "a\nb\nc\n", "val": "b\nc\n"})
    with pytest.raises(ManifestError, match=r"Main/val\.txt line 1: 'b' is in the list of another split too, .*line 2"):
        run_import("voc", source, tmp_path / "out")
    report = run_import("voc", source, tmp_path / "out", skip=True)
    assert _splits(tmp_path / "out") == {"a": "train", "b": None, "c": None}
    assert any("2 images are in ImageSets/Main/val.txt and in" in note for note in report.warnings)
    assert set(read_regions(tmp_path / "out")) == {"a", "b", "c"}  # no cell was lost
    samples.text(source / "ImageSets" / "Main" / "val.txt", "x\ny\n")
    with pytest.raises(ManifestError, match=r"Main/val\.txt line 1: the list for 'validation' names none"):
        run_import("voc", source, tmp_path / "b")
    samples.text(source / "ImageSets" / "Main" / "val.txt", "x\nc\n")
    samples.text(source / "ImageSets" / "Main" / "train.txt", "a\n")
    assert run_import("voc", source, tmp_path / "b").problems == {"note: split": 1}  # x, which is none of the images


def test_two_years_of_voc_have_the_same_names(tmp_path: Path) -> None:
    _voc(tmp_path / "in" / "VOC2007", {"train": "a\nb\n", "val": "c\n"})
    _voc(tmp_path / "in" / "VOC2012", {"train": "c\n", "val": "a\nb\n"})
    run_import("voc", tmp_path / "in", tmp_path / "out")
    splits = _splits(tmp_path / "out")
    assert splits["VOC2007--JPEGImages--a"] == splits["VOC2012--JPEGImages--c"] == "train"
    assert splits["VOC2007--JPEGImages--c"] == splits["VOC2012--JPEGImages--a"] == "validation"


@pytest.mark.parametrize("name", ["geojson", "tianchi"])
def test_folders_of_other_formats_keep_their_splits(name: str, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test_images")):
        picture = samples.field(tmp_path / "in" / split / f"{seed}.png", size=(40, 40), seed=seed)
        samples.cell_in(name, picture.parent, picture, (40, 40), (5, 5, 20, 20))
    run_import(name, tmp_path / "in", tmp_path / "out")
    assert _splits(tmp_path / "out") == {"0": "train", "1": "test"}


def test_a_list_wins_over_a_folder_and_says_so(tmp_path: Path) -> None:
    for name in ("1", "2"):
        samples.field(tmp_path / "in" / "train" / "LSIL" / f"{name}.png", size=(40, 40), seed=int(name))
    samples.text(tmp_path / "in" / "test.txt", "train/LSIL/2.png\n")
    report = run_import("folder", tmp_path / "in", tmp_path / "out")
    assert _splits(tmp_path / "out") == {"1": "train", "2": "test"}
    assert any("1 images lie in a folder of another split" in note for note in report.warnings)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("instances_val2017", "validation"), ("HSIL_test", "test"), ("Training-set", "train")]
    + [(name, None) for name in ("trainval", "train_test", "contest", "slides", "retrain", "tested")],
)
def test_names_that_say_a_split(name: str, split: str | None) -> None:
    assert split_named(name) == split
    assert split_in_path(Path("d") / name / "a.png", Path("d")) == split


def test_a_name_that_only_holds_the_word_is_no_folder_of_a_split() -> None:
    assert split_in_path(Path("d/obj_train_data/a.png"), Path("d")) is None  # where CVAT puts all images
    assert split_in_path(Path("d/test2/train/a.png"), Path("d")) == "train"
    assert split_in_path(Path("test/d/a.png"), Path("test/d")) is None


# Links


LINKED = ("cric_csv", "riva", "herlev", "sipakmed", "cervix93", "tianchi", "coco", "yolo", "voc", "geojson")


@pytest.mark.parametrize("sample", [*LINKED, "folder_per_class"])
@pytest.mark.parametrize("deep", [False, True], ids=["folder", "everything"])
def test_linked_folders_and_files_are_read(sample: str, deep: bool, tmp_path: Path) -> None:
    source = getattr(samples, sample)(tmp_path / "store")
    (source / "labels" / "T2.json").unlink(missing_ok=True)  # Tianchi's whose slide is damaged
    name = {"folder_per_class": "folder"}.get(sample, sample.split("_")[0])
    linked = tmp_path / "in"
    for path in sorted(source.rglob("*")) if deep else sorted(source.iterdir()):
        place = linked / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() or not deep:
            place.symlink_to(path)
    run_import(name, source, tmp_path / "plain")
    run_import(name, linked, tmp_path / "out")
    assert read_cells(tmp_path / "out" / "cells.csv") == read_cells(tmp_path / "plain" / "cells.csv")
    assert read_regions(tmp_path / "out") == read_regions(tmp_path / "plain")
    assert _splits(tmp_path / "out") == _splits(tmp_path / "plain")


def test_labels_behind_links_into_the_data_set(tmp_path: Path) -> None:
    source = samples.yolo(tmp_path / "in")
    shutil.move(source / "labels", source / "pool")
    (source / "labels").mkdir()
    for split in ("train", "val"):
        (source / "labels" / split).symlink_to(source / "pool" / split)
    report = run_import("yolo", source, tmp_path / "out")
    assert report.counts["cells"] == 3
    assert any("2 linked folders lead to folders of the data set" in note for note in report.warnings)


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", {"classes.txt": "HSIL\n"})
    (source / "more").symlink_to(tmp_path / "nowhere")
    report = run_import("yolo", source, tmp_path / "out")
    assert any("1 links lead nowhere, and what they stand for is not read, e.g. more" in n for n in report.warnings)
    (source / "images" / "d.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ManifestError, match=r"images/d\.png: the image d\.png does not exist"):
        run_import("yolo", source, tmp_path / "b")


def test_links_that_are_named_after_a_split(tmp_path: Path) -> None:
    source = tmp_path / "in"
    samples.field(source / "part1" / "LSIL" / "1.png", size=(40, 40))
    (source / "train").symlink_to(source / "part1")
    run_import("folder", source, tmp_path / "out")
    assert _splits(tmp_path / "out") == {"1": "train"}
    (source / "train").unlink()
    (source / "part1").rename(source / "val")
    (source / "train").symlink_to(source / "val")
    with pytest.raises(ManifestError, match="train: the link leads to val, which is of another split"):
        run_import("folder", source, tmp_path / "b")


def test_one_image_behind_several_links_is_one(tmp_path: Path) -> None:
    source = tmp_path / "in"
    samples.field(source / "all" / "LSIL" / "1.png", size=(40, 40))
    (source / "train" / "LSIL").mkdir(parents=True)
    (source / "train" / "LSIL" / "1.png").symlink_to(source / "all" / "LSIL" / "1.png")
    report = run_import("folder", source, tmp_path / "out")
    assert _splits(tmp_path / "out") == {"1": "train"}
    assert any("1 links lead to images that are there under another name" in note for note in report.warnings)
    (source / "test" / "LSIL").mkdir(parents=True)
    (source / "test" / "LSIL" / "1.png").symlink_to(source / "all" / "LSIL" / "1.png")
    with pytest.raises(ManifestError, match="are links to one image, in two splits"):
        run_import("folder", source, tmp_path / "b")


def test_an_image_without_a_label_file_is_not_empty(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", {"classes.txt": "HSIL\n", "labels/b.txt": ""})
    (source / "labels" / "c.txt").unlink()
    report = run_import("yolo", source, tmp_path / "out")
    assert set(read_regions(tmp_path / "out")) == {"a", "b"}
    assert any("1 images have no label file and count as unlabelled" in note for note in report.warnings)
    run_import("yolo", source, tmp_path / "b", complete=True)
    assert set(read_regions(tmp_path / "b")) == {"a", "b", "c"}
    shutil.rmtree(source / "labels")
    with pytest.raises(ManifestError, match="in holds no label file of any of its 3 images"):
        run_import("yolo", source, tmp_path / "c")


def test_folders_of_labels_in_another_case(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", {"Classes.TXT": "HSIL\n"}, "JPEGImages", "Labels")
    assert run_import("yolo", source, tmp_path / "out").counts["cells"] == 3


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for seed, name in enumerate(("a", "A")):
        samples.field(source / "images" / f"{name}.png", size=(40, 40), seed=seed)
        samples.text(source / "labels" / f"{name}.txt", f"{seed} 0.5 0.5 0.5 0.5\n")
    if len(list((source / "images").iterdir())) < 2:
        pytest.skip("this file system takes the two for one")
    samples.text(source / "classes.txt", "HSIL\nLSIL\n")
    run_import("yolo", source, tmp_path / "out")
    labels = {cell.slide_id: cell.label for cell in read_cells(tmp_path / "out" / "cells.csv")}
    assert labels == {"images--a.png": "HSIL", "images--A.png": "LSIL"}
    (source / "labels" / "A.txt").unlink()
    assert run_import("yolo", source, tmp_path / "b").counts["cells"] == 1  # A has no labels, not those of a
    (source / "images" / "A.png").unlink()
    (source / "labels" / "a.txt").rename(source / "labels" / "a.TXT")
    samples.text(source / "labels" / "A.Txt", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(ManifestError, match=r"labels/A\.Txt and labels/a\.TXT could both be the labels of a\.png"):
        run_import("yolo", source, tmp_path / "c")


def test_a_copied_voc_file_that_kept_the_name_of_another_image(tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", {})
    (source / "Annotations" / "a.xml").rename(source / "Annotations" / "b.xml")
    with pytest.raises(ManifestError, match=r"b\.xml: it names a\.png, but b\.png has the file's own name"):
        run_import("voc", source, tmp_path / "out")


def test_lists_of_a_data_set_of_which_only_the_annotations_are_named(tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", {"train": "a\nb\n", "val": "c\n"})
    for number, named in enumerate((source / "Annotations", source / "Annotations" / "a.xml")):
        run_import("voc", named, tmp_path / f"out{number}")
        splits = _splits(tmp_path / f"out{number}")
        assert splits == {name: EXPECTED[name] for name in splits}


def test_lists_that_are_tables(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for seed, name in enumerate("abc"):
        samples.field(source / "HSIL" / f"{name}.png", size=(40, 40), seed=seed)
    samples.text(source / "train.csv", "image_name,level_1\na.png,HSIL\nb.png,HSIL\n")
    samples.text(source / "val.csv", "level_1;image_name\nHSIL;HSIL/c.png\n")
    run_import("folder", source, tmp_path / "out")
    assert _splits(tmp_path / "out") == EXPECTED


def test_tables_of_labels_beside_folders_of_splits(tmp_path: Path) -> None:
    """Names that every class has say nothing new where the folders say the splits."""
    source = tmp_path / "in"
    for seed, place in enumerate(("train/HSIL", "train/NILM", "test/HSIL", "test/NILM")):
        samples.field(source / place / "a.png", size=(40, 40), seed=seed)
    samples.text(source / "train.csv", "image_name,label\na.png,HSIL\na.png,NILM\n")
    run_import("folder", source, tmp_path / "out")
    assert sorted(_splits(tmp_path / "out").values(), key=str) == ["test", "test", "train", "train"]


@pytest.mark.parametrize("layout", ["{split}/{label}", "{label}/{split}"])
def test_folders_of_splits_above_or_below_those_of_classes(layout: str, tmp_path: Path) -> None:
    for label in ("HSIL", "NILM"):
        for split in ("train", "val"):
            place = tmp_path / "in" / layout.format(split=split, label=label)
            samples.field(place / f"{label}_{split}.png", size=(40, 40))
    run_import("folder", tmp_path / "in", tmp_path / "out")
    cells = read_cells(tmp_path / "out" / "cells.csv")
    assert {(cell.slide_id, cell.raw_label) for cell in cells} == {
        (f"{label}_{split}", label) for label in ("HSIL", "NILM") for split in ("train", "val")
    }
    assert set(_splits(tmp_path / "out").values()) == {"train", "validation"}
    samples.field(tmp_path / "in" / "val" / "x.png", size=(40, 40))
    with pytest.raises(ManifestError, match=r"val/x\.png: the picture lies in no class's folder"):
        run_import("folder", tmp_path / "in", tmp_path / "b")


def test_a_table_without_annotations_can_be_left_out(tmp_path: Path) -> None:
    """As of a challenge's test set; what the other tables say stays complete."""
    source = samples.riva(tmp_path / "in")
    table = samples.text(source / "annotations" / "test.csv", "image_filename\nx.png\n")
    with pytest.raises(ManifestError, match=r"annotations/test\.csv: test\.csv has no column x"):
        run_import("riva", source, tmp_path / "out")
    run_import("riva", source, tmp_path / "out", skip=True)
    table.unlink()
    run_import("riva", source, tmp_path / "b")
    assert read_regions(tmp_path / "out") == read_regions(tmp_path / "b")
    assert read_regions(tmp_path / "b")


def test_masks_of_voc_have_the_names_of_its_images(tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", {"train": "a\nb\n", "val": "c\n", "test": "d\n"})
    for name in "abcd":
        for place in ("SegmentationClass", "SegmentationObject"):
            samples.field(source / place / f"{name}.tif", size=(40, 40))
    run_import("voc", source, tmp_path / "out")
    assert {key[-1]: split for key, split in _splits(tmp_path / "out").items()} == EXPECTED


def test_a_list_of_images_without_labels_is_no_lost_split(tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", {"train": "a\nb\n", "test": "c\n"})
    (source / "Annotations" / "c.xml").unlink()
    report = run_import("voc", source, tmp_path / "out")
    assert report.problems == {"note: split": 1}
    assert any("1 images are named by no annotation" in note for note in report.warnings)


def test_a_data_set_that_is_named_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _voc(tmp_path / "in", {"train": "a\nb\n", "val": "c\n"})
    for number, (place, named) in enumerate(
        ((source, "."), (source / "Annotations", "."), (source / "JPEGImages", ".."))
    ):
        monkeypatch.chdir(place)
        run_import("voc", Path(named), tmp_path / f"out{number}")
        assert _splits(tmp_path / f"out{number}") == EXPECTED


def test_splits_that_a_row_or_an_entry_states(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("a", "b"):
        samples.field(source / f"{name}.png", seed=len(name))
    header = "image,bethesda_system,nucleus_x,nucleus_y,Split\n"
    samples.text(source / "points.csv", header + "a.png,HSIL,50,60,train\nb.png,HSIL,50,60,val\n")
    run_import("cric", source, tmp_path / "cric")
    assert _splits(tmp_path / "cric") == {"a": "train", "b": "validation"}
    samples.text(
        source / "points.csv", header + "a.png,HSIL,50,60,train\na.png,HSIL,90,60,val\nb.png,HSIL,9,9,fold 3\n"
    )
    with pytest.raises(
        ManifestError, match=r"line 3: image 'a' is in another split too, .* line 4: unknown split 'fold 3'"
    ):
        run_import("cric", source, tmp_path / "b")
    images = [{"id": n, "file_name": f"{name}.png", "split": name} for n, name in enumerate(("train", "val"))]
    for image in images:
        samples.field(tmp_path / "coco" / str(image["file_name"]))
    cell = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [9, 9, 9, 9]}
    content = {"images": images, "annotations": [cell], "categories": [{"id": 1, "name": "HSIL"}]}
    path = samples.as_json(tmp_path / "coco" / "all.json", content)
    run_import("coco", tmp_path / "coco", tmp_path / "c")
    assert _splits(tmp_path / "c") == {"train": "train", "val": "validation"}
    path.rename(tmp_path / "coco" / "train.json")
    with pytest.raises(ManifestError, match="image 2: its split is 'validation' here, but its file is of 'train'"):
        run_import("coco", tmp_path / "coco", tmp_path / "d")


def test_masks_beside_the_pictures_are_no_cells(tmp_path: Path) -> None:
    source = samples.herlev(tmp_path / "in")
    (source / "light_dysplastic").rename(source / "LSIL")
    for other in ("normal_columnar", "severe_dysplastic"):
        shutil.rmtree(source / other)
    with pytest.raises(ManifestError, match=r"LSIL/153-001-d\.bmp: it looks like a mask of 153-001"):
        run_import("folder", source, tmp_path / "out")
    assert run_import("folder", source, tmp_path / "out", skip=True).counts["images"] == 1
