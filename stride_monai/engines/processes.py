"""One training on several processes that is the training of one, each with a device of its own."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from ignite import distributed as idist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["default_device", "distributed", "join_processes", "synchronized"]

_log = logging.getLogger(__name__)


def default_device() -> torch.device:
    """The GPU of this process (torchrun numbers the processes of a machine in ``LOCAL_RANK``), else the CPU."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")


def join_processes() -> None:
    """Join the processes that torchrun has started, by NCCL where there is CUDA, else by Gloo."""
    idist.initialize("nccl" if torch.cuda.is_available() else "gloo")


def distributed(
    network: nn.Module, device: torch.device | str, synchronize: bool = False, **kwargs: Any
) -> DistributedDataParallel:
    """The network on the device of this process, its gradients averaged over all processes.

    Args:
        network: all that is trained.
        device: of this process.
        synchronize: normalise by the batches of all processes, see :func:`synchronized`.
        kwargs: further arguments of ``DistributedDataParallel``.
    """
    device = torch.device(device)
    module = (synchronized(network, device) if synchronize else network).to(device)
    return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None, **kwargs)


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
