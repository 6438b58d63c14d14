"""Judge a bag, wherever its cells come from: cell probabilities, attention and the slide's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import SlideError
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.cpu import one_thread, over_crops
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.transforms.topk_patches import CellBag

__all__ = ["Evidence", "decide", "encode", "judge"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the networks say of one slide with n cells.

    Attributes:
        features: of the cell encoder ``[n, D]``, on its device; where other levels were looked at, theirs follow.
        cells: cell class probabilities ``[n, cell classes]``.
        attention: ``[n]``; sums to 1 over the bag, 0 for the cells beyond it.
        slide: slide class probabilities ``[slide classes]``, or None without cells.
        cam: ``[n]``, class activation of the most probable slide class, 0-1; 0 for the cells beyond the bag.
    """

    features: Tensor
    cells: NDArray[np.float64]
    attention: NDArray[np.float64]
    slide: NDArray[np.float64] | None
    cam: NDArray[np.float64]

    @property
    def cell_classes(self) -> list[str]:
        """The most probable class of each cell."""
        return [CELL_CLASSES[index] for index in self.cells.argmax(axis=1)]

    @property
    def finite(self) -> bool:
        """Whether all of them are numbers."""
        parts = (self.cells, self.attention, self.cam, *([] if self.slide is None else [self.slide]))
        return all(bool(np.isfinite(part).all()) for part in parts)


def judge(
    bag: CellBag,
    classifier: SlideClassifier,
    top_k: int,
    activation: str = "grad_x_feature",
    name: str = "the slide",
    clock: Clock | None = None,
    levels: Sequence[int] = (),
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Evidence:
    """What a slide classifier says of a bag: of each of its cells, and of the slide by the ``top_k`` best.

    Args:
        activation: see :func:`stride_monai.networks.class_activation`.
        name: of the slide, for the message.
        clock: gets the seconds of the stages ``classify`` and ``decide``.
        levels: of the encoder, to be kept for descriptions (:class:`~stride_monai.networks.CellViews`).
        forward: computes the features in the place of torch (:mod:`stride_monai.runtimes`). A bag that has features
            keeps them: they are those of this encoder, these levels and this runtime.

    Raises:
        SlideError: it gives non-finite values.
    """
    clock = clock or Clock()
    with clock.stage("classify"):
        count = int(bag.mask.sum())
        given = bag.features
        features = encode(bag.images[:count], classifier, levels, forward) if given is None else given
    with clock.stage("decide"):
        mine = features[:, : classifier.encoder.feature_dim]
        evidence = decide(mine, classifier, top_k, activation, bag.scores[:count])
    if not evidence.finite:
        raise SlideError(f"{name}: the slide classifier gives non-finite values", "check its weights")
    return replace(evidence, features=features) if levels else evidence


def encode(
    crops: Tensor,
    classifier: SlideClassifier,
    levels: Sequence[int] = (),
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Features ``[n, D]`` of uint8 crops ``[n, 3, H, W]``; a cell's do not depend on the other cells of the slide."""
    views = CellViews(classifier.encoder, levels)
    return over_crops(forward or views.encode, crops, classifier.threshold.device, views.feature_dim)


@one_thread()  # what it computes is small, and gets the same bits on any number of threads
@torch.no_grad()
def decide(
    features: Tensor,
    classifier: SlideClassifier,
    top_k: int,
    activation: str = "grad_x_feature",
    scores: Tensor | None = None,
) -> Evidence:
    """Cell and slide probabilities of ranked features ``[n, D]``; the bag is the ``top_k`` best of them.

    Args:
        activation: see :func:`stride_monai.networks.class_activation`.
        scores: the detector's ``[n]``, 0..1, for a slide head with ``score_input``.
    """
    count = len(features)
    cells = classifier.encoder.head(features).softmax(dim=1).double().cpu().numpy()
    attention, cam = np.zeros(count), np.zeros(count)
    if count == 0:
        return Evidence(features, cells, attention, None, cam)
    best = min(count, top_k)
    bag = torch.zeros((1, top_k, features.shape[1]), dtype=features.dtype, device=features.device)
    bag[0, :best] = features[:best]
    mask = torch.arange(top_k, device=features.device)[None] < best
    given = None
    if scores is not None:
        given = torch.zeros((1, top_k), dtype=features.dtype, device=features.device)
        given[0, :best] = scores[:best].to(given)
    logits, weights, active = classifier.decide(bag, mask, activation, given)
    attention[:best] = weights[0, :best].double().cpu().numpy()
    cam[:best] = active[0, :best].double().cpu().numpy()
    return Evidence(features, cells, attention, logits[0].double().softmax(dim=0).cpu().numpy(), cam)
