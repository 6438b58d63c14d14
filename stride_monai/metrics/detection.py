"""How well boxes are found: average precision as COCO defines it, recall, and recall within the top K of a slide.

COCO's rules (https://cocodataset.org/#detection-eval), for one class: detections are taken in order of score over all
images, at most ``max_detections`` of each image; each takes the free true box of its image that it overlaps most, if by
at least the IoU threshold; precision is made monotone, read at 101 recalls and averaged, then over the IoU thresholds
0.50, 0.55 ... 0.95. COCO's usual limit of 100 detections is too low for a crowded cytology tile, hence also 500.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ignite.distributed import all_gather, get_world_size
from ignite.metrics import Metric
from numpy.typing import NDArray

__all__ = ["COCO_IOUS", "DetectionMap", "DetectionRecall", "TileResult", "average_precision", "box_iou", "recall"]

Floats = NDArray[np.float64]

COCO_IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALLS = np.linspace(0, 1, 101)


class TileResult(NamedTuple):
    """One image: detected ``boxes`` [d, 4] with ``scores`` [d], and the ``truth`` [t, 4]; xyxy in one unit."""

    boxes: Floats
    scores: Floats
    truth: Floats


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]; 0 where both are empty."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - common
    iou: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def average_precision(
    results: Sequence[TileResult], max_detections: int = 100, ious: Sequence[float] = COCO_IOUS
) -> float:
    """COCO's average precision, 0-1; nan where no image has a true box.

    Args:
        results: one per image.
        max_detections: the best so many of each image.
        ious: IoU thresholds to average over.
    """
    total = sum(len(result.truth) for result in results)
    if not total:
        return float("nan")
    matches = [_match(result, max_detections, ious) for result in results]
    scores = np.concatenate([scores for scores, _ in matches])
    hits = np.concatenate([hits for _, hits in matches], axis=1)
    hits = hits[:, np.argsort(-scores, kind="stable")]
    return float(np.mean([_area_under(row, total) for row in hits]))


def recall(results: Sequence[TileResult], max_detections: int = 500, iou: float = 0.5) -> float:
    """Share of the true boxes that are found at one IoU threshold; nan where there is none."""
    total = sum(len(result.truth) for result in results)
    found = sum(_match(result, max_detections, (iou,))[1].sum() for result in results)
    return float(found) / total if total else float("nan")


def _match(result: TileResult, max_detections: int, ious: Sequence[float]) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores [d] of an image's best detections and whether each is a hit at each threshold [T, d]."""
    order = np.argsort(-result.scores, kind="stable")[:max_detections]
    overlap = box_iou(result.boxes[order], result.truth)
    hits = np.zeros((len(ious), len(order)), bool)
    for row, threshold in enumerate(ious):
        threshold = min(threshold, 1 - 1e-10)
        taken = np.zeros(len(result.truth), bool)
        for place in np.flatnonzero((overlap >= threshold).any(axis=1)):
            free = np.where(taken, -1.0, overlap[place])
            best = len(free) - 1 - int(free[::-1].argmax())  # COCO takes the last of equal ones
            if free[best] >= threshold:
                taken[best] = hits[row, place] = True
    return result.scores[order], hits


def _area_under(hits: NDArray[np.bool_], total: int) -> float:
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(found / total, _RECALLS, side="left")
    reached = place < len(hits)
    return float(precision[place[reached]].sum() / len(_RECALLS))


class _TileMetric(Metric):
    """An Ignite metric over the tiles of an epoch, of all processes.

    Args:
        output_transform: from the engine's output to the detections of each tile (objects with ``boxes`` and
            ``scores``) and the true boxes of each tile.
    """

    def __init__(
        self,
        max_detections: int,
        output_transform: Callable[[Any], tuple[Sequence[Any], Sequence[Any]]] = lambda o: (o["pred"], o["label"]),
    ) -> None:
        self.max_detections = max_detections
        self._results: list[TileResult] = []
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._results = []

    def update(self, output: tuple[Sequence[Any], Sequence[Any]]) -> None:
        for found, truth in zip(*output, strict=True):
            boxes, scores, true = (_array(part) for part in (found.boxes, found.scores, truth))
            self._results.append(TileResult(boxes.reshape(-1, 4), scores, true.reshape(-1, 4)))

    def compute(self) -> float:
        results = self._results
        if get_world_size() > 1:
            results = [result for part in all_gather(results) for result in part]
        return self._value(results)

    def _value(self, results: Sequence[TileResult]) -> float:
        raise NotImplementedError


class DetectionMap(_TileMetric):
    """Mean :func:`average_precision` over IoU 0.50 to 0.95.

    Args:
        max_detections: as there; 100 is COCO's.
        output_transform: see the engine :class:`~stride_monai.engines.detection.DetectionEvaluator`, whose output needs
            none.
    """

    def __init__(self, max_detections: int = 100, **kwargs: Any) -> None:
        super().__init__(max_detections, **kwargs)

    def _value(self, results: Sequence[TileResult]) -> float:
        return average_precision(results, self.max_detections)


class DetectionRecall(_TileMetric):
    """:func:`recall` at one IoU threshold, of detections at whatever least score the detector ran with."""

    def __init__(self, iou: float = 0.5, max_detections: int = 500, **kwargs: Any) -> None:
        self.iou = iou
        super().__init__(max_detections, **kwargs)

    def _value(self, results: Sequence[TileResult]) -> float:
        return recall(results, self.max_detections, self.iou)


def _array(values: Any) -> Floats:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
