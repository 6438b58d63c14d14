"""Every format as it is laid out: the boxes, labels, splits and regions that come of it."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dataset_samples as samples
import pytest
from PIL import Image

from stride_monai.bethesda import ABNORMAL, UNLABELED
from stride_monai.data import CellRecord, SlideRecord, read_cells, read_manifest
from stride_monai.data.cells import read_regions
from stride_monai.data.importers import ImportOptions, ImportReport, import_dataset, load_format
from stride_monai.data.splits import split_cohort
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.units import Box

MPP = 0.25


class Imported:
    """A cohort folder that was just imported."""

    def __init__(self, folder: Path, report: ImportReport) -> None:
        self.report = report
        self.slides: dict[str, SlideRecord] = {s.slide_id: s for s in read_manifest(folder / "manifest.csv")}
        self.cells: list[CellRecord] = read_cells(folder / "cells.csv")
        self.regions = read_regions(folder)
        self.facts = json.loads((folder / "import.json").read_text())
        self.folder = folder

    def of(self, slide_id: str) -> list[CellRecord]:
        return [cell for cell in self.cells if cell.slide_id == slide_id]


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Imported]:
    def run(name: str, source: Path, skip: bool = False, mpp: float | None = MPP, **options: object) -> Imported:
        report = import_dataset(
            source, tmp_path / "out", load_format(name), ImportOptions(mpp=mpp, **options), skip_broken=skip
        )
        return Imported(tmp_path / "out", report)

    return run


def test_cric_csv_points_are_pixels_from_one_and_get_a_box_in_um(
    imported: Callable[..., Imported], tmp_path: Path
) -> None:
    result = imported("cric", samples.cric_csv(tmp_path / "cric"), mpp=None)
    assert set(result.slides) == {"aa", "bb"}
    assert result.slides["aa"].mpp == 0.228
    assert result.slides["aa"].path == tmp_path / "cric" / "images" / "aa.png"
    assert [cell.label for cell in result.cells] == ["NILM", "ASC-US", "HSIL"]
    assert [cell.cell_id for cell in result.cells] == ["11", "12", "13"]
    first, _, corner = result.cells
    assert first.box.center == (49.5, 59.5)
    assert first.box.width == pytest.approx(22.8 / 0.228)
    assert corner.box.center == (0.5, 199.5)  # a point at the border keeps its box and its centre
    assert first.raw_label == "Negative for intraepithelial lesion"
    assert not result.regions
    assert any("unlabelled, not as negative" in warning for warning in result.report.warnings)
    assert any("patient of 2 of 2 images is not known" in warning for warning in result.report.warnings)
    assert result.facts["license"] == "CC BY 4.0"


def test_cric_json_keeps_images_without_cells(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("cric", samples.cric_json(tmp_path / "cric"), point_um=10.0)
    assert set(result.slides) == {"aa", "bb"}
    (cell,) = result.cells
    assert (cell.label, cell.cell_class, cell.cell_id) == ("SCC", "ASC-H/HSIL", "11")
    assert cell.box == Box.around(49.5, 59.5, 40)
    assert result.facts["counts"]["images_without_cells"] == 1


def test_riva_boxes_are_given_by_their_centres(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("riva", samples.riva(tmp_path / "riva"))
    assert {name: slide.split for name, slide in result.slides.items()} == {
        "LSIL_45_3": "train",
        "ENDO_1_1": "train",
        "HSIL_2_1": "validation",
    }
    cells = result.of("LSIL_45_3")
    assert cells[0].box == Box(50.5, 40.25, 150.5, 140.25)
    assert cells[1].box == Box(-45, 145, 55, 245)
    assert [cell.label for cell in cells] == ["LSIL", "ASC-US"]
    (endo,) = result.of("ENDO_1_1")
    assert (endo.label, endo.subtype, endo.raw_label) == ("NILM", "endocervical", "ENDO")
    assert result.regions["HSIL_2_1"] == [Box(0, 0, samples.SIDE, samples.SIDE)]


def test_riva_of_the_detection_track_has_no_class(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "riva")
    table = source / "annotations" / "val.csv"
    table.write_text(table.read_text().replace("HSIL,5", "CELL,0"))
    with pytest.raises(ManifestError, match=r"'CELL' \(1\)"):
        imported("riva", source)


def test_herlev_cells_are_those_of_their_masks(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("herlev", samples.herlev(tmp_path / "herlev"), mpp=None)
    assert {slide.mpp for slide in result.slides.values()} == {0.201}
    by_label = {cell.raw_label: cell for cell in result.cells}
    assert set(result.slides) == {"normal_columnar--153-001", "light_dysplastic--153-001", "9"}
    columnar, light, severe = (by_label[n] for n in ("normal_columnar", "light_dysplastic", "severe_dysplastic"))
    assert (columnar.label, columnar.subtype, columnar.lossy) == ("NILM", "columnar", False)
    assert (light.label, light.lossy) == ("LSIL", True)
    assert severe.label == "HSIL"
    assert columnar.box == Box(20, 10, 70, 50)
    assert _bounds(columnar.outline) == pytest.approx((20, 10, 70, 50), abs=0.5)
    assert _bounds(columnar.nucleus) == pytest.approx((30, 20, 50, 36), abs=0.5)
    assert severe.box == Box(0, 0, 80, 60)
    assert result.report.problems == {"note: mask": 1}
    assert not result.regions


def _bounds(polygon: tuple[tuple[float, float], ...]) -> tuple[float, float, float, float]:
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def test_herlev_with_a_broken_mask_is_refused_by_name(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.herlev(tmp_path / "herlev")
    Image.new("RGB", (10, 10), (0, 0, 255)).save(source / "normal_columnar" / "153-001-d.bmp")
    with pytest.raises(ManifestError, match=r"normal_columnar/153-001-d\.bmp: the mask is 10x10 px"):
        imported("herlev", source)


def test_sipakmed_fields(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("sipakmed", samples.sipakmed(tmp_path / "sipakmed"))
    assert set(result.slides) == {"Koilocytotic-001", "Dyskeratotic-001"}
    (cell,) = result.of("Koilocytotic-001")
    assert cell.box == Box(10.5, 20, 60, 70)
    assert cell.outline[1] == (60, 20.25)
    assert len(cell.nucleus) == 4
    assert (cell.label, cell.subtype) == ("LSIL", "koilocytotic")
    (other,) = result.of("Dyskeratotic-001")
    assert (other.label, other.lossy, other.cell_class, other.positive) == (ABNORMAL, True, None, True)
    assert result.slides["Koilocytotic-001"].specimen is None


def test_sipakmed_cut_out_cells_belong_to_their_field(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("sipakmed", samples.sipakmed(tmp_path / "sipakmed"), values={"part": "cropped"})
    assert set(result.slides) == {"Koilocytotic-001_01", "Dyskeratotic-001_01"}
    assert result.slides["Koilocytotic-001_01"].specimen == "Koilocytotic-001"
    assert result.of("Koilocytotic-001_01")[0].box == Box(1, 1, 49, 49)
    assert result.facts["unit"] == "cell"


def test_mendeley_lbc_fields_have_a_class_and_a_group(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("mendeley_lbc", samples.mendeley_lbc(tmp_path / "lbc"))
    assert len(result.slides) == 20
    assert not result.cells, "no cell is labelled"
    assert {name: (s.slide_class, s.specimen) for name, s in result.slides.items() if name[-1] in {"1", ")", "7"}} == {
        **{f"nl_{group}_001": ("NILM", f"nl_{group}") for group in (1, 3, 11)},
        **{f"hsil_{group}_001": ("HSIL", f"hsil_{group}") for group in (1, 2, 3)},
        **{f"scc_{group}_001": ("HSIL", f"scc_{group}") for group in (1, 2, 3)},  # slides know no SCC
        "LSIL_2 (1)": ("LSIL", "lsil_2"),
        "7": ("LSIL", None),
    }
    assert (result.facts["unit"], result.report.license) == ("field", "CC BY 4.0")
    assert "1 names begin with no letters and number: these fields are in no group" in result.report.warnings
    assert not any("--complete" in warning for warning in result.report.warnings), "there are no marks"
    listing = (result.folder / "problems.csv").read_text()
    assert "valid.png" in listing
    assert result.report.problems == {"note: label": 1}

    facts = split_cohort(result.folder)
    split_of: dict[str, set[str | None]] = {}
    for slide in read_manifest(result.folder / "manifest.csv"):
        split_of.setdefault(slide.specimen or slide.slide_id, set()).add(slide.split)
    assert {len(splits) for splits in split_of.values()} == {1}, "a group stays together"
    assert facts["groups"] == {"patients": 0, "specimens": 10, "single images": 1}


def test_fields_in_a_folder_per_class(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.mendeley_lbc(tmp_path / "lbc")
    (source / "NL").rename(source / "NILM")
    result = imported("folder", source, values={"pictures": "fields"})
    assert {slide.slide_class for slide in result.slides.values()} == {"NILM", "LSIL", "HSIL"}
    assert not result.cells
    with pytest.raises(ConfigError, match="cells, fields"):
        import_dataset(source, tmp_path, load_format("folder"), ImportOptions(mpp=MPP, values={"pictures": "slides"}))


def test_comparison_detector_as_coco(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("coco", samples.comparison_detector(tmp_path / "cd"))
    assert Counter(slide.split for slide in result.slides.values()) == {"train": 6, "test": 2}
    by_label = {cell.raw_label: (cell.label, cell.subtype) for cell in result.cells}
    assert len(by_label) == 11
    assert (by_label["ascus"], by_label["herps"], by_label["agc"]) == (
        ("ASC-US", ""),
        ("NILM", "Herpes simplex"),
        ("AGC", ""),
    )
    assert len(result.regions) == 8, "detection data are annotated completely"
    facts = split_cohort(result.folder, validation_fraction=0.34, keep_test=True)
    assert facts["images"] == {"train": 4, "validation": 2, "test": 2}


@pytest.mark.parametrize("order", ["yx", "xy"])
def test_cervix93_finds_which_column_is_x(imported: Callable[..., Imported], tmp_path: Path, order: str) -> None:
    result = imported("cervix93", samples.cervix93(tmp_path / "c", order))
    assert any(f"columns of the points are {order}:" in warning for warning in result.report.warnings)
    assert {name: (slide.slide_class, slide.split) for name, slide in result.slides.items()} == {
        "frame000": ("HSIL", "train"),
        "frame001": ("LSIL", "test"),
        "frame002": ("NILM", "train"),
    }
    assert {cell.label for cell in result.of("frame000")} == {UNLABELED}
    assert {cell.label for cell in result.of("frame002")} == {"NILM"}
    for name in result.slides:
        with Image.open(result.slides[name].path) as image:
            for cell in result.of(name):
                x, y = cell.box.center
                assert image.getpixel((int(x), int(y))) == pytest.approx(samples.NUCLEUS, abs=12)


def test_cervix93_asks_where_the_images_do_not_tell(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.cervix93(tmp_path / "c")
    for number in range(3):
        samples.field(source / "dataset" / "EDF" / f"frame{number:03}.png", size=(300, 300))
    with pytest.raises(ConfigError, match="say --option columns=xy or columns=yx"):
        imported("cervix93", source)
    result = imported("cervix93", source, values={"columns": "xy"})
    assert any("are xy, as stated" in warning for warning in result.report.warnings)


def test_tianchi_outside_a_roi_nothing_is_known(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.tianchi(tmp_path / "t")
    with pytest.raises(ManifestError, match=r"T2\.kfb"):
        imported("tianchi", source)
    result = imported("tianchi", source, skip=True)
    assert set(result.slides) == {"T1", "N1"}
    assert result.slides["N1"].slide_class == "NILM"
    assert result.slides["T1"].slide_class is None
    assert result.regions == {"T1": [Box(20, 20, 180, 170), Box(220, 100, 370, 250)]}
    assert [(cell.label, cell.subtype) for cell in result.of("T1")] == [
        ("HSIL", ""),
        ("NILM", "Candida"),
        (ABNORMAL, ""),
    ]
    assert result.of("T1")[0].box == Box(45, 45, 75, 75)
    with (result.folder / "problems.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["line"], row["left_out"]) for row in rows] == [
        ("labels/T1.json", "entry 5", ""),  # a lesion outside every roi
        ("labels/T2.json", "", "yes"),
    ]


def test_tianchi_slides_converted_at_another_scale(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.tianchi(tmp_path / "t")
    (source / "labels" / "T2.json").unlink()
    samples.field(source / "pos" / "T1.png", [(120, 120)], size=(800, 600))
    result = imported("tianchi", source, values={"scale": "2"})
    assert result.of("T1")[0].box == Box(90, 90, 150, 150)
    assert result.regions["T1"][0] == Box(40, 40, 360, 340)


def test_coco(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("coco", samples.coco(tmp_path / "coco"))
    assert {slide.split for slide in result.slides.values()} == {"train"}
    first, second = result.of("a")
    assert (first.label, first.box, first.cell_id) == ("ASC-US", Box(32, 42, 68, 78), "1")
    assert (second.label, second.subtype, second.box) == ("NILM", "Herpes simplex", Box(10, 10, 30, 40))
    assert second.outline == ((10, 10), (30, 10.5), (30, 40))
    (third,) = result.of("b")
    assert third.box == Box(40, 50, 60.5, 70)
    assert result.report.problems == {"note: crowd": 1}
    # A crowd says that there are cells which nobody drew one by one.
    assert set(result.regions) == {"a"}


def test_coco_from_the_file_alone(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.coco(tmp_path / "coco")
    result = imported("coco", source / "annotations" / "instances_train2017.json")
    assert len(result.cells) == 3


def test_yolo(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("yolo", samples.yolo(tmp_path / "yolo"))
    assert {name: slide.split for name, slide in result.slides.items()} == {
        "a": "train",
        "empty": "train",
        "b": "validation",
    }
    box, polygon = result.of("a")
    assert box.box == pytest.approx((32, 42, 68, 78))
    assert polygon.box == pytest.approx((20, 10, 40, 30))
    assert [round(x) for corner in polygon.outline for x in corner] == [20, 10, 40, 10, 40, 30]
    assert (box.label, polygon.label) == ("LSIL", "NILM")
    assert result.of("b")[0].box == pytest.approx((0, 0, 200, 100))
    # A file that is not there says nothing; an empty one says that there is no cell.
    assert set(result.regions) == {"a", "b"}
    assert any("1 images have no label file" in warning for warning in result.report.warnings)


def test_yolo_names_in_a_text_file_and_labels_beside_the_images(
    imported: Callable[..., Imported], tmp_path: Path
) -> None:
    samples.field(tmp_path / "y" / "a.png", [(50, 60)])
    samples.text(tmp_path / "y" / "a.txt", "1 0.5 0.5 0.2 0.2\n")
    samples.text(tmp_path / "y" / "classes.txt", "NILM\nASC-H\n")
    assert [cell.label for cell in imported("yolo", tmp_path / "y").cells] == ["ASC-H"]


def test_voc_counts_pixels_from_one(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.voc(tmp_path / "voc")
    result = imported("voc", source)
    (cell,) = result.cells
    assert cell.box == Box(0, 42, 68, samples.SIDE)
    assert cell.label == "HSIL"
    assert result.slides["a"].split == "validation"


def test_voc_of_edges_counted_from_zero(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("voc", samples.voc(tmp_path / "voc"), values={"origin": "0"})
    assert result.cells[0].box == Box(1, 43, 68, samples.SIDE)


def test_a_folder_per_class(imported: Callable[..., Imported], tmp_path: Path) -> None:
    result = imported("folder", samples.folder_per_class(tmp_path / "f"))
    assert Counter((slide.split, result.of(name)[0].label) for name, slide in result.slides.items()) == {
        ("train", "NILM"): 2,
        ("train", "HSIL"): 2,
        ("test", "HSIL"): 2,
    }
    assert {cell.box for cell in result.cells} == {Box(0, 0, 40, 40)}
    assert result.facts["unit"] == "cell"
    assert "test--HSIL--1" in result.slides


def test_qupath(imported: Callable[..., Imported], tmp_path: Path) -> None:
    source = samples.geojson(tmp_path / "g")
    result = imported("geojson", source)
    assert set(result.slides) == {"slide 1"}
    assert result.regions == {"slide 1": [Box(20, 20, 180, 180)]}
    cell, first, second, ignored = result.cells
    assert (cell.label, cell.box, cell.cell_id) == ("LSIL", Box(40, 40, 80, 80), "u-1")
    assert len(cell.outline) == 4
    assert len(cell.nucleus) == 3
    assert [c.cell_id for c in (first, second)] == ["u-2-0", "u-2-1"]
    assert first.box.center == (120, 130)
    assert first.box.width == pytest.approx(22.8 / MPP)
    assert ignored.label == UNLABELED


def test_qupath_compressed_with_a_region_that_is_no_rectangle(
    imported: Callable[..., Imported], tmp_path: Path
) -> None:
    source = samples.geojson(tmp_path / "g")
    plain = source / "slide 1.png.geojson"
    text = plain.read_text().replace("[180, 180]", "[100, 100]")
    plain.unlink()
    (source / "slide 1.geojson.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ManifestError, match=r"slide 1\.geojson\.gz feature 1: the region is no rectangle"):
        imported("geojson", source)
    assert not imported("geojson", source, skip=True).regions


@pytest.mark.realdata
def test_the_real_cric_fields(real_data: Path, imported: Callable[..., Imported]) -> None:
    result = imported("cric", real_data / "cric", mpp=None)
    assert len(result.slides) == 10
    assert Counter(cell.label for cell in result.cells) == {"NILM": 181, "LSIL": 35, "ASC-H": 15, "ASC-US": 11}
    assert result.report.problems == {}
    assert all(0 <= cell.box.center[0] < 1388 and 0 <= cell.box.center[1] < 1040 for cell in result.cells)
