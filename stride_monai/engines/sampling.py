"""How often a sample is drawn: weights against class imbalance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["class_weights"]


def class_weights(items: Sequence[Mapping[str, Any]], balance: float, key: str = "label") -> Tensor:
    """Sampling weights ``[N]``, ``count(class) ** -balance`` for each item.

    Args:
        items: samples with a class index under ``key``.
        balance: 0 draws every sample equally often, 1 every class equally often.
    """
    labels = [int(item[key]) for item in items]
    counts = Counter(labels)
    return torch.tensor([counts[label] ** -balance for label in labels], dtype=torch.float64)
