"""The bundle coloradv: its configurations are those of swift_mil but for what ColorAdv is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from stride_monai.networks.weights import load_weights

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OWN = {"spaces", "rho_rgb", "rho_hsv", "adversarial_weight", "adversarial_steps", "random_start"}


def config(bundle: str, name: str) -> Any:
    return json.loads((BUNDLES / bundle / "configs" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["evaluate", "inference", "calibrate", "tiny_fcos", "multi_gpu_train"])
def test_shares_what_it_does_not_change(name: str) -> None:
    assert config("coloradv", name) == config("swift_mil", name)


def test_training_is_that_of_swift_but_for_the_trainer() -> None:
    """A bundle stands alone, so the configuration is whole; here is all that may differ."""
    ours, theirs = config("coloradv", "train"), config("swift_mil", "train")
    assert {key: ours.pop(key) for key in OWN}["rho_rgb"] == 0.1
    for key in ("init_weights", "load_init", "iterations", "learning_rate"):
        assert ours.pop(key) != theirs.pop(key), key
    trainers = [whole["train"].pop("trainer") for whole in (ours, theirs)]
    assert trainers[0].pop("_target_") == "stride_monai.engines.coloradv.ColorAdvTrainer"
    assert {key: trainers[0].pop(key) for key in OWN} == {key: f"@{key}" for key in OWN}
    del trainers[1]["_target_"]
    assert trainers[0] == trainers[1]
    pictures = ours["train"]["handlers"].pop()
    assert pictures["_target_"] == "stride_monai.handlers.color_pictures.ColorPictures"
    assert pictures["_disabled_"] == "$@rank > 0"
    boards = [
        handler.pop("output_transform")
        for whole in (ours, theirs)
        for handler in whole["train"]["handlers"]
        if handler["_target_"].endswith("TensorBoardStatsHandler")
    ]
    assert boards[0].replace(" 'adversarial_loss': output.get('adversarial_loss', 0.0),", "") == boards[1]
    assert ours == theirs


@pytest.mark.parametrize("bundle", ["swift_mil", "coloradv"])
def test_the_teacher_begins_as_the_network_that_training_starts_from(bundle: str) -> None:
    root = BUNDLES / bundle
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{name}.json") for name in ("train", "tiny")])
    parser["bundle_root"] = str(root)
    teacher = parser.get_parsed_content("teacher").module
    start, _ = load_weights(parser.get_parsed_content("init_weights"))
    prefix = "encoder." if bundle == "coloradv" else ""
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, start[prefix + name].float(), rtol=0, atol=0, msg=name)
