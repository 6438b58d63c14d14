"""A network over many crops of cells, in batches of one size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stride_monai.inferers.cpu import each_on_one_thread

__all__ = ["over_crops"]

_BATCH, _CPU_BATCH = 32, 8
"""Crops per forward. Large ones gain nothing on a CPU, where every thread has its own forward in memory."""


def over_crops(forward: Callable[[Tensor], Tensor], crops: Tensor, device: torch.device, width: int) -> Tensor:
    """``forward`` of uint8 crops ``[n, 3, H, W]``, given to it as float in 0..1 on the device: ``[n, width]``.

    Every batch has the same size, the last one padded: kernels are chosen by shape, so what is computed of a cell does
    not depend on how many other cells the slide has.
    """
    size = _CPU_BATCH if device.type == "cpu" else _BATCH

    @torch.inference_mode()
    def batch_of(batch: Tensor) -> Tensor:
        full = torch.zeros((size, *batch.shape[1:]), dtype=torch.uint8)
        full[: len(batch)] = batch
        images = full.to(device, non_blocking=True).float() / 255
        return forward(images)[: len(batch)]

    if not len(crops):
        return torch.zeros((0, width), device=device)
    batches = torch.split(crops, size)
    parts = each_on_one_thread(batch_of, batches) if device.type == "cpu" else [batch_of(batch) for batch in batches]
    return torch.cat(parts)
