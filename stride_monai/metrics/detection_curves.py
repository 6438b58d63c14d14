"""Curves of a detector: precision against recall, FROC, and recall within the K best of a slide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import NEGATIVE
from stride_monai.metrics.detection import (
    RECALLS,
    TileResult,
    assign_boxes,
    box_iou,
    precision_at_recalls,
    ranked_matches,
)

__all__ = [
    "FROC_RATES",
    "Froc",
    "SlideResult",
    "froc",
    "precision_at_top",
    "precision_recall",
    "ranks_of_truth",
    "top_k_recall",
]

Floats = NDArray[np.float64]
Overlap = Callable[[Floats, Floats], Floats]
FROC_RATES: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which the FROC score averages the sensitivity (CAMELYON16)."""


def precision_recall(
    results: Sequence[TileResult], iou: float = 0.5, max_detections: int = 500
) -> tuple[Floats, Floats]:
    """COCO's monotone precision [101] at the recalls 0, 0.01 ... 1 [101]; nan where no image has a true box."""
    total = sum(result.wanted for result in results)
    if not total:
        return RECALLS, np.full(len(RECALLS), np.nan)
    _, hits, counted = ranked_matches(results, max_detections, (iou,))
    return RECALLS, precision_at_recalls(hits[0], counted[0], total)


class Froc(NamedTuple):
    """``sensitivity`` [n] against false positives per image, ``rates`` [n], both rising; ``score`` is the mean
    sensitivity at :data:`FROC_RATES`, nan where there is no true box or no image to count false positives on."""

    rates: Floats
    sensitivity: Floats
    score: float


def froc(
    results: Sequence[TileResult],
    iou: float = 0.5,
    max_detections: int = 500,
    background: Sequence[bool] | None = None,
) -> Froc:
    """Free-response operating characteristic, as MONAI's ``compute_froc_curve_data`` and
    ``compute_froc_score`` define it, in O(n log n).

    Args:
        results: one per image.
        background: the images on which false positives are counted; None for all. CAMELYON16 takes the negative slides,
            and so should whole slides whose lesions may not all be marked.
    """
    total = sum(result.wanted for result in results)
    if background is None:
        background = [True] * len(results)
    images = sum(background)
    if not total or not images:
        return Froc(np.zeros(0), np.zeros(0), float("nan"))
    # An image at a time, so that false positives of some images can be left out; then all in order of score.
    parts = [ranked_matches([result], max_detections, (iou,)) for result in results]
    counts = [part.counted[0] & (part.hits[0] | shown) for part, shown in zip(parts, background, strict=True)]
    scores = np.concatenate([part.scores[c] for part, c in zip(parts, counts, strict=True)])
    hits = np.concatenate([part.hits[0][c] for part, c in zip(parts, counts, strict=True)])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)[: len(order)]  # equal scores pass a threshold together
    rates = np.append(0.0, np.cumsum(~hits[order])[last] / images)
    sensitivity = np.append(0.0, np.cumsum(hits[order])[last] / total)
    score = float(np.mean(np.interp(FROC_RATES, rates, sensitivity)))
    return Froc(rates, sensitivity, score)


class SlideResult(NamedTuple):
    """One slide: what the detector ranked, and the truth, in level-0 px."""

    slide_id: str
    slide_class: str
    result: TileResult

    @property
    def negative(self) -> bool:
        """Whether every box on it is a false positive."""
        return self.slide_class == NEGATIVE


def ranks_of_truth(boxes: Floats, truth: Floats, iou: float = 0.5, overlap: Overlap = box_iou) -> Floats:
    """The rank, from 1, of the box that finds each true cell [t]; inf where none does.

    Args:
        boxes: [d, 4], best first. In this order each takes the free true cell that it overlaps most.
        truth: [t, 4].
        iou: least overlap. overlap: how it is measured, :func:`box_iou` or :func:`box_cover`.
    """
    ranks = np.full(len(truth), np.inf)
    given = assign_boxes(overlap(boxes, truth), iou)
    places = np.flatnonzero(given >= 0)
    ranks[given[places]] = places + 1
    return ranks


def precision_at_top(boxes: Floats, truth: Floats, top: int, iou: float = 0.5, overlap: Overlap = box_iou) -> float:
    """Share of the ``top`` best boxes (of all, where there are fewer) that lie on a true cell; nan without a box.

    What is shown to a person is right where it shows a lesion; several boxes may show the same one.

    Args:
        boxes: [d, 4], best first. truth: [t, 4]. iou, overlap: as of :func:`ranks_of_truth`.
    """
    best = boxes[:top]
    if not len(best):
        return float("nan")
    return float((overlap(best, truth).max(axis=1, initial=0.0) >= iou).mean())


def top_k_recall(classes: Sequence[str], ranks: Sequence[Floats], ks: Sequence[int]) -> Mapping[str, Floats]:
    """Share of the true cells found within the K best boxes of their slide, [len(ks)], by slide class and for ``all``.

    Every cell counts alike, whichever slide it lies on. Classes without a true cell are left out.

    Args:
        classes: of the slides. ranks: of the true cells of each, see :func:`ranks_of_truth`. ks: numbers of boxes.
    """
    groups: dict[str, list[Floats]] = {"all": list(ranks)}
    for slide_class, of_slide in zip(classes, ranks, strict=True):
        groups.setdefault(slide_class, []).append(of_slide)
    joined = {name: np.concatenate(parts) for name, parts in groups.items() if parts}
    return {name: np.array([float((all_ <= k).mean()) for k in ks]) for name, all_ in joined.items() if len(all_) > 0}
