"""Metrics of an epoch as Ignite metrics."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from stride_monai.handlers.epoch import Gathered
from stride_monai.handlers.metrics import DetectionMap, DetectionRecall
from stride_monai.networks.detection.detector import TileDetections


def test_an_epoch_is_gathered_from_whole_and_from_decollated_batches() -> None:
    gathered, values = Gathered(), torch.arange(10.0, requires_grad=True).reshape(5, 2)
    gathered.add(values[:3], torch.tensor([1, 2, 3]), ["a", "b", "c"])
    gathered.add(list(values[3:]), [4, 5], ("d", "e"))
    found, labels, names = gathered.columns()
    assert torch.equal(found, values)
    assert not found.requires_grad
    assert labels.tolist() == [1, 2, 3, 4, 5]
    assert names == ["a", "b", "c", "d", "e"]


def test_boxes_of_an_epoch() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    found, nothing = TileDetections(boxes, torch.tensor([0.9])), TileDetections(boxes[:0], torch.zeros(0))
    engine = Engine(lambda _, batch: {"pred": batch[0], "label": batch[1]})
    DetectionMap().attach(engine, "map")
    DetectionRecall().attach(engine, "recall")
    engine.run([([found, nothing], [boxes, boxes]), ([nothing], [boxes[:0]])])
    assert engine.state.metrics["recall"] == 0.5
    assert engine.state.metrics["map"] == pytest.approx(51 / 101)
    engine.run([([found], [boxes])])
    assert engine.state.metrics == {"map": 1.0, "recall": 1.0}
