"""Weights files of a training: load them when an engine starts, keep those that validated best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from stride_monai.files import replacing
from stride_monai.networks.weights import load_into

__all__ = ["BestWeights", "WeightsLoader"]

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
                "%s holds the weights of epoch %d, which nothing says are the best: the key metric is non-finite",
                self.path,
                engine.state.epoch,
            )
        else:
            engine.logger.info("%s holds the weights of epoch %d", self.path, engine.state.epoch)


class WeightsLoader:
    """Loads a ``.pt`` or ``.safetensors`` file into a network when the engine starts; every tensor has to fit.

    Args:
        load_path: the weights file, or several (see :func:`~stride_monai.networks.load_into`).
        network: takes the weights.
        source: take only the part of the file under this name, e.g. ``encoder``.

    Raises:
        BundleError: when the engine starts, if the file cannot be read or does not fit.
    """

    def __init__(self, load_path: Path | str | Sequence[Path | str], network: nn.Module, source: str = "") -> None:
        self.load_path = [load_path] if isinstance(load_path, Path | str) else list(load_path)
        self.network = network
        self.source = source

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        load_into(self.network, self.load_path, self.source)
        engine.logger.info("loaded %s", " + ".join(str(Path(path).absolute()) for path in self.load_path))
