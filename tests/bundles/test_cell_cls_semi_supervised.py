"""The semi-supervised overlays of the bundle cell_cls train through the bundle, on one process and on two."""

from __future__ import annotations

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

from stride_monai.networks.weights import load_into
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("cell_cls")
METHODS = ("mean_teacher", "fixmatch", "flexmatch", "crest")
SMALL: dict[str, Any] = {
    "crop_px": 32,
    "batch_size": 8,
    "unlabeled_batch_size": 10,
    "cells_per_epoch": 16,
    "max_epochs": 1,
    "val_interval": 1,
    "encoder_name": "convnext_atto",
    "network_def#depths": [1, 1, 1, 1],
    "network_def#dims": [8, 8, 16, 16],
}


files = partial(config_files, ROOT)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("semi") / "cohort")


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per method, of a run with the laptop profile."""
    out = tmp_path_factory.mktemp("trained")
    for name in METHODS:
        options = {**SMALL, "generations": 3} if name == "crest" else SMALL
        monai.bundle.run(
            config_file=files("train", "tiny", "semi_supervised", name),
            logging_file=False,
            bundle_root=str(ROOT),
            dataset_dir=str(cohort),
            output_dir=str(out / name),
            **options,
        )
    return out


def parsed(*names: str, **options: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(files(*names))
    parser.update({"bundle_root": str(ROOT), **options})
    return parser


@pytest.mark.parametrize("name", METHODS)
def test_trains_and_keeps_the_average(name: str, trained: Path) -> None:
    weights = torch.load(trained / name / "model.pt", weights_only=True)
    last = torch.load(trained / name / "last.pt", weights_only=True)
    assert last["epoch"] == (3 if name == "crest" else 1)
    of_network = {key: value for key, value in SMALL.items() if "#" in key or key == "encoder_name"}
    network = parsed("train", "tiny", **of_network).get_parsed_content("network_def")
    load_into(network, trained / name / "model.pt")  # an ordinary cell classifier
    average = {key: last["objects"]["ema"][f"module.{key}"] for key in weights}
    raw = last["objects"]["network"]
    if name != "crest":  # of which an earlier generation may have been the best
        assert all(torch.equal(weights[key], average[key]) for key in weights)
    assert any(not torch.equal(weights[key], raw[key]) for key in weights)
    assert list((trained / name).glob("events.out.tfevents.*"))


def test_state_of_the_methods_is_kept(trained: Path) -> None:
    flexmatch = torch.load(trained / "flexmatch" / "last.pt", weights_only=True)["objects"]["method"]
    assert len(flexmatch["latest"]) == 48, "one place per unlabelled cell: three bags of 16"
    crest = torch.load(trained / "crest" / "last.pt", weights_only=True)["objects"]
    assert int(crest["method"]["generation"]) == 2
    assert len(crest["self_training"]["chosen"]) == len(crest["self_training"]["label"]) > 0
    assert crest["ema"]["step"] == 2, "the average began anew with the generation"


@pytest.mark.parametrize("name", METHODS)
def test_overlays_hold_the_references_numbers(name: str, cohort: Path) -> None:
    options = {"dataset_dir": str(cohort), "random_negatives": 0, "encoder_name": "convnext_atto", "crop_px": 64}
    parser = parsed("train", "semi_supervised", name, **options)
    method = parser.get_parsed_content("method")
    assert parser.get_parsed_content("unlabeled_batch_size") == (128 if name == "mean_teacher" else 7 * 128)
    assert parser.get_parsed_content("ema").decay == 0.999
    assert method.teacher == ("ema" if name == "mean_teacher" else "student")
    if name == "mean_teacher":
        assert method.rampup_steps == pytest.approx(30), "30 of 100 epochs, here of one step"
    else:
        assert method.threshold == 0.95
    if name == "flexmatch":
        assert len(method.latest) == 48
    if name == "crest":
        counts = {"NILM": 32, "ASC-US": 0, "LSIL": 8, "ASC-H/HSIL": 8, "AGC": 0}
        assert method.counts == tuple(counts.values())
        assert (method.generations, method.alpha, method.lowest_temperature) == (6, pytest.approx(1 / 3), 0.5)
        assert parser.get_parsed_content("train#trainer").state.max_epochs == 600


@pytest.mark.slow
def test_two_processes_train_as_one(trained: Path, cohort: Path, tmp_path: Path) -> None:
    arguments = ["run", "--config_file", str(files("train", "tiny", "semi_supervised", "flexmatch", "multi_gpu_train"))]
    options = {**SMALL, "bundle_root": ROOT, "dataset_dir": cohort, "output_dir": tmp_path}
    arguments += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    done = processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    one, two = (
        torch.load(folder / "last.pt", weights_only=True)["objects"] for folder in (trained / "flexmatch", tmp_path)
    )
    assert torch.equal(one["method"]["latest"], two["method"]["latest"])
    for key, value in one["network"].items():
        torch.testing.assert_close(two["network"][key], value, rtol=1e-3, atol=1e-4)
