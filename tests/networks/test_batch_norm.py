"""Frozen batch normalisation: no cell depends on its neighbours, in a bag or beside it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stride_monai.errors import ConfigError
from stride_monai.networks.batch_norm import refuse_batch_norm
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_cell_encoder
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.swift import SwiftStudent

ENCODER = "test_efficientnet"


def with_statistics(batch_norm: str = "frozen") -> CellClassifier:
    """A network with statistics as of a training."""
    torch.manual_seed(0)
    network = CellClassifier(ENCODER, batch_norm=batch_norm).double()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network


def student(live: bool = False) -> SwiftStudent:
    encoder = with_statistics()
    head = AttentionSlideHead(encoder.feature_dim).double()
    made = SwiftStudent(SlideClassifier(encoder, head, top_k=4, freeze_encoder=False)).train()
    if live:  # which the student would have refused
        encoder.batch_norm = "live"
        made.train()
    return made


def first_bag(network: SwiftStudent, cells: Tensor, bags: Tensor) -> tuple[float, list[Tensor]]:
    """Loss of the first bag and its gradients with respect to the encoder."""
    network.zero_grad()
    mask = torch.ones(bags.shape[:2], dtype=torch.bool)
    torch.manual_seed(1)  # dropout of the slide head, drawn for the first bag first
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    out = network(cells, bags, mask, lambda images, _: images.double() / 255)
    loss = nn.functional.cross_entropy(out.slides[:1], torch.tensor([2]))
    loss.backward()
    return float(loss.detach()), [
        parameter.grad.clone() for parameter in network.classifier.encoder.encoder.parameters()
    ]


@pytest.mark.parametrize("live", [False, True])
def test_a_bag_does_not_depend_on_its_neighbours_where_statistics_are_frozen(live: bool) -> None:
    network = student(live)
    bags = torch.randint(0, 255, (3, 4, 3, 32, 32), dtype=torch.uint8)
    cells = torch.randint(0, 255, (5, 3, 32, 32), dtype=torch.uint8)
    alone, gradients = first_bag(network, cells[:0], bags[:1])
    together, with_others = first_bag(network, cells, bags)
    same = all(torch.allclose(a, b, rtol=1e-7, atol=1e-12) for a, b in zip(gradients, with_others, strict=True))
    if live:  # the control
        assert abs(together - alone) > 1e-5
        assert not same
    else:
        assert together == pytest.approx(alone, rel=1e-9)
        assert same
        assert any(float(gradient.abs().max()) > 1e-6 for gradient in gradients)


def test_statistics_stay_and_weight_and_bias_are_trained() -> None:
    network = with_statistics().train()
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    image = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    nn.functional.cross_entropy(network(image), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert not any("running_" in key or "num_batches" in key for key in changed)
    assert {"encoder.bn1.weight", "encoder.bn1.bias", "encoder.conv_stem.weight"} <= changed
    live = with_statistics("live").train()
    live(image)
    assert not torch.equal(live.state_dict()["encoder.bn1.running_mean"], before["encoder.bn1.running_mean"])


def test_weights_of_a_whole_classifier_are_kept_frozen_too(tmp_path: Path) -> None:
    torch.save(with_statistics().state_dict(), tmp_path / "cells.pt")
    network = create_cell_encoder(ENCODER, weights=tmp_path / "cells.pt")
    refuse_batch_norm(network)
    assert create_cell_encoder(ENCODER, weights=tmp_path / "cells.pt", batch_norm="live").batch_norm == "live"


def test_modes_are_kept_through_all_that_holds_the_encoder() -> None:
    encoder = with_statistics()
    held = nn.Sequential(SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), freeze_encoder=False))
    copies = [encoder, copy.deepcopy(encoder), EmaModel(encoder).module]
    for network in (held.train().eval().train(), *copies):
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        assert norms
        assert not any(module.training for module in norms)
    assert encoder.training
    assert encoder.encoder.training


def test_what_follows_the_batch_is_refused_and_modes_stay() -> None:
    live = with_statistics("live")
    live.eval()
    live.head.train()
    with pytest.raises(ConfigError, match=r"BatchNorm.*share their statistics.*batch_norm frozen.*convnext_tiny"):
        refuse_batch_norm(live)
    assert live.head.training
    assert not live.encoder.training
    refuse_batch_norm(with_statistics())
    refuse_batch_norm(CellClassifier(ENCODER, freeze_encoder=True))
    with pytest.raises(ConfigError, match="BatchNorm1d"):
        refuse_batch_norm(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval())
    with pytest.raises(ConfigError, match="unknown batch_norm 'frosen': did you mean frozen"):
        CellClassifier(ENCODER, batch_norm="frosen")
