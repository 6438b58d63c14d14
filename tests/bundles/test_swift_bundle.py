"""SWIFT through its bundle: every head, resumption, two processes, the two-stage baseline and its evaluation."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import monai.bundle
import processes
import pytest
import torch
from bundle_cohort import make_cohort
from bundle_files import config_files
from monai.bundle import ConfigParser

from stride_monai.errors import BundleError
from stride_monai.handlers.resume import TrainingState
from stride_monai.networks.factories import list_slide_heads

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "swift_mil"
SMALL: dict[str, Any] = {
    "init_weights": "",
    "encoder_name": "test_convnext",
    "crop_px": 64,
    "top_k": 6,
    "cell_batch_size": 8,
    "val_interval": 1,
    "max_epochs": 1,
}


files = partial(config_files, ROOT)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides more, so that an epoch has two steps for each of two processes."""
    folder = make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")
    table = folder / "manifest.csv"
    rows = list(csv.reader(table.open()))
    for row in rows[1:]:
        if row[0] in {"test-LSIL"}:
            row[6] = "train"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def run(cohort: Path, out: Path, *names: str, **options: Any) -> dict[str, Any]:
    """Train; the content of last.pt."""
    settings = {**SMALL, "bundle_root": str(ROOT), "dataset_dir": str(cohort), "output_dir": str(out), **options}
    monai.bundle.run(config_file=files(*names), **settings)
    return dict(torch.load(out / "last.pt", weights_only=True))


def assert_same_weights(one: dict[str, Any], other: dict[str, Any], **tolerance: float) -> None:
    for part in ("network", "teacher"):
        for name, value in one["objects"][part].items():
            if tolerance:
                torch.testing.assert_close(other["objects"][part][name], value, equal_nan=True, **tolerance)
            else:
                assert torch.equal(other["objects"][part][name].nan_to_num(7), value.nan_to_num(7)), (part, name)


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of two steps, never stopped."""
    out = tmp_path_factory.mktemp("trained")
    run(cohort, out, "train", "tiny", max_epochs=3)
    return out


def test_a_training_killed_and_resumed_ends_with_the_same_bits(
    cohort: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = TrainingState.save

    def save_and_die(self: TrainingState, engine: Any) -> None:
        save(self, engine)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(cohort, tmp_path, "train", "tiny", max_epochs=3)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    resumed = run(cohort, tmp_path, "train", "tiny", max_epochs=3, resume="auto")
    whole = torch.load(trained / "last.pt", weights_only=True)
    assert resumed["epoch"] == whole["epoch"] == 3
    assert_same_weights(whole, resumed)


COLORS = {"train#trainer#_target_": "stride_monai.engines.ColorAdvTrainer"}


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, COLORS, {**COLORS, "semi_weight": 0.0}], ids=["swift", "coloradv", "slides"])
def test_two_processes_are_one(cohort: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    """Without dropout, of which each process draws its own; and Adam must not blow rounding up to whole steps."""
    options = {"max_epochs": 3, "head": "stride", "slide_head#dropout": 0.0, "optimizer#eps": 1e-6, **more}
    one = run(cohort, tmp_path / "one", "train", "tiny", **options)
    arguments = ["run", "--config_file", str(files("train", "tiny", "multi_gpu_train"))]
    settings = {**SMALL, "bundle_root": ROOT, "dataset_dir": cohort, "output_dir": tmp_path / "two", **options}
    arguments += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    done = processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    two = torch.load(tmp_path / "two" / "last.pt", weights_only=True)
    assert one["epoch_length"] == two["epoch_length"] == 2
    assert_same_weights(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", list_slide_heads())
def test_every_head_trains_end_to_end(head: str, cohort: Path, tmp_path: Path) -> None:
    names = ("train", "tiny", "wsi_ft") if head == "mean" else ("train", "tiny")
    scored = head in {"stride", "max", "abmil", "dtfd"}  # half of them with the detector's scores
    content = run(cohort, tmp_path, *names, head=head, score_input=scored, part=5)
    assert content["epoch"] == 1
    fresh = ConfigParser()
    fresh.read_config(files("inference", "tiny"))
    fresh.update({"bundle_root": str(ROOT), **{k: SMALL[k] for k in ("encoder_name", "crop_px", "top_k")}})
    fresh["head"], fresh["score_input"] = head, scored
    network = fresh.get_parsed_content("network_def")
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        crops, mask = torch.zeros(1, 6, 3, 64, 64, dtype=torch.uint8), torch.ones(1, 6, dtype=torch.bool)
        assert network.eval()(crops, mask, torch.full((1, 6), 0.5)).isfinite().all()
    assert not scored or network.slide_head.score_embedding.weight.any(), "it has learned from the scores"


def test_two_stage_baseline_leaves_the_encoder_alone_and_evaluates(cohort: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(files("train", "tiny"))
    parser.update({"bundle_root": str(ROOT), **{k: v for k, v in SMALL.items() if k != "max_epochs"}})
    content = run(cohort, tmp_path, "train", "tiny", "two_stage", max_epochs=2, score_input=True)
    assert "teacher" not in content["objects"]
    first, last = (content["objects"]["network"][f"encoder.encoder.stem.{k}.weight"] for k in (0, 1))
    assert first.isfinite().all()
    assert torch.equal(last, torch.ones_like(last)), "the LayerNorm of the stem is as it was made"
    settings = {**SMALL, "bundle_root": str(ROOT), "dataset_dir": str(cohort), "output_dir": str(tmp_path / "eval")}
    del settings["max_epochs"]
    with pytest.raises(BundleError, match="set score_input to true"):
        monai.bundle.run(
            config_file=files("train", "tiny", "two_stage", "evaluate"), weights=str(tmp_path / "model.pt"), **settings
        )
    settings["score_input"] = True
    config = files("train", "tiny", "two_stage", "evaluate")
    monai.bundle.run(config_file=config, weights=str(tmp_path / "model.pt"), split="validation", **settings)
    assert "val_auc" in (tmp_path / "eval" / "metrics.csv").read_text()


def test_defaults_are_the_papers() -> None:
    config = json.loads(Path(files("train")[0]).read_text())
    expected = {
        "cell_batch_size": 128,
        "batch_size": 2,
        "top_k": 256,
        "iterations": 320000,
        "learning_rate": 0.001,
        "weight_decay": 0.001,
        "activation": "grad_x_feature",
        "activation_threshold": 0.5,
        "teacher_threshold": 0.9,
        "negative_bags": "all_nilm",
        "ema_decay": 0.999,
        "encoder_name": "convnext_tiny",
        "head": "stride",
    }
    assert {key: config[key] for key in expected} == expected
    assert [config[f"{name}_weight"] for name in ("cell", "slide", "semi")] == [1, 1, 1]
