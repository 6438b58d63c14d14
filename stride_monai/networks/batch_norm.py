"""Batch normalisation as the affine map that it is once its statistics are known, and the refusal of any other."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stride_monai.errors import ConfigError, check_name

__all__ = ["BatchNorm", "check_batch_norm", "hold_statistics", "refuse_batch_norm"]

BatchNorm = Literal["frozen", "live"]


def check_batch_norm(value: str | None, pretrained: object) -> BatchNorm:
    """What to do with batch normalisation: as asked for, else ``frozen`` where there are statistics to keep.

    Raises:
        ConfigError: the value is unknown.
    """
    if value is not None:
        check_name("batch_norm", value, ("frozen", "live"))
    return "live" if value == "live" or (value is None and not pretrained) else "frozen"


def hold_statistics(network: nn.Module) -> None:
    """Put every batch normalisation into evaluation mode: running statistics are used and do not move.

    Weight and bias stay trainable. The next ``train()`` undoes it, so the owner calls this in its own ``train``.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def refuse_batch_norm(network: nn.Module, purpose: str = "training end to end on bags") -> None:
    """Refuse a network that would normalise by the statistics of a batch when it is trained.

    All cells of a bag are of one slide and share stain, focus and class, so the statistics of a batch are those of the
    slide, not of cells: trained end to end such networks collapse at inference (METHOD section 4). For single cells,
    drawn from all slides, they are fine; frozen (:class:`~stride_monai.networks.CellClassifier`) they are everywhere.

    Raises:
        ConfigError: the network has such a layer; the message names the first.
    """
    modes = {module: module.training for module in network.modules()}
    network.train()  # the layers that follow the batch are those that this sets to training
    live = [(name, type(module).__name__) for name, module in network.named_modules() if _is_live(module)]
    for module, mode in modes.items():
        module.training = mode
    if live:
        raise ConfigError(
            f"the encoder normalises by batch ('{live[0][0]}' is a {live[0][1]}), refused for {purpose}: the "
            "cells of one slide share their statistics, so it collapses",
            "start from pretrained weights with batch_norm frozen, or choose an encoder with LayerNorm, e.g. "
            "convnext_tiny or vit_small_patch16_224",
        )


def _is_live(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats)
