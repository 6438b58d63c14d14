"""When a training validates, and when it stops because that no longer improves."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from monai.handlers import ValidationHandler

__all__ = ["EarlyStop", "Validation"]


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


class EarlyStop:
    """Ends the training when the validator's key metric has not improved in ``patience`` validations.

    Ignite's ``EarlyStopping``, attached to the trainer (a handler of the validator that knows the trainer would be a
    circle in a configuration) and with a state that can be saved. List it after the ``ValidationHandler``.

    Args:
        patience: validations without a better key metric; 0 never stops (the paper's setting).
        validator: MONAI evaluator with a key metric; higher is better.
    """

    def __init__(self, patience: int, validator: Any) -> None:
        self.patience = patience
        self.validator = validator
        self._stopping: EarlyStopping | None = None

    def attach(self, engine: Engine) -> None:
        if self.patience > 0:
            self._stopping = EarlyStopping(self.patience, self._score, engine)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self._stopping is not None and self.validator.state.epoch == engine.state.epoch:
            self._stopping(engine)

    def state_dict(self) -> dict[str, Any]:
        """Best score and how many validations have passed since."""
        return {} if self._stopping is None else dict(self._stopping.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up :meth:`state_dict` of a run that was stopped."""
        if self._stopping is not None and state:
            self._stopping.load_state_dict(state)

    def begin_anew(self) -> None:
        """Wait for ``patience`` validations again; the best score so far stays."""
        if self._stopping is not None:
            self._stopping.counter = 0

    def _score(self, _: Engine) -> float:
        state = self.validator.state
        return float(state.metrics[state.key_metric_name])
