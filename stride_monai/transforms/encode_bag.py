"""Bags as features of a frozen encoder (two-stage training)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from stride_monai.data.datasets.encoded import CellEncoder, encode_all

__all__ = ["EncodeBagd"]


class EncodeBagd(Transform):
    """Replaces the crops of a bag by their features, once, from a frozen encoder in eval mode (two-stage training).

    Stands after :class:`~stride_monai.transforms.LoadBagd`. ``image`` changes from ``[K, 3, H, W]`` to float32
    ``[K, D]`` on the CPU, zero where ``mask`` is false. Cache the result, e.g. with ``monai.data.CacheDataset``, in the
    main process: the encoder may sit on a GPU.

    Args:
        encoder: the cell classifier. device: where to run it. chunk: number of cells encoded at once.
    """

    def __init__(self, encoder: CellEncoder, device: torch.device | str = "cpu", chunk: int = 256) -> None:
        self.encoder = encoder
        self.device = torch.device(device)
        self.chunk = chunk

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, mask = data["image"], data["mask"]
        found = encode_all(self.encoder, torch.split(image[mask], self.chunk), self.device)
        features = torch.zeros(len(image), found.shape[1])
        features[mask] = found
        return {**data, "image": features}
