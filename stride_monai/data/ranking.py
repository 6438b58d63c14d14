"""The one order of cells: by score, and by place where scores tie, so that no run depends on who came first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rank_boxes"]


def rank_boxes(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], tie_scores: NDArray[np.floating] | None = None
) -> NDArray[np.int64]:
    """Indices of boxes from the best on, int64 ``[n]``: falling score, ties by falling tie score, then y0, x0, y1, x1.

    Args:
        boxes: ``[n, 4]`` as x0, y0, x1, y1.
        scores: ``[n]``.
        tie_scores: ``[n]``; None for none. The detector's scores where another network re-ranks its boxes.
    """
    ties = [] if tie_scores is None else [-tie_scores]
    keys = (boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], *ties, -scores)
    order: NDArray[np.int64] = np.lexsort(keys)
    return order
