"""The detection bundle's own configuration: resumed exactly, the same on two processes, deterministic."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from bundle_cohort import make_cohort
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stride_monai.handlers.seeding import seed_everything
from stride_monai.workflows.locate import bundle_root

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")
TESTS = Path(__file__).parent
ROOT = bundle_root("detection")
OVERLAY = {
    "network_def": {"_target_": "detection_toys.GroupNormYolo", "name": "@detector_name"},
    "train#dataset#data": "$data.detection_tiles(@dataset_dir, 'train', 128, 1.0, 0.5, 0)[:12]",
    "validate#dataset#data": "$data.detection_tiles(@dataset_dir, 'validation', 128, 1.0, 0.5, 0, 0)[:4]",
    "batch_size": 4,
    "max_epochs": 3,
    "val_interval": 1,
    "warmup_iterations": 2,
    "deterministic": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detection")
    make_cohort(path / "cohort")
    (path / "overlay.json").write_text(json.dumps(OVERLAY, indent=4))
    return path


def configs(folder: Path, *names: str) -> list[str]:
    return [*(str(ROOT / "configs" / f"{name}.json") for name in names), str(folder / "overlay.json")]


class KilledError(Exception):
    pass


def train(folder: Path, out: str, killed_in: int = 0, **overrides: Any) -> ConfigWorkflow:
    workflow = ConfigWorkflow(
        configs(folder, "train", "tiny"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(ROOT),
        dataset_dir=str(folder / "cohort"),
        output_dir=str(folder / out),
        **overrides,
    )
    try:
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")

        def kill() -> None:
            if trainer.state.epoch == killed_in:
                raise KilledError

        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), kill)
        trainer.run()
    finally:
        seed_everything(0)  # later tests run without deterministic algorithms
    return workflow


def events(folder: Path) -> EventAccumulator:
    (path,) = folder.glob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, tag: str) -> list[float]:
    return [event.value for event in events(folder).Scalars(tag)]


def last(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A training that nothing disturbed."""
    train(folder, "whole")
    return folder / "whole"


def assert_equal(a: Path, b: Path, close: Callable[[torch.Tensor, torch.Tensor], None] | None = None) -> None:
    left, right = last(a)["objects"], last(b)["objects"]
    for part in ("network", "ema"):
        assert left[part].keys() == right[part].keys()
        for key, value in left[part].items():
            torch.testing.assert_close(value, right[part][key], rtol=0, atol=0, msg=f"{part} {key}")


def test_tensorboard_has_the_losses_the_rate_the_metrics_and_pictures(whole: Path) -> None:
    tags = events(whole).Tags()
    losses = [f"train_loss/{part}" for part in ("box", "cls", "dfl")]
    names = set(tags["scalars"])
    found = [name for name in names if name.split("/")[-1] in {"box", "cls", "dfl"}]
    assert len(found) == len(losses)
    assert {"learning_rate", "val_map", "val_map_500", "val_recall"} <= names
    assert "predictions" in tags["images"]
    rates = scalars(whole, "learning_rate")
    assert len(rates) == 9
    assert rates[0] < rates[1] > rates[-1] > 0  # a warm-up of two iterations, then a linear decay to 0
    assert rates[3] - rates[4] == pytest.approx(rates[7] - rates[8], rel=1e-3)
    assert len(events(whole).Images("predictions")) == 3


def test_the_saved_weights_are_the_moving_average(whole: Path) -> None:
    state = last(whole)
    model = torch.load(whole / "model.pt", weights_only=True)
    average = {k.removeprefix("module."): v for k, v in state["objects"]["ema"].items() if k.startswith("module.")}
    assert model.keys() == average.keys() == state["objects"]["network"].keys()
    if state["best"]["validator"][1] == state["epoch"]:
        assert all(torch.equal(model[key], average[key]) for key in model)
    differing = [key for key, value in state["objects"]["network"].items() if not torch.equal(value, average[key])]
    assert len(differing) > 100


def test_a_stopped_training_is_resumed_exactly(folder: Path, whole: Path) -> None:
    with pytest.raises(KilledError):
        train(folder, "parts", killed_in=2)
    assert last(folder / "parts")["epoch"] == 1
    for path in (folder / "parts").glob("events*"):
        path.unlink()
    train(folder, "parts", resume="auto")
    assert_equal(whole, folder / "parts")
    tag = next(name for name in events(whole).Tags()["scalars"] if name.endswith("cls"))
    assert scalars(folder / "parts", tag) == scalars(whole, tag)[3:]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(folder: Path, whole: Path) -> None:
    files = configs(folder, "train", "tiny", "multi_gpu_train")
    arguments = ["run", "--config_file", files, "--bundle_root", ROOT]
    arguments += ["--dataset_dir", folder / "cohort", "--output_dir", folder / "two"]
    done = processes.run_ranks(2, "monai.bundle", arguments, cwd=folder, environment={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for name in events(whole).Tags()["scalars"]:
        one, two = scalars(whole, name), scalars(folder / "two", name)
        assert len(one) == len(two) > 0
        if name == "learning_rate":
            assert one == two
        elif not name.startswith("val"):
            assert two == pytest.approx(one, rel=1e-4), name  # 1e-5 was seen after nine steps
    assert last(folder / "two")["epoch_length"] == 3
    assert not any(path.name.endswith(".part") for path in (folder / "two").iterdir())
