"""Statistics of reader studies: a published analysis, slow formulas, other libraries, simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.inter_rater import cohens_kappa

from stride_monai.evaluation.readers.by_reader import kappa_interval, mcnemar_test
from stride_monai.evaluation.readers.clustered import pooled, pooled_difference
from stride_monai.evaluation.readers.estimate import Published, Spread, logit_difference
from stride_monai.evaluation.readers.merits import Merit, area, jackknife_covariance, jackknife_freedom, kappa, mean
from stride_monai.evaluation.readers.multireader import arm_estimate, components, difference
from stride_monai.evaluation.statistics.intervals import AREAS_OF_READERS, FISHER, LOGIT, Scale
from stride_monai.metrics.cell import confusion_matrix
from stride_monai.metrics.kappa import kappa_weights

Floats = NDArray[np.float64]

# Van Dyke et al. 1993, cine against spin-echo MRI of the aorta: 5 readers, 45 positive and 69 negative cases; the
# second treatment is the better one. Trapezoidal areas, jackknife covariances, as the R packages MRMCaov (its README,
# https://github.com/brian-j-smith/MRMCaov) and RJafroc (its book's chapter "Coding illustrations of the OR method",
# https://dpc10ster.github.io/RJafrocRocBook) print them.
AREAS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
ERROR, COV1, COV2, COV3 = 0.0008022883, 0.0003466137, 0.0003440748, 0.0002390284


def covariance_of(arms: int, readers: int, error: float, cov1: float, cov2: float, cov3: float) -> Floats:
    cells = list(itertools.product(range(arms), range(readers)))
    kinds = {(True, True): error, (False, True): cov1, (True, False): cov2, (False, False): cov3}
    return np.array([[kinds[a == b, r == s] for b, s in cells] for a, r in cells])


def test_the_published_analysis_of_van_dyke() -> None:
    covariance = covariance_of(2, 5, ERROR, COV1, COV2, COV3)
    part = components(AREAS, covariance)
    assert (part.arms, part.readers, part.both) == pytest.approx((0.0047961705, 0.0038362000, 0.0005510306), abs=2e-9)
    assert (part.error, part.cov1, part.cov2, part.cov3) == pytest.approx((ERROR, COV1, COV2, COV3))

    random = difference(AREAS, covariance)
    assert random.random_readers
    assert random.interval.estimate == pytest.approx(0.04380032, abs=1e-8)
    assert random.error == pytest.approx(0.02074862, abs=1e-8)
    assert random.freedom == pytest.approx(15.25967, abs=2e-4)
    assert random.p == pytest.approx(0.05166569, abs=1e-7)
    assert (random.interval.low, random.interval.high) == pytest.approx((-0.0003588544, 0.0879594986), abs=1e-8)

    fixed = difference(AREAS, covariance, random_readers=False)
    assert (fixed.error, fixed.p) == pytest.approx((0.018717483, 0.01928), abs=3e-6)
    assert (fixed.interval.low, fixed.interval.high) == pytest.approx((0.007115, 0.08049), abs=5e-6)
    assert (fixed.interval.estimate / fixed.error) ** 2 == pytest.approx(5.47595324, abs=5e-6)


@pytest.mark.parametrize(
    ("arm", "error", "cov2", "random", "fixed"),
    [
        (0, 0.0010141028, 0.0004839618, (0.03317360, 12.74465, 0.8252236, 0.9688505), (0.02429, 0.8494, 0.9446)),
        (1, 0.0005904738, 0.0002041879, (0.02156637, 12.71019, 0.8941378, 0.9875369), (0.01678, 0.9080, 0.9737)),
    ],
)
def test_the_published_intervals_of_each_treatment(
    arm: int, error: float, cov2: float, random: tuple[float, ...], fixed: tuple[float, ...]
) -> None:
    covariance = covariance_of(1, 5, error, 0, cov2, 0)
    found = arm_estimate(AREAS[arm], covariance)
    assert (found.error, found.interval.low, found.interval.high) == pytest.approx((random[0], *random[2:]), abs=1e-7)
    assert found.freedom == pytest.approx(random[1], abs=1e-4)
    found = arm_estimate(AREAS[arm], covariance, random_readers=False)
    assert (found.error, found.interval.low, found.interval.high) == pytest.approx(fixed, abs=6e-5)


@pytest.mark.parametrize(
    ("reader", "error", "cov1", "published"),
    [(0, 0.0006989006, 0.0003734661, (0.0255, 0.2693)), (4, 0.0012135668, 0.0002430368, (0.0441, 0.0230))],
)
def test_the_published_analysis_of_one_reader(
    reader: int, error: float, cov1: float, published: tuple[float, float]
) -> None:
    found = difference(AREAS[:, [reader]], covariance_of(2, 1, error, cov1, 0, 0))
    assert not found.random_readers
    assert (found.error, found.p) == pytest.approx(published, abs=5.1e-5)


def left_out(values: Floats, truth: NDArray[np.int64], figure: object) -> Floats:
    """One case after the other."""
    assert callable(figure)
    places = np.arange(len(values))
    return np.array([figure(values[places != k], truth[places != k]) for k in places])


@given(st.integers(0, 10_000))
def test_areas_without_a_case_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.r_[0, 0, 1, 1, rng.integers(0, 2, rng.integers(1, 12))])
    ratings = (rng.integers(0, 4, len(truth)) + truth * rng.integers(0, 2, len(truth))).astype(float)
    found = area(ratings, truth > 0)
    assert found.value == pytest.approx(roc_auc_score(truth, ratings))
    assert found.left_out == pytest.approx(left_out(ratings, truth, lambda x, y: roc_auc_score(y, x)))


@pytest.mark.parametrize("kind", ["none", "linear", "quadratic"])
@given(seed=st.integers(0, 10_000))
def test_kappa_is_that_of_scikit_learn(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.r_[0, 0, 3, 3, rng.integers(0, 4, 11)])
    said = rng.permutation(np.r_[0, 0, 3, 3, rng.integers(0, 4, 11)])
    weights = None if kind == "none" else kind

    def slow(x: Floats, y: NDArray[np.int64]) -> float:
        return float(cohen_kappa_score(y, x, labels=range(4), weights=weights))

    found = kappa(said, truth, 4, kind)
    assert found.value == pytest.approx(slow(said, truth))
    assert found.left_out == pytest.approx(left_out(said, truth, slow))
    assert kappa_interval(said, truth, 4, kind).estimate == pytest.approx(found.value)


SCALES = [LOGIT, FISHER, AREAS_OF_READERS]


def placed(p: float, scale: Scale) -> float:
    """By the definition."""
    x = math.log(p - scale.least) - math.log(1 - p)
    return (math.exp(scale.bend * x) - math.exp(-scale.bend * x)) / (2 * scale.bend) if scale.bend else x


def slope(p: float, scale: Scale, step: float = 1e-6) -> float:
    """By difference."""
    return (placed(p + step, scale) - placed(p - step, scale)) / (2 * step)


def back(y: float, scale: Scale) -> float:
    """By a search."""
    ends = scale.least + 1e-15, 1 - 1e-15
    return float(brentq(lambda p: placed(p, scale) - y, *ends, xtol=1e-15))


def slow_bounds(value: float, error: float, freedom: float, scale: Scale) -> tuple[float, float]:
    """Student's interval on a scale."""
    half = student.ppf(0.975, freedom) * error * slope(value, scale)
    return back(placed(value, scale) - half, scale), back(placed(value, scale) + half, scale)


