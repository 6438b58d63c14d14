"""Curves of a detector against MONAI's FROC and slow formulas."""

from __future__ import annotations

import numpy as np
import pytest
from detection_scenes import scene, with_ignored
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_froc_curve_data, compute_froc_score

from stride_monai.metrics.detection import TileResult, match_boxes, mean_average_precision
from stride_monai.metrics.detection_curves import (
    FROC_RATES,
    froc,
    precision_recall,
    ranks_of_truth,
    top_k_recall,
)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_froc_equals_monai(seed: int, ignore: bool) -> None:
    results = with_ignored(scene(seed), seed) if ignore else scene(seed)
    matches = [match_boxes(result, 500, (0.5,)) for result in results]
    true = np.concatenate([m.scores[m.hits[0]] for m in matches])
    false = np.concatenate([m.scores[m.counted[0] & ~m.hits[0]] for m in matches])
    total = sum(result.wanted for result in results)
    if not total or not len(false) + len(true):
        return
    curve = froc(results)
    # MONAI leaves out the lowest threshold; one below all is added for it.
    rates, sensitivity = compute_froc_curve_data(np.append(false, -1.0), np.append(true, -1.0), total, len(results))
    assert curve.rates == pytest.approx(rates[::-1])
    assert curve.sensitivity == pytest.approx(sensitivity[::-1])
    assert curve.score == pytest.approx(compute_froc_score(rates, sensitivity, FROC_RATES))


def test_froc_takes_false_positives_of_the_background_alone() -> None:
    truth = np.array([[0.0, 0, 10, 10]])
    strays = np.array([[50.0, 50, 60, 60]]).repeat(3, 0)
    lesion = TileResult(np.concatenate([strays, truth]), np.array([0.9, 0.9, 0.9, 0.5]), truth)
    negative = TileResult(strays[:1], np.array([0.7]), truth[:0])
    curve = froc([lesion, negative], background=[False, True])
    assert curve.rates.tolist() == [0, 1, 1]
    assert curve.sensitivity.tolist() == [0, 0, 1]
    assert np.isnan(froc([lesion], background=[False]).score)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_precision_recall_is_what_the_average_precision_averages(seed: int) -> None:
    results = scene(seed)
    if sum(len(r.truth) for r in results) and sum(len(r.boxes) for r in results):
        recall, precision = precision_recall(results, iou=0.6)
        assert recall.tolist() == np.linspace(0, 1, 101).tolist()
        assert precision.mean() == pytest.approx(mean_average_precision(results, 500, (0.6,)))
        assert (np.diff(precision) <= 0).all()


def test_top_k_recall_by_hand() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    boxes = np.array([[60.0, 0, 70, 10], [20, 0, 30, 10], [20, 0, 30, 10], [0, 0, 10, 10]])
    ranks = ranks_of_truth(boxes, truth)
    assert ranks.tolist() == [4, 2, np.inf]
    recall = top_k_recall(["HSIL", "NILM", "LSIL"], [ranks, np.zeros(0), np.array([1.0])], [1, 2, 4])
    assert {name: values.tolist() for name, values in recall.items()} == {
        "all": [0.25, 0.5, 0.75],
        "HSIL": [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3)],
        "LSIL": [1.0, 1.0, 1.0],
    }


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_the_best_k_are_enough_to_know_who_is_found_in_them(seed: int, k: int) -> None:
    result = scene(seed, tiles=1)[0]
    order = np.argsort(-result.scores, kind="stable")
    ranks = ranks_of_truth(result.boxes[order], result.truth)
    alone = ranks_of_truth(result.boxes[order[:k]], result.truth)
    assert np.array_equal(ranks <= k, np.isfinite(alone))
