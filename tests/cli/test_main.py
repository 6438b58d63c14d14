"""The program as a user meets it: real weights, real processes, bad inputs."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.bags.bag import BagCell, BagHeader, encode_crop, write_bag
from stride_monai.data.cells import read_cells
from stride_monai.findings import Findings
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.units import Box


def stride(*arguments: object) -> subprocess.CompletedProcess[str]:
    return processes.run("stride_monai", arguments)


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="") as stream:
        return {row["slide_id"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A negative and an HSIL slide, 0.8 mm across."""
    folder = tmp_path_factory.mktemp("cohort")
    make_slides(folder, CohortDesign(classes=("NILM", "HSIL"), diameter_mm=0.8, seed=11))
    return folder


@pytest.mark.slow
def test_a_rendered_slide_is_screened_and_agrees_with_the_truth(cohort: Path, tmp_path: Path) -> None:
    done = stride("screen", cohort / "slides", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Research use only" in done.stdout
    rows = summary(tmp_path)
    assert len(rows) == 2
    truth = read_cells(cohort / "cells.csv")
    for slide_id in rows:
        folder = tmp_path / slide_id
        assert {p.name for p in folder.iterdir()} == {
            "files.json",
            "findings.json",
            "cells.parquet",
            "overlay.geojson.gz",
            "report.html",
        }
        findings = Findings.from_json((folder / "findings.json").read_text())
        assert findings.slide.mpp == pytest.approx(0.25, rel=0.01)
        table = pq.read_table(folder / "cells.parquet")
        assert table.num_rows == len(findings.cells)
        assert {f"p_{name}" for name in CELL_CLASSES} <= set(table.column_names)
        features = json.loads(gzip.decompress((folder / "overlay.geojson.gz").read_bytes()))["features"]
        assert len(features) == len(findings.cells)
        positives = [c for c in truth if c.slide_id == slide_id and c.cell_class != "NILM"]
        boxes = np.array([cell.box for cell in findings.cells]).reshape(-1, 4)
        seen = [_seen((c.x0 + c.x1) / 2, (c.y0 + c.y1) / 2, boxes) for c in positives]
        if positives:
            assert np.mean(seen) >= 0.8
    scores = {slide_id: float(row["score"]) for slide_id, row in rows.items()}
    negative = next(s for s in scores if not any(c.slide_id == s and c.cell_class != "NILM" for c in truth))
    assert scores[negative] == min(scores.values())


def test_a_bag_file_that_is_named_is_screened_in_the_place_of_its_slide(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), dtype=np.uint8)
    cells = [BagCell(1 - k / 9, Box(k, k, k + 9, k + 9), encode_crop(crop)) for k, crop in enumerate(crops)]
    write_bag(tmp_path / "x.bag.arrow", BagHeader("x", 0.25, 0.5, 224, 256), cells)
    (tmp_path / "bad.bag.arrow").write_bytes(b"ARROW1")
    bags = [tmp_path / "x.bag.arrow", tmp_path / "bad.bag.arrow"]
    done = stride("screen", *bags, "--out", tmp_path / "out", "--detector", "fcos", "--writers", "findings,report")
    assert done.returncode == 1, done.stderr
    rows = summary(tmp_path / "out")
    assert {slide_id: row["status"] for slide_id, row in rows.items()} == {"x": "ok", "bad": "failed"}
    assert rows["bad"]["reason"].startswith("bad.bag.arrow")
    findings = Findings.from_json((tmp_path / "out" / "x" / "findings.json").read_text())
    assert (len(findings.cells), findings.slide.mpp_source) == (3, "bag")
    assert (tmp_path / "out" / "x" / "report.html").read_text().count('alt="Cell ') == 3


def _seen(x: float, y: float, boxes: np.ndarray) -> bool:
    return bool(((boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])).any())


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_and_a_second_run_resumes(cohort: Path, tmp_path: Path) -> None:
    slide = sorted((cohort / "slides").iterdir())[0]
    assert stride("screen", slide, "--out", tmp_path / "a").returncode == 0
    other = [sys.executable, "-m", "stride_monai", "screen", str(slide), "--out", str(tmp_path / "b")]
    assert subprocess.run(other, check=False).returncode == 0, "a process with nothing in common with the first"
    for name in ("findings.json", "cells.parquet", "overlay.geojson.gz", "report.html"):
        first, second = ((tmp_path / out / slide.stem / name).read_bytes() for out in ("a", "b"))
        assert first == second, name
    again = stride("screen", slide, "--out", tmp_path / "a")
    assert again.returncode == 0
    assert [row["resumed"] for row in summary(tmp_path / "a").values()] == ["True"]


@pytest.mark.slow
def test_a_run_killed_outright_is_taken_up_by_the_same_command(cohort: Path, tmp_path: Path) -> None:
    arguments = ["screen", cohort / "slides", "--out", tmp_path]
    process = processes.start("stride_monai", arguments)
    while process.is_alive() and _rows(tmp_path) < 1:
        time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode != 0, "it finished before it could be killed"
    assert json.loads((tmp_path / "run.json").read_text())["run"]["finished"] is False
    done = stride(*arguments)
    assert done.returncode == 0, done.stderr
    first, second = (row["resumed"] for row in summary(tmp_path).values())
    assert first == "True"
    assert second in {"True", "False"}  # on a busy machine it may have been whole at the moment of the kill
    assert not list(tmp_path.glob(".*.part"))


