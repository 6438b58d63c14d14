"""How often the intervals that evaluation prints hold what they are about: every one of them, by simulation.

    python benchmarks/interval_coverage.py [--draws 5000] [--replicates 1000] [--only bootstrap]

Each row draws data sets whose truth is known, asks the package's own function for its 95 % interval, and counts. Of
5,000 draws the share is right to 0.6 points. `--only` takes the rows whose name has the word; the record is then left
as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from record import Record, Table, make_parser
from scipy.special import expit, logit
from scipy.stats import norm, t

from stride_monai.evaluation.control_charts import control_chart, share_z, values_z
from stride_monai.evaluation.found_cells import mean_interval
from stride_monai.evaluation.operating_points import chosen_shares
from stride_monai.evaluation.readers.by_reader import kappa_interval
from stride_monai.evaluation.readers.clustered import pooled, pooled_difference
from stride_monai.evaluation.readers.merits import Merit, area, jackknife_covariance, kappa, mean
from stride_monai.evaluation.readers.multireader import arm_estimate, difference
from stride_monai.evaluation.statistics import (
    CallStatistics,
    Interval,
    RankStatistics,
    at_sensitivities,
    auc_interval,
    bootstrap,
    calibration_of,
    compare_auc,
    decision_curve,
    forest,
    joined,
    pool_logits,
    predict_logits,
    predictive_values,
    proportion_bounds,
    rates_of_counts,
    roc_band,
    safe_exclusion,
    seed_summary,
)
from stride_monai.evaluation.statistics.bootstrap import cluster_weights
from stride_monai.evaluation.transfer import positives_for_margin, psi
from stride_monai.metrics.slide import conformal_threshold, specificity_at_sensitivity

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Random = np.random.Generator
SAFE = "exact: never below its level, hence wide"
SHORT = {
    ", OR": "near 1 it is skewed, and readers are few",
    "Fisher's z": "a few cases of far classes make most of the variance",
    "clustered bootstrap": "12 clusters are few",
}
"""Why an interval is short, where it is."""


class Row(NamedTuple):
    """An interval and its draws.

    Attributes:
        name, of: the interval, and the data that were drawn.
        low, high: bounds ``[D]``, NaN where there were none. truth: what they should hold, ``[D]`` or one number.
        reading: why it is wide or short, where that is known.
    """

    name: str
    of: str
    low: Floats
    high: Floats
    truth: ArrayLike
    reading: str = ""


class Promise(NamedTuple):
    """A one-sided promise: in how many draws it was kept."""

    name: str
    of: str
    kept: Bools
    reading: str = ""


class Size(NamedTuple):
    """How much is simulated."""

    draws: int
    replicates: int


Rows = Iterator[Row | Promise]


def row(name: str, of: str, found: list[Interval], truth: ArrayLike, reading: str = "") -> Row:
    return Row(name, of, np.array([x.low for x in found]), np.array([x.high for x in found]), truth, reading)


# Slides.


def normal_slides(random: Random, positives: int, negatives: int, shift: float) -> tuple[Floats, Bools]:
    """Scores, normal, those of positive slides by ``shift`` higher; and which are positive."""
    positive = np.arange(positives + negatives) < positives
    return random.normal(size=len(positive)) + shift * positive, positive


def shares(random: Random, size: Size) -> Rows:
    for of, low, high, least, most in (
        ("30-90 slides, share 0.3-0.7", 0.3, 0.7, 30, 90),
        ("100-1,000 slides, share 0.90-0.99", 0.9, 0.99, 100, 1000),
        ("10 slides, share 0.5-0.95", 0.5, 0.95, 10, 11),
    ):
        share, total = random.uniform(low, high, size.draws), random.integers(least, most, size.draws)
        hits = random.binomial(total, share)
        for name, method, reading in (("Wilson", "wilson", ""), ("Clopper-Pearson", "clopper_pearson", SAFE)):
            yield Row(f"share, {name}", of, *proportion_bounds(hits, total, method=method), share, reading)


def areas(random: Random, size: Size) -> Rows:
    for positives, negatives, wanted in ((200, 800, 0.95), (60, 120, 0.85), (10, 30, 0.85), (15, 25, 0.99)):
        shift = np.sqrt(2) * norm.ppf(wanted)
        drawn = [normal_slides(random, positives, negatives, shift) for _ in range(size.draws)]
        of = f"{positives} positive, {negatives} negative slides, AUC {wanted}"
        yield row("AUC, DeLong (logit)", of, [auc_interval(*one) for one in drawn], wanted)
    found = []
    for _ in range(size.draws):
        common, positive = normal_slides(random, 60, 100, 1.5)
        noise = 0.7 * random.normal(size=(2, len(common)))
        found.append(compare_auc(common + noise[0], common + noise[1], positive).difference)
    yield row("AUC difference, DeLong paired", "60 positive, 100 negative slides, equal systems", found, 0.0)


def rates_at_a_rate(random: Random, size: Size) -> Rows:
    few = "tens of positive slides: one of them is a large step"
    for positives, negatives, target in ((500, 2000, 0.95), (80, 400, 0.9), (60, 200, 0.98)):
        drawn = [normal_slides(random, positives, negatives, 2.0) for _ in range(size.draws)]
        points = [at_sensitivities(*one, [target])[0] for one in drawn]
        of = f"{positives} positive, {negatives} negative slides, sensitivity {target}"
        truth = norm.cdf(2 + norm.ppf(1 - target))
        reading = few if positives < 100 else ""
        yield row("specificity at a sensitivity, MOVER", of, [one.specificity for one in points], truth, reading)
        achieved = norm.sf(np.array([one.point.threshold for one in points]) - 2)
        own = [one.sensitivity.wilson for one in points]
        yield row("sensitivity at the chosen threshold, Wilson", of, own, achieved)
    bands = [roc_band(*normal_slides(random, 150, 300, 1.5), points=11) for _ in range(size.draws)]
    for place, rate in ((1, 0.1), (3, 0.3), (5, 0.5)):
        low, high = (np.array([getattr(band, side)[place] for band in bands]) for side in ("low", "high"))
        of = f"150 positive, 300 negative slides, {rate:g} false positives"
        yield Row("ROC band, pointwise", of, low, high, norm.cdf(1.5 + norm.ppf(rate)))


def predictive(random: Random, size: Size) -> Rows:
    few = "few slides are missed: wide rather than short"
    for sensitivity, specificity, n in ((0.9, 0.7, 200), (0.985, 0.62, 400), (0.97, 0.9, 60)):
        found, right = random.binomial(n, sensitivity, size.draws), random.binomial(n, specificity, size.draws)
        counts, places = np.unique(np.stack([found, right]), axis=1, return_inverse=True)
        each = [predictive_values(rates_of_counts(tp, n - tp, tn, n - tn), 0.044) for tp, tn in counts.T.tolist()]
        both = [each[k] for k in places.ravel()]
        yes, no = 0.044 * sensitivity, 0.956 * (1 - specificity)
        miss, well = 0.044 * (1 - sensitivity), 0.956 * specificity
        of = f"{n} slides of either kind, sensitivity {sensitivity}, specificity {specificity}"
        yield row("PPV at a stated prevalence", of, [one[0] for one in both], yes / (yes + no))
        reading = few if n * (1 - sensitivity) < 10 else ""
        yield row("NPV at a stated prevalence", of, [one[1] for one in both], well / (well + miss), reading)


def calibration(random: Random, size: Size) -> Rows:
    found = []
    for _ in range(size.draws):
        logits = random.normal(-1, 1.5, 300)
        found.append(calibration_of(expit(logits + 0.5), random.random(300) < expit(logits)))
    of = "300 slides whose scores are too high by 0.5 on the logit scale"
    yield row("calibration slope, Wald", of, [one.slope for one in found], 1.0)
    yield row("calibration intercept, Wald", of, [one.intercept for one in found], -0.5)


def decisions(random: Random, size: Size) -> Rows:
    people = random.beta(1, 6, 400_000)
    share, odds = people.mean(), 0.1 / 0.9
    many = people >= 0.1
    caught, falsely = (many * people).mean() / share, (many * (1 - people)).mean() / (1 - share)
    for of, prevalence in (("at the slides' own prevalence", None), ("at a prevalence of 0.05", 0.05)):
        p = share if prevalence is None else prevalence
        curves = []
        for _ in range(size.draws):
            risks = random.choice(people, 500)
            curves.append(decision_curve(risks, random.random(500) < risks, [0.1], prevalence))
        low, high = (np.array([getattr(one, side)[0] for one in curves]) for side in ("low", "high"))
        truth = p * caught - (1 - p) * falsely * odds
        yield Row("net benefit, pointwise", f"500 slides, risk 0.1, {of}", low, high, truth)


def exclusion(random: Random, size: Size) -> Rows:
    labels = ["HSIL"] * 100 + ["NILM"] * 500
    found = [safe_exclusion(normal_slides(random, 100, 500, 2.0)[0], labels, "HSIL+", 0.98) for _ in range(size.draws)]
    threshold = np.array([one.threshold for one in found])
    fallen, of = norm.cdf(threshold), "100 lesions, 500 NILM slides, 98 % kept"
    whole = (100 * norm.cdf(threshold - 2) + 500 * fallen) / 600
    excluded, negatives = ([getattr(one, kind).wilson for one in found] for kind in ("excluded", "negatives"))
    yield row("NILM excluded at the chosen threshold, Wilson", of, negatives, fallen)
    reading = "the share of lesions is fixed here, so that less varies"
    yield row("slides excluded at the chosen threshold, Wilson", of, excluded, whole, reading)


def clusters(random: Random, size: Size, centres: int, each: int, name: str) -> Rows:
    """Centres that differ in how they score; figures of the command's bootstrap, many resamples at once."""
    slides, apart = centres * each, 0.4
    place = np.repeat(np.arange(centres), each)
    weights = np.stack(list(cluster_weights(np.arange(centres), size.replicates)))
    tail = norm.cdf(t.ppf(0.025, centres - 1) * np.sqrt(centres / (centres - 1)))
    bounds: dict[str, list[Floats]] = {}
    wide, shift = np.sqrt(1 + apart**2), 1.8
    for draw in range(size.draws):
        positive = random.random(slides) < 0.4
        scores = random.normal(0, apart, centres)[place] + shift * positive + random.normal(size=slides)
        for figure, values in resampled(weights, place, scores, positive).items():
            bounds.setdefault(figure, []).append(np.nanquantile(values, (tail, 1 - tail)))
        if draw == 0:  # the same as the command's own, to the last digits
            figures = [RankStatistics(scores, positive, [0.95]), CallStatistics(scores >= 0.9, positive)]
            found = bootstrap(joined(*figures), slides, [f"{k:03d}" for k in place], size.replicates).intervals
            own = [(found[figure].low, found[figure].high) for figure in bounds if figure in found]
            np.testing.assert_allclose(own, [x[0] for figure, x in bounds.items() if figure in found])
    tpr, tnr = norm.sf((0.9 - shift) / wide), norm.cdf(0.9 / wide)
    truths = {
        "auc": norm.cdf(shift / wide / np.sqrt(2)),
        "specificity_at_0.95": norm.cdf(shift / wide + norm.ppf(0.05)),
        "sensitivity": tpr,
        "specificity": tnr,
        "ppv": 0.4 * tpr / (0.4 * tpr + 0.6 * (1 - tnr)),
        "npv": 0.6 * tnr / (0.6 * tnr + 0.4 * (1 - tpr)),
        "accuracy": 0.4 * tpr + 0.6 * tnr,
        "f1_macro": f1_of(tpr, tnr),
    }
    for figure, truth in truths.items():
        low, high = np.array(bounds[figure]).T
        yield Row(f"clustered bootstrap, {figure}", f"{centres} {name} of {each} slides", low, high, truth)


