"""The clustered bootstrap against resampling by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from stride_monai.evaluation.statistics import (
    CalibrationStatistics,
    CallStatistics,
    ClassStatistics,
    RankStatistics,
    bootstrap,
    calibration_of,
    joined,
    rates,
)
from stride_monai.evaluation.statistics.bootstrap import cluster_interval, cluster_weights
from stride_monai.metrics.slide import auc, f1_macro, specificity_at_sensitivity

WEIGHTED = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=30).filter(
    lambda rows: len({positive for _, positive, weight in rows if weight}) == 2
)


@given(WEIGHTED)
def test_weights_are_slides_written_so_often(rows: list[tuple[int, bool, int]]) -> None:
    scores, positive = np.array([row[0] / 6 for row in rows]), np.array([row[1] for row in rows])
    weights = np.array([row[2] for row in rows], float)
    often = np.repeat(np.arange(len(rows)), weights.astype(int))
    ranked = RankStatistics(scores, positive, (0.5, 0.95))(weights)
    points = [specificity_at_sensitivity(scores[often], positive[often], target) for target in (0.5, 0.95)]
    expected = [auc(scores[often], positive[often]), *(point.specificity for point in points)]
    assert ranked.tolist() == pytest.approx(expected)
    called = rates(scores[often] >= 0.5, positive[often])
    shares = [getattr(called, name).estimate for name in ("sensitivity", "specificity", "ppv", "npv")]
    assert CallStatistics(scores >= 0.5, positive)(weights).tolist() == pytest.approx(shares, nan_ok=True)
    classes = (scores * 6).astype(int) % 3
    by_class = ClassStatistics(classes, positive * 2, "abc")(weights)
    assert by_class[0] == pytest.approx(f1_macro(classes[often], positive[often] * 2))
    assert by_class[1] == pytest.approx((classes[often] == positive[often] * 2).mean())
    judged = calibration_of(scores[often], positive[often])
    assert CalibrationStatistics(scores, positive)(weights).tolist() == pytest.approx([judged.ece, judged.brier])


@settings(max_examples=20)
@given(st.integers(1, 8), st.integers(0, 99))
def test_clusters_come_whole_and_as_many_as_there_are(count: int, seed: int) -> None:
    clusters = np.arange(24) % count
    for weights in cluster_weights(clusters, 5, seed):
        drawn = [set(weights[clusters == k].tolist()) for k in range(count)]
        assert all(len(values) == 1 for values in drawn)
        assert sum(min(values) for values in drawn) == count


def test_a_resample_by_hand_is_the_interval() -> None:
    called, positive = np.arange(12) % 3 > 0, np.arange(12) % 2 > 0
    patients = ["a", "a", "b", "b", "b", "c", "d", "d", "e", "f", "f", ""]
    found = bootstrap(CallStatistics(called, positive), 12, patients, replicates=500, seed=7)
    numbers = np.array([1, 1, 2, 2, 2, 3, 4, 4, 5, 6, 6, 7]) - 1
    random, values = np.random.default_rng(7), []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(numbers == k) for k in random.integers(0, 7, 7, dtype=np.int32)])
        values.append(rates(called[rows], positive[rows]).sensitivity.estimate)
    interval = found.intervals["sensitivity"]
    defined = [value for value in values if not math.isnan(value)]
    mean = sum(defined) / len(defined)
    error = math.sqrt(sum((value - mean) ** 2 for value in defined) / (len(defined) - 1) * 7 / 6)
    middle, half = math.log(interval.estimate / (1 - interval.estimate)), t.ppf(0.975, 6) * error
    half /= interval.estimate * (1 - interval.estimate)
    ends = [1 / (1 + math.exp(-(middle + side * half))) for side in (-1, 1)]
    assert (interval.low, interval.high) == pytest.approx(ends)
    assert found.undefined["sensitivity"] == np.isnan(values).sum()
    assert found.clusters == 7
    assert bootstrap(CallStatistics(called, positive), 12, patients, replicates=500, seed=7) == found


@pytest.mark.parametrize(("centres", "share"), [(40, (9, 3)), (12, (9, 3)), (12, (27, 3))])
def test_95_percent_of_clustered_intervals_hold_the_truth(centres: int, share: tuple[int, int]) -> None:
    """Centres of different sensitivity: 5,000 draws share one set of resamples, by the weights that are used."""
    random, slides, truth = np.random.default_rng(0), 20, share[0] / sum(share)
    hits = random.binomial(slides, random.beta(*share, (5000, centres)))
    weights = np.stack(list(cluster_weights(np.arange(centres), 2000)))
    drawn = (weights @ hits.T / (centres * slides)).T
    estimates = hits.mean(axis=1) / slides
    bounds = [cluster_interval(float(of), values, centres) for of, values in zip(estimates, drawn, strict=True)]
    assert 0.94 <= np.mean([truth in one for one in bounds]) <= 0.96
    called = np.concatenate([np.arange(slides) < number for number in hits[0]])
    names = np.repeat([f"c{k:02d}" for k in range(centres)], slides)
    found = bootstrap(CallStatistics(called, np.ones(len(called))), len(called), names).intervals["sensitivity"]
    assert (found.low, found.high) == pytest.approx((bounds[0].low, bounds[0].high))


def test_where_nothing_varies_resamples_tell_nothing() -> None:
    clusters = [str(k) for k in range(10)] * 2
    found = bootstrap(CallStatistics([True] * 20, [True] * 10 + [False] * 10), 20, clusters, replicates=50).intervals
    assert (found["sensitivity"].estimate, found["specificity"].estimate, found["ppv"].estimate) == (1, 0, 0.5)
    assert not any(found[name].known for name in ("sensitivity", "specificity", "ppv"))


def test_what_cannot_be_resampled_has_no_bounds() -> None:
    called, positive = [True, False, True], [True, False, False]
    alone = bootstrap(CallStatistics(called, positive), 3, ["x"] * 3, replicates=50)
    assert alone.clusters == 1
    assert alone.intervals["sensitivity"].estimate == 1
    assert not alone.intervals["sensitivity"].known
    rare = bootstrap(CallStatistics(called, positive), 3, replicates=200)  # a third of resamples lack the positive
    assert not rare.intervals["sensitivity"].known
    assert 0.2 < rare.undefined["sensitivity"] / 200 < 0.4
    assert rare.as_json()["figures"]["sensitivity"]["low"] is None
    none = bootstrap(CallStatistics([], []), 0, replicates=10)
    assert (none.clusters, math.isnan(none.intervals["ppv"].estimate)) == (0, True)
    with pytest.raises(ValueError, match="2 clusters for 3 slides"):
        bootstrap(CallStatistics(called, positive), 3, ["x", "y"])
    with pytest.raises(ValueError, match="given twice"):
        joined(CallStatistics(called, positive), CallStatistics(called, positive))
    both = joined(CallStatistics(called, positive), CallStatistics(called, positive, prefix="b_"))
    assert both(np.ones(3)).tolist() == pytest.approx([1, 0.5, 0.5, 1] * 2)
