"""``screen --runtime openvino`` as it is typed: the cells and scores of torch, and every file says what computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from extras import needs

from stride_monai.findings import Cell, Findings
from stride_monai.inferers.judge import encode
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.runtimes.compiling import TOLERANCE
from stride_monai.screening import Screener, ScreeningConfig
from stride_monai.slides import open_slide

RUNTIMES = ("torch", "openvino")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cohort = tmp_path_factory.mktemp("cohort")
    make_slides(cohort, CohortDesign(classes=("HSIL",), diameter_mm=0.3, seed=7))
    (path,) = (cohort / "slides").iterdir()
    return path


@pytest.fixture(scope="module")
def runs(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Findings, dict[str, Any]]]:
    """By runtime the findings of a phantom slide, and what ``run.json`` says of the run."""
    needs("openvino", "fast")
    home = tmp_path_factory.mktemp("runtimes")
    found = {}
    for name in RUNTIMES:
        words = ["screen", slide, "--out", home / name, "--runtime", name, "--device", "cpu", "--writers", "findings"]
        words += ["--profile-stages"]
        done = processes.run("stride_monai", words, cwd=home, environment={"STRIDE_MONAI_CACHE": str(home / "kept")})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "share of the time" in done.stdout
        (text,) = (path.read_text(encoding="utf-8") for path in (home / name).glob("*/findings.json"))
        found[name] = (
            Findings.from_json(text),
            json.loads((home / name / "run.json").read_text(encoding="utf-8"))["run"],
        )
    assert [*(home / "kept" / "networks").iterdir()], "what was compiled is kept"
    return found


def test_the_findings_agree_with_those_of_torch(runs: dict[str, tuple[Findings, dict[str, Any]]]) -> None:
    wanted, found = (runs[name][0] for name in RUNTIMES)
    assert len(wanted.cells) > 20
    assert found.quality == wanted.quality
    assert (found.status, found.call, found.slide_class) == (wanted.status, wanted.call, wanted.slide_class)
    assert found.score == pytest.approx(wanted.score, abs=TOLERANCE)
    assert found.slide_probabilities == pytest.approx(wanted.slide_probabilities, abs=TOLERANCE)
    assert len(found.cells) == len(wanted.cells)
    scale = wanted.provenance.used["tile_mpp"] / wanted.slide.mpp  # boxes are held to the tolerance in px of a tile
    for cell in wanted.cells:
        twin = min(found.cells, key=lambda other: _apart(cell, other))
        assert _apart(cell, twin) <= scale * TOLERANCE * 512 + 0.01, f"cell {cell.rank}"
        assert twin.score == pytest.approx(cell.score, abs=TOLERANCE)


def test_torch_says_the_same_of_the_crops_that_another_runtime_cut(
    slide: Path, runs: dict[str, tuple[Findings, dict[str, Any]]]
) -> None:
    """Boxes of two runtimes lie a little apart and so do the crops, of which a cell's probabilities are held against
    torch's of the very same pixels."""
    found = runs["openvino"][0]
    screener = Screener(ScreeningConfig(runtime="openvino", device="cpu"))
    assert screener.finder is not None
    with open_slide(slide) as opened:
        bag = screener.finder.find(opened)
    said = encode(bag.images[bag.mask], screener.models.classifier)
    probabilities = screener.models.classifier.encoder.head(said).softmax(1)
    assert len(found.cells) == len(probabilities) > 20
    for cell, box, wanted in zip(found.cells, bag.boxes.tolist(), probabilities.tolist(), strict=True):
        assert [*cell.box] == pytest.approx(box, abs=0.01)
        assert cell.probabilities == pytest.approx(wanted, abs=TOLERANCE), f"cell {cell.rank}"


def test_every_file_says_what_computed(runs: dict[str, tuple[Findings, dict[str, Any]]]) -> None:
    hashes = set()
    for name, (findings, index) in runs.items():
        used, requested = findings.provenance.used, findings.provenance.requested
        assert (used["runtime"]["name"], used["runtime"]["why"]) == (name, "as asked for")
        assert (used["precision"], requested["runtime"]) == ("float32", name)
        assert index["runtime"].startswith(f"{name} {used['runtime']['version']}")
        hashes.add(findings.provenance.config_hash)
    assert len(hashes) == len(RUNTIMES)


def _apart(one: Cell, other: Cell) -> float:
    return float(np.abs(np.subtract([*one.box], [*other.box])).max())
