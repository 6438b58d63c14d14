"""EMA of a network against the recursion written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stride_monai.errors import ConfigError
from stride_monai.networks.ema import EmaModel


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_follows_the_recursion_and_copies_buffers() -> None:
    network = _network()
    ema = EmaModel(network, decay=0.7)
    expected = [p.detach().clone().double() for p in network.parameters()]
    for step in range(1, 8):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(5, 3))
        ema.update(network)
        decay = min(1 - 1 / (step + 1), 0.7)
        pairs = zip(expected, network.parameters(), strict=True)
        expected = [decay * e + (1 - decay) * p.detach().double() for e, p in pairs]
    for mean, value in zip(ema.module.parameters(), expected, strict=True):
        torch.testing.assert_close(mean.double(), value, rtol=1e-5, atol=1e-6)
    assert torch.equal(ema.module[1].running_mean, network[1].running_mean)


def test_resumed_state_goes_on_alike() -> None:
    network = _network()
    ema = EmaModel(network)
    for _ in range(3):
        ema.update(network)
    resumed = EmaModel(_network())
    resumed.load_state_dict(ema.state_dict())
    with torch.no_grad():
        network[0].weight += 1
    ema.update(network)
    resumed.update(network)
    assert int(resumed.step) == 4
    for ours, theirs in zip(ema.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_takes_no_gradient_and_no_dropout() -> None:
    ema = EmaModel(_network()).train()
    assert not any(p.requires_grad for p in ema.parameters())
    image = torch.randn(4, 3)
    assert torch.equal(ema(image), ema(image))


def test_refuses_a_decay_of_one() -> None:
    with pytest.raises(ConfigError, match="decay"):
        EmaModel(_network(), decay=1.0)
