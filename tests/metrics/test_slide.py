"""Slide and cell metrics against slow counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.bethesda import SLIDE_CLASSES, binary_score
from stride_monai.errors import ManifestError
from stride_monai.metrics.slide import (
    at_threshold,
    auc,
    f1_macro,
    positive_scores,
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
