"""Shapes of CVAT: what a detector function answers, and what a job's annotations hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stride_monai.errors import ManifestError
from stride_monai.geojson import Classification, Feature, Geometry


def cvat_features(shapes: Sequence[Any]) -> list[Feature]:
    """Rectangles, polygons and points; ``points`` are ``x, y, x, y ...``.

    Raises:
        ManifestError: a shape is broken, turned or of another type; says which.
    """
    found = []
    for number, shape in enumerate(shapes, start=1):
        try:
            values = [float(value) for value in shape["points"]]
            if len(values) % 2 or not values or not all(map(math.isfinite, values)):
                raise ValueError("its points are no pairs of numbers")
            if float(shape.get("rotation") or 0):
                raise ValueError("it is turned")
            corners = tuple(zip(values[::2], values[1::2], strict=True))
            geometry = _geometry(str(shape["type"]), corners)
            label = str(shape.get("label") or "")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"shape {number} cannot be read ({error})", "draw rectangles or polygons") from error
        found.append(Feature(geometry, classification=Classification.of(label) if label else None))
    return found


def _geometry(kind: str, corners: tuple[tuple[float, float], ...]) -> Geometry:
    if kind == "rectangle" and len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        return Geometry.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
    if kind == "polygon" and len(corners) > 2:
        return Geometry.polygon(corners)
    if kind == "points":
        return Geometry("MultiPoint", corners)
    raise ValueError(f"a {kind} of {len(corners)} points is no cell")