def _rows(out: Path) -> int:
    return len(summary(out)) if (out / "summary.csv").exists() else 0


@pytest.mark.slow
def test_bad_inputs_get_one_line_each_and_harm_nobody(cohort: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.svs").write_bytes(b"")
    (bad / "text.svs").write_text("this is no slide\n" * 100)
    (tmp_path / "nothing").mkdir()
    Image.fromarray(np.full((16, 16, 3), 240, np.uint8)).save(bad / "dot.png")
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        Image.fromarray(np.full((64, 64, 3), 240, np.uint8)).save(tmp_path / side / "twin.png")
    good = sorted((cohort / "slides").iterdir())[0]
    inputs = [bad, tmp_path / "nothing", tmp_path / "absent.svs", tmp_path / "left", tmp_path / "right", good]
    done = stride("screen", *inputs, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    rows = summary(tmp_path / "out")
    statuses = {slide_id: row["status"] for slide_id, row in rows.items()}
    assert statuses.pop(good.stem) in {"ok", "unsatisfactory"}
    assert set(statuses) == {"empty", "text", "nothing", "absent", "dot", "twin"}
    assert set(statuses.values()) == {"failed"}
    for slide_id, row in rows.items():
        if row["status"] == "failed":
            assert row["reason"], slide_id
            assert "\n" not in row["reason"]
            assert str(tmp_path) not in row["reason"]
    assert "--mpp" in rows["dot"]["reason"]
    assert not (tmp_path / "out" / "errors").exists()


@pytest.mark.slow
@pytest.mark.realdata
def test_real_files(real_data: Path, tmp_path: Path) -> None:
    wsi = real_data / "wsi"
    done = stride("screen", wsi, "--out", tmp_path / "plain")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    rows = summary(tmp_path / "plain")
    assert rows["CMU-1-Small-Region"]["status"] in {"ok", "unsatisfactory"}
    for slide_id in ("tcga-cr-7395-01a-01-ts1", "boxes", "yb10kx5k.zstd"):
        assert rows[slide_id]["status"] == "failed"
        assert "--mpp" in rows[slide_id]["reason"], rows[slide_id]["reason"]
    for slide_id in ("broken", "unopenable"):
        assert rows[slide_id]["status"] == "failed"
    done = stride("screen", wsi, "--mpp", "0.5", "--out", tmp_path / "given")
    assert "Traceback" not in done.stdout + done.stderr
    rows = summary(tmp_path / "given")
    for slide_id in ("CMU-1-Small-Region", "tcga-cr-7395-01a-01-ts1", "jpeg", "boxes", "yb10kx5k.zstd", "small"):
        assert rows[slide_id]["status"] in {"ok", "unsatisfactory"}, rows[slide_id]
    findings = Findings.from_json((tmp_path / "given" / "CMU-1-Small-Region" / "findings.json").read_text())
    assert findings.slide.mpp == 0.5
    assert findings.slide.mpp_in_file == pytest.approx(0.499)
    assert findings.provenance.requested["mpp"] == 0.5
    assert not (tmp_path / "given" / "errors").exists()


@pytest.mark.slow
@pytest.mark.realdata
def test_a_real_field_is_screened_as_a_one_level_slide(real_data: Path, tmp_path: Path) -> None:
    image = sorted((real_data / "cric" / "images").iterdir())[0]
    assert stride("screen", image, "--mpp", "0.228", "--out", tmp_path).returncode == 0
    findings = Findings.from_json((tmp_path / image.stem / "findings.json").read_text())
    assert findings.quality.adequate is None
    assert findings.slide.width == 1376
    assert findings.quality.tiles_read >= 1


def test_the_doctor_speaks_json_and_names_the_remedy(tmp_path: Path) -> None:
    image = tmp_path / "field.png"
    Image.fromarray(np.full((64, 64, 3), 240, np.uint8)).save(image)
    done = stride("doctor", image, "--json")
    report = json.loads(done.stdout)
    slide = next(check for check in report["checks"] if check["name"] == "slide")
    assert slide["state"] == "problem"
    assert "--mpp" in slide["advice"]
    assert done.returncode == 1
    done = stride("doctor", image, "--mpp", "0.5", "--json")
    names = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert names["um/px"]["detail"].startswith("0.5 (given")
    assert names["reader image"]["state"] == "ok"


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    for arguments in (
        ("screen", tmp_path, "--out", tmp_path / "out", "--profile", "huge"),
        ("screen", tmp_path, "--out", tmp_path / "out", "--device", "gpu"),
        ("phantom", "--out", tmp_path / "p", "--slide-class", "CIN2"),
        ("phantom", "--out", tmp_path / "p", "--slide-class", "NILM", "--diameter", "0"),
        ("phantom", "--out", tmp_path / "p"),
        ("phantom", "--out", tmp_path / "p", "--cohort", "moon"),
        ("phantom", "--out", tmp_path / "p", "--cohort", "external", "--slides", "20000"),
        ("phantom", "--out", tmp_path / "p", "--slides", "3", "--top-k", "64"),
    ):
        done = stride(*arguments)
        assert done.returncode == 2, arguments
        assert done.stderr.startswith("error "), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "p").exists()
