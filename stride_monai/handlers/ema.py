"""Keep a moving average of a network up to date while it trains."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from stride_monai.networks.ema import EmaModel

__all__ = ["EmaUpdater", "ends_accumulation"]


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
        if ends_accumulation(engine):
            self.ema.update(self.network)


def ends_accumulation(engine: Any) -> bool:
    """Whether this iteration ended an accumulation of gradients, by the rule of MONAI's trainer."""
    accumulated = getattr(engine, "accumulation_steps", 1)
    length = engine.state.epoch_length
    place = engine.state.iteration if length is None else (engine.state.iteration - 1) % length + 1
    return bool(place % accumulated == 0 or place == length)
