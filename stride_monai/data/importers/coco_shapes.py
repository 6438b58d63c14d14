"""The shape of a COCO annotation: its box, turned or not, and its outline; what contradicts itself is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import TURNED, box_text, from_corner, hull, polygon, turned
from stride_monai.data.importers.tables import to_number
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["shape_of"]

_ROTATIONS = ("rotation",)  # degrees, clockwise, about the middle (CVAT)
_OTHER_ROTATIONS = ("angle", "theta", "rot", "rotate")  # of other tools, in any unit and direction
_SAME = 1.0  # px by which numbers of the same place may differ
_AGREE = 0.5  # of box and polygon: intersection over union, at least


def shape_of(entry: Mapping[str, Any], tally: Counter[str]) -> tuple[Box, Polygon]:
    """Box and outline of an annotation, px; the outline only where it is one polygon.

    Args:
        tally: counts what was changed or left out.

    Raises:
        ManifestError: no box, numbers that are none, or a box and a polygon of different places.
    """
    polygons = [
        polygon([to_number(n, "segmentation") for n in part]) for part in _polygons(entry.get("segmentation"), tally)
    ]
    around = hull(point for part in polygons for point in part) if polygons else None
    outline = polygons[0] if len(polygons) == 1 else ()
    if len(polygons) > 1:
        tally["cells have an outline of several parts, of which the box around all is taken"] += 1
    if entry.get("keypoints"):
        tally["cells have key points, of which only the box is taken"] += 1
    box = _box(entry)
    if box is None and around is None:
        raise ManifestError("it has neither bbox nor polygon")
    degrees = _rotation(entry)
    if box is None or around is None:
        if box is not None and degrees:
            tally[TURNED] += 1
            outline = turned(box, degrees)
            box = hull(outline)
        return box or around or Box(0, 0, 0, 0), outline
    if degrees and _same(around, box) and _is_rectangle(outline, box):  # the rectangle before it was turned
        tally[TURNED] += 1
        outline = turned(box, degrees)
        return hull(outline), outline
    if degrees and _same(around, hull(turned(box, degrees))):
        tally[TURNED] += 1
        return around, outline
    if box.area > 0 and around.area > 0 and _overlap(box, around) < _AGREE:
        raise ManifestError(
            f"bbox {box_text(box)} and the polygon's {box_text(around)} are different places",
            "is bbox not x, y, width, height?",
        )
    return box, outline


def _polygons(parts: Any, tally: Counter[str]) -> list[list[Any]]:
    """Lists of numbers; none for a mask in run lengths."""
    if isinstance(parts, dict) and parts.get("counts"):
        tally["cells have a mask in run lengths, of which only the box is taken"] += 1
        return []
    if parts is None or parts == {} or parts == "":
        return []
    if not isinstance(parts, list):
        raise ManifestError(f"its segmentation is {type(parts).__name__}, no list of polygons")
    if parts and not any(isinstance(part, list | dict) for part in parts):  # one polygon without a list around it (VIA)
        parts = [parts]
    if not all(isinstance(part, list) for part in parts):
        raise ManifestError("its segmentation is no list of lists of numbers")
    return [part for part in parts if part]


def _box(entry: Mapping[str, Any]) -> Box | None:
    given = entry.get("bbox")
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise ManifestError(f"its bbox is {given!r}, no list of four numbers")
    if len(given) != 4:
        what = "x, y, width, height"
        advice = "for a turned box give its polygon, or attributes.rotation" if len(given) in {5, 8} else ""
        raise ManifestError(f"its bbox has {len(given)} values, not 4 ({what})", advice)
    x, y, width, height = (to_number(n, name) for n, name in zip(given, ("x", "y", "width", "height"), strict=True))
    area = entry.get("area")
    if not entry.get("segmentation") and isinstance(area, int | float) and area > _SAME:
        corners = (width - x) * (height - y)
        if width > x and height > y and abs(area - width * height) > 0.1 * area and abs(area - corners) < 0.01 * area:
            raise ManifestError(
                f"its area {area:g} is that of bbox {given} as two corners", "write bbox as x, y, width, height"
            )
    return from_corner(x, y, width, height)


def _rotation(entry: Mapping[str, Any]) -> float:
    """Degrees by which the box is turned."""
    attributes = entry.get("attributes")
    places = [entry, attributes] if isinstance(attributes, dict) else [entry]
    degrees = 0.0
    for place in places:
        for name in (*_ROTATIONS, *_OTHER_ROTATIONS):
            if place.get(name) is None or place[name] == "":
                continue
            value = to_number(place[name], name)
            if value and name in _OTHER_ROTATIONS:
                raise ManifestError(
                    f"its box is turned by {name} {value:g}, of which nobody knows unit and direction",
                    "export the polygon instead",
                )
            degrees = degrees or value % 360
    return degrees


def _same(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= _SAME for a, b in zip(one, other, strict=True))


def _is_rectangle(outline: Polygon, box: Box) -> bool:
    """Whether all corners of an outline are the box's."""
    corners = [(x, y) for x in (box.x0, box.x1) for y in (box.y0, box.y1)]
    return bool(outline) and all(
        any(abs(x - cx) <= _SAME and abs(y - cy) <= _SAME for cx, cy in corners) for x, y in outline
    )


def _overlap(one: Box, other: Box) -> float:
    common = one.intersection(other).area
    return common / (one.area + other.area - common)
