"""Lines of YOLO label files: boxes, polygons, and a box with key points, which looks like a polygon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import from_yolo, hull, polygon, simple
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.tables import to_number
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["Line", "keypoint_lines", "line_of", "shape_of"]

_OVER = 1e-3  # shares beyond 0-1 by rounding
_LOOKED_AT = 200  # polygons of which edges are compared
_SEEN = {0.0, 1.0, 2.0}  # what key points have for their visibility
_ADVICE = "say kpt_shape in the YAML file for key points, or --option lines=polygons"


class Line(NamedTuple):
    """A label: the number of its class as text, and shares of the image's sides."""

    place: Place
    slide_id: str
    size: tuple[int, int]
    number: str
    values: Sequence[float]


def line_of(text: str, place: Place, slide_id: str, size: tuple[int, int]) -> Line:
    """A line of a label file.

    Raises:
        ManifestError: not a class by its number and then numbers.
    """
    words = text.split()
    class_number = to_number(words[0], "class")
    if class_number != int(class_number) or class_number < 0:
        raise ManifestError(f"invalid class '{words[0]}'")
    return Line(place, slide_id, size, str(int(class_number)), [to_number(word, "value") for word in words[1:]])


def shape_of(line: Line, key_shape: tuple[int, int] | None) -> tuple[Box, Polygon]:
    """Box and outline in px; of a box with key points the box.

    Args:
        key_shape: number of key points and of values for each, of a data set that has them.

    Raises:
        ManifestError: another number of values, or values that are no shares.
    """
    values = list(line.values)
    if key_shape is not None:
        count = 4 + key_shape[0] * key_shape[1]
        if len(values) not in {4, count}:
            what = f"{key_shape[0]} key points of {key_shape[1]} values"
            raise ManifestError(f"there are {len(values) + 1} values, not {count + 1}: a class, a box and {what}")
        values = values[:4]
    if len(values) == 5:
        raise ManifestError("there are 6 values: is this a detector's output with a confidence, or a turned box?")
    if len(values) < 4:
        raise ManifestError(f"there are {len(values) + 1} values, not 5")
    if len(values) % 2:
        raise ManifestError(f"there are {len(values) + 1} values: neither a box nor a polygon", _ADVICE)
    if min(values) < -_OVER or max(values) > 1 + _OVER:
        raise ManifestError("the values are not between 0 and 1: they are no shares of the image's sides")
    if len(values) == 4:
        return from_yolo(values[0], values[1], values[2], values[3], line.size), ()
    outline = polygon([share * line.size[k % 2] for k, share in enumerate(values)])
    return hull(outline), outline


def keypoint_lines(lines: Sequence[Line], problems: ProblemLog) -> tuple[set[Place], str]:
    """Lines that read better as a box with key points than as a polygon: each is a problem.

    Both are rows of numbers. As key points all points lie in the box of the first four numbers, and every third number
    may be 0, 1 or 2; in a polygon the second corner is no farther from the others than these are from each other. A
    data set holds either, so a few lines tell it of all; and all have the same number of key points.

    Returns:
        Their places; and a note where nothing tells the two apart.
    """
    long = [line for line in lines if len(line.values) >= 6 and len(line.values) % 2 == 0]
    points = [line for line in long if _fits_points(line.values)]
    if 2 * len(points) <= len(long) or len({len(line.values) for line in long}) > 1:
        return set(), ""
    sure = [line for line in points if _with_visibility(line.values) or not _fits_polygon(line.values)]
    if not sure and len(points) == len(long) and not all(simple(_pairs(line.values)) for line in points[:_LOOKED_AT]):
        sure = points
    for line in sure:
        what = f"the {len(line.values) + 1} values look like a box with key points, not like a polygon"
        problems.add(line.place, "row", f"{what}: {_ADVICE}", line.slide_id)
    note = ""
    if not sure and len(points) == len(long):
        note = f"{len(long)} polygons could also be boxes with key points, and are taken for polygons ({_ADVICE})"
    return {line.place for line in sure}, note


def _pairs(values: Sequence[float]) -> Polygon:
    return tuple(zip(values[::2], values[1::2], strict=True))


def _inside(points: Sequence[tuple[float, float]], values: Sequence[float]) -> bool:
    """Whether points lie in the box of centre and size, and that in the image."""
    x, y, width, height = values[:4]
    box = Box(x - width / 2 - _OVER, y - height / 2 - _OVER, x + width / 2 + _OVER, y + height / 2 + _OVER)
    whole = min(box.x0, box.y0) >= -2 * _OVER and max(box.x1, box.y1) <= 1 + 2 * _OVER
    return whole and all(box.x0 <= px <= box.x1 and box.y0 <= py <= box.y1 for px, py in points)


def _with_visibility(values: Sequence[float]) -> bool:
    rest = values[4:]
    if len(rest) % 3 or not set(rest[2::3]) <= _SEEN:
        return False
    shown = [(x, y) for x, y, seen in zip(rest[::3], rest[1::3], rest[2::3], strict=True) if seen]
    return _inside(shown, values)


def _fits_points(values: Sequence[float]) -> bool:
    return _with_visibility(values) or (_inside(_pairs(values[4:]), values) and not _is_parallelogram(values))


def _is_parallelogram(values: Sequence[float]) -> bool:
    """Four corners of a rectangle, turned or not: YOLO's oriented boxes."""
    if len(values) != 8:
        return False
    a, b, c, d = _pairs(values)
    return all(abs(a[k] + c[k] - b[k] - d[k]) < _OVER for k in (0, 1))


def _fits_polygon(values: Sequence[float]) -> bool:
    first, second, *rest = _pairs(values)
    around = hull([first, *rest])
    reach = max(around.width, around.height)
    return around.x0 - reach <= second[0] <= around.x1 + reach and around.y0 - reach <= second[1] <= around.y1 + reach
