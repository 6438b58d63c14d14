"""Arrays and samples as the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.data.bags.bag import BagFile

__all__ = ["channel_first", "crops_of", "detection_collate", "padded", "prepare_described"]


def channel_first(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 ``[H, W, 3]`` (or ``[N, H, W, 3]``) as a contiguous tensor ``[3, H, W]`` (``[N, 3, H, W]``), a copy."""
    return torch.from_numpy(np.array(np.moveaxis(pixels, -1, -3), order="C"))


def padded(values: NDArray[Any], length: int, fill: float = 0) -> Tensor:
    """The values as a tensor whose first dimension is ``length``, filled up at the end."""
    full = np.full((length, *values.shape[1:]), fill, dtype=values.dtype)
    full[: len(values)] = values
    return torch.from_numpy(full)


def crops_of(
    bag: BagFile, count: int, length: int, crop_px: int | None = None, crop_mpp: float | None = None
) -> Tensor:
    """The first ``count`` crops of a bag, uint8 ``[length, 3, S, S]``, zeros after them.

    Args:
        crop_px, crop_mpp: as of :meth:`~stride_monai.data.BagFile.window`, which says what is refused.
    """
    cut = bag.window(crop_px, crop_mpp)
    images = torch.zeros((length, 3, cut.stop - cut.start, cut.stop - cut.start), dtype=torch.uint8)
    rows = images.numpy()  # torch would begin threads of its own for each copy
    for row in range(count):  # one at a time: a bag of large crops is never in memory whole
        rows[row] = bag.image(row)[cut, cut].transpose(2, 0, 1)
    return images


def detection_collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of detection tiles: ``image`` (``[3, H, W]``, of one size) is stacked to ``[B, 3, H, W]``; any other key,
    such as ``boxes`` (``[n, 4]``), stays a list with one entry per tile."""
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    batch["image"] = torch.stack(batch["image"])
    return batch


def prepare_described(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Tensor]:
    """``prepare_batch`` of engines: crops or features, and the targets of the texts ``[B, N]``, on the device."""
    return (
        batch["image"].to(device, non_blocking=non_blocking),
        batch["target"].to(device, non_blocking=non_blocking),
    )
