"""An estimate with its confidence interval, and the two intervals of a proportion."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from stride_monai.evaluation.reports import plain
from stride_monai.metrics.cell import share

__all__ = [
    "AREAS_OF_READERS",
    "FISHER",
    "LEVEL",
    "LOGIT",
    "UNDEFINED",
    "Interval",
    "Proportion",
    "Scale",
    "clopper_pearson",
    "logit_interval",
    "normal_interval",
    "normal_quantile",
    "proportion",
    "proportion_bounds",
    "wilson",
]

LEVEL = 0.95
"""Confidence level of every interval unless another is given."""

UNDEFINED = float("nan")
Floats = NDArray[np.float64]


class Scale(NamedTuple):
    """On what a figure p of a limited range is taken as normal.

    That is ``x = log((p - least) / (1 - p))``, or with a bend ``sinh(bend x) / bend``, which rises faster near 1.

    Attributes:
        name: in words. least: the lowest value of the figure; the highest is 1. bend: 0, or above.
    """

    name: str = "logit"
    least: float = 0.0
    bend: float = 0.0

    def of(self, p: Floats) -> Floats:
        """Of figures between ``least`` and 1, both excluded."""
        x: Floats = np.log((p - self.least) / (1 - p))
        return np.sinh(self.bend * x) / self.bend if self.bend else x

    def slope(self, p: Floats) -> Floats:
        """How much faster it moves than the figure does."""
        slope: Floats = (1 - self.least) / ((p - self.least) * (1 - p))
        return np.cosh(self.bend * np.log((p - self.least) / (1 - p))) * slope if self.bend else slope

    def back(self, y: Floats) -> Floats:
        """The figures."""
        x = np.arcsinh(self.bend * y) / self.bend if self.bend else y
        found: Floats = self.least + (1 - self.least) * expit(x)
        return found


LOGIT = Scale()
FISHER = Scale("Fisher's z", -1.0)
"""Twice Fisher's z, of kappa."""
AREAS_OF_READERS = Scale("bent logit", bend=0.3)
"""Of readers whose skill is normal the areas are skewed, the more so the nearer to 1, and the logit of their mean still
is. By the first terms of the law of Student's t a bend of about 0.6 takes that off where all of the spread comes of
readers, and none is needed where all of it comes of cases. 0.3 lies between, and is what holds in
benchmarks/reader_coverage.py; 0.4 holds no better and makes bounds half as wide again near 1."""

_METHODS = {"wilson": "wilson", "clopper_pearson": "beta"}  # our names -> statsmodels'


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its two-sided confidence interval.

    Attributes:
        estimate: the point estimate; NaN where it is not defined (no slide to judge by).
        low: lower bound; NaN where there is an estimate but no interval (one slide, one cluster).
        high: upper bound, likewise.
        level: confidence level, above 0 and below 1.
        method: how the bounds were found, in words for a table's footnote.
    """

    estimate: float
    low: float = UNDEFINED
    high: float = UNDEFINED
    level: float = LEVEL
    method: str = ""

    @property
    def width(self) -> float:
        """Distance of the bounds."""
        return self.high - self.low

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 3) -> str:
        """``0.984 (0.982-0.987)``; the estimate alone without bounds, and a dash for what is not defined."""
        if not math.isfinite(self.estimate):
            return "-"
        shown = f"{self.estimate:.{digits}f}"
        joint = "-" if self.low >= 0 else " to "
        return f"{shown} ({self.low:.{digits}f}{joint}{self.high:.{digits}f})" if self.known else shown

    def typeset(self, digits: int = 3) -> str:
        """As :meth:`text`, as a page has it: ranges by ``–``, a minus by ``−``."""
        if not math.isfinite(self.estimate):
            return "–"
        return re.sub(r"(?<=\d)-", "–", self.text(digits)).replace("-", "−")

    def as_json(self) -> dict[str, Any]:
        """For a report; what is not defined is None."""
        return {
            **{name: plain(getattr(self, name)) for name in ("estimate", "low", "high")},
            "level": self.level,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of slides.

    Attributes:
        hits: number that count. total: number of all; 0 makes the share NaN.
        wilson: with Wilson's interval (1927): right on average, the one to show.
        exact: with Clopper and Pearson's (1934): never below its level, hence wider.
    """

    hits: int
    total: int
    wilson: Interval
    exact: Interval

    @property
    def estimate(self) -> float:
        """``hits / total``."""
        return self.wilson.estimate

    def as_json(self) -> dict[str, Any]:
        """For a report; what is not defined is None."""
        bounds = {name: [plain(x.low), plain(x.high)] for name, x in (("wilson", self.wilson), ("exact", self.exact))}
        return {"hits": self.hits, "total": self.total, "estimate": plain(self.estimate), **bounds}


