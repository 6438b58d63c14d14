"""How often a cell is drawn in an epoch, and which process gets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from torch import Tensor
from torch.utils.data import DistributedSampler

from stride_monai.errors import ConfigError

__all__ = ["CellSampler", "draw_weights", "share_of_batch"]


_ROUNDING = 1e-9


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


def draw_weights(
    items: Sequence[Mapping[str, Any]], balance: float = 0.0, shares: Mapping[str, float] | None = None
) -> Tensor | None:
    """Probability of each sample to be drawn next, float64 ``[len(items)]``; None where all are alike.

    Classes are balanced within each source, so that a source's classes tell as little as can be of the source.

    Args:
        items: samples with ``label``, a class index, where there is a balance, and with ``source`` where they come from
            a joined cohort (:func:`stride_monai.data.join_cohorts`).
        balance: 0 or more: within a source a class has a share in proportion to ``count(class) ** (1 - balance)``.
        shares: share of the draws by source, 0-1; all other sources together have the rest.

    Raises:
        ConfigError: a balance below 0, a share outside 0-1, a source without samples, or shares that do not sum to 1
            where every sample is of a source that has one.
    """
    if balance < 0:
        raise ConfigError(f"a balance of {balance}", "give 0 or more")
    shares = dict(shares or {})
    if not (balance or shares):
        return None
    pools: dict[str | None, list[int]] = {}
    for place, item in enumerate(items):
        source = item.get("source")
        pools.setdefault(source if source in shares else None, []).append(place)
    _refuse_shares(shares, pools, {str(item.get("source")) for item in items})
    weights = torch.zeros(len(items), dtype=torch.float64)
    for source, places in pools.items():
        labels = [int(items[place]["label"]) if balance else 0 for place in places]
        counts = Counter(labels)
        own = torch.tensor([counts[label] ** -balance for label in labels], dtype=torch.float64)
        share = 1 - sum(shares.values()) if source is None else shares[source]
        weights[places] = own / own.sum() * max(share, 0.0)
    return weights / weights.sum()


def _refuse_shares(shares: Mapping[str, float], pools: Mapping[str | None, Sequence[int]], there: set[str]) -> None:
    total = sum(shares.values())
    if unknown := sorted(set(shares) - set(pools)):
        raise ConfigError(
            f"no sample is of the source '{unknown[0]}', which has a share",
            f"sources are: {', '.join(sorted(there - {'None'})) or 'none, join cohorts with stride-monai data join'}",
        )
    if any(not 0 <= share <= 1 for share in shares.values()) or total > 1 + _ROUNDING:
        raise ConfigError(f"invalid shares {shares}", "give each source 0-1, together at most 1")
    if shares and None not in pools and total < 1 - _ROUNDING:
        raise ConfigError(f"the shares of all sources sum to {total:g}", "let them sum to 1, or leave one source out")


class CellSampler(DistributedSampler[Any]):
    """Indices of an epoch: plain, every sample once in random order, or by class and source, drawn with replacement.

    The order is a function of the seed and the epoch alone (:meth:`set_epoch`, which MONAI's trainers call), so a
    resumed run goes on as it would have. Of several processes each takes every n-th index: together their batches are
    the batch of one process.

    Args:
        items: samples, cells or bags, with a class index under ``label``, such as the ``data`` of a dataset.
        balance: above 0 a cell is drawn with a probability in proportion to ``count(class) ** -balance``, so that at 1
            every class is drawn equally often.
        num_samples: cells per epoch; None for as many as there are. Rounded up to a multiple of the processes.
        shares: share of the epoch by source, such as ``{"cric": 0.25}`` (:func:`stride_monai.data.draw_weights`).
        seed: of the run.
        num_replicas: number of processes. rank: of this one.

    Raises:
        ConfigError: there is no cell, the balance or the number of cells per epoch is out of range, or as of
            :func:`stride_monai.data.draw_weights`.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        balance: float = 0.0,
        num_samples: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        shares: Mapping[str, float] | None = None,
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
        weights = draw_weights(items, balance, shares)
        self._weights = None if weights is None else weights.numpy()

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
