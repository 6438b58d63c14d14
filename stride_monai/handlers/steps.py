"""What happens at each step of a trainer's optimizer: clipping, and the moving average."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from stride_monai.errors import ConfigError
from stride_monai.networks.ema import EmaModel

__all__ = ["EmaUpdater", "GradientClipping"]


class GradientClipping:
    """Scales the gradient of all parameters of the trainer's optimiser down to a norm, before each of its steps.

    Gradients that were scaled for float16 are brought back to their size first; accumulated ones are clipped once.

    Args:
        max_norm: largest Euclidean norm, above 0.

    Raises:
        ConfigError: the norm is not above 0.
    """

    def __init__(self, max_norm: float) -> None:
        if max_norm <= 0:
            raise ConfigError(f"gradients clipped to a norm of {max_norm}", "give a norm above 0, or leave it out")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if not _ends_accumulation(engine):
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        parameters = [p for group in engine.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)


class EmaUpdater:
    """Updates an :class:`~stride_monai.networks.EmaModel` after each step of the trainer's optimiser.

    Args:
        ema: the average.
        network: what it follows (not its data-parallel wrapper).
    """

    def __init__(self, ema: EmaModel, network: nn.Module) -> None:
        self.ema = ema
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if _ends_accumulation(engine):
            self.ema.update(self.network)


def _ends_accumulation(engine: Any) -> bool:
    """Whether this iteration ended an accumulation of gradients, by the rule of MONAI's trainer."""
    accumulated = getattr(engine, "accumulation_steps", 1)
    length = engine.state.epoch_length
    place = engine.state.iteration if length is None else (engine.state.iteration - 1) % length + 1
    return bool(place % accumulated == 0 or place == length)
