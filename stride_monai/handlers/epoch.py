"""What an epoch of an engine yields, gathered batch by batch and from every process, for metrics and reports alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.handlers import from_engine
from monai.utils import evenly_divisible_all_gather, string_list_all_gather
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PRED_AND_LABEL", "EpochHandler", "EpochMetric", "Gathered", "predictions"]

PRED_AND_LABEL = from_engine(["pred", "label"])


class Gathered:
    """Columns of an epoch, one row for each sample.

    A column comes as a tensor ``[B, ...]``, as a list of what each sample has (a decollated batch), or as a list of
    words. Tensors stay on their device.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[Any, ...]] = []

    def add(self, *columns: Tensor | Sequence[Any]) -> None:
        """A batch; the same columns each time."""
        self._batches.append(tuple(_column(column) for column in columns))

    def columns(self) -> list[Any]:
        """Each column of all processes: a tensor ``[N, ...]``, or a list of words."""
        return [_of_all_processes(parts) for parts in zip(*self._batches, strict=True)]


def _column(values: Tensor | Sequence[Any]) -> Tensor | list[str]:
    if isinstance(values, Tensor):
        return values.detach()
    if values and isinstance(values[0], str):
        return list(values)
    return torch.stack([torch.as_tensor(value).detach() for value in values])


def _of_all_processes(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        # An empty word would not travel between processes.
        return [word[1:] for word in string_list_all_gather([f"={word}" for part in parts for word in part])]
    return evenly_divisible_all_gather(torch.cat(list(parts)))


def predictions(logits: Tensor, labels: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities ``[N, C]`` and class indices ``[N]`` of gathered logits and labels."""
    probabilities: NDArray[np.float64] = torch.softmax(logits.float().double(), dim=1).cpu().numpy()
    return probabilities, labels.flatten().long().cpu().numpy()


class EpochHandler:
    """A handler that collects from each iteration and finishes at the end of an epoch.

    Args:
        output_transform: from the engine's output to the columns that are gathered.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = PRED_AND_LABEL) -> None:
        self.output_transform = output_transform
        self.gathered = Gathered()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget the epoch before."""
        self.gathered = Gathered()

    def collect(self, engine: Engine) -> None:
        """Take what an iteration yields."""
        self.gathered.add(*self.output_transform(engine.state.output))

    def finish(self, engine: Engine) -> None:
        """Judge the epoch; every process has to gather."""
        raise NotImplementedError


class EpochMetric(Metric):
    """An Ignite metric of all samples of an epoch, of every process.

    Args:
        output_transform: from the engine's output to the columns that :meth:`value` takes, such as logits ``[B, C]``
            and class indices ``[B]`` (tensors, or lists of samples). Class indices, never one-hot rows: Ignite would
            count those element by element.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = PRED_AND_LABEL) -> None:
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._gathered = Gathered()

    def update(self, output: Sequence[Any]) -> None:
        self._gathered.add(*output)

    def compute(self) -> float:
        return self.value(*self._gathered.columns())

    def value(self, *columns: Any) -> float:
        """The metric of gathered columns."""
        raise NotImplementedError
