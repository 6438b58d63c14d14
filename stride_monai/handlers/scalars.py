"""What handlers of MONAI print and plot of a trainer's steps, and at which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from torch.optim import Optimizer

__all__ = ["LossScalars", "first_of_every", "loss_of"]


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
