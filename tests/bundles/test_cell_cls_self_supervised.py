"""The self-supervised overlays of the bundle cell_cls train through the bundle; their encoders are tuned and probed."""

from __future__ import annotations

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
from monai.bundle import ConfigParser, ConfigWorkflow

from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_weights
from stride_monai.workflows.locate import bundle_root

pytest.importorskip("lightly")
ROOT = bundle_root("cell_cls")
CONVNEXT: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("convnext_atto", CONVNEXT),
    "moco": ("convnext_atto", CONVNEXT),
    "dino": ("test_vit", {"dynamic_img_size": True}),
}
METHOD: dict[str, dict[str, Any]] = {"simclr": {}, "moco": {}, "dino": {"prototypes": 32, "local_views": 3}}
SMALL: dict[str, Any] = {"crop_px": 64, "batch_size": 8, "cells_per_epoch": 16, "max_epochs": 1, "val_interval": 1}


files = partial(config_files, ROOT)


def options(name: str, component: str, cohort: Path, out: Path) -> dict[str, Any]:
    """Overrides of a run with the small encoder of a method, which is built by ``component``."""
    encoder, more = ENCODERS[name]
    where = {"bundle_root": str(ROOT), "dataset_dir": str(cohort), "output_dir": str(out), "encoder_name": encoder}
    return {**SMALL, **where, **{f"{component}#{key}": value for key, value in more.items()}}


def pretraining(name: str, cohort: Path, out: Path) -> dict[str, Any]:
    return {**options(name, "classifier", cohort, out), "network_def#hidden_dim": 32, **METHOD[name]}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("ssl") / "cohort")


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per method, of a run with the laptop profile."""
    out = tmp_path_factory.mktemp("trained")
    for name in METHOD:
        chosen = pretraining(name, cohort, out / name)
        monai.bundle.run(config_file=files("train", "tiny", "self_supervised", name), logging_file=False, **chosen)
    return out


@pytest.mark.parametrize("name", METHOD)
def test_keeps_an_encoder_and_all_that_a_resumption_needs(name: str, trained: Path) -> None:
    state, _ = load_weights(trained / name / "encoder.pt")
    encoder, more = ENCODERS[name]
    assert state.keys() == CellClassifier(encoder, **more).encoder.state_dict().keys()
    last = torch.load(trained / name / "last.pt", weights_only=True)["objects"]["network"]
    kept = "teacher" if name == "dino" else "student"
    assert all(torch.equal(value, last[f"{kept}.encoder.{key}"]) for key, value in state.items())
    held = {"simclr": "head.layers.0.weight", "moco": "loss.memory_bank.bank", "dino": "loss.center"}[name]
    assert float(last[held].abs().sum()) > 0
    assert not (trained / name / "model.pt").exists(), "there is no classifier yet"
    assert list((trained / name).glob("events.out.tfevents.*"))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", METHOD)
def test_the_encoder_is_fine_tuned_and_probed_by_the_ordinary_training(
    name: str, frozen: bool, trained: Path, cohort: Path, tmp_path: Path
) -> None:
    start = trained / name / "encoder.pt"
    monai.bundle.run(
        config_file=files("train", "tiny"),
        logging_file=False,
        init_weights=str(start),
        freeze_encoder=frozen,
        **options(name, "network_def", cohort, tmp_path),
    )
    state, _ = load_weights(start)
    model, _ = load_weights(tmp_path / "model.pt")
    moved = {key for key, value in state.items() if not torch.equal(model[f"encoder.{key}"], value)}
    assert not moved if frozen else moved
    last = torch.load(tmp_path / "last.pt", weights_only=True)["objects"]["network"]
    assert float(last["head.weight"].abs().sum()) > 0


@pytest.mark.parametrize("name", METHOD)
def test_reads_like_a_bundle_and_has_the_references_numbers(name: str, cohort: Path, tmp_path: Path) -> None:
    chosen = pretraining(name, cohort, tmp_path)
    workflow = ConfigWorkflow(
        files("train", "tiny", "self_supervised", name), workflow_type="train", logging_file=False, **chosen
    )
    workflow.initialize()
    config = {key: json.loads(Path(path).read_text()) for key, path in zip(METHOD, files(*METHOD), strict=True)}
    reference = {
        "simclr": {"temperature": 0.1},
        "moco": {"temperature": 0.2, "teacher_momentum": 0.999},
        "dino": {
            "encoder_name": "vit_small_patch16_224",
            "student_temperature": 0.1,
            "teacher_temperature": 0.04,
            "center_momentum": 0.9,
            "teacher_momentum": 0.996,
            "prototypes": 65536,
            "local_views": 8,
            "frozen_epochs": 1,
            "weight_decay_start": 0.04,
            "weight_decay_end": 0.4,
            "clip_gradient": 3.0,
        },
    }[name]
    assert {key: config[name][key] for key in reference} == reference


@pytest.mark.parametrize(("crop", "large", "small"), [(224, 192, 96), (128, 112, 48), (96, 80, 48), (64, 48, 32)])
def test_windows_fit_crops_and_patches(crop: int, large: int, small: int) -> None:
    parser = ConfigParser()
    parser.read_config(files("train", "self_supervised", "dino"))
    parser["crop_px"] = crop
    assert (parser.get_parsed_content("global_px"), parser.get_parsed_content("local_px")) == (large, small)


@pytest.mark.parametrize(("cells", "keys"), [(2_000_000, 65536), (20_000, 4864), (10, 256)])
def test_the_queue_is_no_longer_than_a_quarter_of_the_cells(cells: int, keys: int) -> None:
    parser = ConfigParser()
    parser.read_config(files("train", "self_supervised", "moco"))
    parser["train#dataset"] = f"$range({cells})"
    assert parser.get_parsed_content("queue_size") == keys


def test_slides_without_a_class_take_part(cohort: Path, tmp_path: Path) -> None:
    """Cells need no labels: neither have their slides."""
    manifest = (cohort / "manifest.csv").read_text().replace(",NILM,train", ",,train")
    (tmp_path / "manifest.csv").write_text(manifest.replace("slides/", f"{cohort}/slides/"))
    (tmp_path / "bags").symlink_to(cohort / "bags")
    parser = ConfigParser()
    parser.read_config(files("train", "self_supervised", "simclr"))
    parser.update({"dataset_dir": str(tmp_path), "crop_px": 64})
    assert len(parser.get_parsed_content("train#dataset")) == 3 * 16


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(trained: Path, cohort: Path, tmp_path: Path) -> None:
    """Same global batches, views and negatives: queue, centre and weights are equal to rounding."""
    for name in METHOD:
        arguments = ["run", "--config_file", str(files("train", "tiny", "self_supervised", name, "multi_gpu_train"))]
        chosen = pretraining(name, cohort, tmp_path / name)
        arguments += [part for key, value in chosen.items() for part in (f"--{key}", str(value))]
        done = processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        one, two = (
            torch.load(folder / name / "last.pt", weights_only=True)["objects"]["network"]
            for folder in (trained, tmp_path)
        )
        for key, value in one.items():
            if key == "loss.memory_bank.bank":  # the keys of a batch stand in another order
                value, two[key] = (bank[bank.double().sum(1).argsort()] for bank in (value, two[key]))
            torch.testing.assert_close(two[key], value, rtol=0, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}")
