"""Control charts: the tests behind them against slow ones, and the rate of false alarms by simulation."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stride_monai.evaluation.control_charts import EWMA_WEIGHT, control_chart, share_z, values_z


def test_normal_scores_against_all_orders() -> None:
    """Mean 0 and variance 1 over every way in which 3 of 8 values can be the week's, ties among them."""
    values = np.array([0.1, 0.1, 0.3, 0.7, 0.7, 0.7, 0.9, 1.5])
    found = []
    for week in combinations(range(8), 3):
        rest = [k for k in range(8) if k not in week]
        found.append(values_z(values[rest], values[list(week)]))
    assert np.mean(found) == pytest.approx(0, abs=1e-12)
    assert np.var(found) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_only_the_order_of_values_counts(reference: list[float], week: list[float]) -> None:
    z = values_z(reference, week)
    assert np.isfinite(z)
    assert values_z(np.negative(reference), np.negative(week)) == pytest.approx(-z, abs=1e-9)
    assert values_z(np.multiply(8.0, reference), np.multiply(8.0, week)) == pytest.approx(z, abs=1e-9)
    assert values_z([3.0] * len(reference), [3.0] * len(week)) == 0


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 20), st.integers(1, 20))
def test_shares_are_fishers_exact_test(reference_hits: int, reference: int, hits: int, week: int) -> None:
    reference_hits, hits = min(reference_hits, reference), min(hits, week)
    z = share_z(reference_hits, reference, hits, week)
    table = [[hits, week - hits], [reference_hits, reference - reference_hits]]
    more = stats.fisher_exact(table, "greater").pvalue
    fewer = stats.fisher_exact(table, "less").pvalue
    # Each of the two holds the probability of what was seen, the mid-p half of it.
    seen = more + fewer - 1
    assert stats.norm.sf(z) == pytest.approx(more - seen / 2, abs=1e-9)


def test_shares_far_out_stay_finite() -> None:
    assert share_z(0, 5000, 5000, 5000) == 8
    assert share_z(5000, 5000, 0, 5000) == -8


def test_the_moving_average_by_hand() -> None:
    chart = control_chart([1.0, -2.0, 3.0], [10, 20, 30], 10**12, 0.05)
    mean, variance = 0.0, 0.0
    for k, z in enumerate((1.0, -2.0, 3.0)):
        mean, variance = 0.8 * mean + 0.2 * z, 0.64 * variance + 0.04
        assert chart.ewma[k] == pytest.approx(mean)
        assert chart.ewma_limits[k] == pytest.approx(1.959964 * variance**0.5, rel=1e-4)
    assert chart.limit == pytest.approx(1.959964)
    assert chart.crossed.tolist() == [False, True, True]
    assert EWMA_WEIGHT == 0.2


@pytest.mark.parametrize("kind", ["scores", "equal", "shares"])
def test_false_alarms_are_as_many_as_stated(kind: str) -> None:
    """5,000 weeks in which nothing changes: 5 % +- 1 cross each limit; of shares, which are whole slides, no more."""
    rng = np.random.default_rng(7)
    alarms, late = np.zeros(2), []
    for _ in range(500):
        sizes = rng.integers(15, 60, 10)
        if kind == "shares":
            base, *weeks = (int(rng.binomial(size, 0.1)) for size in (150, *sizes))
            z = [share_z(base, 150, hits, size) for hits, size in zip(weeks, sizes, strict=True)]
        else:
            drawn = rng.beta(0.3, 3, 150 + sizes.sum())  # most are near 0, as slide scores are
            drawn = drawn.round(1) if kind == "equal" else drawn
            ends = np.cumsum([150, *sizes])
            z = [values_z(drawn[:150], drawn[a:b]) for a, b in pairwise(ends)]
        chart = control_chart(z, sizes, 150, 0.05)
        beyond = np.abs(chart.ewma) > chart.ewma_limits
        alarms += (np.abs(chart.z) > chart.limit).sum(), beyond.sum()
        late.append(beyond[-1])
    assert (alarms / 5000 < 0.06).all()
    if kind != "shares":
        assert (alarms / 5000 > 0.04).all()
    assert np.mean(late) < 0.085, "not more of them after ten weeks than after one"


def test_a_small_change_that_lasts_is_found_by_the_moving_average() -> None:
    rng = np.random.default_rng(1)
    first = []
    for _ in range(50):
        reference = rng.normal(size=300)
        z = [values_z(reference, rng.normal(0.3, 1, 40)) for _ in range(20)]
        chart = control_chart(z, [40] * 20, 300, 0.001)
        beyond = np.abs(chart.ewma) > chart.ewma_limits
        first.append(int(beyond.argmax()) if beyond.any() else 99)
    assert np.median(first) <= 8
