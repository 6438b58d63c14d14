"""What is measured of the arms of a study, and of their difference: sensitivity, specificity, AUC, kappa."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import LABELS, REPORT_GROUPS
from stride_monai.evaluation.readers import clustered, multireader
from stride_monai.evaluation.readers.estimate import FEWEST_RANDOM, Estimate
from stride_monai.evaluation.readers.merits import Merit, area, jackknife_covariance, jackknife_freedom, kappa, mean
from stride_monai.evaluation.readers.study import OPEN, Block, Study
from stride_monai.evaluation.statistics.intervals import (
    AREAS_OF_READERS,
    FISHER,
    LEVEL,
    LOGIT,
    Interval,
    Scale,
    clopper_pearson,
)

__all__ = ["MEASURES", "Measured", "Verdict", "measure_arm", "measure_difference", "verdict"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_NOTHING = 1e-12  # rounding
_FEWEST = 2  # cases of a kind: fewer cannot be left out one after the other
_LESION = "ASC-US+"
_ONE_CLASS = "a reader, or the panel, says the same of every case"
_THREE = "three readers are few: 93 to 97 % of such 95 % intervals of sensitivity and AUC held in simulations"


class _Measure(NamedTuple):
    """A figure of merit and what it is measured on.

    Attributes:
        values: of a study -> each read's value (NaN where a bare ``positive`` leaves it open), what it is held against,
            and whether its case counts; ``[n]`` each.
        merit: of the values and truths of some reads.
        pools: whether it may be taken of the reads of several readers together; ratings of readers differ in scale.
        kinds: whether cases of both kinds are needed. scale: of its intervals.
    """

    values: Callable[[Study], tuple[Floats, NDArray[np.int64], Bools]]
    merit: Callable[[Floats, NDArray[np.int64]], Merit]
    pools: bool
    kinds: bool
    scale: Scale


class Measured(NamedTuple):
    """A figure of an arm, or the difference of two.

    Attributes:
        measure: a name of :data:`MEASURES`. arm: of which arm, or ``aided - unaided``.
        estimate: with its interval; None where it cannot be given, and ``note`` says why.
        readers, cases, reads: how many it rests on.
        note: what must be known of it; empty where nothing.
        caution: why its interval may hold less or more often than stated; empty where it holds.
    """

    measure: str
    arm: str
    estimate: Estimate | None
    readers: int
    cases: int
    reads: int
    note: str
    caution: str = ""


class Verdict(NamedTuple):
    """Whether the second arm is not worse than the first by more than a margin (one-sided, at half of 1 - level).

    Attributes:
        margin: above 0. bound: the lower bound of the difference; NaN where there is none.
        non_inferior, superior: whether it lies above ``-margin``, above 0.
    """

    margin: float
    bound: float
    non_inferior: bool
    superior: bool


def _right(study: Study, group: str, truth: int) -> tuple[Floats, NDArray[np.int64], Bools]:
    """Whether reads are right, among cases at or above a threshold (``truth`` 1) or below it (0)."""
    said, true = study.within(group)
    return np.where(said == OPEN, np.nan, said == true), true, true == truth


def _ranked(study: Study) -> tuple[Floats, NDArray[np.int64], Bools]:
    true = study.within(_LESION)[1]
    return study.rating, true, np.ones(len(true), np.bool_)


def _lesion(study: Study) -> tuple[Floats, NDArray[np.int64], Bools]:
    said, true = study.within(_LESION)
    return said.astype(np.float64), true, np.ones(len(said), np.bool_)


def _labeled(study: Study) -> tuple[Floats, NDArray[np.int64], Bools]:
    return np.where(study.severity == OPEN, np.nan, study.severity), study.truth, study.truth != OPEN


def _mean(values: Floats, truth: NDArray[np.int64]) -> Merit:
    return mean(values)


def _area(values: Floats, truth: NDArray[np.int64]) -> Merit:
    return area(values, truth > 0)


def _kappa(classes: int, kind: str, values: Floats, truth: NDArray[np.int64]) -> Merit:
    return kappa(values.astype(np.int64), truth, classes, kind)


_KAPPAS = {
    f"kappa ({_LESION})": (_lesion, 2, "none"),
    "kappa (labels)": (_labeled, len(LABELS), "none"),
    "kappa (labels, linear weights)": (_labeled, len(LABELS), "linear"),
    "kappa (labels, quadratic weights)": (_labeled, len(LABELS), "quadratic"),
}
MEASURES: Mapping[str, _Measure] = {
    **{
        f"{name} ({group})": _Measure(partial(_right, group=group, truth=truth), _mean, True, False, LOGIT)
        for group in REPORT_GROUPS
        for name, truth in (("sensitivity", 1), ("specificity", 0))
    },
    f"AUC ({_LESION})": _Measure(_ranked, _area, False, True, AREAS_OF_READERS),
    **{
        name: _Measure(values, partial(_kappa, classes, kind), True, False, FISHER)
        for name, (values, classes, kind) in _KAPPAS.items()
    },
}
"""By name, in the order of a report."""


def measure_arm(study: Study, name: str, arm: str, level: float = LEVEL) -> Measured:
    """A figure of one arm: the mean over its readers, or of all reads where not every reader has read every case.

    Args:
        name: of :data:`MEASURES`. arm: of the study's. level: of the interval.
    """
    return _measured(study, name, (arm,), arm, level)


def measure_difference(study: Study, name: str, first: str, second: str, level: float = LEVEL) -> Measured:
    """The second arm less the first.

    Args:
        name: of :data:`MEASURES`. first, second: arms. level: of the interval.
    """
    return _measured(study, name, (first, second), f"{second} - {first}", level)


def _measured(study: Study, name: str, arms: tuple[str, ...], label: str, level: float) -> Measured:
    measure = MEASURES[name]
    values, truth, counted = measure.values(study)
    places = [np.flatnonzero(counted & study.of([arm])) for arm in arms]
    every = np.concatenate(places)
    block = study.block(arms, counted)
    reads = block.reads.reshape(-1) if not measure.pools else every
    note = _note(block, measure)

    def without(why: str) -> Measured:
        return Measured(name, label, None, *_counts(study, every), why)

    if not all(len(place) for place in places):
        return without("no such case was read")
    if not np.isfinite(values[every]).all():  # leaving these out would judge a reader by what he was clear about
        return without(f"{int(np.isnan(values[every]).sum())} reads say positive without a class")
    if block.whole or not measure.pools:
        found = _by_readers(measure, values, truth, block, level)
    else:
        found = _of_all(measure, values, truth, study, places, level)
    if isinstance(found, str):
        return without(found)
    bounded = _bounded(found, measure, len(arms), study.case[reads], level)
    counts = _counts(study, reads)
    return Measured(name, label, bounded, *counts, note, _caution(bounded, counts[0]))


def _caution(found: Estimate, readers: int) -> str:
    """Where simulations say that an interval may not hold as stated (benchmarks/reader_coverage.py)."""
    exact = found.error < _NOTHING  # nothing varies
    if exact or not found.interval.known or not found.random_readers:
        return ""
    return _THREE if readers == FEWEST_RANDOM else ""


def _by_readers(
    measure: _Measure, values: Floats, truth: NDArray[np.int64], block: Block, level: float
) -> Estimate | str:
    """Obuchowski-Rockette; or why not."""
    arms, readers, cases = block.reads.shape
    if cases < _FEWEST:
        return f"only {cases} such cases were read by all readers"
    positive = int((truth[block.reads[0, 0]] > 0).sum())
    if measure.kinds and min(positive, cases - positive) < _FEWEST:
        return f"{positive} positive and {cases - positive} negative cases: two of each are needed"
    merits = [measure.merit(values[of], truth[of]) for of in block.reads.reshape(-1, cases)]
    figures = np.array([merit.value for merit in merits]).reshape(arms, readers)
    left_out = np.stack([merit.left_out for merit in merits])
    covariance = jackknife_covariance(left_out)
    if not (np.isfinite(figures).all() and np.isfinite(covariance).all()):
        return _ONE_CLASS
    by_arm = left_out.reshape(arms, readers, cases).mean(axis=1)
    freedom = jackknife_freedom(by_arm[-1] - by_arm[0] if arms > 1 else by_arm[0])
    alone = measure.scale == AREAS_OF_READERS and readers < FEWEST_RANDOM  # what bends the scale is a sample of readers
    scale = LOGIT if alone else measure.scale
    if arms == 1:
        return multireader.arm_estimate(figures[0], covariance, None, level, scale, freedom)
    return multireader.difference(figures, covariance, None, level, scale, freedom)


def _of_all(
    measure: _Measure,
    values: Floats,
    truth: NDArray[np.int64],
    study: Study,
    places: Sequence[NDArray[np.intp]],
    level: float,
) -> Estimate | str:
    """Of all reads of each arm together; or why not."""
    if min(len(place) for place in places) < _FEWEST:
        return "only one such case was read"
    merits = [measure.merit(values[place], truth[place]) for place in places]
    if not all(np.isfinite(merit.left_out).all() for merit in merits):
        return _ONE_CLASS
    every = np.concatenate(places)
    if len(merits) == 1:
        return clustered.pooled(merits[0], study.reader[every], study.case[every], level, measure.scale)
    return clustered.pooled_difference(
        merits[0], merits[1], study.reader[every], study.case[every], level, measure.scale
    )


def _bounded(found: Estimate, measure: _Measure, arms: int, cases: NDArray[np.int64], level: float) -> Estimate:
    """The interval within what the figure can be; of an arm whose reads are all right, or all wrong, that of so many
    cases."""
    interval = found.interval
    lowest = measure.scale.least
    least, most = (lowest, 1.0) if arms == 1 else (lowest - 1, 1 - lowest)
    if interval.known:
        low, high = max(interval.low, least), min(interval.high, most)
        return found._replace(interval=Interval(interval.estimate, low, high, level, interval.method))
    if arms == 1 and measure.pools and lowest == 0 and interval.estimate in (0.0, 1.0):
        number = len({*cases.tolist()})
        exact = clopper_pearson(round(interval.estimate * number), number, level)
        method = f"{exact.method}, as if each case were read once"
        return found._replace(interval=Interval(exact.estimate, exact.low, exact.high, level, method))
    return found


def _counts(study: Study, reads: NDArray[np.integer]) -> tuple[int, int, int]:
    return len({*study.reader[reads].tolist()}), len({*study.case[reads].tolist()}), len(reads)


def _note(block: Block, measure: _Measure) -> str:
    if block.whole:
        return ""
    if measure.pools:
        return "not every reader has read every case in every arm: of all reads together"
    return f"without {block.readers_left_out} readers and {block.left_out} cases that were not read by all in every arm"


def verdict(found: Estimate | None, margin: float) -> Verdict:
    """Non-inferiority of a difference at a margin that was stated beforehand; nothing is shown without an interval."""
    bound = found.interval.low if found is not None else float("nan")
    return Verdict(margin, bound, bool(bound > -margin), bool(bound > 0))
