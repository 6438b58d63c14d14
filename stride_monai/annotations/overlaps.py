"""When two boxes are one cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stride_monai.units import Box

__all__ = ["SAME_CELL", "overlaps"]

SAME_CELL = 0.5
"""Intersection over union at which a box that a model or a reader draws again is taken for a known cell."""


def overlaps(boxes: Sequence[Box] | NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Intersection over union of each of many boxes (or [N, 4], their corners) with one, [N], 0-1."""
    corners = np.asarray(boxes, dtype=float).reshape(-1, 4)
    sides = np.minimum(corners[:, 2:], [box.x1, box.y1]) - np.maximum(corners[:, :2], [box.x0, box.y0])
    common = sides.clip(0).prod(axis=1)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return np.asarray(common / (areas + box.area - common))
