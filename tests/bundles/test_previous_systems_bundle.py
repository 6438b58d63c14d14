"""Cheng et al. 2021 and Zhu et al. 2021 as a user trains, evaluates and runs them: overlays of the bundle."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_cohort import make_cohort

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.networks.encoders.cell_encoder import CellClassifier

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "swift_mil"
OVERLAYS = {"cheng": ("two_stage", "cheng2021"), "zhu": ("zhu2021",)}
SMALL: dict[str, Any] = {
    "bundle_root": str(ROOT),
    "encoder_name": "test_resnet",
    "crop_px": 64,
    "top_k": 12,
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a cell classifier with BatchNorm, as the bundle cell_cls writes them."""
    path = tmp_path_factory.mktemp("cells") / "model.pt"
    torch.manual_seed(0)
    torch.save(CellClassifier("test_resnet").state_dict(), path)
    return path


def run(out: Path, *names: str, **options: Any) -> None:
    config = [str(ROOT / "configs" / f"{name}.json") for name in names]
    monai.bundle.run(config_file=config, **{**SMALL, "output_dir": str(out), **options})


@pytest.fixture(scope="module", params=OVERLAYS)
def trained(request: pytest.FixtureRequest, cohort: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp(request.param)
    data = {"dataset_dir": str(cohort), "init_weights": str(cells), "num_workers": 0}
    run(out, "train", *OVERLAYS[request.param], max_epochs=3, **data)
    return request.param, out, data


def test_judged_and_run_like_every_other_head(trained: Any, cohort: Path, cells: Path, tmp_path: Path) -> None:
    kind, out, data = trained
    weights = torch.load(out / "model.pt", weights_only=True)
    for name, value in torch.load(cells, weights_only=True).items():
        assert torch.equal(weights[f"encoder.{name}"], value), "the cell classifier stays as it is, BatchNorm and all"
    assert 0 <= weights["threshold"] <= 1
    run(tmp_path, "train", *OVERLAYS[kind], "evaluate", weights=str(out / "model.pt"), split="test", **data)
    table = dict(csv.reader((tmp_path / "metrics.csv").open()))
    assert set(table) >= {"val_auc", "val_f1_macro", "threshold", "sensitivity", "specificity"}
    run(tmp_path, "inference", OVERLAYS[kind][-1], dataset_dir=str(cohort / "bags"), weights=str(out / "model.pt"))
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert len(rows) == 9
    for row in rows:
        cells_of = json.loads((tmp_path / row["slide_id"] / "findings.json").read_text())["cells"]
        attention = [cell["attention"] for cell in cells_of]
        assert len(attention) == 16, "every cell of the bag is listed"
        assert set(attention[12:]) == {0}, "those beyond the twelve that decide have no share"
        assert sorted(set(attention)) == [0, 0.1], "ten cells of twelve"


def test_the_trees_are_beside_the_weights_as_json(trained: Any) -> None:
    kind, out, _ = trained
    if kind == "cheng":
        assert not (out / "xgboost.json").exists()
        return
    text = (out / "xgboost.json").read_bytes()
    stored = torch.load(out / "model.pt", weights_only=True)["slide_head._extra_state"]
    assert stored.numpy().tobytes() == text
    assert len(json.loads(text)["learner"]["gradient_booster"]["model"]["trees"]) == 3 * len(SLIDE_CLASSES)
