"""Metrics of cell classes against slow loops over the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stride_monai.metrics.cell import (
    brier_score,
    calibration,
    class_scores,
    confusion_matrix,
    reliability,
)
from stride_monai.metrics.slide import f1_macro

CLASSES = 4


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities [N, C] and true classes [N]; small N, so that classes are missing now and then."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = draw(st.integers(1, 40))
    logits = rng.normal(0, draw(st.sampled_from((0.3, 2.0, 20.0))), (count, CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, rng.integers(0, CLASSES, count)


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_confusion_and_scores_follow_their_definitions(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    probabilities, truth = case
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(predicted, truth, CLASSES)
    scores = class_scores(matrix)
    for row in range(CLASSES):
        for column in range(CLASSES):
            assert matrix[row, column] == sum(t == row and p == column for t, p in zip(truth, predicted, strict=True))
    defined = []
    for c in range(CLASSES):
        tp = sum(t == c and p == c for t, p in zip(truth, predicted, strict=True))
        fp = sum(t != c and p == c for t, p in zip(truth, predicted, strict=True))
        fn = sum(t == c and p != c for t, p in zip(truth, predicted, strict=True))
        for value, part, whole in (
            (scores.precision[c], tp, tp + fp),
            (scores.recall[c], tp, tp + fn),
            (scores.f1[c], 2 * tp, 2 * tp + fp + fn),
        ):
            assert value == part / whole if whole else math.isnan(value)
        assert scores.support[c] == tp + fn
        if tp + fp + fn:
            precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
            harmonic = 2 * precision * recall / (precision + recall) if tp else 0.0
            assert scores.f1[c] == pytest.approx(harmonic)
            defined.append(harmonic)
    assert np.nanmean(scores.f1) == pytest.approx(np.mean(defined))
    assert f1_macro(predicted, truth) == pytest.approx(np.mean(defined))


def slow_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> float:
    """Guo et al. 2017, equation 3: sum over bins of |B| / n * |accuracy(B) - confidence(B)|, bins ((m-1)/M, m/M]."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [k for k, p in enumerate(confidence) if (m - 1) / bins < p <= m / bins or (m == 1 and p == 0)]
        if inside:
            accuracy = sum(bool(correct[k]) for k in inside) / len(inside)
            mean = sum(confidence[k] for k in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@given(case=cases(), bins=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_calibration_follows_its_definition(case: tuple[NDArray[np.float64], NDArray[np.int64]], bins: int) -> None:
    probabilities, truth = case
    top, by_class = calibration(probabilities, truth, bins)
    best = probabilities.max(axis=1)
    assert top.error == pytest.approx(slow_error(best, probabilities.argmax(axis=1) == truth, bins), abs=1e-12)
    for c in range(CLASSES):
        assert by_class[c].error == pytest.approx(slow_error(probabilities[:, c], truth == c, bins), abs=1e-12)
    brier = 0.0
    for row, label in zip(probabilities, truth, strict=True):
        brier += sum((p - (c == label)) ** 2 for c, p in enumerate(row)) / len(truth)
    assert brier_score(probabilities, truth) == pytest.approx(brier)


def test_a_calibrated_classifier_has_no_error_and_a_sure_wrong_one_has_all_of_it() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 200_000)
    honest = reliability(confidence, rng.uniform(0, 1, 200_000) < confidence, 10)
    assert honest.error < 0.01
    assert honest.number.sum() == 200_000
    sure = np.tile([0.0, 0.0, 0.0, 1.0], (10, 1))
    assert calibration(sure, np.zeros(10, int))[0].error == 1.0
    assert brier_score(sure, np.zeros(10, int)) == 2.0
    assert brier_score(sure, np.full(10, 3)) == 0.0


def test_bins_hold_their_upper_edge_and_empty_ones_have_no_value() -> None:
    bins = reliability(np.array([0.0, 0.5, 0.5000001, 1.0]), np.array([True, False, True, True]), 4)
    assert bins.number.tolist() == [1, 1, 1, 1]
    empty = reliability(np.array([0.9]), np.array([True]), 4)
    assert empty.number.tolist() == [0, 0, 0, 1]
    assert np.isnan(empty.accuracy[:3]).all()
    assert empty.error == pytest.approx(0.1)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        confusion_matrix(np.array([5]), np.array([0]), CLASSES)
    with pytest.raises(ValueError, match="outside"):
        confusion_matrix(np.array([0]), np.array([-1]), CLASSES)
    with pytest.raises(ValueError, match="equal lists"):
        confusion_matrix(np.array([0, 1]), np.array([0]), CLASSES)
    with pytest.raises(ValueError, match="non-empty"):
        reliability(np.array([]), np.array([], dtype=bool))
