"""The exponential moving average of a network: teacher of semi-supervised training, smoother weights for evaluation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from stride_monai.errors import ConfigError

__all__ = ["EmaModel"]


class EmaModel(nn.Module):
    """A frozen copy of a network whose parameters follow it.

    After each step of the optimiser ``update`` sets every parameter to ``d * mean + (1 - d) * parameter`` with
    ``d = min(1 - 1 / (step + 1), decay)``, step counted from 1: a plain mean at first, so that the random start is
    forgotten (Mean Teacher, https://arxiv.org/abs/1703.01780). Buffers are copied. The step count is part of the state,
    so a resumed run goes on with the same decay.

    The copy is in evaluation mode from the start and stays there, whatever ``train()`` says: dropout, drop path and
    the statistics of a batch are the student's alone, and a BatchNorm in the copy uses the running statistics that it
    was given.

    Args:
        network: to follow (not its data-parallel wrapper). It is copied, with its device.
        decay: 0 (the last weights) to below 1.

    Raises:
        ConfigError: the decay is outside [0, 1).
    """

    step: Tensor

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError(f"the decay of a moving average is {decay}", "use 0 to below 1, e.g. 0.999")
        self.decay = decay
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.eval()

    def train(self, mode: bool = True) -> EmaModel:
        """The copy stays in evaluation mode, also when a network that holds it is told to train."""
        super().train(False)
        return self

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Follow the network, which has just made a step."""
        self.step += 1
        decay = min(1 - 1 / (int(self.step) + 1), self.decay)
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mean, buffer in zip(self.module.buffers(), network.buffers(), strict=True):
            mean.copy_(buffer)

    def forward(self, *args: object, **kwargs: object) -> object:
        """Call the copy."""
        return self.module(*args, **kwargs)
