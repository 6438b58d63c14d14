"""Cohorts of bags without slides: the same whatever the workers, taken up after a kill, ready for the slide heads."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import processes
import pytest

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.data import datalists
from stride_monai.data.bags.bag import BagFile
from stride_monai.data.manifest import read_manifest
from stride_monai.errors import OutputError
from stride_monai.files import replacing
from stride_monai.phantom.cohorts import production
from stride_monai.phantom.cohorts.bags import BagSettings
from stride_monai.phantom.cohorts.cohort import make_bags, make_slides
from stride_monai.phantom.cohorts.design import CohortDesign, design_of
from stride_monai.slides import open_slide
from stride_monai.units import Box

SMALL = BagSettings(top_k=12, crop_px=32)
DESIGN = design_of("internal", classes=6, diameter_mm=0.4, seed=2, prevalence=0.5)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    make_bags(folder, DESIGN, SMALL)
    return folder


def test_the_slide_heads_lists_take_it_as_it_is(cohort: Path) -> None:
    found = []
    for split in ("train", "validation", "test"):
        items = datalists.slide_bags(cohort / "bags", cohort, split)
        assert items
        found += items
    cases = {case.slide_id: case for case in DESIGN.cases()}
    assert {item["slide_id"] for item in found} == set(cases)
    for item in found:
        bag, case = BagFile(item["bag"]), cases[item["slide_id"]]
        assert SLIDE_CLASSES[item["label"]] == case.reported == bag.header.slide_class
        assert (len(bag), bag.header.top_k, bag.header.crop_px, bag.header.crop_mpp) == (12, 12, 32, 0.5)
        assert bag.header.slide_mpp == case.arguments["mpp"]
        classes = {bag.cell_class(row) for row in range(len(bag))}
        assert (classes == {"NILM"}) == (case.slide_class == "NILM")
        assert bag.images(range(12)).std() > 3
    assert all(record.path.is_file() for record in read_manifest(cohort / "manifest.csv"))
    assert not (cohort / "slides").exists()


def test_workers_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    parts: list[float] = []
    make_bags(tmp_path, DESIGN, SMALL, workers=2, on_progress=parts.append)
    assert contents(tmp_path) == contents(cohort)
    assert parts == sorted(parts)
    assert parts[-1] <= 6


def test_bags_show_the_slides_that_the_same_design_renders(cohort: Path, tmp_path: Path) -> None:
    make_slides(tmp_path, DESIGN)
    slides = {record.slide_id: record for record in read_manifest(tmp_path / "manifest.csv")}
    for record in read_manifest(cohort / "manifest.csv"):
        twin = slides[record.slide_id]
        assert (twin.patient, twin.centre, twin.slide_class, twin.split) == (
            record.patient,
            record.centre,
            record.slide_class,
            record.split,
        )
        bag = BagFile(record.path)
        with open_slide(twin.path) as slide:
            for row in range(0, 12, 5):
                crop = slide.read(Box.around(*bag.centres[row], 16 / slide.mpp), mpp=0.5).astype(int)
                assert np.abs(crop - bag.image(row)).mean() < 5


def test_an_interrupted_run_is_completed_from_what_is_whole(cohort: Path, tmp_path: Path) -> None:
    make_bags(tmp_path, DESIGN, SMALL)
    (tmp_path / "manifest.csv").unlink()
    bags = sorted((tmp_path / "bags").iterdir())
    bags[0].unlink()
    bags[1].write_bytes(bags[1].read_bytes()[:700])
    dead = subprocess.Popen(["true"])
    dead.wait()
    with replacing(tmp_path / "bags" / bags[0].name) as temporary:
        left = temporary.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    bags[0].unlink()
    (tmp_path / "bags" / left).write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in bags[2:]}
    calls: list[float] = []
    make_bags(tmp_path, DESIGN, SMALL, on_progress=calls.append)
    assert calls == [4, 5, 6]
    assert contents(tmp_path) == contents(cohort)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_written_and_goes_on(tmp_path: Path) -> None:
    command = ["phantom", "--out", tmp_path, "--slides", 8, "--prevalence", 0.5, "--diameter", 0.5, "--bags-only"]
    command += ["--top-k", 24, "--crop-px", 64]
    process = processes.start("stride_monai", command)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("bags/*.bag.arrow")) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.join()
    done = sorted(tmp_path.glob("bags/*.bag.arrow"))
    assert 0 < len(done) < 8
    assert all(len(BagFile(path)) == 24 for path in done)
    assert not (tmp_path / "manifest.csv").exists()
    times = {path: path.stat().st_mtime_ns for path in done}
    assert processes.run("stride_monai", command).returncode == 0
    assert len(datalists.slide_bags(tmp_path / "bags", tmp_path)) == 8
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list(tmp_path.glob("bags/.*"))


def test_other_arguments_need_overwrite_and_then_nothing_of_the_old_stays(tmp_path: Path) -> None:
    make_bags(tmp_path, DESIGN, SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "bags" / "other.bag.arrow").write_text("mine")
    before = contents(tmp_path)
    other = design_of("internal", classes=3, diameter_mm=0.4, seed=2, prevalence=0.5)
    for design, settings in ((other, SMALL), (DESIGN, BagSettings(top_k=13, crop_px=32))):
        with pytest.raises(OutputError, match="other arguments"):
            make_bags(tmp_path, design, settings)
    with pytest.raises(OutputError, match="other arguments"):
        make_slides(tmp_path, DESIGN)
    assert contents(tmp_path) == before
    make_bags(tmp_path, other, SMALL, overwrite=True)
    left = contents(tmp_path)
    assert sum(name.startswith("bags/internal") for name in left) == 3
    assert left["notes.txt"] == left["bags/other.bag.arrow"] == b"mine"
    assert len(read_manifest(tmp_path / "manifest.csv")) == 3


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["manifest.csv", "truth.csv", "cohort.json", "files.json", "bags/internal-0001.bag.arrow", "cells.csv"]
)
def test_what_is_not_of_a_cohort_is_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    """Refused by name before anything is made."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("ARROW1 mine\n")
    with pytest.raises(OutputError, match=path.name):
        make_bags(tmp_path, DESIGN, SMALL, overwrite=overwrite)
    assert contents(tmp_path) == {name: b"ARROW1 mine\n"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["slides/phantom-0001.tiff", "truth/phantom-0001.geojson"])