@pytest.mark.parametrize("kind", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("cases", [20, 90])
def test_the_interval_of_kappa_is_that_of_the_formulas(kind: str, cases: int) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, cases)
    said = np.where(rng.random(cases) < 0.6, truth, rng.integers(0, 4, cases))
    weights = None if kind == "none" else kind
    value = float(cohen_kappa_score(truth, said, labels=range(4), weights=weights))
    without = [
        float(cohen_kappa_score(np.delete(truth, k), np.delete(said, k), labels=range(4), weights=weights))
        for k in range(cases)
    ]
    apart = [one - sum(without) / cases for one in without]
    second, fourth = (sum(one**power for one in apart) / cases for power in (2, 4))
    # The variance is a mean of squares: its own is (fourth - second^2) / n, that of a chi-squared over its freedom is
    # 2 second^2 / freedom.
    freedom = 2 * second**2 / ((fourth - second**2) / cases) if kind != "none" else math.inf
    error = math.sqrt((cases - 1) / cases * sum(one**2 for one in apart))
    z, half = math.atanh(value), student.ppf(0.975, freedom) * error / (1 - value**2)
    found = kappa_interval(said, truth, 4, kind)
    assert found.estimate == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((math.tanh(z - half), math.tanh(z + half)), abs=1e-9)
    wider = kappa_interval(said, truth, 4, kind, level=0.99)
    assert wider.low < found.low
    assert wider.high > found.high


