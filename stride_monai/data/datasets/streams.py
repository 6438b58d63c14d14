"""Batches without end: a second set of cells beside the one that makes the epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stride_monai.data.datasets.cells import samples_of
from stride_monai.data.datasets.sampling import share_of_batch
from stride_monai.errors import ConfigError

__all__ = ["EndlessBatches", "EndlessStream"]


class EndlessBatches(Sampler[list[int]]):
    """Indices of one batch after another, pass after pass over a shuffled set; the k-th depends on seed and k alone.

    So a stream of any length goes with any number of steps, and a resumed training takes it up at its step. A batch
    never holds a sample twice unless the set is smaller than the batch; what is left over at the end of a pass is
    another part of the set each time. Process r of w gets the members r, r + w, ... of each batch.

    Args:
        size: number of samples in the set.
        batch_size: of all processes together.
        seed: of the run.
        first: batch to begin with.
        weights: draw every batch with replacement instead, each sample in proportion to its weight ``[size]``.

    Raises:
        ConfigError: nothing to draw, nothing to draw from, or weights that are none.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int = 0, first: int = 0, weights: Tensor | None = None
    ) -> None:
        if size < 1 or batch_size < 1:
            raise ConfigError(f"batches of {batch_size} out of {size} samples", "give 1 or more of each")
        self.size, self.batch_size, self.seed, self.first = size, batch_size, seed, first
        self._edges = None if weights is None else _edges(weights, size)

    def batch(self, step: int) -> list[int]:
        """The indices of this process in the batch of a step."""
        if self._edges is not None:
            draws = np.random.default_rng((self.seed, step)).random(self.batch_size)
            whole = np.minimum(np.searchsorted(self._edges, draws, side="right"), self.size - 1)
        else:
            turn, place = divmod(step, max(self.size // self.batch_size, 1))
            order = np.random.default_rng((self.seed, turn)).permutation(self.size)
            whole = np.resize(order[place * self.batch_size :], self.batch_size)
        return [int(index) for index in whole[idist.get_rank() :: idist.get_world_size()]]

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.batch, count(self.first))


def _edges(weights: Tensor, size: int) -> NDArray[np.float64]:
    """Upper edges, in 0-1, of the intervals that stand for the samples."""
    values = weights.double().numpy()
    if values.shape != (size,) or not np.all(values >= 0) or not 0 < values.sum() < np.inf:
        raise ConfigError(f"weights of shape {values.shape} for {size} samples", "give one of 0 or more to each")
    edges: NDArray[np.float64] = np.cumsum(values) / values.sum()
    return edges


class EndlessStream:
    """The batches of a data set by the number of the step, loaded ahead as long as steps follow each other.

    Args:
        dataset: of dictionaries; where it has ``__getitems__`` a batch is loaded at once.
        batch_size: of all processes together; each gets its share.
        seed: of the run.
        num_workers: processes that load.
        pin_memory: for copies to a GPU that do not wait.
        weights: as of :class:`EndlessBatches`.

    Raises:
        ConfigError: the batch cannot be shared by the processes, or as of :class:`EndlessBatches`.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        weights: Tensor | None = None,
    ) -> None:
        share_of_batch(batch_size)  # refuses what cannot be shared
        self._batches = EndlessBatches(len(dataset), batch_size, seed, weights=weights)
        self._loader = DataLoader(
            _Numbered(dataset),
            batch_sampler=self._batches,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Of its own: starting the stream, which a resumed run does at another step, must not move the dropout.
            generator=torch.Generator().manual_seed(seed),
        )
        self._running: Iterator[dict[str, Any]] | None = None
        self._next = -1

    def __call__(self, step: int) -> dict[str, Any]:
        """The batch of a step, from 0: the samples' keys, collated, and ``index`` int64 ``[B]``, their places."""
        if self._running is None or step != self._next:
            self._batches.first = step
            self._running = iter(self._loader)
        self._next = step + 1
        return next(self._running)

    def close(self) -> None:
        """End the processes that load; the next call starts others."""
        self._running = None


class _Numbered(Dataset[dict[str, Any]]):
    """The samples of a data set, each with its place in it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        samples = samples_of(self.dataset, indices)
        return [{**sample, "index": index} for sample, index in zip(samples, indices, strict=True)]
