"""Non-maximum suppression over a whole slide, exact and fast.

Tiles overlap, so a cell near a border is found twice; it must count once, and the answer must not depend on where the
tile grid starts (METHOD section 3). Two rules see to that:

1. Whole boxes: greedy suppression in rank order. A box goes if a better box that stays has ``nms_iou`` with it.
2. Boxes cut by a tile border come last, the largest first. One goes if half of it lies in a whole box (one that stays
   or one that a better one stood for), or in a larger cut box that stays. A cell no larger than the overlap of two
   tiles, less the margin within which a border is taken to cut on either side (64 - 2 * 2 = 60 px), is whole in one of
   them, hence none of its fragments stays. Half *of the fragment*, not of the smaller of the
   two: else a speck inside a large cell that no tile holds whole would remove that cell.

Neighbours come from a k-d tree over box centres. If the intersection is at least a share t <= 1/2 of box A, it is at
least that share of A in x and in y, so the centre of A lies within ``half side of B + (1/2 - t) side of A`` of the
centre of B; the boxes that this search returns are then compared exactly. The result equals the quadratic algorithm's.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stride_monai.data.ranking import rank_boxes

__all__ = ["BoxStream", "suppress"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
_COVERED = 0.5
_FIRST_BLOCK, _BLOCK = 8, 4096


def suppress(
    boxes: Floats,
    scores: Floats,
    cut: NDArray[np.bool_] | None = None,
    nms_iou: float = 0.5,
) -> Indices:
    """Indices of the boxes that stay, ranked (score, then y0, then x0).

    Args:
        boxes: [n, 4] float64, x0, y0, x1, y1, in one coordinate system (level-0 px).
        scores: [n].
        cut: [n], True where an inner tile border cuts the box; default none.
        nms_iou: intersection over union from which two whole boxes are one cell, in (0, 1].
    """
    if not 0 < nms_iou <= 1:
        raise ValueError(f"nms_iou must be above 0 and at most 1, got {nms_iou}")
    boxes = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
    scores = np.asarray(scores, np.float64)
    cut = np.zeros(len(boxes), bool) if cut is None else np.asarray(cut, bool)
    order = rank_boxes(boxes, scores)
    whole, fragments = order[~cut[order]], order[cut[order]]
    stays = np.zeros(len(boxes), bool)
    stays[whole[_greedy(boxes[whole], nms_iou)]] = True
    if len(fragments):
        loose = fragments[~_covered(boxes[fragments], boxes[whole])]
        # The sort is stable: fragments of one size stay in rank order.
        loose = loose[np.argsort(-_area(boxes[loose]), kind="stable")]
        stays[loose[_greedy(boxes[loose], None)]] = True
    return order[stays[order]]


def _greedy(boxes: Floats, nms_iou: float | None) -> NDArray[np.bool_]:
    """Whether each box stays, visited in the order given; ``nms_iou`` None compares by the later box's area."""
    alive = np.ones(len(boxes), bool)
    if len(boxes) < 2:
        return alive
    crowd = _Crowd(boxes)
    share = _COVERED if nms_iou is None else nms_iou
    radius = _half_side(boxes) * max(1.0, (1 - share) / share)
    start, size = 0, _FIRST_BLOCK
    while start < len(boxes):  # in blocks that grow: what the best boxes remove from a crowd is never looked up
        block = np.flatnonzero(alive[start : start + size]) + start
        first, second = crowd.near(boxes, block, radius)
        start, size = start + size, min(2 * size, _BLOCK)
        first, second = first[second > first], second[second > first]
        inter = _intersection(boxes[first], boxes[second])
        limit = _area(boxes[second])
        if nms_iou is not None:
            limit = _area(boxes[first]) + limit - inter
        hit = (inter >= share * limit) & (limit > 0)
        _visit(alive, first[hit], second[hit])
        crowd.keep(alive)
    return alive


def _visit(alive: NDArray[np.bool_], first: Indices, second: Indices) -> None:
    """Greedy suppression over the pairs (first suppresses second); ``first`` ascends."""
    if not len(first):
        return
    starts = np.flatnonzero(np.r_[True, first[1:] != first[:-1]])
    for box, begin, end in zip(
        first[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(first)], strict=True
    ):
        if alive[box]:
            alive[second[begin:end]] = False


