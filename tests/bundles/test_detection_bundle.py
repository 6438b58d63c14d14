"""The detection bundle as a user runs it: train, evaluate, slides to bags."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import monai.bundle
import processes
import pytest
from bundle_cohort import make_cohort
from monai.bundle import ConfigParser

from stride_monai.data.bags.bag import BagFile
from stride_monai.workflows.locate import bundle_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo"),
]
SMALL = {"tile_px": 128, "batch_size": 4, "max_epochs": 1, "val_interval": 1, "warmup_iterations": 2}


def run(configs: list[str], folder: Path, **overrides: object) -> str:
    root = bundle_root("detection")
    files = [str(root / "configs" / f"{name}.json") for name in (configs[0], "tiny", *configs[1:])]
    arguments = ["run", "--config_file", str(files), "--bundle_root", str(root)]
    arguments += [f"--{key}={value}" for key, value in overrides.items()]
    done = processes.run("monai.bundle", arguments, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def run_here(configs: list[str], **overrides: object) -> None:
    """The same in this process, which has imported everything already."""
    root = bundle_root("detection")
    files = [str(root / "configs" / f"{name}.json") for name in (configs[0], "tiny", *configs[1:])]
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}
    monai.bundle.run(config_file=files, logging_file=False, bundle_root=str(root), **settings)


def test_train_evaluate_and_make_bags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    log = run(["train"], tmp_path, dataset_dir=cohort, output_dir=tmp_path / "out", **SMALL)
    assert "val_map_500" in log
    assert "precision: float32 on cpu; mixed precision (amp) works on CUDA only" in log
    weights = tmp_path / "out" / "model.pt"
    assert weights.is_file()
    assert (tmp_path / "out" / "last.pt").is_file()
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))

    out = tmp_path / "eval"
    run_here(["train", "evaluate"], dataset_dir=cohort, output_dir=out, weights=weights, tile_px=128)
    metrics = dict(line.split(",") for line in (out / "metrics.csv").read_text().splitlines())
    assert {"val_map", "val_map_500", "val_recall", "val_froc"} == set(metrics)
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    figures = {"precision_recall.png", "tile_froc.png", "predictions.png"}
    tables = {
        "metrics.csv",
        "slides.csv",
        "slide_curves.json",
        "slide_froc.png",
        "top_k_recall.csv",
        "top_k_recall.png",
    }
    assert written == {
        *figures,
        "files.json",
        "metrics.csv",
        "tile_curves.json",
        *(f"slides/{name}" for name in tables),
    }
    slides = [line.split(",") for line in (out / "slides" / "slides.csv").read_text().splitlines()[1:]]
    assert [(name, lesions) for name, _, lesions, *_ in slides] == [
        ("test-NILM", "0"),
        ("test-LSIL", "8"),
        ("test-HSIL", "8"),
    ]

    run_here(["inference", "extract"], dataset_dir=cohort, output_dir=tmp_path / "bags", weights=weights, split="test")
    bags = sorted(path for path in (tmp_path / "bags").iterdir() if path.is_file())
    assert [path.name for path in bags] == [f"test-{name}.bag.arrow" for name in ("HSIL", "LSIL", "NILM")]
    tiny = json.loads((bundle_root("detection") / "configs" / "tiny.json").read_text())
    for path in bags:
        header = BagFile(path).header
        stated = (header.crop_px, header.crop_mpp, header.top_k)
        assert stated == (tiny["crop_px"], tiny["crop_mpp"], tiny["top_k"])
    before = [path.stat().st_mtime_ns for path in bags]
    run_here(["inference", "extract"], dataset_dir=cohort, output_dir=tmp_path / "bags", weights=weights, split="test")
    assert [path.stat().st_mtime_ns for path in bags] == before
    run_here(["inference"], dataset_dir=cohort, output_dir=tmp_path / "bags", weights=weights, split="test")
    assert all(path.stat().st_mtime_ns > old for path, old in zip(bags, before, strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"cohort", "out", "eval", "bags"}


def test_numbers_of_training_and_inference_agree() -> None:
    root = bundle_root("detection") / "configs"
    train, inference = (ConfigParser.load_config_file(str(root / f"{n}.json")) for n in ("train", "inference"))
    shared = ("detector_name", "num_classes", "tile_px", "tile_mpp", "min_score", "max_per_tile", "nms_iou")
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}
    paper = {"detector_name": "yolov5m", "batch_size": 64, "learning_rate": 0.01, "max_epochs": 300, "tile_mpp": 1.0}
    assert {key: train[key] for key in paper} == paper
    assert (inference["top_k"], inference["overlap_px"], inference["crop_px"]) == (1024, 64, 224)
    evaluate = ConfigParser.load_config_file(str(root / "evaluate.json"))
    assert (evaluate["top_k"], evaluate["overlap_px"]) == (inference["top_k"], inference["overlap_px"])
    as_in_the_paper = {"augmentation": "weak", "ema_decay": 0.9999, "patience": 0, "num_classes": 1, "tile_px": 512}
    assert {key: train[key] for key in as_in_the_paper} == as_in_the_paper
    decay = train["decay"]
    assert (decay["_target_"], decay["start_factor"], decay["end_factor"], decay["total_iters"]) == (
        "torch.optim.lr_scheduler.LinearLR",
        1.0,
        0.0,
        "@total_steps",
    )
