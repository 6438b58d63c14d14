"""Clip the gradient before the optimiser steps."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from stride_monai.errors import ConfigError
from stride_monai.handlers.ema import ends_accumulation

__all__ = ["GradientClipping"]


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
        if not ends_accumulation(engine):
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        parameters = [p for group in engine.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
