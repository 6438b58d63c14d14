"""Keep the weights that validated best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from stride_monai.files import replacing

__all__ = ["BestWeights"]


class BestWeights:
    """Writes a network's state dict when an evaluator of MONAI has found its best key metric so far.

    It has no state of its own: the evaluator knows its best metric, and
    :class:`~stride_monai.handlers.resume.TrainingState` keeps that, so a resumed training replaces the file by better
    weights only.

    Args:
        path: of the file; it appears complete or not at all. Process 0 writes.
        network: whose weights to keep: the moving average's ``module`` where the average is what validates.
    """

    def __init__(self, path: Path | str, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch and idist.get_rank() == 0:
            with replacing(self.path) as temporary:
                torch.save(self.network.state_dict(), temporary)
            engine.logger.info("%s holds the weights of epoch %d", self.path.name, engine.state.epoch)
