"""Metrics of slides over an epoch, the operating point set or judged at its end, and weights that are loaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from stride_monai.errors import BagError, BundleError, ConfigError
from stride_monai.evaluation.inputs.joining import cohort_hash
from stride_monai.files import sha256_of
from stride_monai.handlers.metrics import MacroF1, SlideAUC
from stride_monai.handlers.operating_point import OperatingPointHandler
from stride_monai.handlers.weights import WeightsLoader
from stride_monai.metrics.slide import auc, f1_macro, positive_scores
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.weights import save_weights
from stride_monai.operating_point import read_operating_point


def run(logits: torch.Tensor, labels: torch.Tensor, *handlers: object, as_list: bool = False) -> Engine:
    """An evaluator that predicts ``logits``, two slides at a time."""

    def step(engine: Engine, rows: torch.Tensor) -> object:
        batch = {"pred": logits[rows], "label": labels[rows]}
        return [{"pred": p, "label": y} for p, y in zip(*batch.values(), strict=True)] if as_list else batch

    engine = Engine(step)
    for name, handler in enumerate(handlers):
        if isinstance(handler, SlideAUC | MacroF1):
            handler.attach(engine, str(name))
        else:
            handler.attach(engine)  # type: ignore[attr-defined]
    engine.run(torch.arange(len(labels)).split(2))
    return engine


@pytest.mark.parametrize("as_list", [False, True])
def test_ignite_metrics_see_the_whole_epoch(as_list: bool) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 6), torch.tensor([0, 0, 3, 1, 5, 0, 2])
    engine = run(logits, labels, SlideAUC(), MacroF1(), as_list=as_list)
    p = torch.softmax(logits.double(), 1).numpy()
    assert engine.state.metrics["0"] == pytest.approx(auc(p[:, 1:].sum(1), labels.numpy() != 0))
    assert engine.state.metrics["1"] == pytest.approx(f1_macro(p.argmax(1), labels.numpy()))


@pytest.fixture
def network() -> SlideClassifier:
    torch.manual_seed(0)
    encoder = CellClassifier("convnext_atto")
    return SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), top_k=4)


def test_operating_point_handler_sets_and_judges(network: SlideClassifier) -> None:
    logits = torch.zeros(6, 6)
    logits[:, 0] = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0, 1.5])
    labels = torch.tensor([0, 0, 2, 2, 2, 0])
    engine = run(logits, labels, OperatingPointHandler(network))
    scores = positive_scores(torch.softmax(logits.double(), 1).numpy())
    assert network.operating_point().threshold == pytest.approx(scores[2])
    assert network.operating_point().threshold <= scores[2]
    assert engine.state.metrics["sensitivity"] == 1.0
    assert engine.state.metrics["specificity"] == 1.0
    judged = run(logits.flip(0), labels, OperatingPointHandler(network, update=False))
    assert judged.state.metrics["sensitivity"] == pytest.approx(2 / 3)
    assert judged.state.metrics["specificity"] == pytest.approx(2 / 3)
    assert judged.state.metrics["threshold"] == network.operating_point().threshold
    network.threshold.fill_(math.nan)
    with pytest.raises(BundleError):
        run(logits, labels, OperatingPointHandler(network, update=False))


def test_the_threshold_is_set_and_judged_with_the_detector_of_the_bags(network: SlideClassifier) -> None:
    one, another = "1f" * 32, "a0" * 32
    logits, labels = torch.eye(6)[[0, 2]], torch.tensor([0, 2])

    def bags(*detectors: str, update: bool = False, force: bool = False) -> None:
        def step(engine: Engine, batch: dict[str, list[str]]) -> dict[str, torch.Tensor]:
            return {"pred": logits, "label": labels}

        engine = Engine(step)
        handler = OperatingPointHandler(
            network, update=update, force=force, output_transform=lambda o: (o["pred"], o["label"])
        )
        handler.attach(engine)
        engine.run([{"detector": [detector] * 2} for detector in detectors])

    bags(one, one, update=True)
    assert network.detector_sha256 == one
    bags(one)
    bags("", another, force=True)
    with pytest.raises(BagError, match=r"does not hold for those of the detector \(a0a0a0a0a0a0\): set it anew"):
        bags(one, another)
    with pytest.raises(BagError, match="different detectors"):
        bags(one, another, update=True)
    assert network.detector_sha256 == one


def test_weights_loader_loads_when_the_engine_starts(network: SlideClassifier, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", network.state_dict(), {}, half=False)
    encoder = CellClassifier("convnext_atto")
    engine = Engine(lambda engine, batch: None)
    WeightsLoader(tmp_path / "w.safetensors", encoder, source="encoder").attach(engine)
    assert not torch.equal(encoder.head.weight, network.encoder.head.weight)
    engine.run([0])
    assert torch.equal(encoder.head.weight, network.encoder.head.weight)


@pytest.mark.parametrize("wanted", [0, 2, 95])
def test_a_sensitivity_that_is_no_share_is_refused(wanted: float, network: SlideClassifier) -> None:
    with pytest.raises(ConfigError, match=f"invalid sensitivity {wanted}"):
        OperatingPointHandler(network, wanted)


def test_the_operating_point_is_written_beside_the_weights_that_hold_it(
    network: SlideClassifier, tmp_path: Path
) -> None:
    """Each time they are written, and not where they are not; the very weights, so that screening takes it."""
    weights = tmp_path / "a folder" / "model.pt"
    weights.parent.mkdir()
    logits, labels = torch.eye(6)[[0, 2, 2, 0]] * 3, torch.tensor([0, 2, 2, 0])
    saved = []

    class Saver:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

        def __call__(self, engine: Engine) -> None:
            if len(saved) < 2:
                torch.save({**network.state_dict(), "extra": torch.tensor(len(saved))}, weights)
            saved.append(engine)

    def step(engine: Engine, rows: torch.Tensor) -> object:
        return {"pred": logits[rows], "label": labels[rows]}

    handler = OperatingPointHandler(network, weights=weights, crop_mpp=0.5)
    engine = Engine(step)
    handler.attach(engine)
    Saver().attach(engine)
    file, texts = weights.with_name("model.operating_point.json"), []
    for _ in range(3):
        batches = [
            {"slide_id": [f"s{k}" for k in rows.tolist()], "detector": ["1f" * 32] * 2, "mask": torch.ones(2, 4)}
            for rows in torch.arange(4).split(2)
        ]
        rows = iter(torch.arange(4).split(2))
        engine._process_function = lambda engine, batch, rows=rows: step(engine, next(rows))  # type: ignore[assignment]
        engine.run(batches, max_epochs=1)
        texts.append(file.read_text())
    assert texts[0] != texts[1], "other weights"
    assert texts[1] == texts[2], "no new weights"
    point = read_operating_point(file)
    assert point.threshold == network.operating_point().threshold
    assert point.holds_for.weights == {"swift_mil": sha256_of(weights)}
    assert (point.holds_for.cells_chosen_by, point.holds_for.bag_size, point.holds_for.crop_mpp) == ("1f" * 32, 4, 0.5)
    assert (point.chosen_on.slides, point.chosen_on.positives, point.chosen_on.split_from) == (4, 2, "training")
    assert point.chosen_on.cohort_sha256 == cohort_hash(["s0", "s1", "s2", "s3"], ["NILM", "LSIL", "LSIL", "NILM"])
    assert (point.sensitivity.value, point.specificity.value) == (1.0, 1.0)


def test_no_threshold_is_set_on_test_slides(network: SlideClassifier) -> None:
    with pytest.raises(ConfigError, match="set on the test split"):
        OperatingPointHandler(network, split="test")
    OperatingPointHandler(network, update=False, split="test")
