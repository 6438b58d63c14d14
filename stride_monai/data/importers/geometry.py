"""Boxes as data sets write them, as half-open boxes in level-0 px."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from stride_monai.data.cells import Polygon
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = [
    "TURNED",
    "box_text",
    "from_center",
    "from_corner",
    "from_voc",
    "from_yolo",
    "hull",
    "pixel_center",
    "polygon",
    "simple",
    "turned",
]

TURNED = "boxes are turned rectangles: the box is the one around it, the outline is the rectangle"
"""What is told of boxes that :func:`turned` was used for."""


def from_corner(x: float, y: float, width: float, height: float) -> Box:
    """Top-left corner and size (COCO, Tianchi)."""
    return Box(x, y, x + width, y + height)


def from_center(x: float, y: float, width: float, height: float) -> Box:
    """Centre and size (RIVA)."""
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def from_yolo(x: float, y: float, width: float, height: float, image: tuple[float, float]) -> Box:
    """Centre and size as shares of the image's width and height (YOLO)."""
    return from_center(x * image[0], y * image[1], width * image[0], height * image[1])


def from_voc(x_min: float, y_min: float, x_max: float, y_max: float, origin: int = 1) -> Box:
    """First and last pixel, counted from 1 (Pascal VOC); with ``origin`` 0 the edges of the box as they are."""
    return Box(x_min - origin, y_min - origin, x_max, y_max)


def pixel_center(x: float, y: float) -> tuple[float, float]:
    """Middle of a pixel that is counted from 1 (CRIC)."""
    return x - 0.5, y - 0.5


def polygon(numbers: Sequence[float]) -> Polygon:
    """Corners from ``x0, y0, x1, y1, ...``.

    Raises:
        ManifestError: an odd number of numbers, or fewer than three corners.
    """
    if len(numbers) % 2 or len(numbers) < 6:
        raise ManifestError(f"{len(numbers)} numbers are no polygon", "give x and y of three corners or more")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def hull(points: Iterable[tuple[float, float]]) -> Box:
    """The smallest box that holds the points."""
    xs, ys = zip(*points, strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


def box_text(box: Box) -> str:
    """A box in messages."""
    return f"({', '.join(f'{side:g}' for side in box)})"


def turned(box: Box, degrees: float) -> Polygon:
    """Corners of a rectangle that is turned about its middle, clockwise as one looks at the picture (CVAT)."""
    (x, y), angle = box.center, math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((box.x0 - x, box.y0 - y), (box.x1 - x, box.y0 - y), (box.x1 - x, box.y1 - y), (box.x0 - x, box.y1 - y))
    return tuple((round(x + dx * cos - dy * sin, 6), round(y + dx * sin + dy * cos, 6)) for dx, dy in corners)


def simple(shape: Polygon) -> bool:
    """Whether no two edges of a polygon cross; they may touch, and run back on one another, as round a mask they do."""
    corners = zip(shape, (*shape[1:], shape[0]), strict=True)
    edges = np.array([shapely.LineString(pair) for pair in corners if pair[0] != pair[1]], dtype=object)
    return not shapely.STRtree(edges).query(edges, predicate="crosses").size
