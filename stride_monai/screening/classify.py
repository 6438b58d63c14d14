"""From a ranked pool of crops to cell probabilities, attention and the slide's probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.inferers.cpu import each_on_one_thread, one_thread
from stride_monai.networks.slide_classifier import SlideClassifier

__all__ = ["Evidence", "encode", "judge"]

_BATCH, _CPU_BATCH = 32, 8
"""Crops per forward. Large ones gain nothing on a CPU, where every thread has its own forward in memory."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the networks say of one slide with n cells.

    Attributes:
        cells: cell class probabilities ``[n, cell classes]``.
        attention: ``[n]``; sums to 1 over the bag, 0 for the cells beyond it.
        slide: slide class probabilities ``[slide classes]``, or None without cells.
    """

    cells: NDArray[np.float64]
    attention: NDArray[np.float64]
    slide: NDArray[np.float64] | None


def encode(crops: Tensor, classifier: SlideClassifier, device: torch.device) -> Tensor:
    """Features ``[n, D]`` of uint8 crops ``[n, 3, H, W]``.

    Every batch has the same size, the last one padded: kernels are chosen by shape, so a cell's features do not depend
    on how many other cells the slide has.
    """
    size = _CPU_BATCH if device.type == "cpu" else _BATCH

    @torch.inference_mode()
    def features(batch: Tensor) -> Tensor:
        full = torch.zeros((size, *batch.shape[1:]), dtype=torch.uint8)
        full[: len(batch)] = batch
        images = full.to(device, non_blocking=True).float() / 255
        return classifier.encoder.encode(images)[: len(batch)]

    if not len(crops):
        return torch.zeros((0, classifier.encoder.feature_dim), device=device)
    batches = torch.split(crops, size)
    parts = each_on_one_thread(features, batches) if device.type == "cpu" else [features(batch) for batch in batches]
    return torch.cat(parts)


@one_thread()  # what it computes is small, and gets the same bits on any number of threads
@torch.inference_mode()
def judge(features: Tensor, classifier: SlideClassifier, bag_size: int) -> Evidence:
    """Cell and slide probabilities of ranked features ``[n, D]``; the bag is the ``bag_size`` best of them."""
    count = len(features)
    cells = classifier.encoder.head(features).softmax(dim=1).double().cpu().numpy()
    attention = np.zeros(count)
    if count == 0:
        return Evidence(cells, attention, None)
    best = min(count, bag_size)
    bag = features.new_zeros((1, bag_size, features.shape[1]))
    bag[0, :best] = features[:best]
    mask = torch.arange(bag_size, device=features.device)[None] < best
    logits, weights = classifier.slide_head(bag, mask)
    attention[:best] = weights[0, :best].double().cpu().numpy()
    return Evidence(cells, attention, logits[0].double().softmax(dim=0).cpu().numpy())
