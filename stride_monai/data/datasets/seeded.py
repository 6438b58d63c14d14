"""Random transforms whose draws depend on the seed, the epoch and the sample alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Randomizable

from stride_monai.data.hashing import mixed_seed

__all__ = ["SeededCacheDataset"]


class SeededCacheDataset(CacheDataset):
    """A ``CacheDataset`` whose random transforms are seeded for each sample from seed, epoch and index.

    What a sample looks like then depends neither on the number of workers or processes nor on what was loaded before
    it. :class:`~stride_monai.handlers.EpochSeeds` tells it the epoch.

    Args:
        data, transform, others: as :class:`monai.data.CacheDataset`.
        seed: any integer >= 0.
    """

    def __init__(self, data: Sequence[Any], transform: Any = None, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(data, transform, **kwargs)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the samples that are loaded from now on."""
        self.epoch = epoch

    def _transform(self, index: int) -> Any:
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=mixed_seed(self.seed, self.epoch, index))
        return super()._transform(index)
