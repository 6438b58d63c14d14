"""DeLong against a slow formula, the bootstrap and simulation; rates at a fixed rate likewise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from stride_monai.errors import ManifestError
from stride_monai.evaluation.statistics import (
    RankStatistics,
    at_sensitivities,
    auc_interval,
    bootstrap,
    compare_auc,
    delong,
    rate_bounds,
    roc_band,
)
from stride_monai.metrics.slide import auc, specificity_at_sensitivity

SCORED = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=4, max_size=30).filter(
    lambda rows: 2 <= sum(positive for *_, positive in rows) <= len(rows) - 2
)


@given(SCORED)
def test_delong_is_its_slow_formula(rows: list[tuple[int, int, bool]]) -> None:
    """Structural components of every slide by comparing it with every slide of the other kind (equations 4 to 6)."""
    table, positive = np.array([row[:2] for row in rows], float).T, np.array([row[2] for row in rows])
    found = delong(table, positive)
    by_case, by_control = [], []
    for scores in table:
        wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~positive]] for x in scores[positive]]
        by_case.append([sum(row) / len(row) for row in wins])
        by_control.append([sum(column) / len(column) for column in zip(*wins, strict=True)])
    m, n = len(by_case[0]), len(by_control[0])
    area = [sum(row) / m for row in by_case]
    for a in (0, 1):
        assert found.auc[a] == pytest.approx(area[a])
        assert found.auc[a] == pytest.approx(auc(table[a], positive))
        for b in (0, 1):
            s10 = sum((by_case[a][i] - area[a]) * (by_case[b][i] - area[b]) for i in range(m)) / (m - 1)
            s01 = sum((by_control[a][j] - area[a]) * (by_control[b][j] - area[b]) for j in range(n)) / (n - 1)
            assert found.covariance[a, b] == pytest.approx(s10 / m + s01 / n, abs=1e-12)


def test_the_bootstrap_agrees() -> None:
    random = np.random.default_rng(3)
    positive = np.arange(400) < 120
    scores = random.normal(size=400) + 1.5 * positive
    slow = bootstrap(RankStatistics(scores, positive), 400, replicates=4000).intervals["auc"]
    fast = auc_interval(scores, positive)
    assert slow.estimate == pytest.approx(fast.estimate)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), abs=0.004)
    other = scores + random.normal(size=400)
    drawn = np.array(
        [
            auc(scores[rows], positive[rows]) - auc(other[rows], positive[rows])
            for rows in random.integers(0, 400, (2000, 400))
        ]
    )
    difference = compare_auc(scores, other, positive).difference
    assert difference.width / 2 / norm.ppf(0.975) == pytest.approx(drawn.std(ddof=1), rel=0.08)
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), abs=0.006)


def normal_slides(random: np.random.Generator, positives: int, negatives: int, shift: float) -> np.ndarray:
    return random.normal(size=positives + negatives) + shift * (np.arange(positives + negatives) < positives)


@pytest.mark.parametrize(("positives", "negatives", "area"), [(60, 120, 0.85), (200, 800, 0.95)])
def test_95_percent_of_areas_are_held(positives: int, negatives: int, area: float) -> None:
    random, held = np.random.default_rng(0), 0
    positive = np.arange(positives + negatives) < positives
    for _ in range(5000):
        held += area in auc_interval(
            normal_slides(random, positives, negatives, math.sqrt(2) * norm.ppf(area)), positive
        )
    assert 0.94 <= held / 5000 <= 0.96


def test_the_paired_test_is_right_where_two_systems_are_equal() -> None:
    random = np.random.default_rng(1)
    positive = np.arange(160) < 60
    held, refused = 0, 0
    for _ in range(5000):
        common = normal_slides(random, 60, 100, 1.5)
        found = compare_auc(common + random.normal(size=160) * 0.7, common + random.normal(size=160) * 0.7, positive)
        held += 0.0 in found.difference
        refused += found.p < 0.05
    assert 0.94 <= held / 5000 <= 0.96
    assert held + refused == 5000


@pytest.mark.parametrize(("target", "positives", "negatives", "most"), [(0.95, 1000, 2000, 0.97), (0.9, 80, 400, 0.98)])
def test_95_percent_of_specificities_at_a_sensitivity_are_held(
    target: float, positives: int, negatives: int, most: float
) -> None:
    """Against the specificity of the whole population where its sensitivity is the target; few slides make it wide."""
    random, held, rounds = np.random.default_rng(2), 0, 5000 if positives < 500 else 2000
    truth = norm.cdf(2 + norm.ppf(1 - target))
    for _ in range(rounds):
        scores = normal_slides(random, positives, negatives, 2.0)
        _, low, high = rate_bounds(scores[:positives], scores[positives:], [target])
        held += 1 - high[0] <= truth <= 1 - low[0]
    assert 0.94 <= held / rounds <= most


def test_a_band_holds_the_curve_at_each_rate() -> None:
    random, positive, rounds = np.random.default_rng(4), np.arange(450) < 150, 1500
    rate = np.linspace(0, 1, 11)
    truth = norm.cdf(1.5 + norm.ppf(rate[1:-1]))
    held = np.zeros(len(truth))
    for _ in range(rounds):
        band = roc_band(normal_slides(random, 150, 300, 1.5), positive, points=11)
        held += (band.low[1:-1] <= truth) & (truth <= band.high[1:-1])
    assert (held / rounds >= 0.94).all()


@given(SCORED)
def test_what_is_held_is_the_methods_own_point(rows: list[tuple[int, int, bool]]) -> None:
    scores, positive = np.array([row[0] for row in rows], float), np.array([row[2] for row in rows])
    for found in at_sensitivities(scores, positive, (0.5, 0.9, 0.95, 1.0)):
        assert found.point == specificity_at_sensitivity(scores, positive, found.target)
        share, _, _ = rate_bounds(scores[positive], scores[~positive], [found.target])
        assert found.specificity.estimate == pytest.approx(1 - share[0])
        assert found.specificity.low <= found.specificity.high
        assert found.sensitivity.estimate >= found.target
    band = roc_band(scores, positive, points=5)
    for rate, sensitivity in zip(band.false_positive_rate, band.sensitivity, strict=True):
        allowed = [
            np.mean(scores[positive] > t) for t in scores[~positive] if np.mean(scores[~positive] > t) <= rate + 1e-12
        ]
        best = 1.0 if rate == 1 else max(allowed)
        assert sensitivity == pytest.approx(best)


def test_perfect_worthless_and_lonely_scores_have_an_interval() -> None:
    for scores, positive, area in (
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.5] * 4, [0, 0, 1, 1], 0.5),
        ([0.1, 0.2], [0, 1], 1.0),
        ([0.1, 0.2, 0.3], [0, 1, 0], 0.5),
    ):
        found = auc_interval(scores, positive)
        assert found.estimate == area
        assert found.method == "Newcombe's method 5"
        assert 0 <= found.low <= area <= found.high <= 1
        assert found.width > 0.3
    same = compare_auc([0.1, 0.5, 0.4, 0.9], [1, 5, 4, 9], [0, 0, 1, 1])
    assert (same.difference.estimate, same.difference.known) == (0, False)
    assert math.isnan(same.p)
    assert same.as_json()["p"] is None


def test_newcombe_holds_near_perfect_areas() -> None:
    """Where half the draws are perfect and DeLong has nothing to say."""
    random, held, perfect = np.random.default_rng(5), 0, 0
    positive, area = np.arange(40) < 15, norm.cdf(3.4 / math.sqrt(2))
    for _ in range(3000):
        found = auc_interval(normal_slides(random, 15, 25, 3.4), positive)
        perfect += found.method.startswith("Newcombe")
        held += area in found
    assert perfect > 500
    assert held / 3000 > 0.93


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused_by_number(wrong: float) -> None:
    with pytest.raises(ManifestError, match=r"1 of 3 slide scores are not finite, the first is number 2"):
        auc_interval([0.1, wrong, 0.3], [0, 1, 1])
    with pytest.raises(ManifestError, match="no negative slide among the 2"):
        roc_band([0.1, 0.2], [1, 1])
    with pytest.raises(ManifestError, match="no positive slide among the 0"):
        auc_interval([], [])
    with pytest.raises(ValueError, match="equal lists"):
        auc_interval([0.1, 0.2], [1])
