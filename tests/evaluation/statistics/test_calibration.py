"""Calibration and decision curves against slow formulas, scikit-learn, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.metrics import brier_score_loss

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.statistics import (
    calibration_of,
    decision_curve,
    fit_isotonic,
    fit_temperature,
    shift_prevalence,
)

JUDGED = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({positive for _, positive in rows}) == 2
)


def drawn(number: int = 4000, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logits are ``1 / slope`` times the true ones, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.normal(-1, 1.5, number)
    return expit(truth / slope), random.random(number) < expit(truth)


@given(JUDGED)
def test_ece_and_brier_count(rows: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([k / 20 for k, _ in rows]), np.array([positive for _, positive in rows])
    found = calibration_of(scores, positive, bins=5)
    slow = 0.0
    for low, high in zip((0, 0.2, 0.4, 0.6, 0.8), (0.2, 0.4, 0.6, 0.8, 1), strict=True):
        inside = [k for k, s in enumerate(scores) if (low < s <= high + 1e-12 if low else s <= high + 1e-12)]
        inside = [k for k in inside if not (low and abs(scores[k] - low) < 1e-12)]
        if inside:
            slow += abs(np.mean(scores[inside]) - np.mean(positive[inside])) * len(inside) / len(scores)
    assert found.ece == pytest.approx(slow)
    assert found.brier == pytest.approx(brier_score_loss(positive, scores))


def test_slope_and_intercept_are_the_most_likely_and_their_intervals_hold() -> None:
    scores, positive = drawn(slope=0.5)
    found = calibration_of(scores, positive)
    x = logit(scores)

    def loss(parts: np.ndarray) -> float:
        eta = parts[0] + parts[1] * x
        return float((np.logaddexp(0, eta) - positive * eta).mean())

    assert found.slope.estimate == pytest.approx(minimize(loss, [0.0, 1.0], tol=1e-10).x[1], abs=1e-4)
    assert 0.5 in found.slope
    held = sum(1.0 in calibration_of(*drawn(300, seed=seed)).slope for seed in range(500))
    assert 0.93 <= held / 500 <= 0.97  # 500 draws: -+ 2 %
    shifted = calibration_of(expit(logit(drawn()[0]) + 0.7), drawn()[1])
    assert -0.7 in shifted.intercept


def test_perfectly_told_apart_there_is_no_slope() -> None:
    found = calibration_of([0.1, 0.2, 0.8, 1.0], [0, 0, 1, 1])
    assert math.isnan(found.slope.estimate)
    assert found.as_json()["slope"]["estimate"] is None
    assert found.as_json()["bins"]["number"] == [0, 1, 1, *[0] * 8, 1, 0, 0, 1]


def test_a_temperature_is_found_again_and_keeps_the_order() -> None:
    scores, positive = drawn(20_000, slope=1 / 2.5)
    found = fit_temperature(scores, positive)
    assert found.value == pytest.approx(2.5, rel=0.05)
    assert (np.diff(found(np.unique(scores))) > 0).all()
    assert calibration_of(found(scores), positive).ece < calibration_of(scores, positive).ece / 3
    both = np.stack([1 - scores, scores], axis=1)
    assert fit_temperature(both, positive.astype(int)).value == pytest.approx(found.value, rel=1e-3)
    random = np.random.default_rng(0)
    rows = random.normal(size=(6000, 6)) * 2
    truth = np.array([random.choice(6, p=row) for row in softmax(rows, axis=1)])
    classes = fit_temperature(softmax(rows * 1.7, axis=1), truth)
    assert classes.value == pytest.approx(1.7, rel=0.06)
    assert classes(softmax(rows * 1.7, axis=1)).sum(axis=1) == pytest.approx(np.ones(6000))


def test_isotonic_is_the_nearest_rising_function() -> None:
    scores, positive = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([0, 1, 0, 0, 1, 1])
    found = fit_isotonic(scores, positive)
    assert found(scores) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 1, 1])  # pool adjacent violators by hand
    assert found([-5, 0.9]) == pytest.approx([0, 1])
    many, truth = drawn(5000, slope=1 / 3)
    fresh, judged = drawn(5000, slope=1 / 3, seed=1)
    learned = fit_isotonic(many, truth)
    assert calibration_of(learned(fresh), judged).ece < calibration_of(fresh, judged).ece / 3


def test_a_prevalence_shifts_by_bayes_rule() -> None:
    here, there, score = 0.3, 0.05, 0.6
    like = score / (1 - score) * (1 - here) / here  # ratio of the likelihoods
    assert shift_prevalence([score], here, there)[0] == pytest.approx(like * there / (like * there + 1 - there))
    with pytest.raises(ManifestError, match="shifted"):
        shift_prevalence([score], 0, 0.5)


@pytest.mark.parametrize("scores", [[0.1, 1.2], [-0.1, 0.3], [math.nan, 0.2]])
def test_what_is_no_probability_is_refused(scores: list[float]) -> None:
    for judge in (calibration_of, decision_curve, fit_temperature):
        with pytest.raises(ManifestError, match=r"probabilit|not finite|outside"):
            judge(scores, [0, 1])
    with pytest.raises(ManifestError, match="no positive slide"):
        fit_isotonic([0.1, 0.2], [0, 0])
    with pytest.raises(ManifestError, match="told apart perfectly"):
        fit_temperature([0.2, 0.3, 0.7, 0.8], [0, 0, 1, 1])
    with pytest.raises(ManifestError, match="no better than by chance"):
        fit_temperature([0.2, 0.3, 0.7, 0.8], [1, 1, 0, 0])


@given(JUDGED, st.sampled_from([0.05, 0.2, 0.5]))
def test_net_benefit_counts(rows: list[tuple[int, bool]], threshold: float) -> None:
    risks, positive = np.array([k / 20 for k, _ in rows]), np.array([positive for _, positive in rows])
    found = decision_curve(risks, positive, [threshold])
    called, n = risks >= threshold, len(rows)
    worth = [(p - (1 - p) * threshold / (1 - threshold)) * c for c, p in zip(called, positive.astype(int), strict=True)]
    assert found.score[0] == pytest.approx(sum(worth) / n)
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(1.959964 * np.std(worth) / math.sqrt(n), abs=1e-6)
    share = positive.mean()
    assert found.everyone[0] == pytest.approx(share - (1 - share) * threshold / (1 - threshold))
    same = decision_curve(risks, positive, [threshold], prevalence=float(share))
    assert same.score == pytest.approx(found.score)


def test_95_percent_of_net_benefits_are_held() -> None:
    random, n, rounds = np.random.default_rng(0), 500, 5000
    truth = random.beta(1, 6, 200_000)
    many = truth >= 0.1
    expected = (many * (truth - (1 - truth) * 0.1 / 0.9)).mean()
    held = 0
    for _ in range(rounds):
        risks = random.choice(truth, n)
        found = decision_curve(risks, random.random(n) < risks, [0.1])
        held += found.low[0] <= expected <= found.high[0]
    assert 0.94 <= held / rounds <= 0.96
    with pytest.raises(ConfigError, match="no share"):
        decision_curve([0.1, 0.2], [0, 1], [1.0])