def resampled(weights: Floats, place: NDArray[np.int64], scores: Floats, positive: Bools) -> dict[str, Floats]:
    """Figures of each resample ``[R]``: what :class:`RankStatistics` and others give of one; weights ``[R, C]``."""
    called = scores >= 0.9
    kinds = (called & positive, ~called & positive, ~called & ~positive, called & ~positive)
    tp, fn, tn, fp = (weights @ np.bincount(place, of, weights.shape[1]) for of in kinds)
    cases, controls = (np.flatnonzero(of)[np.argsort(scores[of])] for of in (positive, ~positive))
    cases = cases[::-1]
    lower = np.cumsum(weights[:, place[controls]], axis=1)
    lower = np.concatenate([np.zeros((len(weights), 1)), lower], axis=1)
    below = lower[:, np.searchsorted(scores[controls], scores[cases])]  # the scores have no ties
    drawn = weights[:, place[cases]]
    found = np.cumsum(drawn, axis=1) / (tp + fn)[:, None]
    at = below[np.arange(len(weights)), np.argmax(found >= 0.95, axis=1)]
    return {
        "auc": (drawn * below).sum(axis=1) / ((tp + fn) * (tn + fp)),
        "specificity_at_0.95": at / (tn + fp),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "accuracy": (tp + tn) / (tp + fn + tn + fp),
        "f1_macro": tp / (2 * tp + fp + fn) + tn / (2 * tn + fp + fn),
    }


