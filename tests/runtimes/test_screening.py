"""``screen --runtime openvino`` as it is typed: the cells and scores of torch, and every file says what computed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from extras import needs
from numpy.typing import NDArray

from stride_monai.findings import Cell, Findings
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.runtimes.compiling import TOLERANCE
from stride_monai.slides import open_slide
from stride_monai.transforms import TopKCellPatches
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

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


def test_the_findings_agree_with_those_of_torch(slide: Path, runs: dict[str, tuple[Findings, dict[str, Any]]]) -> None:
    wanted, found = (runs[name][0] for name in RUNTIMES)
    assert len(wanted.cells) > 20
    assert found.quality == wanted.quality
    assert (found.status, found.call, found.slide_class) == (wanted.status, wanted.call, wanted.slide_class)
    assert found.score == pytest.approx(wanted.score, abs=TOLERANCE)
    assert found.slide_probabilities == pytest.approx(wanted.slide_probabilities, abs=TOLERANCE)
    assert len(found.cells) == len(wanted.cells)
    scale = wanted.provenance.used["tile_mpp"] / wanted.slide.mpp  # boxes are held to the tolerance in px of a tile
    moved, apart = _moved_by_a_hundredth(slide, wanted.cells), []
    for cell, of_place in zip(wanted.cells, moved.tolist(), strict=True):
        twin = min(found.cells, key=lambda other: _apart(cell, other))
        assert _apart(cell, twin) <= scale * TOLERANCE * 512 + 0.01, f"cell {cell.rank}"
        assert twin.score == pytest.approx(cell.score, abs=TOLERANCE)
        apart.append(np.abs(np.subtract(twin.probabilities, cell.probabilities)).max())
        assert apart[-1] <= TOLERANCE + of_place, f"cell {cell.rank}"
    assert np.mean(np.array(apart) <= TOLERANCE) >= 0.95, "nearly all crops are the same"


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


def _moved_by_a_hundredth(path: Path, cells: Sequence[Cell]) -> NDArray[np.float64]:
    """How far the probabilities of each cell move ``[n]`` when its box does by 0.01 px, to which findings are rounded.

    Boxes of two runtimes differ by less, and so do the crops: by a grey level here and there.
    """
    files = [bundle_root("swift_mil") / "models" / f"{name}.safetensors" for name in ("tiny", "tiny_fcos")]
    loaded = load_bundle_network(bundle_root("swift_mil"), "tiny", weights=files)
    crop = TopKCellPatches(len(cells), loaded.numbers["crop_px"], loaded.numbers["crop_mpp"])
    boxes, scores = np.array([[*cell.box] for cell in cells]), np.array([cell.score for cell in cells])
    said = []
    with open_slide(path) as slide, torch.inference_mode():
        for x, y in itertools.product((0.0, -0.01, 0.01), repeat=2):
            images = crop(slide, boxes + np.array([x, y, x, y]), scores).images
            said.append(loaded.network.encoder(images).double().softmax(1).numpy())
    change: NDArray[np.float64] = np.abs(np.array(said[1:]) - said[0]).max(axis=(0, 2))
    return change
