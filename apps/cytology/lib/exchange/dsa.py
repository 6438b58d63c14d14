"""Annotation documents of the Digital Slide Archive."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stride_monai.errors import ManifestError
from stride_monai.geojson import Classification, Feature, Geometry


def dsa_json(features: Sequence[Feature], name: str, description: str) -> str:
    """Objects as closed lines, in the group of their class. One line an element, the description on the last but one:
    the archive's MONAI Label task reads it there."""
    lines = ",\n".join(f"  {json.dumps(_element(feature))}" for feature in features)
    head, tail = json.dumps(name), json.dumps(description)
    return f'{{\n "name": {head},\n "elements": [\n{lines}\n ],\n "description": {tail}\n}}'


def _element(feature: Feature) -> dict[str, Any]:
    color = feature.classification.color if feature.classification and feature.classification.color else (0, 0, 0)
    return {
        "group": feature.class_name,
        "type": "polyline",
        "lineColor": f"rgb({','.join(map(str, color))})",
        "lineWidth": 2.0,
        "closed": True,
        "points": [[round(x, 2), round(y, 2), 0] for x, y in feature.geometry.corners()],
        "label": {"value": feature.class_name},
        "user": dict(feature.metadata),
    }


def dsa_features(elements: Sequence[Any]) -> list[Feature]:
    """The objects of a document's ``elements``: lines, rectangles, circles, ellipses and points.

    Raises:
        ManifestError: an element is broken or of another type; says which.
    """
    found = []
    for number, element in enumerate(elements, start=1):
        try:
            geometry = _geometry(element)
            label = element.get("label") or {}
            name = str(element.get("group") or (label.get("value") if isinstance(label, Mapping) else label) or "")
            user = element.get("user")
            metadata = {k: v for k, v in user.items() if isinstance(v, str)} if isinstance(user, Mapping) else {}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"element {number} cannot be read ({error!r})", "export it again") from error
        classification = Classification.of(name) if name and name != "default" else None
        found.append(Feature(geometry, classification=classification, metadata=metadata))
    return found


def _geometry(element: Mapping[str, Any]) -> Geometry:
    kind = element["type"]
    if kind == "polyline":
        points = tuple((_number(x), _number(y)) for x, y, *_ in element["points"])
        return Geometry.polygon(points) if len(points) > 2 else Geometry("MultiPoint", points)
    x, y = (_number(value) for value in element["center"][:2])
    if kind == "point":
        return Geometry.point(x, y)
    if kind not in {"rectangle", "circle", "ellipse"}:
        raise ValueError(f"a {kind} is no cell")
    if kind == "circle":
        half = rise = _number(element["radius"])
    else:
        half, rise = _number(element["width"]) / 2, _number(element["height"]) / 2
    angle = _number(element.get("rotation", 0))
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((-half, -rise), (half, -rise), (half, rise), (-half, rise))
    return Geometry.polygon((x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in corners)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a coordinate is non-finite")
    return number