def test_slides_and_truths_of_others_are_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text('{"type": "FeatureCollection", "features": []}')
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=path.name):
        make_slides(tmp_path, CohortDesign(classes=("NILM",), diameter_mm=0.2), overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_table_that_somebody_changed_is_not_replaced(cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "c")
    path = tmp_path / "c" / "manifest.csv"
    mine = path.read_text().replace("train", "test")
    path.write_text(mine)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"manifest\.csv, not written by stride-monai or changed since"):
            make_bags(tmp_path / "c", DESIGN, SMALL, overwrite=overwrite)
    assert path.read_text() == mine


def test_a_bag_is_no_larger_than_estimated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[float] = []
    monkeypatch.setattr(production, "check_room", lambda folder, jobs, size: said.append(size))
    make_bags(tmp_path, CohortDesign(classes=("NILM",), diameter_mm=0.6), BagSettings(top_k=64, crop_px=96))
    assert 0.5 * said[0] < (tmp_path / "bags" / "phantom-0001.bag.arrow").stat().st_size < said[0]


def test_the_command_makes_named_cohorts(tmp_path: Path) -> None:
    command = ["phantom", "--out", tmp_path / "c", "--cohort", "external", "--slides", 3, "--prevalence", 0.7]
    command += ["--diameter", 0.3, "--bags-only", "--top-k", 6, "--crop-px", 32, "--label-noise", 0.34]
    done = processes.run("stride_monai", command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "manifest" in done.stdout
    records = read_manifest(tmp_path / "c" / "manifest.csv")
    assert [record.slide_id for record in records] == [f"external-000{n}" for n in (1, 2, 3)]
    assert {record.split for record in records} == {"test"}
    cases = design_of("external", classes=3, prevalence=0.7, diameter_mm=0.3, label_noise=0.34).cases()
    assert [record.slide_class for record in records] == [case.reported for case in cases]
    assert [len(BagFile(record.path)) for record in records] == [6, 6, 6]
