"""Pooling of centres against integration by quadrature, statsmodels where counts are large, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import binom, chi2_contingency, norm, t
from statsmodels.stats.meta_analysis import combine_effects

from stride_monai.evaluation.statistics import forest, pool_logits

HITS, TOTAL = np.array([98, 50, 190, 29, 77]), np.array([100, 50, 200, 30, 90])


def log_likelihood(mean: float, tau: float) -> float:
    """Each centre's chance of its hits over all logits that it may have."""

    def chance(x: int, n: int) -> float:
        return quad(lambda z: binom.pmf(x, n, expit(mean + tau * z)) * norm.pdf(z), -9, 9, points=[0, 1, -1])[0]

    return sum(math.log(chance(int(x), int(n))) for x, n in zip(HITS, TOTAL, strict=True))


def test_the_fit_is_the_top_of_the_likelihood() -> None:
    found = pool_logits(HITS, TOTAL)
    mean, tau = float(found.mean), float(found.tau)
    assert tau > 0.3
    top = log_likelihood(mean, tau)
    for step in (0.02, -0.02):
        assert log_likelihood(mean + step, tau) < top
        assert log_likelihood(mean, tau + step) < top
    h = 0.05  # observed information by differences
    at = {(a, b): log_likelihood(mean + a * h, tau + b * h) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    mm = (at[1, 0] - 2 * at[0, 0] + at[-1, 0]) / h**2
    tt = (at[0, 1] - 2 * at[0, 0] + at[0, -1]) / h**2
    mt = (at[1, 1] - at[1, -1] - at[-1, 1] + at[-1, -1]) / 4 / h**2
    variance = -tt / (mm * tt - mt**2) + tau**2 / 5 / 4
    assert float(found.error) == pytest.approx(math.sqrt(variance), rel=0.02)


def test_many_sets_at_once_are_each_by_itself() -> None:
    hits = np.stack([HITS, HITS - 20, np.minimum(HITS + 1, TOTAL)])
    together = pool_logits(hits, TOTAL)
    for k, row in enumerate(hits):
        alone = pool_logits(row, TOTAL)
        assert [float(x) for x in alone] == pytest.approx([float(x[k]) for x in together], abs=1e-4)


def test_with_many_slides_it_is_the_usual_pooling() -> None:
    random = np.random.default_rng(0)
    total = random.integers(20_000, 60_000, 25)
    hits = random.binomial(total, expit(random.normal(0.5, 0.4, 25)))
    found = forest({f"c{k}": (int(x), int(n)) for k, (x, n) in enumerate(zip(hits, total, strict=True))})
    logit = np.log(hits / (total - hits))
    usual = combine_effects(logit, 1 / hits + 1 / (total - hits), method_re="pm", use_t=True)
    assert found.pooled.estimate == pytest.approx(expit(usual.mean_effect_re), abs=2e-3)
    assert found.tau**2 == pytest.approx(usual.tau2 * 24 / 25, rel=0.02)
    bounds = [expit(usual.mean_effect_re + side * t.ppf(0.975, 24) * usual.sd_eff_w_re_hksj) for side in (-1, 1)]
    assert (found.pooled.low, found.pooled.high) == pytest.approx(bounds, abs=3e-3)
    assert found.i_squared == pytest.approx(usual.i2, abs=2e-3)
    assert found.q == pytest.approx(chi2_contingency([hits, total - hits], correction=False).statistic)
    wide = math.sqrt(usual.tau2 + usual.sd_eff_w_re_hksj**2) * t.ppf(0.975, 23)
    assert found.prediction.low == pytest.approx(expit(usual.mean_effect_re - wide), abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "most", "tau", "bounds"), [(0.62, 3000, 0.5, (0.94, 0.96)), (0.97, 200, 0.6, (0.94, 0.985))]
)
def test_95_percent_of_pooled_shares_are_held(share: float, most: int, tau: float, bounds: tuple[float, float]) -> None:
    """Six centres; with few missed slides, where inverse-variance pooling fails, the interval is rather too wide."""
    random, rounds, k = np.random.default_rng(1), 5000, 6
    mean = math.log(share / (1 - share))
    total = random.integers(most // 10, most, (rounds, k))
    hits = random.binomial(total, expit(random.normal(mean, tau, (rounds, k))))
    found = pool_logits(hits, total)
    held = np.abs(found.mean - mean) <= t.ppf(0.975, k - 1) * found.error
    assert bounds[0] <= held.mean() <= bounds[1]


def test_equal_centres_have_no_heterogeneity_and_the_statistic_its_law() -> None:
    random = np.random.default_rng(2)
    q = []
    for _ in range(300):
        counts = {str(k): (int(random.binomial(60, 0.95)), 60) for k in range(10)}
        hits = np.array([x for x, _ in counts.values()])
        share = hits.sum() / 600
        q.append(((hits / 60 - share) ** 2 * 60).sum() / share / (1 - share))
    found = forest(counts)
    assert found.q == pytest.approx(q[-1])
    assert np.mean(q) == pytest.approx(9, abs=0.8)
    same = forest({str(k): (57, 60) for k in range(10)})
    assert (same.tau, same.i_squared, same.q) == pytest.approx((0, 0, 0), abs=1e-3)
    assert same.pooled.estimate == pytest.approx(0.95, abs=1e-4)


def test_few_centres_and_no_misses_have_a_defined_answer() -> None:
    none = forest({"a": (0, 0)})
    assert (none.centres, math.isnan(none.pooled.estimate), none.as_json()["i_squared"]) == ({}, True, None)
    one = forest({"a": (1, 1), "b": (0, 0)})  # one centre with one slide
    assert (list(one.centres), one.pooled.estimate, one.pooled.known) == (["a"], 1, False)
    assert math.isnan(one.i_squared)
    perfect = forest({"a": (2, 2), "b": (3, 3)})
    assert perfect.pooled.method.startswith("Clopper-Pearson of all slides")
    assert (perfect.pooled.low, perfect.pooled.high) == pytest.approx((0.025 ** (1 / 5), 1))
    two = forest({"a": (9, 10), "b": (17, 20)})
    assert two.pooled.known
    assert not two.prediction.known
    with pytest.raises(ValueError, match="hits <= total"):
        forest({"a": (3, 2)})
