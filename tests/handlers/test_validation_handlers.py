"""A training ends with weights to keep, and trackers find the loss in what our engines put out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from torch import nn
from torch.utils.data import DataLoader

from stride_monai.handlers.tracking import Tracked, WholeBatch
from stride_monai.handlers.validation import Validation
from stride_monai.handlers.weights import BestWeights


def evaluator(score: Callable[[], float], handler: BestWeights) -> SupervisedEvaluator:
    batches = DataLoader([{"image": torch.zeros(1), "label": torch.zeros(1)}])  # type: ignore[arg-type]
    metric = {"score": Average(lambda _: score())}
    network = nn.Linear(1, 1)
    return SupervisedEvaluator("cpu", batches, network, key_val_metric=metric, val_handlers=[handler], decollate=False)


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"), [(1, 5, [1]), (4, 2, [2, 4]), (5, 2, [2, 4, 5]), (3, 1, [1, 2, 3])]
)
def test_the_last_epoch_is_validated_too(epochs: int, interval: int, validated: list[int], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    validator = evaluator(lambda: 0.5, BestWeights(path, nn.Linear(1, 1)))
    seen: list[int] = []
    validator.add_event_handler(Events.COMPLETED, lambda: seen.append(validator.state.epoch))
    trainer = Engine(lambda engine, batch: None)
    Validation(interval, validator).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert seen == validated
    assert path.is_file()


def test_weights_are_kept_where_the_metric_is_no_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, path = nn.Linear(1, 1), tmp_path / "model.pt"
    scores = [float("nan"), 0.5, float("nan"), 0.25]
    validator = evaluator(lambda: scores[validator.state.epoch - 1], BestWeights(path, network))
    kept = []
    with caplog.at_level(logging.WARNING):
        for epoch in range(1, 5):
            with torch.no_grad():
                network.bias.fill_(epoch)
            validator.run(global_epoch=epoch)
            kept.append(float(torch.load(path, weights_only=True)["bias"]))
    assert kept == [1, 2, 2, 2]
    assert "the key metric is non-finite" in caplog.text


@pytest.mark.parametrize(
    "transform",
    [
        from_engine(["loss"], first=True),
        lambda output: output["loss"],
        lambda output: output[0]["loss"],
        lambda output: output.get("loss") if "loss" in output else None,
        lambda output: next(iter(output))["loss"],
    ],
)
def test_transforms_for_lists_and_for_dictionaries_find_the_loss(transform: Callable[[Any], Any]) -> None:
    seen: list[Any] = []
    handler = SimpleNamespace(output_transform=transform)
    handler.attach = lambda engine: seen.append(handler.output_transform(engine))
    Tracked(handler).attach({"loss": 2.5, "pred": torch.zeros(3)})  # type: ignore[arg-type]
    Tracked(SimpleNamespace(attach=seen.append)).attach([1])  # type: ignore[arg-type]
    assert seen == [2.5, [1]]
    assert "absent" not in WholeBatch({"loss": 1})
    assert {"loss": 1} in WholeBatch({"loss": 1})
