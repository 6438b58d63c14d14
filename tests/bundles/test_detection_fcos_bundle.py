"""The overlay fcos.json: trains, evaluates and makes bags through the bundle's own configurations."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_cohort import make_cohort
from bundle_files import config_files
from monai.bundle import ConfigParser

from stride_monai.data.bags.bag import BagFile
from stride_monai.data.manifest import read_manifest, write_manifest
from stride_monai.files import sha256_of
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.networks.weights import load_weights
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("detection")
SMALL: dict[str, Any] = {"tile_px": 128, "batch_size": 4, "max_epochs": 1, "val_interval": 1, "warmup_iterations": 2}


files = partial(config_files, ROOT)


def run(*names: str, **overrides: Any) -> None:
    config = files(*names)
    monai.bundle.run(config_file=config, logging_file=False, bundle_root=str(ROOT), **overrides)


@pytest.mark.slow
def test_train_evaluate_and_make_bags(tmp_path: Path) -> None:
    cohort = str(make_cohort(tmp_path / "cohort"))
    variant = ("tiny", "fcos", "tiny_fcos")
    run("train", *variant, dataset_dir=cohort, output_dir=str(tmp_path / "out"), **SMALL)
    weights = tmp_path / "out" / "model.pt"
    assert any(key.startswith("sides") for key in load_weights(weights)[0])
    unlabelled = tmp_path / "unlabelled"  # on tiles alone, slides need no class
    shutil.copytree(cohort, unlabelled)
    slides = [replace(slide, slide_class=None) for slide in read_manifest(unlabelled / "manifest.csv")]
    write_manifest(unlabelled / "manifest.csv", slides)
    run(
        "train",
        *variant,
        "evaluate",
        dataset_dir=str(unlabelled),
        output_dir=str(tmp_path / "eval"),
        weights=str(weights),
        tile_px=128,
        whole_slides=False,
    )
    metrics = dict(line.split(",") for line in (tmp_path / "eval" / "metrics.csv").read_text().splitlines())
    assert {"val_map", "val_map_500", "val_recall"} <= set(metrics)
    bags = tmp_path / "bags"
    run("inference", *variant, dataset_dir=cohort, output_dir=str(bags), weights=str(weights), split="test")
    for path in (bags / f"test-{name}.bag.arrow" for name in ("HSIL", "LSIL", "NILM")):
        assert BagFile(path).header.detector_sha256 == sha256_of(weights)


@pytest.mark.parametrize("profile", [(), ("tiny",)])
def test_overlay_is_this_detector_at_the_size_of_the_profile(profile: tuple[str, ...]) -> None:
    parser = ConfigParser()
    parser.read_config(files("inference", *profile, "fcos", *(f"{name}_fcos" for name in profile)))
    parser["bundle_root"] = str(ROOT)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert isinstance(network, FcosDetector)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions < 1 if profile else millions > 10
    expected = "tiny_fcos.safetensors" if profile else "model.pt"
    assert parser.get_parsed_content("weights") == f"{ROOT}/models/{expected}"


def test_weights_of_the_profile_stay_small() -> None:
    shipped = list(ROOT.parent.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in shipped) < 25e6


def test_exports_to_torchscript(tmp_path: Path) -> None:
    config = files("inference", "tiny", "fcos", "tiny_fcos")
    parser = ConfigParser()
    parser.read_config(config)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(ROOT / "configs" / "metadata.json"),
        config_file=config,
        use_trace=True,
        input_shape=[1, 3, 128, 128],
    )
    image = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image), rtol=1e-4, atol=1e-4)


def test_overlays_hold_numbers_and_the_network_only() -> None:
    base = set(ConfigParser.load_config_file(files("train")[0])) | set(
        ConfigParser.load_config_file(files("inference")[0])
    )
    for name in ("fcos", "tiny_fcos"):
        overlay = json.loads(Path(files(name)[0]).read_text())
        assert set(overlay) - base <= {"_over_", "backbone", "pretrained", "norm", "pyramid_width"}