def proportion_bounds(
    hits: Any, total: Any, level: float = LEVEL, method: str = "wilson"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds of shares, broadcast; NaN where the total is 0.

    Args:
        hits: numbers that count, 0 to ``total``. total: numbers of all.
        level: confidence level, above 0 and below 1.
        method: ``wilson`` or ``clopper_pearson`` (both by statsmodels).

    Raises:
        ValueError: more hits than slides, a number below 0, or a level that is no share.
    """
    part, whole = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(total, np.float64))
    if not 0 < level < 1:
        raise ValueError(f"a confidence level of {level:g} is not between 0 and 1")
    if not ((part >= 0) & (part <= whole)).all():
        raise ValueError("a share needs 0 <= hits <= total")
    bounds = np.full((2, *part.shape), np.nan)
    some = whole > 0
    bounds[:, some] = proportion_confint(part[some], whole[some], 1 - level, _METHODS[method])
    middle = share(part, whole)
    return np.minimum(bounds[0], middle), np.maximum(bounds[1], middle)  # rounding puts Wilson's at 0 and 1 beside them


def _proportion_interval(hits: int, total: int, level: float, method: str, name: str) -> Interval:
    low, high = proportion_bounds(hits, total, level, method)
    return Interval(hits / total if total else UNDEFINED, float(low), float(high), level, name)


def wilson(hits: int, total: int, level: float = LEVEL) -> Interval:
    """A share with Wilson's score interval (J Am Stat Assoc 1927;22:209-12), as :func:`proportion_bounds`."""
    return _proportion_interval(int(hits), int(total), level, "wilson", "Wilson")


def clopper_pearson(hits: int, total: int, level: float = LEVEL) -> Interval:
    """A share with Clopper and Pearson's exact interval (Biometrika 1934;26:404-13)."""
    return _proportion_interval(int(hits), int(total), level, "clopper_pearson", "Clopper-Pearson")


def proportion(hits: int, total: int, level: float = LEVEL) -> Proportion:
    """A share of slides with both intervals; 0 of 0 is not defined, and says so by NaN.

    Raises:
        ValueError: as for :func:`proportion_bounds`.
    """
    return Proportion(int(hits), int(total), wilson(hits, total, level), clopper_pearson(hits, total, level))


def normal_quantile(level: float) -> float:
    """1.96 for 0.95."""
    return float(norm.ppf((1 + level) / 2))


def normal_interval(estimate: float, error: float, level: float = LEVEL, method: str = "normal") -> Interval:
    """``estimate -+ z error``. error: standard error of the estimate; NaN gives no bounds."""
    half = normal_quantile(level) * error
    return Interval(float(estimate), float(estimate - half), float(estimate + half), level, method)


def logit_interval(
    estimate: float,
    error: float,
    level: float = LEVEL,
    method: str = "logit",
    scale: Scale = LOGIT,
    freedom: float = math.inf,
) -> Interval:
    """A normal or Student's interval on a scale such as the logit, back on that of p, whose range it never leaves.

    Args:
        estimate: p, ``scale.least`` to 1. error: standard error of p itself, not of its logit (delta method).
        level: confidence level. method: what the interval says of itself.
        freedom: degrees of freedom of Student's t, infinite for the normal distribution.

    Returns:
        No bounds where p is ``scale.least`` or 1, since its logit is infinite.
    """
    if not scale.least < estimate < 1:
        return Interval(float(estimate), level=level, method=method)
    p = np.asarray(estimate, np.float64)
    half = float(t.ppf((1 + level) / 2, freedom)) * error * scale.slope(p)
    low, high = (float(scale.back(scale.of(p) + side)) for side in (-half, half))
    return Interval(float(estimate), low, high, level, method)
