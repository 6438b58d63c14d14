"""Keep the weights that validated best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from stride_monai.files import replacing

__all__ = ["BestWeights"]

_NONE_YET = -1  # the best epoch of an evaluator of MONAI that has seen none


class BestWeights:
    """Writes a network's state dict when an evaluator of MONAI has found its best key metric so far.

    It has no state of its own: the evaluator knows its best metric, and
    :class:`~stride_monai.handlers.TrainingState` keeps that, so a resumed training replaces the file by better
    weights only.

    Where the key metric has been no number so far (AUC of slides of one class), the latest weights are kept, which the
    log says.

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
        if math.isnan(engine.state.best_metric):  # to MONAI nothing would ever be better
            engine.state.best_metric, engine.state.best_metric_epoch = -1, _NONE_YET
        best = engine.state.best_metric_epoch
        if best not in (engine.state.epoch, _NONE_YET) or idist.get_rank() > 0:
            return
        with replacing(self.path) as temporary:
            torch.save(self.network.state_dict(), temporary)
        if best == _NONE_YET:
            engine.logger.warning(
                "%s holds the weights of epoch %d, which nothing says are the best: the key metric is no number",
                self.path,
                engine.state.epoch,
            )
        else:
            engine.logger.info("%s holds the weights of epoch %d", self.path, engine.state.epoch)
