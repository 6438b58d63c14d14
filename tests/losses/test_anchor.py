"""The anchor of an encoder's features: a literal formula, and what it does and does not hold on to."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from stride_monai.errors import ConfigError
from stride_monai.losses import AnchoredLoss
from stride_monai.networks import CellClassifier


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(image))
        return logits


def moved(network: Tiny) -> Tiny:
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


IMAGES, LABELS = torch.rand(4, 3, 2, 2), torch.tensor([0, 2, 1, 1])


def test_it_is_the_loss_and_the_mean_angle_to_the_first_features() -> None:
    network = Tiny()
    first = copy.deepcopy(network)
    loss = AnchoredLoss(nn.CrossEntropyLoss(), network, weight=0.7)
    moved(network)
    found = float(loss(network(IMAGES), LABELS).detach())
    expected = 0.0
    for image, label in zip(IMAGES, LABELS.tolist(), strict=True):
        z, before = (each.encoder(image[None])[0].tolist() for each in (network, first))
        logits = network(image[None])[0].tolist()
        expected -= math.log(math.exp(logits[label]) / sum(map(math.exp, logits))) / 4
        product = sum(a * b for a, b in zip(z, before, strict=True))
        expected += 0.7 * (1 - product / math.hypot(*z) / math.hypot(*before)) / 4
    assert found == pytest.approx(expected, rel=1e-5)


def test_it_pulls_back_and_moves_with_the_picture() -> None:
    network = Tiny()
    loss = AnchoredLoss(lambda logits, label: 0 * logits.sum(), network, weight=1.0)
    assert float(loss(network(IMAGES), LABELS).detach()) == pytest.approx(0, abs=1e-6)
    moved(network)
    optimizer = torch.optim.SGD(network.encoder.parameters(), lr=0.5)
    seen = []
    for _ in range(30):
        value = loss(network(IMAGES), LABELS)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen.append(float(value.detach()))
    assert seen[-1] < 0.5 * seen[0]
    with torch.no_grad():
        moved(network)
    assert float(loss(network(IMAGES), LABELS).detach()) != float(loss(network(1 - IMAGES), LABELS).detach())


def test_passes_without_gradient_do_not_count_and_nothing_of_it_is_saved() -> None:
    network = moved(Tiny())
    keys = list(network.state_dict())
    loss = AnchoredLoss(nn.CrossEntropyLoss(), network, weight=1.0)
    moved(network)
    logits = network(IMAGES)
    with torch.no_grad():
        network(1 - IMAGES)
    network.eval()
    network(torch.rand(2, 3, 2, 2))
    network.train()
    expected = AnchoredLoss(nn.CrossEntropyLoss(), network, weight=0.0)(logits, LABELS)
    assert float(loss(logits, LABELS).detach()) > float(expected.detach())
    assert float(loss(logits, LABELS).detach()) == pytest.approx(float(expected.detach())), "each pass counts once"
    assert list(network.state_dict()) == keys
    assert not list(loss.parameters())
    with pytest.raises(ConfigError, match="anchor_weight"):
        AnchoredLoss(nn.CrossEntropyLoss(), network, weight=-1)


def test_parts_of_an_encoder_can_be_frozen_by_name() -> None:
    network = CellClassifier("test_convnext", frozen_parts=("stem", "stages.0"))
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    still = {name for name, parameter in network.encoder.named_parameters() if parameter.grad is None}
    assert still == {name for name, _ in network.encoder.named_parameters() if name.startswith(("stem.", "stages.0."))}
    with pytest.raises(ConfigError, match=r"unknown part of the encoder 'stages\.9'"):
        CellClassifier("test_convnext", frozen_parts=("stages.9",))


IMAGES_32 = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
LITE0 = "tf_efficientnet_lite0"
EARLY = ("conv_stem", "bn1", "blocks.0", "blocks.1")


def early_calls(loss: AnchoredLoss) -> list[str]:
    """Names of the frozen parts that the anchor computes from now on."""
    called: list[str] = []
    for name, twin in loss._twins.items():
        twin.own.register_forward_hook(lambda *_, name=name: called.append(name))
    return called


def test_what_frozen_parts_have_said_is_not_computed_twice() -> None:
    """Loss and gradients are those of an anchor that computes everything, bit by bit; the frozen parts run once."""
    torch.manual_seed(1)
    networks = [CellClassifier(LITE0, frozen_parts=EARLY, batch_norm="frozen")]
    networks.append(copy.deepcopy(networks[0]))
    losses = [AnchoredLoss(nn.CrossEntropyLoss(), network, weight=0.7) for network in networks]
    assert list(losses[0]._twins) == list(EARLY)
    for twin in losses[1]._twins.values():
        twin.is_like = lambda _: False  # type: ignore[method-assign]
    called = [early_calls(loss) for loss in losses]
    images = torch.rand(4, 3, 32, 32)
    for _ in range(2):
        values = [loss(network(images), LABELS) for loss, network in zip(losses, networks, strict=True)]
        assert torch.equal(*values)
        for network, value in zip(networks, values, strict=True):
            optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert called == [[], [*EARLY, *EARLY]]
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, other)
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_it_is_computed_where_it_may_differ() -> None:
    """Other weights in a frozen part, live statistics, chance, pictures with a gradient: the anchor asks its own."""
    network = CellClassifier(LITE0, frozen_parts=EARLY, batch_norm="frozen")
    first = copy.deepcopy(network)
    loss = AnchoredLoss(lambda logits, _: 0 * logits.sum(), network, weight=1.0)
    called = early_calls(loss)

    def asked(images: torch.Tensor = IMAGES_32) -> list[str]:
        called.clear()
        with torch.no_grad():
            before = first.eval().encode(images)
        value = float(loss(network(images), LABELS).detach())
        after = loss_features[-1].detach()
        expected = float((1 - nn.functional.cosine_similarity(after, before, dim=1)).mean())
        assert value == pytest.approx(expected, abs=1e-6)
        return list(called)

    loss_features: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda _, __, features: loss_features.append(features))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert asked() == []
    assert asked(IMAGES_32.clone().requires_grad_()) == list(EARLY)
    network.load_state_dict(state)
    assert asked() == [], "the same weights, loaded anew"
    network.encoder.bn1.train()
    assert asked() == list(EARLY)
    network.train()
    network.load_state_dict({**state, "encoder.conv_stem.weight": state["encoder.conv_stem.weight"].roll(1, 0)})
    assert asked() == list(EARLY)
    assert float(loss(network(IMAGES_32), LABELS).detach()) > 1e-4
    network.load_state_dict(state)
    assert asked() == []
    network.encoder.blocks[1][0].drop_path = nn.Dropout(0.5)
    assert asked() == list(EARLY)
