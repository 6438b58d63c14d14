"""How many slides a study needs for an interval of a stated width."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from scipy.optimize import brentq

from stride_monai.errors import ConfigError
from stride_monai.evaluation.statistics.intervals import LEVEL, normal_quantile

__all__ = ["SampleSize", "slides_for_auc_width", "slides_for_width"]


class SampleSize(NamedTuple):
    """Numbers of slides.

    Attributes:
        cases: of the kind that the share is of (positive for sensitivity, negative for specificity).
        slides: of all kinds, among which so many of that kind are expected.
    """

    cases: int
    slides: int


def slides_for_width(expected: float, width: float, kind: float = 1.0, level: float = LEVEL) -> SampleSize:
    """Slides for a Wilson interval of a share that is no wider than wanted, if the share is as expected.

    Args:
        expected: the share, 0 to 1. width: upper minus lower bound, above 0 and below 1.
        kind: share of the slides that are of the kind: the prevalence for a sensitivity, 1 minus it for a specificity.

    Raises:
        ConfigError: a number is outside its range.
    """
    if not (0 <= expected <= 1 and 0 < width < 1 and 0 < kind <= 1):
        raise ConfigError(
            f"no sample size for a share of {expected:g}, a width of {width:g} and a share of slides of {kind:g}",
            "give shares between 0 and 1",
        )
    z = normal_quantile(level)

    def excess(n: float) -> float:
        return 2 * z * math.sqrt(expected * (1 - expected) / n + z**2 / 4 / n**2) / (1 + z**2 / n) - width

    return _rounded_up(excess, kind)


def slides_for_auc_width(expected: float, width: float, prevalence: float, level: float = LEVEL) -> SampleSize:
    """Slides for an interval of the AUC that is no wider than wanted, by the variance of Hanley and McNeil.

    Radiology 1982;143:29-36, equation 1, with the scores of either kind exponential.

    Args:
        expected: the area, 0.5 to 1, 1 excluded. width: upper minus lower bound. prevalence: share of positive slides.

    Returns:
        ``cases`` are the positive slides.

    Raises:
        ConfigError: a number is outside its range.
    """
    if not (0.5 <= expected < 1 and 0 < width < 1 and 0 < prevalence < 1):
        raise ConfigError(
            f"no sample size for an AUC of {expected:g}, a width of {width:g} and a prevalence of {prevalence:g}",
            "give an AUC from 0.5 to below 1, and shares between 0 and 1",
        )
    z, a = normal_quantile(level), expected
    q1, q2 = a / (2 - a) - a**2, 2 * a**2 / (1 + a) - a**2

    def excess(cases: float) -> float:
        others = cases * (1 - prevalence) / prevalence
        variance = (a * (1 - a) + (cases - 1) * q1 + (others - 1) * q2) / (cases * others)
        return 2 * z * math.sqrt(max(variance, 0.0)) - width

    return _rounded_up(excess, prevalence)


def _rounded_up(excess: Callable[[float], float], kind: float) -> SampleSize:
    """The least whole number of cases whose interval is not too wide; ``excess`` falls with their number."""
    cases = 1 if excess(1) <= 0 else math.ceil(brentq(excess, 1, 1e12, xtol=1e-9) - 1e-7)
    while excess(cases) > 0:  # the root's own rounding
        cases += 1
    return SampleSize(cases, math.ceil(cases / kind))
