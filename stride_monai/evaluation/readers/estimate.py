"""An estimate over readers and cases, with its interval."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import stats

from stride_monai.evaluation.statistics.intervals import LEVEL, Interval, logit_interval

__all__ = ["FEWEST_RANDOM", "Estimate", "estimate_of"]

FEWEST_RANDOM = 3
"""Readers from which they are taken as a sample of all readers; fewer speak for themselves alone."""
_NOTHING = 1e-12  # rounding


class Estimate(NamedTuple):
    """An estimate with its interval.

    Attributes:
        interval: without bounds where nothing varies, as where all is right: then there is no spread to judge by.
        error: standard error. freedom: degrees of freedom of Student's t, infinite for the normal distribution.
        p: of no difference, two-sided; NaN for a single arm, and where nothing varies.
        random_readers: whether it holds for readers in general, or for these readers alone.
    """

    interval: Interval
    error: float
    freedom: float
    p: float
    random_readers: bool


def estimate_of(
    value: float,
    variance: float,
    freedom: float,
    random_readers: bool,
    method: str,
    test: bool,
    level: float = LEVEL,
    least: float | None = None,
) -> Estimate:
    """An estimate with the interval of Student's t.

    Args:
        variance: of the value. freedom: degrees of freedom, infinite for the normal distribution.
        method: in words. test: whether 0 is held against it. level: of the interval.
        least: the lowest value of a figure of at most 1, whose interval is then that of
            :func:`~stride_monai.evaluation.statistics.intervals.logit_interval`; None for one about the value itself.
    """
    method = f"{method}, {'readers random' if random_readers else 'these readers'}"
    error = math.sqrt(max(variance, 0.0))
    if not error > _NOTHING:
        return Estimate(Interval(value, level=level, method=method), error, freedom, math.nan, random_readers)
    p = 2 * float(stats.t.sf(abs(value) / error, freedom)) if test else math.nan
    if least is not None:
        scale = "logit" if least == 0 else "Fisher's z"
        interval = logit_interval(value, error, level, f"{method}, {scale}", least, freedom)
        return Estimate(interval, error, freedom, p, random_readers)
    half = error * float(stats.t.ppf(0.5 + level / 2, freedom))
    return Estimate(Interval(value, value - half, value + half, level, method), error, freedom, p, random_readers)
