"""The report of a cell classifier is that of the cells of the epoch; figures in files and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.evaluation.cells import cell_report
from stride_monai.files import sha256_of
from stride_monai.handlers.cell_report import CellReport, ConfusionPicture

CENTRES = {"s0": "North", "s1": "South"}  # s2 has none


@pytest.fixture
def predictions() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Logits, labels and slides of 90 cells; no cell is AGC and none is called so."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 4
    logits = torch.randn(90, 5, generator=generator)
    logits[torch.arange(90), labels] += 1.5
    logits[:, 4] = -20
    return logits, labels, [f"s{k % 3}" for k in range(90)]


def run(handler: Any, logits: torch.Tensor, labels: torch.Tensor, slides: list[str]) -> Engine:
    def batches() -> Iterator[dict[str, Any]]:
        for k in range(0, len(labels), 32):
            yield {"pred": logits[k : k + 32], "label": labels[k : k + 32], "slide_id": slides[k : k + 32]}

    engine = Engine(lambda _, batch: {"pred": batch["pred"], "label": batch["label"]})
    handler.attach(engine)
    engine.run(list(batches()), max_epochs=1)
    return engine


def test_the_report_is_that_of_the_cells_of_the_epoch(
    predictions: tuple[torch.Tensor, torch.Tensor, list[str]], tmp_path: Path
) -> None:
    logits, labels, slides = predictions
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    counts = dict(zip(CELL_CLASSES, (900, 50, 40, 30, 2), strict=True))
    handler = CellReport(tmp_path, weights, CENTRES, counts, "test", output_transform=lambda o: (o["pred"], o["label"]))
    engine = run(handler, logits, labels, slides)
    report = json.loads((tmp_path / "cell_report.json").read_text())
    probabilities = torch.softmax(logits.double(), 1).numpy()
    centres = [CENTRES.get(slide) for slide in slides]
    assert report == cell_report(probabilities, labels.numpy(), centres, counts, "test", 15, weights)
    assert report["weights_sha256"] == sha256_of(weights)
    assert engine.state.metrics["val_ece"] == report["calibration"]["ece"]
    assert engine.state.metrics["val_accuracy"] == report["accuracy"]


def test_figures_are_drawn(predictions: tuple[torch.Tensor, torch.Tensor, list[str]], tmp_path: Path) -> None:
    run(CellReport(tmp_path, output_transform=lambda o: (o["pred"], o["label"])), *predictions)
    assert {path.name for path in tmp_path.iterdir()} == {
        "cell_report.json",
        "confusion.png",
        "f1_by_count.png",
        "reliability.png",
    }
    for path in tmp_path.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) > 500
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20, "more than an empty frame"
    assert json.loads((tmp_path / "cell_report.json").read_text())["centres"] == {}


def test_tensorboard_gets_the_confusion_of_every_epoch(
    predictions: tuple[torch.Tensor, torch.Tensor, list[str]], tmp_path: Path
) -> None:
    writer = SummaryWriter(str(tmp_path))
    run(ConfusionPicture(writer, lambda o: (o["pred"], o["label"])), *predictions)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (picture,) = events.Images("val_confusion")
    assert (picture.step, picture.width > 300) == (1, True)
    run(ConfusionPicture(None, lambda o: (o["pred"], o["label"])), *predictions)  # another process: no writer
