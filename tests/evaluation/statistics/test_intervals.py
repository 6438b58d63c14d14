"""Intervals of proportions against statsmodels' tables, the paper's own result, and the exact coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from stride_monai.evaluation.statistics import Interval, clopper_pearson, logit_interval, proportion, rates_of_counts
from stride_monai.evaluation.statistics.intervals import proportion_bounds

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_both_intervals_are_their_textbook_formulas(counts: tuple[int, int], level: float) -> None:
    hits, total = counts
    p, z = hits / total, norm.ppf((1 + level) / 2)
    middle = (p + z**2 / 2 / total) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / 4 / total**2)
    found = proportion(hits, total, level)
    assert (found.wilson.low, found.wilson.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, total - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, total - hits) if hits < total else 1.0
    assert (found.exact.low, found.exact.high) == pytest.approx((low, high), abs=1e-12)
    assert found.estimate in found.wilson
    assert found.estimate in found.exact


def test_the_external_result_of_the_paper() -> None:
    """10,219 of 10,380 positive slides; specificity 0.6207 of 223,129 negative ones."""
    right = round(0.6207 * 223_129)
    found = rates_of_counts(10_219, 10_380 - 10_219, right, 223_129 - right)
    for share, low, high in ((found.sensitivity, 0.982, 0.987), (found.specificity, 0.619, 0.623)):
        for interval in (share.wilson, share.exact):
            assert (round(interval.low, 3), round(interval.high, 3)) == (low, high)
    assert found.sensitivity.wilson.text() == "0.984 (0.982-0.987)"


@pytest.mark.parametrize(("low_share", "high_share", "least", "most"), [(0.3, 0.7, 30, 90), (0.9, 0.99, 100, 1000)])
def test_95_percent_of_intervals_hold_the_truth(low_share: float, high_share: float, least: int, most: int) -> None:
    """Over shares and numbers of slides: at one of them alone Wilson's interval swings about its level."""
    random = np.random.default_rng(0)
    share, total = random.uniform(low_share, high_share, 5000), random.integers(least, most, 5000)
    hits = random.binomial(total, share)
    for method, between in (("wilson", (0.94, 0.96)), ("clopper_pearson", (0.945, 0.985))):
        low, high = proportion_bounds(hits, total, method=method)
        assert between[0] <= ((low <= share) & (share <= high)).mean() <= between[1]


@pytest.mark.parametrize("total", [1, 10, 37, 120])
def test_the_exact_interval_is_never_below_its_level(total: int) -> None:
    hits = np.arange(total + 1)
    low, high = proportion_bounds(hits, total, method="clopper_pearson")
    for share in np.linspace(0.001, 0.999, 200):
        assert binom.pmf(hits, total, share)[(low <= share) & (share <= high)].sum() >= 0.95 - 1e-9


def test_nothing_of_nothing_is_undefined_and_nonsense_is_refused() -> None:
    none = proportion(0, 0)
    assert math.isnan(none.estimate)
    assert none.as_json() == {"hits": 0, "total": 0, "estimate": None, "wilson": [None] * 2, "exact": [None] * 2}
    low, high = proportion_bounds([0, 3], [0, 4])
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] < 0.75 < high[1]
    for hits, total in ((5, 4), (-1, 4), (math.nan, 4)):
        with pytest.raises(ValueError, match="0 <= hits <= total"):
            proportion_bounds(hits, total)
    with pytest.raises(ValueError, match="confidence level"):
        clopper_pearson(1, 2, level=95)


def test_an_interval_is_told_in_words_and_in_json() -> None:
    assert str(Interval(0.12345, -0.2, 0.3)) == "0.123 (-0.200 to 0.300)"
    assert Interval(0.5).text(2) == "0.50"
    assert str(Interval(math.nan)) == "-"
    assert Interval(0.5, method="x").as_json() == {
        **{"estimate": 0.5, "low": None, "high": None},
        **{"level": 0.95, "method": "x"},
    }
    assert not logit_interval(1.0, 0.1).known
    inside = logit_interval(0.99, 0.02)
    assert 0 < inside.low < 0.99 < inside.high < 1