def test_the_error_of_kappa_is_nearly_that_of_fleiss_cohen_and_everitt() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 2000)
    said = np.where(rng.random(2000) < 0.6, truth, rng.integers(0, 4, 2000))
    for kind, apart in (("none", None), ("quadratic", 1 - kappa_weights(4, "quadratic"))):
        published = float(cohens_kappa(confusion_matrix(said, truth, 4), weights=apart).std_kappa)
        found = kappa_interval(said, truth, 4, kind)
        error = (math.atanh(found.high) - math.atanh(found.low)) / 2 / 1.96 * (1 - found.estimate**2)
        assert error == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("kind", "cases"), [("none", 150), ("quadratic", 150), ("quadratic", 60)])
def test_the_interval_of_kappa_holds_as_often_as_it_says(kind: str, cases: int) -> None:
    rng = np.random.default_rng(5)
    chances = np.array([[0.35, 0.06, 0.02], [0.05, 0.2, 0.05], [0.01, 0.06, 0.2]])
    places = rng.choice(9, size=(2000, cases), p=chances.ravel())
    weights = kappa_weights(3, kind)
    chance = (chances.sum(1)[:, None] * chances.sum(0) * weights).sum()
    true = ((chances * weights).sum() - chance) / (1 - chance)
    covered = [true in kappa_interval(draw % 3, draw // 3, 3, kind) for draw in places]
    assert 0.935 <= np.mean(covered) <= 0.97


def test_one_disagreement_leaves_an_interval_that_says_something() -> None:
    truth = np.arange(32) % 2
    said = np.where(np.arange(32) == 0, 1, truth)
    found = kappa_interval(said, truth, 2)
    assert found.estimate == pytest.approx(0.9375)
    assert 0.5 < found.low < 0.7
    assert found.high < 1


def test_kappa_of_one_class_and_of_full_agreement() -> None:
    same = np.zeros(5, np.int64)
    assert math.isnan(kappa_interval(same, same, 3).estimate)
    assert math.isnan(kappa_interval(same[:0], same[:0], 3).estimate)
    all_right = kappa_interval(np.array([0, 1, 2]), np.array([0, 1, 2]), 3)
    assert all_right.estimate == 1
    assert not all_right.known
    opposite = kappa_interval(np.array([0, 1] * 5), np.array([1, 0] * 5), 2)
    assert opposite.estimate == -1
    assert not opposite.known
    one_sided = kappa_interval(np.zeros(6, np.int64), np.array([0, 0, 0, 1, 1, 2]), 3)
    assert one_sided.estimate == pytest.approx(0)
    assert not one_sided.known
    one_apart = kappa_interval(np.array([0] * 9 + [2]), np.array([0] * 9 + [1]), 3)  # without it there is no kappa
    assert one_apart.estimate == pytest.approx((0.9 - 0.81) / (1 - 0.81))
    assert not one_apart.known


@given(st.integers(0, 10_000), st.sampled_from(["none", "linear", "quadratic"]))
def test_the_interval_of_kappa_lies_about_it_within_its_range(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    said, truth = rng.integers(0, 3, (2, int(rng.integers(1, 12))))
    found = kappa_interval(said, truth, 3, kind)
    if found.known:
        assert -1 <= found.low <= found.estimate <= found.high <= 1
    other = kappa_interval(truth, said, 3, kind)
    assert (other.low, other.high) == pytest.approx((found.low, found.high), nan_ok=True)


@pytest.mark.parametrize(("arm", "error", "cov2"), [(0, 0.0010141028, 0.0004839618), (1, 0.0005904738, 0.0002041879)])
@pytest.mark.parametrize("scale", SCALES)
def test_an_arm_on_a_scale_keeps_the_published_error(arm: int, error: float, cov2: float, scale: Scale) -> None:
    covariance = covariance_of(1, 5, error, 0, cov2, 0)
    for random in (True, False):
        plain = arm_estimate(AREAS[arm], covariance, random_readers=random)
        found = arm_estimate(AREAS[arm], covariance, random_readers=random, scale=scale)
        # The readers' mean square is above what readers who are all alike would have, so that Hillis' hold.
        assert (found.error, found.freedom) == (plain.error, plain.freedom)
        bounds = slow_bounds(float(AREAS[arm].mean()), plain.error, plain.freedom, scale)
        assert (found.interval.low, found.interval.high) == pytest.approx(bounds, abs=1e-7)
        assert scale.least < found.interval.low < plain.interval.low  # skewed: farther down than up
        assert found.interval.high < 1


def test_few_readers_who_agree_by_chance_do_not_make_many_degrees_of_freedom() -> None:
    figures, error = np.array([0.80, 0.85, 0.90, 0.97]), 0.001
    square = float(figures.var(ddof=1))
    for cov2 in (0.0004, 0.0, -0.0004):
        common = max(cov2, 0.0)
        covariance = covariance_of(1, 4, error, 0, cov2, 0)
        hillis = arm_estimate(figures, covariance)
        spread = square + 4 * common
        assert hillis.error == pytest.approx(math.sqrt(spread / 4))
        assert hillis.freedom == pytest.approx(spread**2 / (square**2 / 3))
        # Readers who differ: the mean square is larger than the noise, and counts as it is.
        assert arm_estimate(figures, covariance, scale=LOGIT).freedom == pytest.approx(hillis.freedom)
        cases = arm_estimate(figures, covariance, scale=LOGIT, cases_freedom=20)
        doubt = (square / 4) ** 2 / 3 + common**2 / 20
        assert cases.freedom == pytest.approx(max((square / 4 + common) ** 2 / doubt, 3))
    alike = np.array([0.88, 0.88, 0.88, 0.8801])
    covariance = covariance_of(1, 4, error, 0, 0.0004, 0)
    assert arm_estimate(alike, covariance).freedom > 1e6
    likely = (error - 0.0004) / 4
    expected = (likely + 0.0004) ** 2 / (likely**2 / 3)
    found = arm_estimate(alike, covariance, scale=LOGIT)
    assert found.freedom == pytest.approx(expected)
    assert found.error == arm_estimate(alike, covariance).error  # as published


def test_degrees_of_freedom_of_the_jackknife_are_those_of_a_chi_squared_variance() -> None:
    """Of normal values a variance has n - 1."""
    values = np.random.default_rng(4).normal(size=200_000)
    assert jackknife_freedom(mean(values).left_out) == pytest.approx(200_000, rel=0.02)
    assert math.isinf(jackknife_freedom(np.ones(5)))
    assert jackknife_freedom(mean(np.r_[np.zeros(99), 1.0]).left_out) < 2.1  # one case makes it all


def slow_profile(
    arms: tuple[float, float], errors: tuple[float, float], apart: Spread, scale: Scale
) -> tuple[float, float]:
    """Bounds by a search along the edge of the ellipse, whose covariance is taken through numerical slopes."""
    slopes = [slope(p, scale) for p in arms]
    together = (errors[0] ** 2 + errors[1] ** 2 - apart.variance) / 2
    covariance = np.array([[errors[0] ** 2, together], [together, errors[1] ** 2]]) * np.outer(slopes, slopes)
    root = student.ppf(0.975, apart.freedom) * np.linalg.cholesky(covariance)
    middle = np.array([placed(p, scale) for p in arms])

    def gap(angle: float) -> float:
        first, second = middle + root @ (math.cos(angle), math.sin(angle))
        return back(second, scale) - back(first, scale)

    pieces = list(itertools.pairwise(np.linspace(0, 2 * math.pi, 25)))
    options = {"xatol": 1e-10}
    low = min(minimize_scalar(gap, bounds=ends, method="bounded", options=options).fun for ends in pieces)
    high = max(-minimize_scalar(lambda x: -gap(x), bounds=e, method="bounded", options=options).fun for e in pieces)
    return low, high


DIFFERENCES = st.tuples(
    st.tuples(st.floats(0.05, 0.99), st.floats(0.05, 0.99)),
    st.tuples(st.floats(0.005, 0.1), st.floats(0.005, 0.1)),
    st.floats(-0.95, 0.99),
    st.sampled_from([2.0, 4.5, 30.0, math.inf]),
)


@settings(max_examples=40)
@given(DIFFERENCES, st.sampled_from(SCALES))
def test_the_bounds_of_a_difference_are_the_farthest_that_the_arms_allow(
    drawn: tuple[tuple[float, float], tuple[float, float], float, float], scale: Scale
) -> None:
    arms, errors, together, freedom = drawn
    apart = Spread(errors[0] ** 2 + errors[1] ** 2 - 2 * together * errors[0] * errors[1], freedom)
    found, p = logit_difference(arms, errors, apart, scale=scale)
    low, high = slow_profile(arms, errors, apart, scale)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)
    assert scale.least - 1 <= found.low <= found.estimate <= found.high <= 1 - scale.least
    assert (p < 0.05) == (0 not in found)  # the test and the interval are one
    assert logit_difference(arms[::-1], errors[::-1], apart, scale=scale)[1] == pytest.approx(p)


def test_far_from_its_limits_a_difference_is_that_of_student() -> None:
    apart = Spread(2e-6, 12.0)
    found, p = logit_difference((0.5, 0.5021), (1e-3, 1e-3), apart)
    half = student.ppf(0.975, 12) * apart.error
    assert (found.low, found.high) == pytest.approx((0.0021 - half, 0.0021 + half), abs=1e-7)
    assert p == pytest.approx(2 * student.sf(0.0021 / apart.error, 12), abs=1e-5)


def test_a_difference_keeps_the_published_analysis_beside_its_own() -> None:
    covariance = covariance_of(2, 5, ERROR, COV1, COV2, COV3)
    plain, found = difference(AREAS, covariance), difference(AREAS, covariance, scale=LOGIT)
    assert found.published == Published(plain.interval, plain.freedom, plain.p)
    assert (found.interval.estimate, found.error) == (plain.interval.estimate, plain.error)
    assert found.interval.high > plain.interval.high  # skewed: farther up
    assert (found.p < 0.05) == (0 not in found.interval)
    assert plain.published is None


@pytest.mark.parametrize("perfect", [0, 1])
def test_beside_an_arm_at_its_limit_the_interval_is_the_published_one_and_says_so(perfect: int) -> None:
    figures = np.array([[0.8, 0.85, 0.9], [0.8, 0.85, 0.9]])
    figures[perfect] = 1.0
    covariance = covariance_of(2, 3, 0.001, 0.0003, 0.0003, 0.0002)
    found, plain = difference(figures, covariance, scale=LOGIT), difference(figures, covariance)
    assert (found.interval.low, found.interval.high, found.p) == pytest.approx(
        (plain.interval.low, plain.interval.high, plain.p), rel=0.5
    )
    assert found.interval.estimate == plain.interval.estimate
    assert "an arm is at its limit" in found.interval.method


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_an_arm_whose_readers_never_differ_has_no_bounds(value: float) -> None:
    found = arm_estimate(np.full(4, value), np.zeros((4, 4)), scale=LOGIT)
    assert found.interval.estimate == pytest.approx(value)
    assert not found.interval.known
    assert math.isnan(found.p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_exact_when_small(gained: int, lost: int) -> None:
    p, exact = mcnemar_test(gained, lost)
    pairs = gained + lost
    assert exact == (pairs < 25)
    if pairs == 0:
        assert p == 1
    elif exact:
        assert p == pytest.approx(binomtest(gained, pairs).pvalue)
    else:
        statistic = (abs(gained - lost) - 1) ** 2 / pairs
        assert p == pytest.approx(math.erfc(math.sqrt(statistic / 2)))  # chi-squared with one degree of freedom


def unbalanced(seed: int) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Reads of 6 readers of 30 cases in two arms, a third of them missing; those of the first arm first."""
    rng = np.random.default_rng(seed)
    later, reader, case = (a.ravel() for a in np.meshgrid([False, True], range(6), range(30), indexing="ij"))
    value = rng.normal(size=6)[reader] * 0.3 + rng.normal(size=30)[case] + 0.4 * later + rng.normal(size=len(reader))
    kept = rng.random(len(reader)) < 0.67
    return value[kept], later[kept], reader[kept], case[kept]


@pytest.mark.parametrize("seed", range(5))
def test_clustered_errors_are_those_of_a_regression(seed: int) -> None:
    value, later, reader, case = unbalanced(seed)
    found = pooled_difference(mean(value[~later]), mean(value[later]), reader, case)
    design, n = sm.add_constant(later.astype(float)), len(value)

    def error(groups: NDArray[np.int64]) -> float:
        fit = sm.OLS(value, design).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True})
        assert fit.params[1] == pytest.approx(found.interval.estimate)
        return float(fit.bse[1]) * math.sqrt((n - 2) / (n - 1))  # it also corrects for the coefficients

    by_reader, by_case, alone = (error(groups) ** 2 for groups in (reader, case, reader * 30 + case))
    assert found.error == pytest.approx(math.sqrt(by_reader + max(by_case - alone, 0)))
    two_way = error(np.c_[reader, case])
    assert found.error >= two_way or found.error == pytest.approx(two_way)
    assert found.freedom >= 5


def test_what_varies_nowhere_has_no_interval() -> None:
    found = pooled(mean(np.ones(8)), np.arange(8) % 4, np.arange(8))
    assert found.interval.estimate == 1
    assert not found.interval.known
    both = difference(np.ones((2, 4)), np.zeros((8, 8)))
    assert both.interval.estimate == 0
    assert not both.interval.known
    assert math.isnan(both.p)


def hits(rng: np.random.Generator, gain: float, readers: int = 6, cases: int = 80) -> NDArray[np.bool_]:
    """``[2, readers, cases]``, right reads whose chances depend on reader, case and both with the arm."""
    latent = 1.1 + gain * np.array([0, 1])[:, None, None]
    latent = latent + rng.normal(0, 0.3, readers)[None, :, None] + rng.normal(0, 0.7, cases)[None, None]
    latent = latent + rng.normal(0, 0.15, (2, readers))[:, :, None] + rng.normal(0, 0.4, (2, cases))[:, None]
    return latent + rng.normal(size=(2, readers, cases)) > 0


def test_intervals_of_shares_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    draws = 1000
    often = np.mean([hits(rng, 0.4, 400, 400).mean(axis=(1, 2)) for _ in range(20)], axis=0)
    true = float(often[1] - often[0])
    reader, case = (np.tile(a.ravel(), 2) for a in np.meshgrid(range(6), range(80), indexing="ij"))
    crossed, clustered, arm = 0, 0, 0
    for _ in range(draws):
        right = hits(rng, 0.4).astype(float)
        merits = [mean(of) for of in right.reshape(12, 80)]
        figures = np.array([merit.value for merit in merits]).reshape(2, 6)
        covariance = jackknife_covariance(np.stack([m.left_out for m in merits]))
        crossed += true in difference(figures, covariance, scale=LOGIT).interval
        arm += float(often[1]) in arm_estimate(figures[1], covariance[6:, 6:], scale=LOGIT).interval
        both = mean(right[0].ravel()), mean(right[1].ravel())
        clustered += true in pooled_difference(*both, reader, case, scale=LOGIT).interval
    assert 0.935 <= arm / draws <= 0.965
    assert 0.935 <= crossed / draws <= 0.965
    assert 0.935 <= clustered / draws <= 0.965


@pytest.mark.parametrize(("mean_skill", "readers"), [(1.3, 6), (1.3, 4)])
def test_areas_of_readers_who_differ_need_a_bent_scale(mean_skill: float, readers: int) -> None:
    """Skill is normal and every reader's area known: what is left is the skewness of areas."""
    skill = np.random.default_rng(8).normal(mean_skill, 0.4, (4000, readers))
    true = norm.cdf(mean_skill / math.sqrt(1 + 0.4**2))
    missed = {}
    for scale in (LOGIT, AREAS_OF_READERS):
        found = [arm_estimate(norm.cdf(one), np.zeros((readers, readers)), scale=scale).interval for one in skill]
        missed[scale.name] = np.mean([true < one.low for one in found]), np.mean([true > one.high for one in found])
    (by_logit, _), (below, above) = missed["logit"], missed["bent logit"]
    assert 0.94 < 1 - below - above < 0.96
    assert by_logit > 0.04  # its lower bound is too high
    assert below < 0.9 * by_logit


@given(st.integers(0, 1000))
def test_the_order_of_arms_readers_and_cases_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = hits(rng, 0.3, 4, 12).astype(float)

    def analysis(values: Floats) -> tuple[float, float]:
        merits: list[Merit] = [mean(of) for of in values.reshape(-1, values.shape[-1])]
        figures = np.array([merit.value for merit in merits]).reshape(2, -1)
        found = difference(figures, jackknife_covariance(np.stack([merit.left_out for merit in merits])))
        return found.interval.estimate, found.error

    estimate, error = analysis(right)
    other = right[:, rng.permutation(4)][:, :, rng.permutation(12)]
    assert analysis(other) == pytest.approx((estimate, error))
    assert analysis(right[::-1]) == pytest.approx((-estimate, error))
