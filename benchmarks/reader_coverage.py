"""How often the intervals of reader studies hold what they are about, by simulation.

    python benchmarks/reader_coverage.py [--draws 5000] [--only many]

As benchmarks/interval_coverage.py. Readers and cases are drawn as Roe and Metz drew them, by whose simulation analyses
of many readers and cases are judged, and as readers who differ twice as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from interval_coverage import Bools, Floats, Random, Rows, Simulations, Size, record_all, row
from record import Record
from scipy.special import expit
from scipy.stats import norm

from stride_monai.evaluation.readers.by_reader import kappa_interval
from stride_monai.evaluation.readers.clustered import pooled, pooled_difference
from stride_monai.evaluation.readers.merits import Merit, area, jackknife_covariance, jackknife_freedom, kappa, mean
from stride_monai.evaluation.readers.multireader import arm_estimate, difference
from stride_monai.evaluation.statistics import Interval
from stride_monai.evaluation.statistics.intervals import AREAS_OF_READERS, FISHER, LOGIT, Scale


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


class Crossed(NamedTuple):
    """Obuchowski-Rockette: the first arm, and the difference as reports have it and as it is published."""

    arm: Interval
    apart: Interval
    printed: Interval


def crossed(figures: list[Merit], readers: int, scale: Scale = LOGIT) -> Crossed:
    """Of the figures of both arms' readers."""
    values = np.array([one.value for one in figures]).reshape(2, readers)
    left_out = np.stack([one.left_out for one in figures])
    covariance = jackknife_covariance(left_out)
    before, after = left_out.reshape(2, readers, -1).mean(axis=1)
    own, apart = jackknife_freedom(before), jackknife_freedom(after - before)
    first = arm_estimate(values[0], covariance[:readers, :readers], scale=scale, cases_freedom=own)
    both = difference(values, covariance, scale=scale, cases_freedom=apart)
    printed = both.interval if both.published is None else both.published.interval
    return Crossed(first.interval, both.interval, printed)


class Design(NamedTuple):
    """Reads whose truth is known: how they are drawn, and each arm's sensitivity and AUC."""

    of: str
    readers: int
    draw: Callable[[Random], Reads]
    shares: tuple[float, float]
    areas: tuple[float, float]


def wide_design(readers: int, cases: int, gain: float) -> Design:
    """Of :func:`reads`: areas of readers have a standard deviation of 0.07, twice that of Van Dyke's study."""
    of = f"{readers} readers who differ much, {cases} cases, half positive"
    shares = norm.cdf((1.1 + np.array([0, gain])) / spread(readers=True))
    draw = partial(reads, readers=readers, cases=cases, gain=gain)
    return Design(of, readers, draw, (shares[0], shares[1]), (area_of(0.0), area_of(gain)))


STRUCTURES = {"HH": (0.3, 0.3, 0.2, 0.2), "LL": (0.1, 0.1, 0.2, 0.6)}
"""Variances of case, case by arm, case by reader and error of Roe and Metz: cases high or low, as their sum is 1."""
READERS = {1.5: {"L": 0.0055, "H": 0.03}, 2.5: {"L": 0.0055, "H": 0.056}}
"""Their variances of readers, and of readers by arm, by the distance of positive from negative cases."""


def roe_metz(structure: str, apart: float, readers: int, cases: int, gain: float) -> Design:
    """The simulation by which analyses of readers and cases are judged (Roe and Metz, Acad Radiol 1997;4:298-303).

    A reader calls positive what lies less than 1 below the mean of the first arm's positive cases.
    """
    of_readers = READERS[apart][structure[1]]
    moved = np.array([0, gain])
    shares = norm.cdf((1 + moved) / np.sqrt(1 + 2 * of_readers))
    areas = norm.cdf((apart + moved) / np.sqrt(2 * (1 + 2 * of_readers)))
    of = f"Roe-Metz {structure}, {readers} readers, {cases} cases, AUC {areas[0]:.2f} and {areas[1]:.2f}"

    draw = partial(
        roe_metz_reads,
        variances=STRUCTURES[structure],
        of_readers=of_readers,
        readers=readers,
        cases=cases // 2,
        middles=np.stack([1 + moved, np.full(2, 1 - apart)]),
    )
    return Design(of, readers, draw, (shares[0], shares[1]), (areas[0], areas[1]))


def roe_metz_reads(
    random: Random,
    variances: tuple[float, float, float, float],
    of_readers: float,
    readers: int,
    cases: int,
    middles: Floats,
) -> Reads:
    """Reads of as many ``cases`` of each kind about ``middles [kind, arm]``; what a reader adds differs by kind."""
    case, by_arm, by_reader, error = np.sqrt(variances)
    kinds = []
    for middle in middles:
        drawn = np.sqrt(of_readers) * (random.normal(size=(1, readers, 1)) + random.normal(size=(2, readers, 1)))
        drawn = drawn + case * random.normal(size=(1, 1, cases)) + by_arm * random.normal(size=(2, 1, cases))
        drawn = drawn + by_reader * random.normal(size=(1, readers, cases))
        kinds.append(drawn + error * random.normal(size=(2, readers, cases)) + middle[:, None, None])
    return Reads(np.concatenate(kinds, axis=2), np.arange(2 * cases) < cases)


