"""How often the intervals that evaluation prints hold what they are about: every one of them, by simulation.

    python benchmarks/interval_coverage.py [--draws 5000] [--replicates 1000] [--only clusters]

Each row draws data sets whose truth is known, asks the package's own function for its 95 % interval, and counts. Of
5,000 draws the share is right to 0.6 points. `--only` takes the rows whose name has the word; the record is then left
as it is.
"""

from __future__ import annotations

import argparse
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
from stride_monai.evaluation.statistics.bootstrap import cluster_interval, cluster_weights
from stride_monai.evaluation.transfer import positives_for_margin, psi
from stride_monai.metrics.slide import conformal_threshold, specificity_at_sensitivity

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Random = np.random.Generator
SAFE = "exact: never below its level, hence wide"
SHORT = {
    "AUC": "three readers who differ much: how much is seen least where they are best",
    "sensitivity, OR": "three readers are few",
    "Fisher's z": "a few cases of far classes make most of the variance",
    "clustered bootstrap": "clusters are few",
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
Simulations = tuple[tuple[str, Callable[..., Rows]], ...]


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
    bounds: dict[str, list[Floats]] = {}
    wide, shift = np.sqrt(1 + apart**2), 1.8
    weights = np.concatenate([np.ones((1, centres)), weights])  # the first row is the slides as they are
    for draw in range(size.draws):
        positive = random.random(slides) < 0.4
        scores = random.normal(0, apart, centres)[place] + shift * positive + random.normal(size=slides)
        for figure, values in resampled(weights, place, scores, positive).items():
            one = cluster_interval(float(values[0]), values[1:], centres)
            bounds.setdefault(figure, []).append(np.array([one.low, one.high]))
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


ALL: Simulations = (
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


def simulated(simulate: Callable[..., Rows], seed: tuple[int, int], size: Size) -> list[list[Any]]:
    """The rows of one simulation."""
    return [measured(one) for one in simulate(np.random.default_rng(seed), size)]


def tables_of(figures: Record, simulations: Simulations, asked: argparse.Namespace) -> None:
    """Run what is asked for, a table a topic."""
    places = [place for place, (_, simulate) in enumerate(simulations) if asked.only in name_of(simulate)]
    heads = ("interval", "drawn", "held, %", "truth below it, %", "truth above it, %", "no bounds, %", "reading")
    size, tables = Size(asked.draws, asked.replicates), dict[str, Table]()
    with ProcessPoolExecutor(asked.workers) as pool:
        jobs = {
            k: pool.submit(simulated, simulations[k][1], (asked.seed, k), size) for k in reversed(places)
        }  # the long ones first
        for place in places:
            topic = simulations[place][0]
            if topic not in tables:
                tables[topic] = figures.table(*heads, caption=f"{topic}: {asked.draws:,} draws each.")
            for one in jobs[place].result():
                tables[topic].row(*one)


def options(text: str | None) -> argparse.ArgumentParser:
    """What both scripts of intervals are asked for."""
    parser = make_parser(text)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--replicates", type=int, default=1000, help="of each bootstrap")
    parser.add_argument("--only", default="", help="simulations whose name has the word; writes no record")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    return parser


def record_all(text: str | None, figures: Record, simulations: Simulations, said: str) -> None:
    """A script of intervals: measure what is asked for, and write the record of a whole run.

    Args:
        text: of the script's help. said: beneath the tables, with the options by name.
    """
    asked = options(text).parse_args()
    tables_of(figures, simulations, asked)
    figures.say(said.format(**vars(asked)))
    if asked.only:
        print("not recorded: --only", file=sys.stderr)
        return
    figures.write([asked.seed])


def main() -> None:
    record_all(
        __doc__,
        Record("interval_coverage", "How often 95 % intervals hold what they are about"),
        ALL,
        "'As stated': 94 to 96 %. Draws without bounds (a cluster without a positive slide, agreement in all) are left "
        "out of the shares. The bootstrap has {replicates:,} resamples. These are data sets that were drawn by simple "
        "laws: real ones can be worse. Intervals of reader studies: reader_coverage.py.",
    )


if __name__ == "__main__":
    main()