def f1_of(tpr: float, tnr: float) -> float:
    """F1-macro where 0.4 of the slides are positive."""
    f1 = [
        2 * share * hit / (share * (1 + hit) + (1 - share) * (1 - other))
        for share, hit, other in ((0.4, tpr, tnr), (0.6, tnr, tpr))
    ]
    return float(np.mean(f1))


def centres_pooled(random: Random, size: Size) -> Rows:
    few = "centres miss a handful each"
    for k, share, most, tau in (
        (6, 0.62, 3000, 0.5),
        (6, 0.97, 200, 0.6),
        (30, 0.9845, 200, 0.5),
    ):
        total = random.integers(most // 20, most, (size.draws, k))
        chance = random.normal(logit(share), tau, (size.draws, k + 1))
        hits = random.binomial(total, expit(chance[:, :k]))
        some = hits.sum(axis=1) < total.sum(axis=1)  # the others have no likelihood, and Clopper-Pearson's bounds
        found = pool_logits(hits[some], total[some])
        half = t.ppf(0.975, k - 1) * found.error
        bounds = np.full((2, 2, size.draws), np.nan)
        bounds[0, :, some] = expit(np.stack([found.mean - half, found.mean + half], axis=1))
        bounds[1, :, some] = expit(np.stack(predict_logits(hits[some], total[some]), axis=1))
        for draw in np.flatnonzero(~some):
            one = forest({str(n): (int(x), int(x)) for n, x in enumerate(total[draw])}).pooled
            bounds[0, :, draw] = one.low, one.high
        of, reading = f"{k} centres of {most // 20}-{most} slides, median {share}", few if share > 0.9 else ""
        yield Row("median centre, logistic model", of, *bounds[0], share, reading)
        yield Row("a further centre, prediction", of, *bounds[1], expit(chance[:, k]), reading)


def seeds(random: Random, size: Size) -> Rows:
    found = [seed_summary([{"auc": x} for x in random.normal(0.95, 0.004, 3)])["auc"].mean for _ in range(size.draws)]
    yield row("mean over seeds, Student's", "3 seeds", found, 0.95)


def shown_cells(random: Random, size: Size) -> Rows:
    for slides in (8, 40):
        each = random.binomial(32, random.beta(2, 5, (size.draws, slides))) / 32
        reading = "few slides of a skewed share" if slides < 20 else ""
        found = [mean_interval(values.tolist()) for values in each]
        yield row("precision of 32 cells, Student's", f"{slides} slides", found, 2 / 7, reading)


# Operating points.


def operating_points(random: Random, size: Size) -> Rows:
    for positives in (59, 93, 361):
        of = f"{positives} positive slides, target 0.95"
        positive = np.arange(positives + 50) < positives
        kept, plain, bounds = [], [], []
        for _ in range(size.draws):
            scores = random.random(positives + 50)  # a uniform score's threshold t has the sensitivity 1 - t
            kept.append(1 - conformal_threshold(scores, positive).threshold >= 0.95)
            point = specificity_at_sensitivity(scores, positive).threshold
            bounds.append((chosen_shares(scores, positive, point)[0], 1 - point))
            plain.append(1 - point >= 0.95)
        yield Promise("conformal bound: new slides reach the target", of, np.array(kept))
        yield Promise("plain rule: new slides reach the target", of, np.array(plain), "promises nothing: about half")
        low, high = (np.array([getattr(share, side) for share, _ in bounds]) for side in ("low", "high"))
        truth = np.array([held for _, held in bounds])
        yield Row(
            "sensitivity at the chosen threshold, Clopper-Pearson", of, low, high, truth, "its lower bound is exact"
        )
    needed = positives_for_margin(0.95, 0.02)
    truth_of, within = np.arange(needed + 1) < needed, []
    for _ in range(size.draws):
        threshold = conformal_threshold(np.append(random.random(needed), 0.5), truth_of).threshold
        within.append(1 - threshold <= 0.97)
    yield Promise("slides to choose it anew: at most 0.02 above", f"{needed} positive slides", np.array(within))


def drift(random: Random, size: Size) -> Rows:
    below = []
    for _ in range(size.draws):
        drawn = random.beta(0.5, 3, 700)
        index, chance = psi(drawn[:400], drawn[400:])
        below.append(index <= chance)
    yield Promise("PSI below what chance gives", "400 and 300 slides, no shift", np.array(below), "an approximation")
    within: dict[tuple[str, str], list[bool]] = {}
    for _ in range(-(-size.draws // 10)):
        sizes = random.integers(15, 60, 10)
        ends = np.cumsum([150, *sizes])
        values = random.beta(0.3, 3, ends[-1])
        hits = [int(random.binomial(n, 0.1)) for n in (150, *sizes)]
        z = {
            "scores": [values_z(values[:150], values[a:b]) for a, b in pairwise(ends)],
            "shares": [share_z(hits[0], 150, x, n) for x, n in zip(hits[1:], sizes.tolist(), strict=True)],
        }
        for kind, said in z.items():
            chart = control_chart(said, sizes, 150, 0.05)
            within.setdefault((kind, "one week"), []).extend(np.abs(chart.z) <= chart.limit)
            within.setdefault((kind, "moving average"), []).extend(np.abs(chart.ewma) <= chart.ewma_limits)
    for (kind, line), kept in within.items():
        reading = "whole slides: fewer alarms than stated" if kind == "shares" else ""
        name = f"weeks within their limits, {kind}, {line}"
        yield Promise(name, "150 slides of reference, 15-59 a week, limits at 5 %", np.array(kept), reading)


# Readers.


class Reads(NamedTuple):
    """Reads of two arms, ``[2, readers, cases]``: a latent severity, and which cases are positive ``[cases]``."""

    latent: Floats
    positive: Bools


def reads(random: Random, readers: int, cases: int, gain: float, fixed: Floats | None = None) -> Reads:
    """Reader, case, reader by arm, case by arm and noise, all normal; the second arm's gain is on positive cases."""
    skill = fixed if fixed is not None else random.normal(0, 0.3, readers) + random.normal(0, 0.15, (2, readers))
    case = random.normal(0, 0.7, cases) + random.normal(0, 0.4, (2, cases))
    positive = np.arange(cases) < cases // 2
    shift = (1.1 + gain * np.array([0, 1])[:, None, None] + skill[:, :, None]) * np.where(positive, 1, -1)
    return Reads(shift + case[:, None] + random.normal(size=(2, readers, cases)), positive)


def spread(readers: bool) -> float:
    """Standard deviation of a read's latent severity, with or without that of readers."""
    return float(np.sqrt(1 + 0.7**2 + 0.4**2 + (0.3**2 + 0.15**2 if readers else 0)))


def crossed(figures: list[Merit], readers: int, least: float = 0.0) -> tuple[Interval, Interval]:
    """Obuchowski-Rockette: the first arm, as reports have it, and the difference. least: lowest value of the figure."""
    values = np.array([one.value for one in figures]).reshape(2, readers)
    covariance = jackknife_covariance(np.stack([one.left_out for one in figures]))
    first = arm_estimate(values[0], covariance[:readers, :readers], least=least)
    return first.interval, difference(values, covariance).interval


def many_readers(random: Random, size: Size) -> Rows:
    for readers, cases in ((6, 160), (3, 120), (10, 400)):
        shares, curves = [], []
        for _ in range(size.draws):
            drawn = reads(random, readers, cases, 0.4)
            right = (drawn.latent[:, :, drawn.positive] > 0).reshape(2 * readers, -1)
            shares.append(crossed([mean(one) for one in right], readers))
            ranked = drawn.latent.reshape(2 * readers, -1)
            curves.append(crossed([area(one, drawn.positive) for one in ranked], readers))
        of = f"{readers} readers, {cases} cases, half positive"
        first, second = norm.cdf(1.1 / spread(readers=True)), norm.cdf(1.5 / spread(readers=True))
        yield row("readers, arm's sensitivity, OR", of, [one[0] for one in shares], first)
        yield row("readers, sensitivity difference, OR", of, [one[1] for one in shares], second - first)
        first, second = (area_of(gain) for gain in (0.0, 0.4))
        yield row("readers, arm's AUC, OR", of, [one[0] for one in curves], first)
        yield row("readers, AUC difference, OR", of, [one[1] for one in curves], second - first)


def area_of(gain: float) -> float:
    """A reader's skill moves positive and negative cases apart: twice its variance in their difference."""
    noise = 2 * spread(readers=False) ** 2 + 4 * (0.3**2 + 0.15**2)
    return float(norm.cdf(2 * (1.1 + gain) / np.sqrt(noise)))


def two_readers(random: Random, size: Size) -> Rows:
    """Whose intervals hold for them alone: the same two in every draw."""
    skill = np.array([[0.25, -0.2], [0.1, 0.3]])
    rate = norm.cdf((1.1 + np.array([[0.0], [0.4]]) + skill) / spread(readers=False)).mean(axis=1)
    found = []
    for _ in range(size.draws):
        drawn = reads(random, 2, 160, 0.4, skill)
        found.append(crossed([mean(one) for one in (drawn.latent[:, :, drawn.positive] > 0).reshape(4, -1)], 2))
    of = "these 2 readers, 160 cases"
    yield row("readers, arm's sensitivity, OR", of, [one[0] for one in found], rate[0])
    yield row("readers, sensitivity difference, OR", of, [one[1] for one in found], rate[1] - rate[0])


def reads_that_are_missing(random: Random, size: Size) -> Rows:
    for readers, cases in ((6, 80), (3, 60), (10, 200)):
        arms, apart, times, ratios = [], [], [], []
        place, case = (x.ravel() for x in np.meshgrid(np.arange(readers), np.arange(cases), indexing="ij"))
        for _ in range(size.draws):
            right = (reads(random, readers, 2 * cases, 0.4).latent[:, :, :cases] > 0).reshape(2, -1)
            there = random.random(right.shape) < 0.67
            # Seconds, on the logarithm: readers, cases, and noise; the second arm takes 0.8 of the time.
            log = random.normal(0, 0.3, readers)[place] + random.normal(0, 0.2, cases)[case] + 4
            log = log + np.log([[1.0], [0.8]]) + random.normal(0, 0.1, (2, readers))[:, place]
            log = log + random.normal(0, 0.4, right.shape)
            who, what = (np.concatenate([x[there[0]], x[there[1]]]) for x in (place, case))
            first, second = (mean(one[of]) for one, of in zip(right, there, strict=True))
            arms.append(pooled(first, place[there[0]], case[there[0]]).interval)
            apart.append(pooled_difference(first, second, who, what).interval)
            first, second = (mean(one[of]) for one, of in zip(log, there, strict=True))
            times.append(pooled(first, place[there[0]], case[there[0]]).interval)
            ratios.append(pooled_difference(first, second, who, what).interval)
        of = f"{readers} readers, {cases} cases, a third of the reads missing"
        low, high = norm.cdf(1.1 / spread(readers=True)), norm.cdf(1.5 / spread(readers=True))
        yield row("readers, arm's sensitivity, clustered", of, arms, low)
        yield row(
            "readers, sensitivity difference, clustered", of, apart, high - low, "takes the larger of two variances"
        )
        yield row("readers, geometric mean of seconds, clustered", of, times, 4.0)
        yield row("readers, ratio of seconds, clustered", of, ratios, np.log(0.8), "takes the larger of two variances")


def kappas(random: Random, size: Size) -> Rows:
    chances = np.array([[0.35, 0.06, 0.02], [0.05, 0.2, 0.05], [0.01, 0.06, 0.2]])
    for kind, weights in (("none", np.eye(3)), ("quadratic", 1 - (np.subtract.outer(range(3), range(3)) / 2) ** 2)):
        chance = (chances.sum(1)[:, None] * chances.sum(0) * weights).sum()
        true = ((chances * weights).sum() - chance) / (1 - chance)
        for cases in (150, 60):
            drawn = random.choice(9, (size.draws, cases), p=chances.ravel())
            found = [kappa_interval(one % 3, one // 3, 3, kind) for one in drawn]
            yield row("one reader's kappa, Fisher's z", f"{cases} cases, 3 classes, weights {kind}", found, true)
    yield from readers_kappa(random, size)


def readers_kappa(random: Random, size: Size) -> Rows:
    """Sensitivity and specificity of readers vary on the logit scale."""

    def skills(readers: int) -> Floats:
        base = random.normal(0, 0.4, readers)
        gain = random.normal(0, 0.2, (2, 2, readers)) + np.array([0, 0.5])[:, None, None]
        return expit(np.array([1.4, 1.0])[None, :, None] + base + gain)  # [arm, kind, reader]

    found_rate, right_rate = np.moveaxis(skills(1_000_000), 1, 0)
    called = (found_rate + 1 - right_rate) / 2
    seen = (found_rate + right_rate) / 2
    chance = called / 2 + (1 - called) / 2
    true = ((seen - chance) / (1 - chance)).mean(axis=1)
    truth, found = np.arange(160) % 2, []
    for _ in range(size.draws):
        rate = np.moveaxis(skills(6), 1, 2)  # [arm, reader, kind]
        wrong = random.random((2, 6, 160)) >= rate[:, :, 1 - truth]
        said = np.where(wrong, 1 - truth, truth).reshape(12, -1)
        found.append(crossed([kappa(one, truth, 2) for one in said], 6, -1.0))
    of = "6 readers, 160 cases, half positive"
    yield row("readers, arm's kappa, OR", of, [one[0] for one in found], true[0])
    yield row("readers, kappa difference, OR", of, [one[1] for one in found], true[1] - true[0])


ALL: tuple[tuple[str, Callable[[Random, Size], Rows]], ...] = (
    ("Slides", shares),
    ("Slides", areas),
    ("Slides", rates_at_a_rate),
    ("Slides", predictive),
    ("Slides", calibration),
    ("Slides", decisions),
    ("Slides", exclusion),
    ("Slides", seeds),
    ("Slides", shown_cells),
    ("Centres", centres_pooled),
    ("Clusters", partial(clusters, centres=40, each=10, name="centres")),
    ("Clusters", partial(clusters, centres=12, each=20, name="centres")),
    ("Clusters", partial(clusters, centres=120, each=2, name="patients")),
    ("Operating points and drift", operating_points),
    ("Operating points and drift", drift),
    ("Readers", many_readers),
    ("Readers", two_readers),
    ("Readers", reads_that_are_missing),
    ("Readers", kappas),
)


def measured(one: Row | Promise) -> list[Any]:
    """Held, truth below the lower bound, above the upper, draws without bounds; all in percent."""
    if isinstance(one, Promise):
        return [one.name, one.of, f"{100 * one.kept.mean():.1f}", "", "", "", one.reading or judged(one.kept.mean())]
    known = np.isfinite(one.low) & np.isfinite(one.high)
    truth = np.broadcast_to(np.asarray(one.truth, np.float64), known.shape)[known]
    below, above = truth < one.low[known] - 1e-12, truth > one.high[known] + 1e-12
    held = 1 - (below | above).mean() if known.any() else np.nan
    told = [f"{100 * share:.1f}" for share in (held, below.mean(), above.mean(), 1 - known.mean())]
    judgement, reading = judged(held), one.reading
    if judgement == "short" and not reading:
        reading = next((why for word, why in SHORT.items() if word in one.name), "")
    return [one.name, one.of, *told, f"{judgement}; {reading}" if reading else judgement]


def judged(held: float) -> str:
    return "short" if held < 0.94 else "wide" if held > 0.96 else "as stated"


def name_of(simulate: Callable[..., Rows]) -> str:
    return str(getattr(simulate, "func", simulate).__name__)


def simulated(place: int, seed: int, size: Size) -> list[list[Any]]:
    """The rows of one simulation of :data:`ALL`."""
    return [measured(one) for one in ALL[place][1](np.random.default_rng([seed, place]), size)]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--replicates", type=int, default=1000, help="of each bootstrap")
    parser.add_argument("--only", default="", help="simulations whose name has the word; writes no record")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    places = [place for place, (_, simulate) in enumerate(ALL) if asked.only in name_of(simulate)]
    figures = Record("interval_coverage", "How often 95 % intervals hold what they are about")
    heads = ("interval", "drawn", "held, %", "truth below it, %", "truth above it, %", "no bounds, %", "reading")
    size, tables = Size(asked.draws, asked.replicates), dict[str, Table]()
    with ProcessPoolExecutor(asked.workers) as pool:
        jobs = {}
        if asked.workers > 1:
            jobs = {k: pool.submit(simulated, k, asked.seed, size) for k in reversed(places)}  # the long ones first
        for place in places:
            topic = ALL[place][0]
            if topic not in tables:
                tables[topic] = figures.table(*heads, caption=f"{topic}: {asked.draws:,} draws each.")
            for one in jobs[place].result() if jobs else simulated(place, asked.seed, size):
                tables[topic].row(*one)
    figures.say(
        "'As stated': 94 to 96 %. Draws without bounds (a cluster without a positive slide, agreement in all) are left "
        f"out of the shares. The bootstrap has {asked.replicates:,} resamples. These are data sets that were drawn by "
        "simple laws: real ones can be worse."
    )
    if asked.only:
        print("not recorded: --only", file=sys.stderr)
        return
    figures.write([asked.seed])


if __name__ == "__main__":
    main()
