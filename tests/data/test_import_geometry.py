"""Boxes as formats write them: written by a slow formula here, read back to the same half-open box."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.data.importers.geometry import (
    from_center,
    from_corner,
    from_voc,
    from_yolo,
    hull,
    pixel_center,
    polygon,
)
from stride_monai.errors import ManifestError
from stride_monai.units import Box

_PLACES = st.floats(-5_000, 200_000)
_SIDES = st.floats(0.1, 5_000)
_BOXES = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), _PLACES, _PLACES, _SIDES, _SIDES)


@settings(max_examples=200, deadline=None)
@given(box=_BOXES)
def test_corner_and_centre(box: Box) -> None:
    assert from_corner(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0) == pytest.approx(box, rel=1e-9, abs=1e-6)
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    assert from_center(x, y, box.x1 - box.x0, box.y1 - box.y0) == pytest.approx(box, rel=1e-9, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(box=_BOXES, image=st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)))
def test_yolo(box: Box, image: tuple[int, int]) -> None:
    shares = [(box.x0 + box.x1) / 2 / image[0], (box.y0 + box.y1) / 2 / image[1]]
    shares += [(box.x1 - box.x0) / image[0], (box.y1 - box.y0) / image[1]]
    assert from_yolo(shares[0], shares[1], shares[2], shares[3], image) == pytest.approx(box, rel=1e-7, abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(x=st.integers(0, 9_999), y=st.integers(0, 9_999), width=st.integers(1, 500), height=st.integers(1, 500))
def test_voc_names_the_first_and_last_pixel_from_one(x: int, y: int, width: int, height: int) -> None:
    columns, rows = range(x, x + width), range(y, y + height)  # counted from 0
    box = from_voc(columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)
    assert box == Box(x, y, x + width, y + height)
    assert box.area == len(columns) * len(rows)
    assert from_voc(x, y, x + width, y + height, origin=0) == box


@settings(max_examples=100, deadline=None)
@given(column=st.integers(1, 9_999), row=st.integers(1, 9_999))
def test_a_pixel_from_one_is_hit_in_its_middle(column: int, row: int) -> None:
    x, y = pixel_center(column, row)
    assert (int(x), int(y)) == (column - 1, row - 1)
    assert x - int(x) == y - int(y) == 0.5


@settings(max_examples=100, deadline=None)
@given(points=st.lists(st.tuples(_PLACES, _PLACES), min_size=3, max_size=20))
def test_a_polygon_lies_in_its_hull_and_touches_every_side(points: list[tuple[float, float]]) -> None:
    corners = polygon([number for point in points for number in point])
    assert list(corners) == points
    box = hull(corners)
    assert all(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1 for x, y in points)
    assert {box.x0, box.x1} <= {x for x, _ in points}
    assert {box.y0, box.y1} <= {y for _, y in points}


@pytest.mark.parametrize("count", [0, 4, 7])
def test_too_few_or_odd_numbers_are_no_polygon(count: int) -> None:
    with pytest.raises(ManifestError, match=f"{count} numbers are no polygon"):
        polygon([1.0] * count)
