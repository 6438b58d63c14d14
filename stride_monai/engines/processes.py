"""One training on several processes that is the training of one: statistics over the whole batch."""

from __future__ import annotations

import logging

import torch
from ignite import distributed as idist
from torch import nn

__all__ = ["synchronized"]

_log = logging.getLogger(__name__)


def synchronized(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network with batch normalisation over the batches of all processes.

    torch synchronises it on CUDA only. On other devices each process normalises by its own share of the batch, and a
    warning says so where the network has such layers.
    """
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    if has_batch_norm and torch.device(device).type == "cuda":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synced
    if has_batch_norm and idist.get_world_size() > 1:
        _log.warning("batch normalisation sees the share of one process only: it can be synchronised on CUDA only")
    return network
