"""The detection bundle as a user runs it: train, evaluate, slides to bags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bundle_cohort import make_cohort
from monai.bundle import ConfigParser

from stride_monai.bundle_workflow import bundle_root
from stride_monai.data.bag import BagFile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo"),
]
SMALL = {"tile_size": 256, "batch_size": 4, "max_epochs": 2, "val_interval": 1, "warmup_iterations": 2}


def run(configs: list[str], folder: Path, **overrides: object) -> str:
    root = bundle_root("detection")
    files = [str(root / "configs" / f"{name}.json") for name in (*configs, "tiny")]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    command += [f"--{key}={value}" for key, value in overrides.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_train_evaluate_and_make_bags(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    log = run(["train"], tmp_path, dataset_dir=cohort, output_dir=tmp_path / "out", **SMALL)
    assert "val_map_500" in log
    weights = tmp_path / "out" / "model.pt"
    assert weights.is_file()
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))

    run(
        ["train", "evaluate"],
        tmp_path,
        dataset_dir=cohort,
        output_dir=tmp_path / "eval",
        weights=weights,
        tile_size=256,
    )
    metrics = (tmp_path / "eval" / "metrics.csv").read_text()
    assert {"val_map", "val_map_500", "val_recall"} <= set(metrics.replace("\t", ",").replace("\n", ",").split(","))

    run(["inference"], tmp_path, dataset_dir=cohort, output_dir=tmp_path / "bags", weights=weights, split="test")
    bags = sorted((tmp_path / "bags").iterdir())
    assert [path.name for path in bags] == [f"test-{name}.bag.arrow" for name in ("HSIL", "LSIL", "NILM")]
    tiny = json.loads((bundle_root("detection") / "configs" / "tiny.json").read_text())
    for path in bags:
        header = BagFile(path).header
        stated = (header.crop_px, header.crop_mpp, header.top_k)
        assert stated == (tiny["crop_size"], tiny["crop_mpp"], tiny["top_k"])
    assert {path.name for path in tmp_path.iterdir()} == {"cohort", "out", "eval", "bags"}


def test_numbers_of_training_and_inference_agree() -> None:
    root = bundle_root("detection") / "configs"
    train, inference = (ConfigParser.load_config_file(str(root / f"{n}.json")) for n in ("train", "inference"))
    shared = ("detector_name", "num_classes", "tile_size", "tile_mpp", "min_score", "max_per_tile")
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}
    paper = {"detector_name": "yolov5m", "batch_size": 64, "learning_rate": 0.01, "max_epochs": 300, "tile_mpp": 1.0}
    assert {key: train[key] for key in paper} == paper
    assert (inference["top_k"], inference["tile_overlap"], inference["crop_size"]) == (1024, 64, 224)
