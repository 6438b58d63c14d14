"""How often a cell is drawn in an epoch, and which process gets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ignite import distributed as idist
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from stride_monai.errors import ConfigError

__all__ = ["CellSampler", "share_of_batch"]


def share_of_batch(batch_size: int) -> int:
    """How many samples of a global batch are this process's, so that the batch of the configuration stays the batch.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """
    processes = idist.get_world_size()
    if batch_size % processes:
        raise ConfigError(
            f"a batch of {batch_size} cannot be shared by {processes} processes", "choose a multiple of their number"
        )
    return int(batch_size // processes)


class CellSampler(DistributedSampler[Any]):
    """Indices of an epoch: plain, every cell once in random order, or class-balanced, drawn with replacement.

    The order is a function of the seed and the epoch alone (:meth:`set_epoch`, which MONAI's trainers call), so a
    resumed run goes on as it would have. Of several processes each takes every n-th index: together their batches are
    the batch of one process.

    Args:
        items: samples with a class index under ``label``, such as the ``data`` of a dataset.
        balance: 0 plain; above it a cell is drawn with a probability in proportion to ``count(class) ** -balance``, so
            that at 1 every class is drawn equally often.
        num_samples: cells per epoch; None for as many as there are. Rounded up to a multiple of the processes.
        seed: of the run.
        num_replicas: number of processes. rank: of this one.

    Raises:
        ConfigError: there is no cell, or the balance or the number of cells per epoch is out of range.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        balance: float = 0.0,
        num_samples: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        wanted = len(items) if num_samples is None else num_samples
        if balance < 0 or wanted < 1 or not len(items):
            raise ConfigError(
                f"{len(items)} cells, balance {balance}, {wanted} cells per epoch",
                "give cells, a balance of 0 or more and at least one cell per epoch",
            )
        super().__init__(items, num_replicas=num_replicas, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.num_samples = -(-wanted // num_replicas)  # of this process, as DistributedSampler has it
        self.total_size = self.num_samples * num_replicas
        self._weights: NDArray[np.float64] | None = None
        if balance:  # without it the items need no label
            labels = [int(item["label"]) for item in items]
            counts = Counter(labels)
            weights = np.array([counts[label] ** -balance for label in labels])
            self._weights = weights / weights.sum()

    def __iter__(self) -> Iterator[int]:
        # Seed and epoch are mixed: epoch 2 of seed 1 is not epoch 1 of seed 2. numpy's draws, unlike torch's, are the
        # first ones of any longer sequence: what rounding up to the processes adds stands at the end.
        random = np.random.default_rng((self.seed, self.epoch))
        count = len(self.dataset)  # type: ignore[arg-type]
        if self._weights is not None:
            drawn = random.choice(count, self.total_size, p=self._weights)
        else:
            rounds = -(-self.total_size // count)
            drawn = np.concatenate([random.permutation(count) for _ in range(rounds)])[: self.total_size]
        return iter(drawn[self.rank :: self.num_replicas].tolist())
