"""The bundle cell_cls: crops written once, exact resumption, two processes as one, fine-tuning, probing, evaluation."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from bundle_cohort import make_cohort
from bundle_files import config_files
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stride_monai.errors import BundleError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("cell_cls")
ENCODER = "test_convnext"  # timm's smallest
SETTINGS: dict[str, Any] = {
    "bundle_root": str(ROOT),
    "encoder_name": ENCODER,
    "crop_px": 64,
    "batch_size": 8,
    "cells_per_epoch": 32,
    "max_epochs": 3,
    "val_interval": 1,
    "augmentation": "strong",
    "log_iterations": True,
    "random_negatives": 4,
}


files = partial(config_files, ROOT)


def workflow(*names: str, **overrides: Any) -> ConfigWorkflow:
    made = ConfigWorkflow(files(*names, "tiny"), logging_file=False, **{**SETTINGS, **overrides})
    made.initialize()
    return made


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort whose labelled crops lie in ``crops``, as configs/crops.json writes them."""
    folder = make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")
    settings = {key: SETTINGS[key] for key in ("bundle_root", "crop_px", "random_negatives")}
    made = ConfigWorkflow(files("crops"), logging_file=False, dataset_dir=str(folder), **settings)
    made.initialize()
    made.run()
    assert len(list((folder / "crops").glob("*.bag.arrow"))) == 9
    return folder


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of three epochs in one go."""
    out = tmp_path_factory.mktemp("trained")
    workflow("train", "from_crops", dataset_dir=str(cohort), output_dir=str(out)).run()
    return out


def curve(folder: Path, name: str) -> list[float]:
    """A scalar of TensorBoard by step, over all event files of a folder."""
    steps: dict[int, float] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path)).Reload()
        if name in events.Tags()["scalars"]:
            steps |= {event.step: event.value for event in events.Scalars(name)}
    return [steps[step] for step in sorted(steps)]


def test_training_writes_weights_state_and_a_log(trained: Path) -> None:
    losses = curve(trained, "train_loss")
    assert len(losses) == 12
    assert curve(trained, "learning_rate")[0] == pytest.approx(0.001)
    assert curve(trained, "learning_rate")[-1] == pytest.approx(0.001 / 12)
    assert len(curve(trained, "val_f1_macro")) == 3
    CellClassifier(ENCODER).load_state_dict(torch.load(trained / "model.pt", weights_only=True))


def test_from_slides_and_from_crops_are_the_same_training(cohort: Path, trained: Path, tmp_path: Path) -> None:
    """But for JPEG: the same cells in the same order with the same augmentation."""
    made = workflow("train", dataset_dir=str(cohort), output_dir=str(tmp_path), max_epochs=1)
    trainer = made.parser.get_parsed_content("train#trainer")
    slides = [item["label"] for item in trainer.data_loader.dataset.data]
    from_crops = workflow("train", "from_crops", dataset_dir=str(cohort), output_dir=str(tmp_path), max_epochs=1)
    crops = from_crops.parser.get_parsed_content("train#dataset").known_labels().tolist()
    assert sorted(slides) == sorted(crops)
    assert len(slides) == 3 * 16 + 4


def test_resumed_after_a_stop_it_ends_where_it_would_have(cohort: Path, trained: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(cohort), "output_dir": str(tmp_path)}
    stopped = workflow("train", "from_crops", **settings)
    trainer = stopped.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), trainer.terminate)
    stopped.run()
    assert not torch.equal(*(last(path) for path in (trained, tmp_path)))
    workflow("train", "from_crops", **settings, resume="auto").run()
    for mine, whole in zip(
        torch.load(tmp_path / "last.pt", weights_only=True)["objects"]["network"].values(),
        torch.load(trained / "last.pt", weights_only=True)["objects"]["network"].values(),
        strict=True,
    ):
        torch.testing.assert_close(mine, whole, rtol=0, atol=0)
    assert curve(tmp_path, "train_loss") == curve(trained, "train_loss")


def last(folder: Path) -> torch.Tensor:
    state: torch.Tensor = torch.load(folder / "last.pt", weights_only=True)["objects"]["network"]["head.weight"]
    return state


def test_the_head_alone_learns_from_features_computed_once(cohort: Path, trained: Path, tmp_path: Path) -> None:
    """As it learns from pictures that nothing augments; the encoder stays what it was."""
    settings = {
        "dataset_dir": str(cohort),
        "start_from": str(trained / "model.pt"),
        "val_interval": 3,
        "learning_rate": 1e-3,
    }
    heads = []
    for name, overlays, more in (
        ("head", ("tiny", "head"), {}),
        ("pictures", ("tiny",), {"freeze_encoder": True, "augmentation": "none"}),
    ):
        merged = {**SETTINGS, **settings, "augmentation": "none", "random_negatives": 0, **more}
        out = {"output_dir": str(tmp_path / name)}
        made = ConfigWorkflow(files("train", *overlays), logging_file=False, **merged, **out)
        made.initialize()
        made.run()
        heads.append(torch.load(tmp_path / name / "model.pt", weights_only=True))
    start = torch.load(trained / "model.pt", weights_only=True)
    for key, value in start.items():
        if key.startswith("encoder."):
            torch.testing.assert_close(heads[0][key], value, rtol=0, atol=0)
        else:
            torch.testing.assert_close(heads[0][key], heads[1][key])
            assert not torch.equal(heads[0][key], value)


def test_a_teacher_is_kept_beside_the_network(cohort: Path, trained: Path, tmp_path: Path) -> None:
    """At first the moving average is the plain mean of the start and of what each step left."""
    start = {"start_from": str(trained / "model.pt"), "learning_rate": 1e-2, "max_epochs": 1, "augmentation": "none"}
    settings = {**SETTINGS, **start, "dataset_dir": str(cohort), "output_dir": str(tmp_path), "random_negatives": 0}
    made = ConfigWorkflow(files("train", "tiny", "head", "teacher"), logging_file=False, **settings)
    made.initialize()
    trainer, network = (made.parser.get_parsed_content(name) for name in ("train#trainer", "network_def"))
    passed = [network.head.weight.detach().clone()]
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: passed.append(network.head.weight.detach().clone()))
    made.run()
    student, teacher = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("model", "teacher"))
    assert len(passed) == 1 + SETTINGS["cells_per_epoch"] // SETTINGS["batch_size"]
    torch.testing.assert_close(student["head.weight"], passed[-1])
    torch.testing.assert_close(teacher["head.weight"], torch.stack(passed).mean(dim=0))
    for name in (name for name in student if name.startswith("encoder.")):
        torch.testing.assert_close(teacher[name], student[name], rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(cohort: Path, trained: Path, tmp_path: Path) -> None:
    arguments = ["run", "--config_file", str(files("train", "from_crops", "tiny", "multi_gpu_train"))]
    settings = {**SETTINGS, "dataset_dir": cohort, "output_dir": tmp_path / "out"}
    arguments += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    done = processes.run_ranks(2, "monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert curve(tmp_path / "out", "train_loss") == pytest.approx(curve(trained, "train_loss"), rel=1e-4)
    assert curve(tmp_path / "out", "val_f1_macro") == pytest.approx(curve(trained, "val_f1_macro"), abs=1e-6)


def test_an_encoder_is_probed_or_fine_tuned(cohort: Path, trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    encoder = CellClassifier(ENCODER).encoder
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    settings = {"dataset_dir": str(cohort), "output_dir": str(tmp_path), "max_epochs": 1}
    probe = workflow("train", "from_crops", "linear_probe", **settings, init_weights=str(tmp_path / "encoder.pt"))
    probe.run()
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(state[f"encoder.{key}"], value, rtol=0, atol=0)
    # The encoder of a whole classifier, to be trained further.
    model = {"init_weights": str(trained / "model.pt")}
    tuned = workflow("train", "from_crops", **settings, **model, init_part="encoder")
    network = tuned.parser.get_parsed_content("network_def")
    start = torch.load(trained / "model.pt", weights_only=True)
    torch.testing.assert_close(network.encoder.state_dict()["stem.0.weight"], start["encoder.stem.0.weight"])
    assert not torch.equal(network.head.weight, start["head.weight"])
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(BundleError):
        workflow("train", "from_crops", **settings, **model)


def test_evaluation_writes_the_report(cohort: Path, trained: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(cohort), "output_dir": str(tmp_path), "weights": str(trained / "model.pt")}
    workflow("train", "from_crops", "evaluate", **settings).run()
    report = json.loads((tmp_path / "cell_report.json").read_text())
    assert (report["split"], report["cells"], list(report["centres"])) == ("test", 48, ["A"])
    assert report["classes"]["LSIL"]["training_cells"] == 8
    metrics = dict(line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines())
    assert float(metrics["val_f1_macro"]) == pytest.approx(report["f1_macro"], abs=1e-6)
    workflow("train", "evaluate", **settings, split="validation").run()
    assert json.loads((tmp_path / "cell_report.json").read_text())["split"] == "validation"


def test_the_shipped_weights_load() -> None:
    loaded = load_bundle_network(ROOT, "tiny")
    assert "synthetic" in loaded.metadata["note"]
