"""An estimate over readers and cases, with its interval, and the difference of two arms with its test."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stride_monai.evaluation.statistics.intervals import LEVEL, LOGIT, Interval, Scale, logit_interval

__all__ = ["FEWEST_RANDOM", "Estimate", "Published", "Spread", "difference_of", "estimate_of", "logit_difference"]

FEWEST_RANDOM = 3
"""Readers from which they are taken as a sample of all readers; fewer speak for themselves alone."""
_NOTHING = 1e-12  # rounding
_TURN = np.linspace(0, 2 * np.pi, 2880, endpoint=False)  # directions in which the bounds are sought: right to 1e-6


class Spread(NamedTuple):
    """The variance of a figure, and the degrees of freedom that it was estimated with (infinite: it is known)."""

    variance: float
    freedom: float

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(max(self.variance, 0.0))

    def times(self, factor: float) -> Spread:
        """Of a figure whose variance is so many times this one."""
        return Spread(factor * self.variance, self.freedom)


class Published(NamedTuple):
    """What other programs print of the same difference: Student's interval about it, and its test."""

    interval: Interval
    freedom: float
    p: float


class Estimate(NamedTuple):
    """An estimate with its interval.

    Attributes:
        interval: without bounds where nothing varies, as where all is right: then there is no spread to judge by.
        error: standard error. freedom: degrees of freedom of Student's t, infinite for the normal distribution.
        p: of no difference, two-sided, below 1 - level where and only where the interval leaves 0 out; NaN for a
            single arm, and where nothing varies.
        random_readers: whether it holds for readers in general, or for these readers alone.
        published: of a difference, as it is published, where our interval is another one.
    """

    interval: Interval
    error: float
    freedom: float
    p: float
    random_readers: bool
    published: Published | None = None


def estimate_of(
    value: float,
    spread: Spread,
    random_readers: bool,
    method: str,
    test: bool = False,
    level: float = LEVEL,
    scale: Scale | None = None,
) -> Estimate:
    """An estimate with the interval of Student's t.

    Args:
        method: in words. test: whether 0 is held against it. level: of the interval.
        scale: of the interval, which then is that of
            :func:`~stride_monai.evaluation.statistics.intervals.logit_interval`; None for one about the value itself.
    """
    method, error, freedom = _named(method, random_readers), spread.error, spread.freedom
    if not error > _NOTHING:
        return Estimate(Interval(value, level=level, method=method), error, freedom, math.nan, random_readers)
    p = 2 * float(stats.t.sf(abs(value) / error, freedom)) if test else math.nan
    if scale is not None:
        interval = logit_interval(value, error, level, f"{method}, {scale.name}", scale, freedom)
        return Estimate(interval, error, freedom, p, random_readers)
    half = error * float(stats.t.ppf(0.5 + level / 2, freedom))
    return Estimate(Interval(value, value - half, value + half, level, method), error, freedom, p, random_readers)


def difference_of(
    arms: tuple[float, float],
    spreads: tuple[Spread, Spread],
    apart: Spread,
    random_readers: bool,
    method: str,
    level: float = LEVEL,
    scale: Scale | None = None,
) -> Estimate:
    """The second arm less the first, with :func:`logit_difference` where the figure has limits.

    Where an arm is at a limit of the figure, or does not vary, the interval is the one about the difference itself, and
    says so.

    Args:
        arms: their figures. spreads: of each. apart: of the difference. scale: as for :func:`estimate_of`.
    """
    first, second = arms
    plain = estimate_of(second - first, apart, random_readers, method, test=True, level=level)
    if scale is None or not plain.interval.known:
        return plain
    inside = all(scale.least < arm < 1 and one.error > _NOTHING for arm, one in zip(arms, spreads, strict=True))
    if not inside:
        words = f"{plain.interval.method}, about the difference itself: an arm is at its limit"
        return plain._replace(interval=_renamed(plain.interval, words))
    words = f"{plain.interval.method}, {scale.name}"
    errors = spreads[0].error, spreads[1].error
    interval, p = logit_difference(arms, errors, apart, level, words, scale)
    return plain._replace(interval=interval, p=p)


def logit_difference(
    arms: tuple[float, float],
    errors: tuple[float, float],
    apart: Spread,
    level: float = LEVEL,
    method: str = "logit",
    scale: Scale = LOGIT,
) -> tuple[Interval, float]:
    """A difference of two figures whose pivot is on a scale such as the logit, and its test.

    Near 1 a difference is skewed, so that Student's bounds about it lie too low. On the scale the two figures are taken
    as normal, with the errors and the correlation that the variances say (delta method). All pairs of true figures that
    Student's t does not reject lie in an ellipse there; the bounds are the least and the greatest difference in it (the
    profile of the difference). It leaves 0 out where, and only where, Student's test of equal figures there rejects,
    whose p this returns.

    Args:
        arms, errors: figures, ``scale.least`` to 1, both excluded, and their standard errors. apart: of the difference.
    """
    figures = np.asarray(arms, np.float64)
    middle, scaled = scale.of(figures), np.asarray(errors, np.float64) * scale.slope(figures)
    covariance = (errors[0] ** 2 + errors[1] ** 2 - apart.variance) / 2
    together = float(np.clip(covariance / (errors[0] * errors[1]), -1, 1))
    t = float(stats.t.ppf(0.5 + level / 2, apart.freedom))
    first = middle[0] + t * scaled[0] * np.cos(_TURN)
    second = middle[1] + t * scaled[1] * (together * np.cos(_TURN) + math.sqrt(1 - together**2) * np.sin(_TURN))
    ends = scale.back(second) - scale.back(first)
    gap, error = float(middle[1] - middle[0]), _error(scaled, together)
    p = 2 * float(stats.t.sf(abs(gap) / error, apart.freedom)) if error > _NOTHING else float(gap == 0)
    bottom, top = float(ends.min()), float(ends.max())
    if abs(gap) <= t * error:  # the direction where both are equal may lie between two
        bottom, top = min(bottom, 0.0), max(top, 0.0)
    return Interval(arms[1] - arms[0], bottom, top, level, method), p


def _error(scaled: NDArray[np.float64], together: float) -> float:
    """Of the difference of two figures with these errors and this correlation."""
    variance = scaled[0] ** 2 + scaled[1] ** 2 - 2 * together * scaled[0] * scaled[1]
    return math.sqrt(max(float(variance), 0.0))


def _named(method: str, random_readers: bool) -> str:
    return f"{method}, {'readers random' if random_readers else 'these readers'}"


def _renamed(interval: Interval, method: str) -> Interval:
    return Interval(interval.estimate, interval.low, interval.high, interval.level, method)
