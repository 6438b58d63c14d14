"""Bags of crops to cell and slide logits."""

from __future__ import annotations

import pytest
import torch

from stride_monai.errors import BagError
from stride_monai.inferers.bags import BagInferer, CellInferer
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead


@pytest.fixture
def network() -> SlideClassifier:
    torch.manual_seed(0)
    encoder = CellClassifier("convnext_atto")
    return SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), top_k=4)


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