def _covered(fragments: Floats, whole: Floats) -> NDArray[np.bool_]:
    """Whether half of each fragment lies in one of the whole boxes."""
    covered = np.zeros(len(fragments), bool)
    if not len(whole):
        return covered
    crowd = _Crowd(fragments)
    radius = _half_side(whole)
    start, size = 0, _FIRST_BLOCK
    while start < len(whole):
        block = np.arange(start, min(start + size, len(whole)))
        first, second = crowd.near(whole, block, radius)
        start, size = start + size, min(2 * size, _BLOCK)
        area = _area(fragments[second])
        inside = _intersection(whole[first], fragments[second])
        covered[second[(inside >= _COVERED * area) & (area > 0)]] = True
        crowd.keep(~covered)
        crowd.keep(~covered)
    return covered


class _Crowd:
    """Boxes among which neighbours are looked up; those that are gone are left out when half of them are.

    Else a crowd of n boxes, most of which fall to the first ones, would be n * n pairs.
    """

    def __init__(self, boxes: Floats) -> None:
        self._centres, self._index = _centres(boxes), np.arange(len(boxes))
        self._tree = cKDTree(self._centres)

    def keep(self, left: NDArray[np.bool_]) -> None:
        """Leave out boxes that are not ``left``."""
        index = self._index[left[self._index]]
        if 2 * len(index) <= len(self._index):
            self._index, self._tree = index, cKDTree(self._centres[index])

    def near(self, boxes: Floats, block: Indices, radius: Floats) -> tuple[Indices, Indices]:
        """Pairs (index into ``boxes``, index into the crowd) with centres within the former's radius in x and y."""
        centres, reach = _centres(boxes[block]), radius[block] * (1 + 1e-9) + 1e-9
        found = self._tree.query_ball_point(centres, reach, p=np.inf, return_sorted=False)
        counts = np.fromiter(map(len, found), np.intp, len(block))
        second = np.fromiter(chain.from_iterable(found), np.intp, int(counts.sum()))
        return np.repeat(block, counts), self._index[second]


def _centres(boxes: Floats) -> Floats:
    centres: Floats = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centres


def _half_side(boxes: Floats) -> Floats:
    half: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) / 2
    return half


def _area(boxes: Floats) -> Floats:
    area: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return area


def _intersection(a: Floats, b: Floats) -> Floats:
    common = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inside: Floats = np.maximum(common, 0).prod(axis=1)
    return inside


class BoxStream:
    """Keeps the ``capacity`` best boxes of all that were pushed; the same ones in whatever order they came.

    At most ``2 * capacity`` boxes are held (49 bytes each), however many come. Pushing n boxes costs O(n log capacity).

    Attributes:
        dropped: boxes that did not fit and are gone.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a box stream needs room for at least one box")
        self.capacity = capacity
        self.dropped = 0
        self._held: list[tuple[Floats, Floats, NDArray[np.bool_]]] = []
        self._count = 0

    def push(self, boxes: Floats, scores: Floats, cut: NDArray[np.bool_] | None = None) -> None:
        """Add boxes [n, 4], their scores [n] and whether each is cut by a tile border [n] (default: none is)."""
        cut = np.zeros(len(scores), bool) if cut is None else cut
        for start in range(0, len(scores), self.capacity):
            part = slice(start, start + self.capacity)
            self._held.append((boxes[part], scores[part], cut[part]))
            self._count += len(scores[part])
            if self._count >= 2 * self.capacity:
                self._shrink()

    def result(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """The best boxes, their scores and cut flags, ranked."""
        self._shrink()
        if not self._held:
            return np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool)
        return self._held[0]

    def _shrink(self) -> None:
        if not self._held:
            return
        boxes, scores, cut = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        # Of boxes that are equal in all else the whole one goes first, so that the choice never depends on arrival.
        order = np.lexsort((cut, *_keys(boxes, scores)))[: self.capacity]
        self.dropped += len(scores) - len(order)
        self._held = [(boxes[order], scores[order], cut[order])]
        self._count = len(order)


def _keys(boxes: Floats, scores: Floats) -> tuple[Floats, ...]:
    return boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], -scores
