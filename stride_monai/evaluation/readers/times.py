"""How long reads take in each arm, and how much longer or shorter in the second of two."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stride_monai.evaluation.readers.clustered import pooled, pooled_difference
from stride_monai.evaluation.readers.estimate import Estimate
from stride_monai.evaluation.readers.merits import mean
from stride_monai.evaluation.readers.study import Study
from stride_monai.evaluation.statistics.intervals import LEVEL, Interval

__all__ = ["TimeInArm", "time_in_arm", "time_ratio"]


class TimeInArm(NamedTuple):
    """Seconds of the reads of an arm whose time was taken.

    Attributes:
        geometric: geometric mean with its interval, clustered by reader and case. median, lower, upper: quartiles.
    """

    arm: str
    reads: int
    without: int
    geometric: Interval
    median: float
    lower: float
    upper: float


def time_in_arm(study: Study, arm: str, level: float = LEVEL) -> TimeInArm | None:
    """None where no time was taken in the arm."""
    seconds = _seconds(study)
    chosen = study.of([arm])
    timed = chosen & np.isfinite(seconds)
    if not timed.any():
        return None
    found = pooled(mean(np.log(seconds[timed])), study.reader[timed], study.case[timed], level)
    lower, median, upper = np.percentile(seconds[timed], (25, 50, 75))
    counts = int(timed.sum()), int(chosen.sum() - timed.sum())
    return TimeInArm(arm, *counts, _exponential(found).interval, float(median), float(lower), float(upper))


def time_ratio(study: Study, first: str, second: str, level: float = LEVEL) -> Estimate | None:
    """Geometric mean of the seconds of the second arm over that of the first; None where an arm has no times."""
    seconds = _seconds(study)
    places = [np.flatnonzero(study.of([arm]) & np.isfinite(seconds)) for arm in (first, second)]
    if not all(len(place) for place in places):
        return None
    both = np.concatenate(places)
    before, after = (mean(np.log(seconds[place])) for place in places)
    return _exponential(pooled_difference(before, after, study.reader[both], study.case[both], level))


def _seconds(study: Study) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([math.nan if read.seconds is None else read.seconds for read in study.reads])


def _exponential(found: Estimate) -> Estimate:
    logs = found.interval
    low, high = math.exp(logs.low), math.exp(logs.high)
    return found._replace(interval=Interval(math.exp(logs.estimate), low, high, logs.level, logs.method))
