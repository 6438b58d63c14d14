"""Slide head and slide classifier against slow formulas written out in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import BagError, BundleError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead, drop_cells


def head(dim: int = 7, hidden: int = 5, layers: int = 4) -> AttentionSlideHead:
    torch.manual_seed(0)
    network = AttentionSlideHead(dim, hidden=hidden, layers=layers).double().eval()
    for parameter in network.parameters():  # LayerNorm starts as the identity, which would hide a missing one
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def slow_head(state: dict[str, np.ndarray], z: np.ndarray, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """METHOD section 5 for one bag without padding, one cell and one layer at a time."""
    scores = []
    for cell in z:
        projected = np.tanh(state["pooling.project.weight"] @ cell + state["pooling.project.bias"])
        scores.append(float(state["pooling.score.weight"][0] @ projected))
    weights = [math.exp(score - max(scores)) for score in scores]
    attention = np.array([weight / sum(weights) for weight in weights])
    seen = sum(a * cell for a, cell in zip(attention, z, strict=True))
    for n in range(layers):
        y = state[f"mlp.blocks.{n}.0.weight"] @ seen + state[f"mlp.blocks.{n}.0.bias"]
        y = (y - y.mean()) / math.sqrt(((y - y.mean()) ** 2).mean() + 1e-5)
        y = y * state[f"mlp.blocks.{n}.1.weight"] + state[f"mlp.blocks.{n}.1.bias"]
        y = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in y])
        seen = np.concatenate([seen, y])
    return state["classifier.weight"] @ seen + state["classifier.bias"], attention


@pytest.mark.parametrize("layers", [1, 4])
def test_head_equals_the_slow_formula(layers: int) -> None:
    network = head(layers=layers)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    bags = torch.randn(3, 6, 7, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]], dtype=torch.bool)
    logits, attention = network(bags, mask)
    assert logits.shape == (3, len(SLIDE_CLASSES))
    for j in range(3):
        expected, weights = slow_head(state, bags[j][mask[j]].numpy(), layers)
        np.testing.assert_allclose(logits[j].detach(), expected, rtol=1e-10)
        np.testing.assert_allclose(attention[j][mask[j]].detach(), weights, rtol=1e-10)
        assert torch.all(attention[j][~mask[j]] == 0)


def test_padding_does_not_matter_even_where_it_is_nan() -> None:
    network = head()
    bag = torch.randn(1, 4, 7, dtype=torch.float64)
    padded = torch.cat([bag, torch.full((1, 3, 7), math.nan, dtype=torch.float64)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    torch.testing.assert_close(network(padded, mask)[0], network(bag)[0])


def test_order_of_the_cells_does_not_matter() -> None:
    network, bag, order = head(), torch.randn(2, 9, 7, dtype=torch.float64), torch.randperm(9)
    logits, attention = network(bag)
    shuffled, moved = network(bag[:, order])
    torch.testing.assert_close(shuffled, logits)
    torch.testing.assert_close(moved, attention[:, order])


@pytest.mark.parametrize(
    ("features", "mask"),
    [
        (torch.zeros(2, 3, 7), torch.tensor([[True, True, True], [False, False, False]])),
        (torch.zeros(1, 0, 7), None),
        (torch.zeros(1, 3, 7), torch.ones(1, 4, dtype=torch.bool)),
    ],
)
def test_empty_or_unfitting_bags_are_errors(features: torch.Tensor, mask: torch.Tensor | None) -> None:
    with pytest.raises(BagError):
        head()(features.double(), mask)


def test_attention_dropout_drops_cells_and_renormalizes() -> None:
    network = head().train()
    network.pooling.dropout = 0.5
    torch.manual_seed(1)
    attention = network(torch.randn(4, 50, 7, dtype=torch.float64))[1]
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert 0.3 < float((attention == 0).double().mean()) < 0.7
    only = torch.tensor([[False, True]])
    assert torch.equal(drop_cells(only, 1.0), only), "the last cell of a bag is kept"


def test_loss_moves_with_input_and_every_parameter_learns() -> None:
    network = head().train()
    bag = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(network(bag)[0], torch.tensor([0, 3]))
    loss.backward()
    assert bag.grad is not None
    assert float(bag.grad.abs().sum()) > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def classifier(**kwargs: object) -> SlideClassifier:
    torch.manual_seed(0)
    encoder = CellClassifier("convnext_atto")
    return SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), top_k=4, **kwargs)  # type: ignore[arg-type]


def test_images_and_their_features_give_the_same_logits_whatever_the_chunk() -> None:
    network = classifier(chunk=3).eval()
    images = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        features = network.encode(images)
        whole = network.encoder.encode(images.flatten(0, 1)).view(2, 4, -1)
        torch.testing.assert_close(features, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(images), network(features))
        logits, attention, cam = network.decide(features)
    torch.testing.assert_close(logits, network(features))
    assert attention.shape == cam.shape == (2, 4)
    with pytest.raises(BagError):
        network(torch.rand(2, 3, 32, 32))


def test_frozen_encoder_stays_frozen_and_in_eval_mode() -> None:
    network = classifier().train()
    assert network.training
    assert network.slide_head.training
    assert not network.encoder.training
    network(torch.rand(1, 4, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for p in network.slide_head.parameters())


def test_free_encoder_trains() -> None:
    network = classifier(freeze_encoder=False).train()
    assert network.encoder.training
    network(torch.rand(1, 4, 3, 32, 32)).square().sum().backward()
    assert network.encoder.encoder.stem[0].weight.grad.abs().sum() > 0


def test_operating_point_travels_with_the_state_dict() -> None:
    network = classifier()
    with pytest.raises(BundleError, match="no operating point"):
        network.operating_point()
    network.set_operating_point(0.3, top_k=64)
    other = classifier()
    other.load_state_dict(network.state_dict())
    point = other.operating_point("here")
    assert (point.bag_size, point.source) == (64, "here")
    assert point.threshold <= 0.3, "rounding never excludes the slide that gave the threshold"
    assert point.threshold == pytest.approx(0.3)
    other.check_top_k(64)
    other.check_top_k(256, force=True)
    with pytest.raises(BagError, match="64"):
        other.check_top_k(256)


def test_operating_point_is_stored_with_its_detector() -> None:
    network, one = classifier(), "1f" * 32
    assert network.detector_sha256 == ""
    network.set_operating_point(0.3, detector=one)
    other = classifier()
    other.load_state_dict(network.state_dict())
    assert other.detector_sha256 == one
    with pytest.raises(ValueError, match="invalid SHA-256"):
        other.set_operating_point(0.3, detector="1f")
    other.set_operating_point(0.4)
    assert other.detector_sha256 == "", "a new threshold does not keep the detector of the old one"


def test_traces_to_torchscript() -> None:
    network = classifier().eval()
    images = torch.rand(1, 4, 3, 32, 32)
    traced = torch.jit.trace(network, images)
    torch.testing.assert_close(traced(images), network(images))
