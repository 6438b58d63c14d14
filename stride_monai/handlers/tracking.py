"""What experiment trackers and TensorBoard are given of a trainer's steps, and at which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

__all__ = ["LearningRateScalar", "LossScalars", "Tracked", "WholeBatch", "first_of_every", "loss_of"]


def first_of_every(count: int) -> Callable[[Engine, int], bool]:
    """Whether an iteration (from 1) is the first of ``count``, as the ``iteration_log`` of MONAI's handlers asks."""
    return lambda engine, iteration: (iteration - 1) % count == 0


def loss_of(output: Mapping[str, Any]) -> Any:
    """The loss in the output of a trainer."""
    return output["loss"]


class LossScalars:
    """The scalars of a training step under the names that TensorBoard shows, from the output of a trainer.

    ``train_loss`` is the loss of the step.

    Args:
        parts: further losses of the output by their names in it; 0 where a step has none.
        optimizer: adds ``learning_rate``, that of its first group of parameters.
    """

    def __init__(self, parts: Sequence[str] = (), optimizer: Optimizer | None = None) -> None:
        self.parts, self.optimizer = tuple(parts), optimizer

    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        scalars = {"train_loss": output["loss"], **{name: output.get(name, 0.0) for name in self.parts}}
        if self.optimizer is not None:
            scalars["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        return scalars


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


class WholeBatch(list[Any]):
    """An engine's output as a list of one dictionary, which is itself asked where a key is asked for.

    Output transforms that are written for MONAI's decollated batches (``from_engine(["loss"], first=True)``,
    ``lambda x: x[0]["loss"]``) and those that are written for a dictionary both find what they look for.
    """

    def __init__(self, output: dict[str, Any]) -> None:
        super().__init__([output])

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(0)[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in super().__getitem__(0) if isinstance(key, str) else super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of the dictionary."""
        return super().__getitem__(0).get(key, default)


class Tracked:
    """A tracker's handler (``MLFlowHandler`` or another that takes an ``output_transform``), attached so that it works.

    Args:
        handler: attaches itself to the engine, with its ``output_transform`` given a :class:`WholeBatch`.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        transform = getattr(handler, "output_transform", None)
        if callable(transform):
            handler.output_transform = lambda output: transform(
                WholeBatch(output) if isinstance(output, dict) else output
            )

    def attach(self, engine: Engine) -> None:
        self.handler.attach(engine)
