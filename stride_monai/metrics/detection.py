"""How well boxes are found: average precision as COCO defines it, and recall.

COCO's rules (https://cocodataset.org/#detection-eval), for one class: detections are taken in order of score over all
images, at most ``max_detections`` of each image; each takes the free true box of its image that it overlaps most, if by
at least the IoU threshold; precision is made monotone, read at 101 recalls and averaged, then over the IoU thresholds
0.50, 0.55 ... 0.95. COCO's usual limit of 100 detections is too low for a crowded cytology tile, hence also 500.

A cell that the border of a tile cuts cannot be asked for (it is whole in another tile, where it is asked for), but its
detection is no mistake either: it is marked ``ignored`` and treated as COCO treats a crowd. It takes any number of
detections, compared by the share of the *detection* that lies in it, and these count neither for nor against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COCO_IOUS",
    "RECALLS",
    "Matches",
    "TileResult",
    "assign_boxes",
    "box_cover",
    "box_iou",
    "detection_recall",
    "match_boxes",
    "mean_average_precision",
    "precision_at_recalls",
    "ranked_matches",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COCO_IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS: Floats = np.linspace(0, 1, 101)


class TileResult(NamedTuple):
    """One image: detected ``boxes`` [d, 4] with ``scores`` [d], and the ``truth`` [t, 4]; xyxy in one unit.

    ``ignored`` [t]: true boxes that are not asked for; None for none.
    """

    boxes: Floats
    scores: Floats
    truth: Floats
    ignored: Flags | None = None

    @property
    def asked(self) -> Flags:
        """Which true boxes are asked for, [t]."""
        return np.ones(len(self.truth), bool) if self.ignored is None else ~self.ignored

    @property
    def wanted(self) -> int:
        """Number of true boxes that are asked for."""
        return int(self.asked.sum())


class Matches(NamedTuple):
    """The best detections of one image in order: ``scores`` [d], and at each of T IoU thresholds whether a detection
    is a hit, ``hits`` [T, d], and whether it counts at all, ``counted`` [T, d] (a hit always does)."""

    scores: Floats
    hits: Flags
    counted: Flags


def _overlaps(a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Intersection [n, m] of boxes [n, 4] and [m, 4], and their areas [n], [m]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b))
    return common, area_a, area_b


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]; 0 where both are empty."""
    common, area_a, area_b = _overlaps(a, b)
    union = area_a[:, None] + area_b[None] - common
    iou: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def box_cover(a: Floats, b: Floats) -> Floats:
    """Intersection over the smaller of the two [n, m], of boxes [n, 4] and [m, 4]; 0 where one is empty.

    Where annotations and detections draw boxes of different sizes around the same cell, IoU says more of the sizes.
    """
    common, area_a, area_b = _overlaps(a, b)
    smaller = np.minimum(area_a[:, None], area_b[None])
    cover: Floats = np.divide(common, smaller, out=np.zeros_like(common), where=smaller > 0)
    return cover


def match_boxes(result: TileResult, max_detections: int, ious: Sequence[float]) -> Matches:
    """Match the best detections of an image to its true boxes by COCO's rules, at each IoU threshold on its own."""
    order = np.argsort(-result.scores, kind="stable")[:max_detections]
    boxes = result.boxes[order]
    overlap, inside = box_iou(boxes, result.truth[result.asked]), _inside(boxes, result.truth[~result.asked])
    hits = np.zeros((len(ious), len(order)), bool)
    counted = np.ones_like(hits)
    for row, iou in enumerate(ious):
        threshold = min(iou, 1 - 1e-10)
        hits[row] = assign_boxes(overlap, threshold) >= 0
        counted[row] = hits[row] | (inside < threshold)
    return Matches(result.scores[order], hits, counted)


def _inside(boxes: Floats, crowds: Floats) -> Floats:
    """The largest share of each box [n] that lies in one of the crowds."""
    common, area, _ = _overlaps(boxes, crowds)
    share: Floats = np.divide(common, area[:, None], out=np.zeros_like(common), where=area[:, None] > 0)
    largest: Floats = share.max(axis=1, initial=0.0)
    return largest


def assign_boxes(overlap: Floats, threshold: float) -> NDArray[np.intp]:
    """For each detection [d], best first, the true box that it gets for its own, or -1; ``overlap`` is [d, t]."""
    given = np.full(len(overlap), -1, np.intp)
    taken = np.zeros(overlap.shape[1], bool)
    for place in np.flatnonzero((overlap >= threshold).any(axis=1)):
        free = np.where(taken, -1.0, overlap[place])
        best = len(free) - 1 - int(free[::-1].argmax())  # COCO takes the last of equal ones
        if free[best] >= threshold:
            taken[best], given[place] = True, best
    return given


def mean_average_precision(
    results: Sequence[TileResult], max_detections: int = 100, ious: Sequence[float] = COCO_IOUS
) -> float:
    """COCO's average precision, 0-1; nan where no image has a true box that is asked for.

    Args:
        results: one per image.
        max_detections: the best so many of each image.
        ious: IoU thresholds to average over.
    """
    total = sum(result.wanted for result in results)
    if not total:
        return float("nan")
    _, hits, counted = ranked_matches(results, max_detections, ious)
    return float(np.mean([precision_at_recalls(h, c, total).mean() for h, c in zip(hits, counted, strict=True)]))


def ranked_matches(results: Sequence[TileResult], max_detections: int, ious: Sequence[float]) -> Matches:
    """The matches of all images as one list in order of score; of equal scores the earlier image's comes first."""
    matches = [match_boxes(result, max_detections, ious) for result in results]
    scores = np.concatenate([m.scores for m in matches]) if matches else np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    empty = np.zeros((len(ious), 0), bool)
    hits, counted = (np.concatenate([empty, *(m[k] for m in matches)], axis=1)[:, order] for k in (1, 2))
    return Matches(scores[order], hits, counted)


def precision_at_recalls(hits: Flags, counted: Flags, total: int) -> Floats:
    """Monotone precision [101] at the recalls 0, 0.01 ... 1 from detections in order of score; 0 where unreached."""
    hits = hits[counted]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(found / total, RECALLS, side="left")
    return np.append(precision, 0.0)[place]


def detection_recall(results: Sequence[TileResult], max_detections: int = 500, iou: float = 0.5) -> float:
    """Share of the true boxes asked for that are found at one IoU threshold; nan where there is none."""
    total = sum(result.wanted for result in results)
    found = sum(match_boxes(result, max_detections, (iou,)).hits.sum() for result in results)
    return float(found) / total if total else float("nan")
