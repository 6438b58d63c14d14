"""The cell classifier."""

from __future__ import annotations

import pytest
import torch

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import ConfigError
from stride_monai.networks.batch_norm import refuse_batch_norm
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead


@pytest.fixture(scope="module")
def network() -> CellClassifier:
    torch.manual_seed(0)
    return CellClassifier("convnext_atto").eval()


@pytest.mark.parametrize("side", [64, 96, 128])
def test_any_image_size(network: CellClassifier, side: int) -> None:
    with torch.no_grad():
        image = torch.rand(2, 3, side, side)
        features = network.encode(image)
        assert features.shape == (2, network.feature_dim)
        assert network(image).shape == (2, len(CELL_CLASSES))
        torch.testing.assert_close(network.head(features), network(image))


def test_normalizes_inside(network: CellClassifier) -> None:
    image = torch.rand(1, 3, 64, 64)
    by_hand = image.clone()
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        by_hand[:, channel] = (by_hand[:, channel] - mean) / std
    with torch.no_grad():
        torch.testing.assert_close(network.encode(image), network.encoder(by_hand))
    assert not {"mean", "std"} & set(network.state_dict())


def test_loss_moves_with_the_input(network: CellClassifier) -> None:
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    torch.nn.functional.cross_entropy(network(image), torch.tensor([0, 4])).backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0


def test_vision_transformer_takes_other_sizes() -> None:
    vit = CellClassifier("vit_tiny_patch16_224").eval()
    with torch.no_grad():
        assert vit(torch.rand(1, 3, 128, 128)).shape == (1, len(CELL_CLASSES))


def test_unknown_model_names_similar_ones() -> None:
    with pytest.raises(ConfigError, match="convnext_"):
        CellClassifier("convnext_tinny")


def test_traces_to_torchscript(network: CellClassifier) -> None:
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.trace(network, image)(image), network(image))


def test_a_frozen_encoder_is_probed_and_never_changes() -> None:
    torch.manual_seed(0)
    probe = CellClassifier("test_efficientnet", freeze_encoder=True).train()
    assert probe.training
    assert not probe.encoder.training, "neither dropout nor statistics of the batch"
    before = {key: value.clone() for key, value in probe.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in probe.parameters() if p.requires_grad], lr=1.0)
    torch.nn.functional.cross_entropy(probe(torch.rand(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    changed = {key for key, value in probe.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"head.weight", "head.bias"}


def test_batch_norm_is_refused_for_training_on_bags_with_the_reason() -> None:
    cells = CellClassifier("test_efficientnet")  # allowed: single cells come from many slides
    with pytest.raises(ConfigError, match=r"BatchNorm.*share their statistics.*convnext_tiny"):
        refuse_batch_norm(cells)
    head = AttentionSlideHead(cells.feature_dim)
    with pytest.raises(ConfigError, match="end to end"):
        SlideClassifier(cells, head, freeze_encoder=False)
    SlideClassifier(cells, head, freeze_encoder=True)
    for name in ("convnext_atto", "vit_tiny_patch16_224"):
        refuse_batch_norm(CellClassifier(name))
