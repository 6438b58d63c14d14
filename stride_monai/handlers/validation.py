"""Validate every so many epochs, and always after the last."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

__all__ = ["Validation"]


class Validation(ValidationHandler):
    """MONAI's ``ValidationHandler``, which also validates after the last epoch: a training ends with weights to keep.

    Args:
        as of :class:`monai.handlers.ValidationHandler`.
    """

    def attach(self, engine: Engine) -> None:
        super().attach(engine)
        if self.epoch_level:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_the_last)

    def _after_the_last(self, engine: Any) -> None:
        if engine.state.epoch == engine.state.max_epochs and engine.state.epoch % self.interval:
            self(engine)
