"""EMA of a network against the recursion written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import self_supervised_toys as self_supervised
import semi_supervised_toys as semi_supervised
import swift_toys as swift
import torch
from extras import needs
from torch import nn

from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.errors import ConfigError
from stride_monai.losses.mean_teacher import MeanTeacher
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


def test_takes_no_gradient_and_is_in_evaluation_mode_whatever_its_owner_says() -> None:
    network = _network().train()
    ema = EmaModel(network)
    owner = nn.ModuleDict({"ema": ema, "network": network})
    image = torch.randn(4, 3)
    for _ in range(2):  # as it was made, and after its owner was told to train
        assert not any(module.training for module in ema.modules())
        assert torch.equal(ema(image), ema(image))
        assert torch.equal(ema.module[1].running_mean, network[1].running_mean), "its own batches leave no trace"
        owner.train()
    assert network.training
    assert not any(p.requires_grad for p in ema.parameters())


def test_refuses_a_decay_of_one() -> None:
    with pytest.raises(ConfigError, match="decay"):
        EmaModel(_network(), decay=1.0)


def _swift(**kwargs: Any) -> tuple[Any, list[nn.Module], nn.Module]:
    network = swift.classifier()
    engine = swift.trainer(network, swift.bag_batches(2), **kwargs)
    return engine, [engine.teacher], network


def _mean_teacher() -> tuple[Any, list[nn.Module], nn.Module]:
    engine, parts = semi_supervised.make(MeanTeacher())
    return engine, [parts["ema"]], parts["network"]


def _self_supervised(kind: Callable[[], Any]) -> tuple[Any, list[nn.Module], nn.Module]:
    needs("lightly", "ssl")
    method = kind()
    return self_supervised.trainer(method), [method.teacher, method.teacher_head], method.student


@pytest.mark.parametrize(
    "make",
    [
        _swift,
        lambda: _swift(kind=ColorAdvTrainer),
        _mean_teacher,
        lambda: _self_supervised(self_supervised.moco),
        lambda: _self_supervised(self_supervised.dino),
    ],
    ids=["swift", "coloradv", "mean_teacher", "moco", "dino"],
)
def test_every_teacher_is_in_evaluation_mode_while_its_student_trains(
    make: Callable[[], tuple[Any, list[nn.Module], nn.Module]],
) -> None:
    engine, teachers, student = make()
    modes: dict[str, set[bool]] = {"teacher": set(), "student": set()}
    for role, networks in (("teacher", teachers), ("student", [student])):
        for module in (module for network in networks for module in network.modules()):
            module.register_forward_pre_hook(lambda module, _, role=role: modes[role].add(module.training))
    engine.run()
    assert modes == {"teacher": {False}, "student": {True}}
