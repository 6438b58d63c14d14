"""One training on several processes that is the training of one: shares of a batch, statistics over the whole batch."""

from __future__ import annotations

import logging

import torch
from ignite import distributed as idist
from torch import nn

from stride_monai.errors import ConfigError

__all__ = ["share_of_batch", "synchronized"]

_log = logging.getLogger(__name__)


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
