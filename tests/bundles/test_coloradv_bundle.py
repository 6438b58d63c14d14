"""The bundle coloradv: its configurations are those of swift_mil but for what ColorAdv is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from stride_monai.networks.weights import load_weights
from stride_monai.workflows.build import OVERLAY, built_files

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def test_the_folder_is_what_its_overlay_makes_of_swift_mil() -> None:
    made = dict(built_files(BUNDLES / "coloradv"))
    stale = [path.name for path, content in made.items() if path.read_bytes() != content]
    assert not stale, f"run: stride-monai bundle build coloradv (for {', '.join(stale)})"
    there = {path for path in (BUNDLES / "coloradv" / "configs").iterdir() if path.is_file()}
    assert there == {path for path in made if path.parent.name == "configs"}, "a file that comes from nowhere"


def test_what_coloradv_changes_is_what_coloradv_is() -> None:
    files = json.loads((BUNDLES / "coloradv" / OVERLAY).read_text())["files"]
    changed = {name for name, changes in files.items() if changes}
    assert changed == {"configs/train.json", "configs/tiny.json", "configs/metadata.json"}
    assert set(files["configs/tiny.json"]) == {"iterations", "learning_rate", "init_weights"}
    trainer = {key.split("#")[2] for key in files["configs/train.json"] if key.startswith("train#trainer#")}
    own = {"spaces", "rho_rgb", "rho_hsv", "adversarial_weight", "adversarial_steps", "random_start"}
    assert trainer == own | {"_target_"}
    assert own <= set(files["configs/train.json"])


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
        torch.testing.assert_close(value, start[prefix + name].to(value.dtype), rtol=0, atol=0, msg=name)
