"""Random numbers that depend on the seed, the epoch and the place alone.

Then a training that was stopped and resumed goes on exactly as one that never stopped, without any state of a random
number generator in the checkpoint; and two processes see what one would have seen.
"""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.utils import set_determinism

from stride_monai.data.hashing import mixed_seed

__all__ = ["EpochSeeds", "seed_everything"]

_log = logging.getLogger(__name__)


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed torch, NumPy and Python before anything random is made. Stands in ``initialize`` of a bundle.

    Args:
        seed: any integer >= 0.
        deterministic: use deterministic algorithms only; torch refuses an operation that has none. On a GPU this costs
            speed, on a CPU nothing. Without it cuDNN may choose its kernels by trial, which differs from run to run.
    """
    set_determinism(seed=seed, use_deterministic_algorithms=deterministic)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, not deterministic
    _log.info("seed %d, %s algorithms", seed, "deterministic" if deterministic else "the fastest")


class EpochSeeds:
    """Seeds everything anew when an epoch of the trainer starts, from the seed, the epoch and the process's rank.

    Covers torch (samplers that draw from its default generator, dropout, the seeds of worker processes), NumPy and
    Python; and a dataset of the trainer's loader that has ``set_epoch``. List it first among the trainer's handlers.

    Args:
        seed: any integer >= 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._begun = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._at_the_first_batch)

    def __call__(self, engine: Engine) -> None:
        epoch = int(engine.state.epoch)
        seed = mixed_seed(self.seed, epoch, idist.get_rank())
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  libraries draw from the global generator
        random.seed(seed)
        dataset: Any = getattr(getattr(engine, "data_loader", None), "dataset", None)
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        self._begun = True

    def _at_the_first_batch(self, engine: Engine) -> None:
        """Until it has a batch an engine draws more in the first epoch of a run, which is another of a resumed run."""
        if self._begun:
            torch.manual_seed(mixed_seed(self.seed, int(engine.state.epoch), idist.get_rank(), 1))
            self._begun = False
