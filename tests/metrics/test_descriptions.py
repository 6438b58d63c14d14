"""Metrics of descriptions against slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.metrics.descriptions import (
    agreement,
    at_prevalence,
    average_precision,
    best_threshold,
    exact_match,
    micro_scores,
    retrieval,
    text_scores,
    threshold_curve,
)

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
THRESHOLD = 0.25


def example(seed: int = 0, cells: int = 12, texts: int = 4) -> tuple[Floats, Bools]:
    """Cosines with ties, some equal to the threshold; the last text describes no cell."""
    random = np.random.default_rng(seed)
    similarity = (random.integers(-4, 5, (cells, texts)) / 4).astype(np.float32)
    target = random.random((cells, texts)) > 0.5
    target[:, -1] = False
    target[0] = [True, False, True, False]
    return similarity, target


def counts(similarity: Floats, target: Bools, threshold: float) -> tuple[int, int, int]:
    """TP, FP, FN by loops; strictly greater keeps."""
    tp = fp = fn = 0
    for i in range(similarity.shape[0]):
        for n in range(similarity.shape[1]):
            kept = float(similarity[i, n]) > threshold
            tp += kept and target[i, n]
            fp += kept and not target[i, n]
            fn += not kept and target[i, n]
    return int(tp), int(fp), int(fn)


def f1(tp: int, fp: int, fn: int) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan


def slow_average_precision(scores: Floats, positive: Bools) -> float:
    """Sum over distinct scores, from the highest, of (recall gained) x (precision there)."""
    total, before = 0.0, 0
    for level in sorted(set(scores.tolist()), reverse=True):
        taken = [bool(p) for s, p in zip(scores, positive, strict=True) if s >= level]
        total += (sum(taken) - before) / int(positive.sum()) * sum(taken) / len(taken)
        before = sum(taken)
    return total


def test_scores_of_each_text_and_of_all() -> None:
    similarity, target = example()
    scores = text_scores(similarity, target, THRESHOLD)
    for n in range(3):
        tp, fp, fn = counts(similarity[:, n : n + 1], target[:, n : n + 1], THRESHOLD)
        assert scores.precision[n] == pytest.approx(tp / (tp + fp))
        assert scores.recall[n] == pytest.approx(tp / (tp + fn))
        assert scores.f1[n] == pytest.approx(f1(tp, fp, fn))
        assert scores.average_precision[n] == pytest.approx(slow_average_precision(similarity[:, n], target[:, n]))
        assert scores.support[n] == target[:, n].sum()
    assert math.isnan(scores.recall[3]), "nothing to find: not defined"
    assert math.isnan(scores.average_precision[3])
    tp, fp, fn = counts(similarity, target, THRESHOLD)
    assert micro_scores(similarity, target, THRESHOLD) == pytest.approx(
        (tp / (tp + fp), tp / (tp + fn), f1(tp, fp, fn))
    )


def test_a_cosine_that_equals_the_threshold_is_not_kept() -> None:
    similarity, target = np.float32([[0.25, 0.5]]), np.array([[True, True]])
    assert micro_scores(similarity, target, 0.25)[1] == 0.5
    assert exact_match(similarity, target, 0.25) == 0.0
    assert exact_match(similarity, target, 0.2499) == 1.0


def test_exact_sets_and_the_curve() -> None:
    similarity, target = example(1)
    points = [-1.5, -0.3, 0.0, 0.3, 2.0]
    curve = threshold_curve(similarity, target, points)
    for k, threshold in enumerate(points):
        sets = [
            {n for n in range(4) if similarity[i, n] > threshold} == {n for n in range(4) if target[i, n]}
            for i in range(len(target))
        ]
        assert curve.exact[k] == pytest.approx(sum(sets) / len(sets))
        assert curve.micro_f1[k] == pytest.approx(f1(*counts(similarity, target, threshold)))
        each = [f1(*counts(similarity[:, n : n + 1], target[:, n : n + 1], threshold)) for n in range(4)]
        assert curve.macro_f1[k] == pytest.approx(np.nanmean(each))
    assert curve.recall[0] == 1.0
    assert curve.recall[-1] == 0.0
    assert math.isnan(curve.precision[-1]), "nothing is kept"


@settings(max_examples=60, deadline=None)
@given(
    similarity=arrays(
        np.float32, (5, 3), elements=st.sampled_from([-1.0, -0.5, 0.1, np.nextafter(np.float32(0.1), 1), 1])
    ),
    target=arrays(np.bool_, (5, 3)),
)
def test_no_other_threshold_has_a_higher_micro_f1(similarity: Floats, target: Bools) -> None:
    if not target.any():
        with pytest.raises(ManifestError, match="no validation cell has a description"):
            best_threshold(similarity, target)
        return
    threshold = best_threshold(similarity, target)
    assert threshold == float(np.float32(threshold)), "the weights hold float32"
    found = f1(*counts(similarity, target, threshold))
    each = [f1(*counts(similarity, target, float(other))) for other in (-2.0, *similarity.reshape(-1))]
    assert found == pytest.approx(max(each))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), times=st.integers(2, 9))
def test_at_a_prevalence_cells_count_as_if_the_sample_had_it(seed: int, times: int) -> None:
    """The oracle is a sample that has it: every normal cell some times over."""
    rng = np.random.default_rng(seed)
    lesion = np.array([True, True, False, False, False, True])
    similarity, target = rng.uniform(-1, 1, (6, 3)).astype(np.float32), rng.random((6, 3)) < 0.5
    target[0, 0] = True
    copies = np.where(lesion, 1, times)
    weight = at_prevalence(lesion, 3 / (3 + 3 * times))
    assert weight == pytest.approx(copies * len(copies) / copies.sum())
    wanted = best_threshold(np.repeat(similarity, copies, axis=0), np.repeat(target, copies, axis=0))
    assert best_threshold(similarity, target, weight) == wanted


def test_what_is_rare_is_said_less_often() -> None:
    """Scores of a text on lesions, where it is right, and on normal cells, where it never is."""
    rng = np.random.default_rng(0)
    lesion = np.arange(2000) < 1000
    scores = np.float32(rng.normal(np.where(lesion, 0.5, 0.0), 0.25)[:, None]).clip(-1, 1)
    thresholds = [best_threshold(scores, lesion[:, None], at_prevalence(lesion, p)) for p in (0.5, 0.1, 0.02)]
    assert thresholds == sorted(set(thresholds))
    assert best_threshold(scores, lesion[:, None]) == thresholds[0]


def test_a_prevalence_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(ConfigError, match="no share"):
        at_prevalence(np.array([True, False]), 1.0)
    for one_kind in (np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)):
        with pytest.raises(ManifestError, match="all lesions, or all normal"):
            at_prevalence(one_kind, 0.1)


def test_a_threshold_is_not_tuned_on_what_is_no_number() -> None:
    with pytest.raises(ManifestError, match="training has diverged"):
        best_threshold(np.float32([[math.nan, 0.1]]), np.array([[True, False]]))


def test_agreement_with_the_predicted_class() -> None:
    allowed = np.array([[True, False, False], [False, True, True]])  # two classes, three texts
    kept = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]], bool)
    predicted = np.array([0, 0, 1, 1, 0])
    found = agreement(kept, allowed, predicted)
    # Kept texts: 1 + 2 + 2 + 0 + 1 = 6, of which 1 + 1 + 2 + 0 + 0 = 4 are listed.
    assert found.texts == pytest.approx(4 / 6)
    assert found.cells == pytest.approx(2 / 4), "cells 0 and 2 of the four that say something"
    assert found.contradicted == pytest.approx(1 / 4), "cell 4"
    assert found.silent == pytest.approx(1 / 5)


def test_retrieval_both_ways() -> None:
    random = np.random.default_rng(3)
    similarity = random.permutation(60).reshape(15, 4).astype(np.float32)  # no ties
    target = random.random((15, 4)) > 0.6
    target[:, 2] = False
    target[4] = False
    found = retrieval(similarity, target)
    cells = [i for i in range(15) if target[i].any()]
    texts = [n for n in range(4) if target[:, n].any()]
    assert found.text_precision_at_1 == pytest.approx(
        sum(bool(target[i, max(range(4), key=lambda n: similarity[i, n])]) for i in cells) / len(cells)
    )
    assert found.text_map == pytest.approx(
        sum(slow_average_precision(similarity[i], target[i]) for i in cells) / len(cells)
    )
    assert found.cell_map == pytest.approx(
        sum(slow_average_precision(similarity[:, n], target[:, n]) for n in texts) / len(texts)
    )
    tops = [sorted(range(15), key=lambda i: -similarity[i, n])[:10] for n in texts]
    wanted = [sum(bool(target[i, n]) for i in top) / 10 for n, top in zip(texts, tops, strict=True)]
    assert found.cell_precision_at_10 == pytest.approx(sum(wanted) / len(wanted))


def test_average_precision_is_not_defined_without_a_positive() -> None:
    assert math.isnan(average_precision(np.float32([0.1, 0.2]), np.array([False, False])))
    assert average_precision(np.float32([0.1, 0.2]), np.array([False, True])) == 1.0
    assert average_precision(np.float32([0.2, 0.2]), np.array([False, True])) == 0.5, "ties count together"