def many_readers(random: Random, size: Size, designs: Sequence[Design]) -> Rows:
    for design in designs:
        shares, curves = [], []
        for _ in range(size.draws):
            drawn = design.draw(random)
            right = (drawn.latent[:, :, drawn.positive] > 0).reshape(2 * design.readers, -1)
            shares.append(crossed([mean(one) for one in right], design.readers))
            ranked = drawn.latent.reshape(2 * design.readers, -1)
            curves.append(crossed([area(one, drawn.positive) for one in ranked], design.readers, AREAS_OF_READERS))
        for name, found, truth in (("sensitivity", shares, design.shares), ("AUC", curves, design.areas)):
            yield row(f"readers, arm's {name}, OR", design.of, [one.arm for one in found], truth[0])
            yield row(f"readers, {name} difference, OR", design.of, [one.apart for one in found], truth[1] - truth[0])
            printed = [one.printed for one in found]
            reading = "other programs': beside ours in every table"
            yield row(f"readers, {name} difference, OR as published", design.of, printed, truth[1] - truth[0], reading)


def area_of(gain: float) -> float:
    """A reader's skill moves positive and negative cases apart: twice its variance in their difference."""
    noise = 2 * spread(readers=False) ** 2 + 4 * (0.3**2 + 0.15**2)
    return float(norm.cdf(2 * (1.1 + gain) / np.sqrt(noise)))


WIDE = (wide_design(6, 160, 0.4), wide_design(3, 120, 0.4), wide_design(10, 400, 0.4), wide_design(3, 120, 0.0))
USUAL = (
    roe_metz("LL", 1.5, 3, 100, 0.3),
    roe_metz("HH", 1.5, 3, 100, 0.3),
    roe_metz("LL", 1.5, 5, 100, 0.3),
    roe_metz("HH", 1.5, 5, 200, 0.0),
    roe_metz("HH", 2.5, 5, 100, 0.3),
    roe_metz("HH", 2.5, 10, 200, 0.3),
    roe_metz("HH", 2.5, 3, 100, 0.3),
)


def two_readers(random: Random, size: Size) -> Rows:
    """Whose intervals hold for them alone: the same two in every draw."""
    skill = np.array([[0.25, -0.2], [0.1, 0.3]])
    rate = norm.cdf((1.1 + np.array([[0.0], [0.4]]) + skill) / spread(readers=False)).mean(axis=1)
    found = []
    for _ in range(size.draws):
        drawn = reads(random, 2, 160, 0.4, skill)
        found.append(crossed([mean(one) for one in (drawn.latent[:, :, drawn.positive] > 0).reshape(4, -1)], 2))
    of = "these 2 readers, 160 cases"
    yield row("readers, arm's sensitivity, OR", of, [one.arm for one in found], rate[0])
    yield row("readers, sensitivity difference, OR", of, [one.apart for one in found], rate[1] - rate[0])


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
            arms.append(pooled(first, place[there[0]], case[there[0]], scale=LOGIT).interval)
            apart.append(pooled_difference(first, second, who, what, scale=LOGIT).interval)
            first, second = (mean(one[of]) for one, of in zip(log, there, strict=True))
            times.append(pooled(first, place[there[0]], case[there[0]]).interval)
            ratios.append(pooled_difference(first, second, who, what).interval)
        of = f"{readers} readers, {cases} cases, a third of the reads missing"
        low, high = norm.cdf(1.1 / spread(readers=True)), norm.cdf(1.5 / spread(readers=True))
        yield row("readers, arm's sensitivity, clustered", of, arms, low)
        yield row("readers, sensitivity difference, clustered", of, apart, high - low)
        yield row("readers, geometric mean of seconds, clustered", of, times, 4.0)
        yield row("readers, ratio of seconds, clustered", of, ratios, np.log(0.8))


def kappas(random: Random, size: Size) -> Rows:
    yield from reader_kappas(random, size, [[0.35, 0.06, 0.02], [0.05, 0.2, 0.05], [0.01, 0.06, 0.2]], "3 classes")
    yield from readers_kappa(random, size)
    nearly = [[0.42, 0.015, 0.005], [0.015, 0.25, 0.015], [0.005, 0.015, 0.26]]
    yield from reader_kappas(random, size, nearly, "3 classes, 7 % of the reads wrong")


def reader_kappas(random: Random, size: Size, table: Sequence[Sequence[float]], of: str) -> Rows:
    """One reader against the truth; the chance of each class by each."""
    chances = np.array(table)
    for kind, weights in (("none", np.eye(3)), ("quadratic", 1 - (np.subtract.outer(range(3), range(3)) / 2) ** 2)):
        chance = (chances.sum(1)[:, None] * chances.sum(0) * weights).sum()
        true = ((chances * weights).sum() - chance) / (1 - chance)
        for cases in (150, 60):
            drawn = random.choice(9, (size.draws, cases), p=chances.ravel() / chances.sum())
            found = [kappa_interval(one % 3, one // 3, 3, kind) for one in drawn]
            yield row("one reader's kappa, Fisher's z", f"{cases} cases, {of}, weights {kind}", found, true)


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
        found.append(crossed([kappa(one, truth, 2) for one in said], 6, FISHER))
    of = "6 readers, 160 cases, half positive"
    yield row("readers, arm's kappa, OR", of, [one.arm for one in found], true[0])
    yield row("readers, kappa difference, OR", of, [one.apart for one in found], true[1] - true[0])


ALL: Simulations = (
    ("Readers as Roe and Metz drew them", partial(many_readers, designs=USUAL)),
    ("Readers who differ much", partial(many_readers, designs=WIDE)),
    ("Readers who differ much", two_readers),
    ("Readers who differ much", reads_that_are_missing),
    ("Kappa", kappas),
)


def main() -> None:
    record_all(
        __doc__,
        Record("reader_coverage", "How often 95 % intervals of reader studies hold what they are about"),
        ALL,
        "'As stated': 94 to 96 %. Draws without bounds (all readers right in all) are left out of the shares. 'As "
        "published' is Student's interval about the difference with the degrees of freedom of Hillis, which other "
        "programs print; reports have it beside ours, under its name.",
    )


if __name__ == "__main__":
    main()
