"""What is written and shown of a slide classifier's evaluation."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from stride_monai.handlers.metrics import SlideAUC
from stride_monai.handlers.slide_report import SlidePictures, SlideReport
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead

LABELS = torch.tensor([0, 0, 2, 4, 0, 5])
TRUTH = torch.tensor([[0, 0, -1], [0, -1, -1], [2, 0, -1], [3, 3, 0], [-1, -1, -1], [4, 0, 0]])
CENTRES = {f"s{k}": "north" if k < 4 else "south" for k in range(6)}


def network() -> SlideClassifier:
    torch.manual_seed(0)
    encoder = CellClassifier("test_convnext")
    return SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), top_k=3).eval()


def batches(net: SlideClassifier) -> list[dict[str, Any]]:
    """Features, in batches of four and two; the second slide has two cells."""
    features = torch.randn(6, 3, net.encoder.feature_dim, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[1, 2] = False
    whole = {"image": features, "mask": mask, "label": LABELS, "truth": TRUTH}
    names = [f"s{k}" for k in range(6)]
    parts = (slice(0, 4), slice(4, 6))
    return [{**{key: value[part] for key, value in whole.items()}, "slide_id": names[part]} for part in parts]


def evaluated(
    net: SlideClassifier, *handlers: Any, epochs: int = 1, chosen: Callable[[Any], Any] = lambda of: of
) -> None:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=chosen(batches(net)),
        network=net,
        prepare_batch=PrepareBatchExtraInput(extra_keys=["mask"]),
        key_val_metric={"val_auc": SlideAUC()},
        val_handlers=list(handlers),
        decollate=False,
    )
    for epoch in range(epochs):
        evaluator.run(epoch + 1)


def test_the_report_says_what_the_network_says(tmp_path: Path) -> None:
    net = network()
    net.set_operating_point(0.5)
    evaluated(net, SlideReport(tmp_path, net, centres=CENTRES, split="test"))
    report = json.loads((tmp_path / "slide_report.json").read_text())
    with torch.no_grad():
        logits, cells = [], np.zeros((5, 5), int)
        for batch in batches(net):
            logits.append(net(batch["image"], batch["mask"]))
            said = net.encoder.head(batch["image"]).argmax(2)
            for truth, guess in zip(batch["truth"].flatten().tolist(), said.flatten().tolist(), strict=True):
                if truth >= 0:
                    cells[truth, guess] += 1
    p = torch.softmax(torch.cat(logits).double(), 1).numpy()
    scores, positive = 1 - p[:, 0], LABELS.numpy() > 0
    assert report["cells"]["confusion"] == cells.tolist()
    assert report["cells"]["known"] == 11
    assert report["auc"] == pytest.approx(auc(scores, positive), abs=1e-6)
    assert report["at_threshold"]["sensitivity"] == pytest.approx((scores >= 0.5)[positive].mean(), abs=1e-6)
    assert np.sum(report["confusion"]) == report["slides"] == 6
    assert [report["centres"][name]["slides"] for name in ("north", "south")] == [4, 2]
    assert report["centres"]["south"]["auc"] == pytest.approx(float(scores[5] > scores[4]))
    rows = list(csv.DictReader((tmp_path / "slides.csv").open()))
    assert [row["label"] for row in rows] == ["NILM", "NILM", "LSIL", "HSIL", "NILM", "AGC"]
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.tolist(), abs=1e-6)
    assert [row["call"] for row in rows] == ["positive" if score >= 0.5 else "negative" for score in scores]
    for name in ("confusion", "cell_confusion", "roc"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not net.slide_head._forward_hooks, "the network is left as it was"


@pytest.mark.parametrize("force", [False, True])
def test_no_call_for_cells_that_the_threshold_was_not_set_on(tmp_path: Path, force: bool) -> None:
    net = network()
    net.set_operating_point(0.5, detector="ab" * 32)

    def chosen(of: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = {**of[0], "detector": ["ab" * 32, "cd" * 32, "", "ab" * 32]}
        return [first, {**of[1], "detector": ["cd" * 32] * 2}]

    evaluated(net, SlideReport(tmp_path, net, split="test", force=force), chosen=chosen)
    rows = list(csv.DictReader((tmp_path / "slides.csv").open()))
    made = [bool(row["call"]) for row in rows]
    assert made == [True, force, True, True, force, force], "no call is an empty cell"
    assert all(row["call"] == ("positive" if float(row["score"]) >= 0.5 else "negative") for row in rows if row["call"])


def test_pictures_come_with_the_best_weights_only(tmp_path: Path) -> None:
    """The second validation is no better than the first, so it adds nothing."""
    net = network()
    with SummaryWriter(str(tmp_path)) as writer:
        evaluated(net, SlidePictures(net, writer, most_slides=3), epochs=2)
    board = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    board.Reload()
    assert set(board.Tags()["images"]) == {"val_confusion", "val_cell_confusion", "val_roc"}
    assert [picture.step for picture in board.Images("val_roc")] == [1]
    (folder,) = tmp_path.glob("*/slide_features")
    assert (folder / "metadata.tsv").read_text().splitlines() == [
        "slide_id\tclass",
        *("s0\tNILM", "s2\tLSIL", "s5\tAGC"),
    ]
    shown = np.loadtxt(folder / "tensors.tsv")
    batch = batches(net)[0]
    with torch.no_grad():
        _, attention = net.slide_head(batch["image"], batch["mask"])
    expected = sum(attention[2, k] * batch["image"][2, k] for k in range(3))
    assert shown[1] == pytest.approx(expected.numpy(), abs=1e-5)
    assert "slide_features" in (tmp_path / "projector_config.pbtxt").read_text()
