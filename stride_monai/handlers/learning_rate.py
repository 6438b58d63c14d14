"""The learning rate in TensorBoard."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

__all__ = ["LearningRateScalar"]


class LearningRateScalar:
    """Writes the learning rate of each group of parameters at every iteration of a trainer.

    List it before the handler that steps the schedule, so that an iteration stands beside the rate it was made with.

    Args:
        summary_writer: None writes nothing (another process does).
        optimizer: whose rates.
    """

    def __init__(self, summary_writer: SummaryWriter | None, optimizer: Optimizer) -> None:
        self.writer = summary_writer
        self.optimizer = optimizer

    def attach(self, engine: Engine) -> None:
        if self.writer is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.writer is not None
        groups = self.optimizer.param_groups
        for place, group in enumerate(groups):
            name = "learning_rate" if len(groups) == 1 else f"learning_rate/{place}"
            self.writer.add_scalar(name, group["lr"], engine.state.iteration)
