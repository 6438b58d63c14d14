"""Slide and cell metrics against slow counting, alone and as Ignite metrics and handlers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine

from stride_monai.bethesda import SLIDE_CLASSES, binary_score
from stride_monai.errors import BagError, BundleError, ConfigError, ManifestError
from stride_monai.handlers.metrics import MacroF1, SlideAUC
from stride_monai.handlers.operating_point import OperatingPointHandler
from stride_monai.handlers.weights import WeightsLoader
from stride_monai.inferers.bags import BagInferer, CellInferer
from stride_monai.metrics.slide import at_threshold, auc, f1_macro, positive_scores, specificity_at_sensitivity
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.weights import save_weights

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({positive for _, positive in pairs}) == 2
)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 6 for score, _ in pairs]), np.array([positive for _, positive in pairs])


@given(SCORED)
def test_auc_counts_ordered_pairs(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = arrays(pairs)
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[positive].tolist() for n in scores[~positive].tolist()
    ]
    assert auc(scores, positive) == pytest.approx(sum(wins) / len(wins))


@given(SCORED, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_operating_point_is_the_highest_threshold_that_is_sensitive_enough(
    pairs: list[tuple[int, bool]], wanted: float
) -> None:
    scores, positive = arrays(pairs)
    best = max(t for t in scores.tolist() if np.mean(scores[positive] >= t) >= wanted)
    point = specificity_at_sensitivity(scores, positive, wanted)
    assert point.threshold == best
    assert point.sensitivity == pytest.approx(np.mean(scores[positive] >= best))
    assert point.specificity == pytest.approx(np.mean(scores[~positive] < best))
    assert at_threshold(scores, positive, best) == point


def test_exactly_95_of_100_positives_are_enough() -> None:
    scores = np.arange(200) / 200
    point = specificity_at_sensitivity(scores, np.arange(200) % 2 == 1)
    assert point.sensitivity == 0.95


@pytest.mark.parametrize("positive", [True, False])
def test_one_kind_of_slide_alone_is_an_error(positive: bool) -> None:
    for metric in (auc, specificity_at_sensitivity):
        with pytest.raises(ManifestError, match="negative" if positive else "positive"):
            metric(np.array([0.1, 0.2]), np.array([positive, positive]))


def test_positive_scores_are_the_binary_score() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(len(SLIDE_CLASSES)), size=5)
    np.testing.assert_allclose(positive_scores(p), [binary_score(row.tolist()) for row in p])


def test_f1_macro_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 4, 3])
    # class 0: P 1, R 2/3; class 1: P 1/2, R 1/2; class 3: 1; class 4: never true; class 2 does not occur
    assert f1_macro(predicted, truth) == pytest.approx(np.mean([0.8, 0.5, 1.0, 0.0]))
    with pytest.raises(ValueError, match="class indices"):
        f1_macro(np.eye(3), np.eye(3))


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
    with pytest.raises(BagError, match="chosen by the detector a0a0"):
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


def test_cell_inferer_skips_padding(network: SlideClassifier) -> None:
    images = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    with torch.no_grad():
        encoder = network.encoder.eval()
        logits = CellInferer(chunk=2)(images, encoder, mask)
        torch.testing.assert_close(logits[0, 1], encoder(images[0, 1:2].float() / 255)[0], rtol=1e-4, atol=1e-5)
    assert torch.all(logits[~mask] == 0)
    assert CellInferer()(images, encoder).shape == (2, 3, 5)


def test_bag_inferer_refuses_another_bag_size(network: SlideClassifier) -> None:
    network.eval().set_operating_point(0.5)
    bag = torch.randn(2, 4, network.encoder.feature_dim)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    with pytest.raises(BagError, match="hold"):
        BagInferer(top_k=8)(bag, network, mask)
    with torch.no_grad():
        logits = BagInferer(top_k=8, force=True)(bag, network, mask)
    torch.testing.assert_close(logits, network(bag, mask))


@pytest.mark.parametrize("wanted", [0, 2, 95])
def test_a_sensitivity_that_is_no_share_is_refused(wanted: float, network: SlideClassifier) -> None:
    with pytest.raises(ConfigError, match=f"{wanted} is no share"):
        OperatingPointHandler(network, wanted)
