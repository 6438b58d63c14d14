"""Collation of samples whose parts differ in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["detection_collate"]


def detection_collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of detection tiles: ``image`` is stacked, everything else stays a list with one entry per tile.

    Args:
        samples: dictionaries with equal keys; ``image`` a tensor ``[3, H, W]`` of one size, ``boxes`` ``[n, 4]``.

    Returns:
        ``image`` ``[B, 3, H, W]``, ``boxes`` a list of B tensors ``[n, 4]``, the other keys as lists.
    """
    import torch  # this room stays importable without torch

    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    batch["image"] = torch.stack(batch["image"])
    return batch
