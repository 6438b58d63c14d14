"""The detection engines on a handful of tiles."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver

from stride_monai.data.datasets.tensors import detection_collate
from stride_monai.engines.detection import DetectionEvaluator, DetectionTrainer, loss_parts
from stride_monai.handlers.metrics import DetectionMap, DetectionRecall
from stride_monai.networks.detection.detector import YoloDetector

# not importorskip: importing ultralytics outside the adapter replaces PIL.Image.open for all other tests
pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")


def tiles(count: int = 4) -> list[dict[str, object]]:
    """Tiles of 96 px, each with one bright square but the last."""
    random = np.random.default_rng(0)
    samples: list[dict[str, object]] = []
    for index in range(count):
        image, x, y = torch.zeros(3, 96, 96), *random.integers(4, 50, 2).tolist()
        boxes = torch.zeros(0, 4)
        if index < count - 1:
            image[:, y : y + 32, x : x + 32] = 1
            boxes = torch.tensor([[x, y, x + 32, y + 32]]).float()
        samples.append({"image": image, "boxes": boxes, "slide_id": f"s{index}"})
    return samples


def loader(count: int = 4, batch: int = 2) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(tiles(count), batch_size=batch, collate_fn=detection_collate)  # type: ignore[arg-type]


def test_training_lowers_the_loss_and_finds_the_squares(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = YoloDetector("yolov5n")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3  # fifty iterations are too few for YOLO's 0.03
    losses: list[float] = []
    events: list[object] = []
    parts: list[dict[str, float]] = []
    trainer = DetectionTrainer(
        device="cpu",
        max_epochs=25,
        train_data_loader=loader(),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), 2e-3),
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: losses.append(trainer.state.output["loss"].item()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: parts.append(loss_parts(trainer.state.output)))
    for event in (IterationEvents.FORWARD_COMPLETED, IterationEvents.MODEL_COMPLETED):
        trainer.add_event_handler(event, events.append, event)
    trainer.run()
    assert losses[-1] < 0.5 * losses[0]
    assert set(parts[0]) == {"box", "cls", "dfl"}
    assert len(events) == 2 * 2 * 25

    saver = CheckpointSaver(str(tmp_path), {"model": network}, save_key_metric=True, key_metric_filename="model.pt")
    evaluator = DetectionEvaluator(
        device="cpu",
        val_data_loader=loader(),
        network=network,
        key_val_metric={"val_map": DetectionMap()},
        additional_metrics={"val_recall": DetectionRecall()},
        val_handlers=[saver],
    )
    evaluator.run()
    assert evaluator.state.metrics["val_recall"] == 1.0
    assert evaluator.state.metrics["val_map"] > 0.3
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved.keys() == network.state_dict().keys()


def test_cut_cells_are_known_to_the_evaluation() -> None:
    samples = tiles(2)
    samples[0]["visible"], samples[1]["visible"] = [0.4], []
    evaluator = DetectionEvaluator(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(samples, batch_size=2, collate_fn=detection_collate),  # type: ignore[arg-type]
        network=YoloDetector("yolov5n"),
        key_val_metric={"val_map": DetectionMap()},
        additional_metrics={"val_recall": DetectionRecall()},
    )
    evaluator.run()
    truth = evaluator.state.output["label"]
    assert [t.ignored.tolist() for t in truth] == [[True], []]
    assert np.isnan(evaluator.state.metrics["val_recall"]), "no cell is asked for"
