"""Phantom cohorts: complete, resumable, the same whatever the number of workers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stride_monai.bethesda import SLIDE_CLASSES, most_severe, slide_class_of
from stride_monai.data import datalists
from stride_monai.data.cells import read_cells
from stride_monai.data.manifest import read_manifest
from stride_monai.errors import ConfigError, ManifestError, OutputError
from stride_monai.phantom.cohorts import cohort as module
from stride_monai.phantom.cohorts import production
from stride_monai.phantom.cohorts.bags import BagSettings
from stride_monai.phantom.cohorts.cohort import make_bags, make_slides, truth_cells
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.phantom.cohorts.presets import POSITIVE_MIX

TINY = CohortDesign(classes=("NILM", "HSIL", "SCC"), diameter_mm=0.3, seed=3, mpp=0.5)
MAX_NEGATIVES = 30


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_slides(folder, TINY, max_negatives=MAX_NEGATIVES)
    return folder


def test_manifest_and_cells_agree_with_the_slides(cohort: Path) -> None:
    records = read_manifest(cohort / "manifest.csv")
    cells = read_cells(cohort / "cells.csv")
    assert [record.slide_class for record in records] == ["NILM", "HSIL", "HSIL"]
    assert len({record.patient for record in records}) == 3
    assert len({record.centre for record in records}) == 3
    for record in records:
        assert record.path.is_file()
        assert record.split in {"train", "validation", "test"}
        mine = [cell for cell in cells if cell.slide_id == record.slide_id]
        assert slide_class_of(most_severe([cell.label for cell in mine])) == record.slide_class
        assert 0 < sum(not cell.positive for cell in mine) <= MAX_NEGATIVES
        truth = truth_cells(cohort / "truth" / f"{record.slide_id}.geojson")
        assert {cell for cell in truth if cell.positive} == {cell for cell in mine if cell.positive}
        assert set(mine) <= set(truth)


def test_a_finished_cohort_is_kept_and_an_interrupted_one_completed(cohort: Path) -> None:
    before = contents(cohort)
    times = {p: p.stat().st_mtime_ns for p in (cohort / "slides").iterdir()}
    lost = cohort / "truth" / "phantom-0002.geojson"
    lost.unlink()
    (cohort / "manifest.csv").unlink()
    calls: list[float] = []
    make_slides(cohort, TINY, max_negatives=MAX_NEGATIVES, on_progress=calls.append)
    assert (calls[0], calls[-1]) == (2, 3)
    assert calls == sorted(calls)
    assert contents(cohort) == before
    changed = [path.stem for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == ["phantom-0002"]


@pytest.mark.slow
def test_workers_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    make_slides(tmp_path, TINY, workers=2, max_negatives=MAX_NEGATIVES)
    assert contents(tmp_path) == contents(cohort)


def test_other_arguments_need_overwrite(cohort: Path, tmp_path: Path) -> None:
    one = replace(TINY, classes=("NILM",))
    make_slides(tmp_path, one)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="other arguments"):
        make_slides(tmp_path, replace(one, seed=4))
    assert contents(tmp_path) == before
    make_slides(tmp_path, replace(one, seed=4), overwrite=True)
    assert contents(tmp_path) != before


def test_a_number_of_slides_is_mixed_by_prevalence() -> None:
    labels = [case.label for case in CohortDesign(classes=100, seed=7).cases()]
    counts = Counter(labels)
    assert counts["NILM"] == 79
    assert set(counts) == set(SLIDE_CLASSES)
    for label, share in POSITIVE_MIX.items():
        assert abs(counts[label] - 21 * share) <= 1
    assert labels == [case.label for case in CohortDesign(classes=100, seed=7).cases()]
    assert labels != [case.label for case in CohortDesign(classes=100, seed=8).cases()]


def test_wrong_arguments_render_nothing(tmp_path: Path) -> None:
    for error, arguments in (
        (ConfigError, {"classes": 0}),
        (ConfigError, {"classes": ()}),
        (ManifestError, {"classes": ("CIN2",)}),
        (ConfigError, {"classes": 3, "prevalence": 2.0}),
        (ConfigError, {"classes": 3, "diameter_mm": 0.0}),
        (ConfigError, {"classes": 3, "centres": ("moon",)}),
        (ConfigError, {"classes": 3, "artefacts": ("coffee",)}),
        (ManifestError, {"classes": 3, "held_out_centres": ("moon",)}),
    ):
        with pytest.raises(error) as caught:
            make_slides(tmp_path / "c", replace(TINY, **arguments))
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="0 workers"):
        make_slides(tmp_path / "c", TINY, workers=0)
    assert not (tmp_path / "c").exists()


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(production, "free_bytes", lambda folder: 3e9)
    with pytest.raises(OutputError, match=r"20 slides need about 14.6 GB, the disk has 3 GB left"):
        make_slides(tmp_path / "c", CohortDesign(classes=20, diameter_mm=13.0))
    with pytest.raises(OutputError, match="GB"):
        make_bags(tmp_path / "c", CohortDesign(classes=2000), BagSettings(256, 224))
    assert not (tmp_path / "c").exists()
    assert production.free_bytes(tmp_path / "not" / "there") == 3e9


def test_free_space_is_that_of_the_disk_the_folder_will_be_on(tmp_path: Path) -> None:
    assert 0 < production.free_bytes(tmp_path / "not" / "there") < 1e16


def test_slides_are_no_larger_than_estimated(cohort: Path) -> None:
    for case in CohortDesign(classes=("NILM", "HSIL", "SCC"), diameter_mm=0.3, seed=3, mpp=0.5).cases():
        size = (cohort / "slides" / f"{case.slide_id}.tiff").stat().st_size
        assert 0 < size < module._slide_bytes(case)


def test_reporting_noise_reaches_manifest_and_cells_but_not_the_truth(tmp_path: Path) -> None:
    design = CohortDesign(
        classes=("HSIL", "LSIL", "NILM", "ASC-US", "NILM"), label_noise=0.6, inadequate=0.2, diameter_mm=0.3, mpp=0.5,
        seed=8, test_fraction=0.0, validation_fraction=0.0,
    )  # fmt: skip
    make_slides(tmp_path, design)
    records = {record.slide_id: record for record in read_manifest(tmp_path / "manifest.csv")}
    with (tmp_path / "truth.csv").open() as stream:
        truth = {row["slide_id"]: row for row in csv.DictReader(stream)}
    assert list(truth) == list(records)
    assert [row["true_class"] for row in truth.values()] == ["HSIL", "LSIL", "NILM", "ASC-US", "NILM"]
    assert sum(row["true_class"] != records[name].slide_class for name, row in truth.items()) == 3
    assert sum(row["inadequacy"] != "" for row in truth.values()) == 1
    cells = read_cells(tmp_path / "cells.csv")
    for name, row in truth.items():
        assert row["reported_class"] == records[name].slide_class
        document = json.loads((tmp_path / "truth" / f"{name}.geojson").read_text())["slide"]
        assert slide_class_of(document["label"]) == row["true_class"]
        assert document["parameters"]["reported_class"] == row["reported_class"]
        assert document["parameters"]["adequate"] == (row["inadequacy"] == "")
        lesions = [cell for cell in cells if cell.slide_id == name and cell.positive]
        assert bool(lesions) == (row["true_class"] != "NILM" and row["reported_class"] != "NILM")
    # The tables go together: no cell contradicts its slide's class.
    assert len(datalists.cell_crops(tmp_path, "train")) == len(cells)


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.geojson").write_text("{}")
    with pytest.raises(ManifestError, match=r"x\.geojson"):
        truth_cells(tmp_path / "x.geojson")
