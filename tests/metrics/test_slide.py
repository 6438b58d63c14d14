"""Slide and cell metrics against slow counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.bethesda import SLIDE_CLASSES, binary_score
from stride_monai.errors import ManifestError
from stride_monai.metrics.slide import (
    at_threshold,
    auc,
    conformal_threshold,
    f1_macro,
    positive_scores,
    positives_needed,
    roc_curve,
    specificity_at_sensitivity,
)

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({positive for _, positive in pairs}) == 2
)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 6 for score, _ in pairs]), np.array([positive for _, positive in pairs])


@given(SCORED)
def test_auc_counts_ordered_pairs(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = arrays(pairs)
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[positive].tolist() for n in scores[~positive].tolist()
    ]
    assert auc(scores, positive) == pytest.approx(sum(wins) / len(wins))


@given(SCORED, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_operating_point_is_the_highest_threshold_that_is_sensitive_enough(
    pairs: list[tuple[int, bool]], wanted: float
) -> None:
    scores, positive = arrays(pairs)
    best = max(t for t in scores.tolist() if np.mean(scores[positive] >= t) >= wanted)
    point = specificity_at_sensitivity(scores, positive, wanted)
    assert point.threshold == best
    assert point.sensitivity == pytest.approx(np.mean(scores[positive] >= best))
    assert point.specificity == pytest.approx(np.mean(scores[~positive] < best))
    assert at_threshold(scores, positive, best) == point


def test_exactly_95_of_100_positives_are_enough() -> None:
    scores = np.arange(200) / 200
    point = specificity_at_sensitivity(scores, np.arange(200) % 2 == 1)
    assert point.sensitivity == 0.95


@pytest.mark.parametrize("positive", [True, False])
def test_one_kind_of_slide_alone_is_an_error(positive: bool) -> None:
    for metric in (auc, specificity_at_sensitivity):
        with pytest.raises(ManifestError, match="negative" if positive else "positive"):
            metric(np.array([0.1, 0.2]), np.array([positive, positive]))


def test_positive_scores_are_the_binary_score() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(len(SLIDE_CLASSES)), size=5)
    np.testing.assert_allclose(positive_scores(p), [binary_score(row.tolist()) for row in p])


def test_f1_macro_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 4, 3])
    # class 0: P 1, R 2/3; class 1: P 1/2, R 1/2; class 3: 1; class 4: never true; class 2 does not occur
    assert f1_macro(predicted, truth) == pytest.approx(np.mean([0.8, 0.5, 1.0, 0.0]))
    with pytest.raises(ValueError, match="class indices"):
        f1_macro(np.eye(3), np.eye(3))


def test_the_roc_curve_is_that_of_every_threshold() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.4
    false_positives, sensitivity = roc_curve(scores, positive)
    for threshold, x, y in zip(np.unique(scores)[::-1], false_positives[1:], sensitivity[1:], strict=True):
        called = scores >= threshold
        assert x == pytest.approx((called & ~positive).sum() / (~positive).sum())
        assert y == pytest.approx((called & positive).sum() / positive.sum())
    assert (false_positives[0], sensitivity[0], false_positives[-1], sensitivity[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(sensitivity, false_positives) == pytest.approx(auc(scores, positive))
    with pytest.raises(ManifestError, match="no negative slide"):
        roc_curve(scores, np.ones(40, bool))


def misses_allowed_slowly(positives: int, sensitivity: float, confidence: float) -> int:
    """The most misses m with P(Bin(n, 1 - s) <= m) at most 1 - c, summed term by term."""
    p, total, allowed = 1 - sensitivity, 0.0, -1
    for m in range(positives + 1):
        total += math.comb(positives, m) * p**m * (1 - p) ** (positives - m)
        if total <= 1 - confidence:
            allowed = m
    return allowed


@pytest.mark.parametrize("sensitivity", [0.8, 0.9, 0.95, 0.98])
@pytest.mark.parametrize("positives", [59, 93, 200, 500])
def test_the_conformal_bound_is_the_order_statistic(positives: int, sensitivity: float) -> None:
    scores = np.random.default_rng(positives).permutation(np.arange(positives) / positives)
    truth = np.r_[np.ones(positives, bool), False]
    allowed = misses_allowed_slowly(positives, sensitivity, 0.95)
    if allowed < 0:
        with pytest.raises(ManifestError, match=rf"too few .* give {positives_needed(sensitivity, 0.95)} or more"):
            conformal_threshold(np.r_[scores, 0.0], truth, sensitivity)
        return
    point = conformal_threshold(np.r_[scores, 0.0], truth, sensitivity)
    assert point.threshold == np.sort(scores)[allowed]
    assert point.sensitivity == pytest.approx(1 - allowed / positives)
    plain = specificity_at_sensitivity(np.r_[scores, 0.0], truth, sensitivity)
    assert point.threshold <= plain.threshold, "being sure costs specificity, and never gains any"


def test_positives_needed_by_hand() -> None:
    assert positives_needed(0.95, 0.95) == 59
    assert 0.95**59 <= 0.05 < 0.95**58
    assert positives_needed(0.98, 0.95) == 149
    assert positives_needed(0.9, 0.95) == 29


@pytest.mark.parametrize("positives", [59, 93, 361])
def test_the_conformal_bound_keeps_its_promise(positives: int) -> None:
    """Of 5,000 draws the sensitivity on all slides is at least 0.95 in 95 % +- 1; by the plain rule in about half.

    For numbers of slides of which some number of misses comes to 95 % nearly: for others it is more, never less.
    """
    rng = np.random.default_rng(5)
    held = {"conformal": 0, "plain": 0}
    truth = np.r_[np.ones(positives, bool), False]
    for _ in range(5000):
        scores = np.r_[rng.random(positives), 0.5]  # a uniform score's threshold t has the sensitivity 1 - t
        held["conformal"] += 1 - conformal_threshold(scores, truth).threshold >= 0.95
        held["plain"] += 1 - specificity_at_sensitivity(scores, truth).threshold >= 0.95
    assert 0.94 <= held["conformal"] / 5000 <= 0.96
    assert held["plain"] / 5000 < 0.65


@given(st.lists(st.integers(0, 9), min_size=60, max_size=120), st.integers(0, 99))
def test_equal_scores_never_make_the_conformal_bound_miss_more(ranks: list[int], seed: int) -> None:
    scores = np.r_[np.array(ranks) / 9, 0.0]
    truth = np.r_[np.ones(len(ranks), bool), False]
    point = conformal_threshold(scores, truth, 0.95)
    missed = int((np.array(ranks) / 9 < point.threshold).sum())
    assert missed <= misses_allowed_slowly(len(ranks), 0.95, 0.95)
    order = np.random.default_rng(seed).permutation(len(ranks))
    assert conformal_threshold(np.r_[scores[:-1][order], 0.0], truth, 0.95) == point
