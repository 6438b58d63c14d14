"""The best boxes of a stream, in bounded memory and always in the same order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoxStream"]

Floats = NDArray[np.float64]


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
