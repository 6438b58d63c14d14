"""The report of a cell classifier: its numbers against the predictions, its figures by their pixels."""

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
from stride_monai.evaluation.cells import confusion_figure
from stride_monai.files import sha256_of
from stride_monai.handlers.cell_report import CellReport, ConfusionPicture
from stride_monai.metrics.cell import calibration_error, confusion_matrix

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


def test_report(predictions: tuple[torch.Tensor, torch.Tensor, list[str]], tmp_path: Path) -> None:
    logits, labels, slides = predictions
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    counts = dict(zip(CELL_CLASSES, (900, 50, 40, 30, 2), strict=True))
    report_of = CellReport(
        tmp_path, weights, CENTRES, counts, "test", output_transform=lambda o: (o["pred"], o["label"])
    )
    engine = run(report_of, logits, labels, slides)
    text = (tmp_path / "cell_report.json").read_text()
    report = json.loads(text)
    assert "NaN" not in text
    probabilities, truth = torch.softmax(logits.double(), 1).numpy(), labels.numpy()
    predicted = probabilities.argmax(1)
    assert report["cells"] == 90
    assert report["accuracy"] == pytest.approx((predicted == truth).mean(), abs=1e-6)
    assert report["confusion"] == confusion_matrix(predicted, truth, 5).tolist()
    f1 = [2 * ((predicted == c) & (truth == c)).sum() / ((predicted == c).sum() + (truth == c).sum()) for c in range(4)]
    assert report["f1_macro"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert [report["classes"][name]["f1"] for name in CELL_CLASSES[:4]] == pytest.approx(f1, abs=1e-6)
    missing = report["classes"]["AGC"]
    assert (missing["cells"], missing["training_cells"], missing["f1"], missing["precision"]) == (0, 2, None, None)
    top, by_class = calibration_error(probabilities, truth)
    calibration = report["calibration"]
    assert calibration["ece"] == pytest.approx(top, abs=1e-6) == engine.state.metrics["val_ece"]
    assert calibration["classwise_ece"] == pytest.approx(by_class.mean(), abs=1e-6)
    assert sum(calibration["reliability"]["count"]) == 90
    assert {name: of["cells"] for name, of in report["centres"].items()} == {
        "North": 30,
        "South": 30,
        "(no centre)": 30,
    }
    south = np.array(slides) == "s1"
    assert report["centres"]["South"]["accuracy"] == pytest.approx((predicted == truth)[south].mean(), abs=1e-6)
    assert report["weights_sha256"] == sha256_of(weights)
    assert report["split"] == "test"
    assert "synthetic" in report["disclaimer"].lower() or "research" in report["disclaimer"].lower()


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


def test_confusion_picture_shows_shares_of_the_true_class() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [5, 0, 5]])
    axes = confusion_figure(matrix, ["a", "b", "c"]).axes[0]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, [[0.8, 0.2, 0], [0, 0, 0], [0.5, 0, 0.5]])
    assert [text.get_text() for text in axes.texts][:3] == ["80%\n8", "20%\n2", "0"]


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
