"""How boxes of cells lie on each other, and how many of those that are shown are right."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.metrics.detection import box_cover, box_iou
from stride_monai.metrics.detection_curves import precision_at_top, ranks_of_truth


def slow_overlaps(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and cover of two boxes of whole px, counted px by px."""
    one, other = (
        {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))} for box in (a, b)
    )
    common = len(one & other)
    return common / len(one | other), common / min(len(one), len(other))


boxes = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)).map(
    lambda box: [float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3])]
)


@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_overlaps_are_those_of_counted_pixels(a: list[list[float]], b: list[list[float]]) -> None:
    iou, cover = box_iou(np.array(a), np.array(b)), box_cover(np.array(a), np.array(b))
    for row, one in enumerate(a):
        for column, other in enumerate(b):
            assert np.allclose((iou[row, column], cover[row, column]), slow_overlaps(one, other))


@given(st.lists(boxes, max_size=8), st.lists(boxes, max_size=5), st.integers(1, 9))
def test_precision_of_the_best_is_that_of_a_loop(found: list[list[float]], truth: list[list[float]], top: int) -> None:
    right = [any(slow_overlaps(box, cell)[0] >= 0.5 for cell in truth) for box in found[:top]]
    value = precision_at_top(np.array(found).reshape(-1, 4), np.array(truth).reshape(-1, 4), top)
    if right:
        assert value == sum(right) / len(right)
    else:
        assert math.isnan(value)


def test_a_small_box_in_a_large_one_covers_it_and_has_little_iou() -> None:
    large, small = np.array([[0.0, 0, 10, 10]]), np.array([[4.0, 4, 6, 6]])
    assert ranks_of_truth(small, large).tolist() == [math.inf]
    assert ranks_of_truth(small, large, overlap=box_cover).tolist() == [1.0]
    assert box_cover(large, np.array([[3.0, 3, 3, 9]])).tolist() == [[0.0]]
