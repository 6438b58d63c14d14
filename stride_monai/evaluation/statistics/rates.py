"""What calls are worth: sensitivity, specificity and predictive values, over all slides or by a column of the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stride_monai.errors import ConfigError
from stride_monai.evaluation.statistics.intervals import LEVEL, Interval, Proportion, normal_quantile, proportion

__all__ = ["Rates", "predictive_values", "rates", "rates_by", "rates_of_counts"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rates:
    """A table of two by two, and the four shares that are read from it, each :class:`Proportion`.

    Attributes:
        tp: positive slides that are called positive. fn: that are not.
        tn: negative slides that are not called positive. fp: that are.
        sensitivity: ``tp / (tp + fn)``; NaN without positive slides.
        specificity: ``tn / (tn + fp)``; NaN without negative slides.
        ppv: ``tp / (tp + fp)``, at the share of positives of these very slides; NaN where nothing is called.
        npv: ``tn / (tn + fn)``, likewise. For another share of positives: :func:`predictive_values`.
    """

    tp: int
    fn: int
    tn: int
    fp: int
    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion

    @property
    def slides(self) -> int:
        """Number of slides."""
        return self.tp + self.fn + self.tn + self.fp

    @property
    def prevalence(self) -> float:
        """Share of positive slides; NaN without slides."""
        return (self.tp + self.fn) / self.slides if self.slides else math.nan

    def as_json(self) -> dict[str, Any]:
        """For a report; what is not defined is None."""
        shares = {name: getattr(self, name).as_json() for name in ("sensitivity", "specificity", "ppv", "npv")}
        return {**{name: getattr(self, name) for name in ("tp", "fn", "tn", "fp")}, **shares}


def rates_of_counts(tp: int, fn: int, tn: int, fp: int, level: float = LEVEL) -> Rates:
    """:class:`Rates` of four numbers of slides, as a paper states them."""
    shares = ((tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn))
    return Rates(tp, fn, tn, fp, *(proportion(*share, level) for share in shares))


def rates(called: ArrayLike, positive: ArrayLike, level: float = LEVEL) -> Rates:
    """Rates of calls.

    Args:
        called: ``[N]``, the slides that are called positive (score at or above the threshold).
        positive: ``[N]``, the truth. level: confidence level.

    Returns:
        Defined for any slides, none included: a share of nothing is NaN.

    Raises:
        ValueError: the lists differ in length.
    """
    call, truth = np.asarray(called, bool), np.asarray(positive, bool)
    if call.ndim != 1 or call.shape != truth.shape:
        raise ValueError(f"expected two equal lists, got {call.shape}, {truth.shape}")
    tn, fp, fn, tp = (int(number) for number in np.bincount(2 * truth + call, minlength=4))
    return rates_of_counts(tp, fn, tn, fp, level)


def rates_by(values: Iterable[str], called: ArrayLike, positive: ArrayLike, level: float = LEVEL) -> dict[str, Rates]:
    """Rates of the slides of each value of a column (centre, scanner, preparation ...), by value.

    Args:
        values: ``[N]``; an empty text is a value as well.
    """
    column, call, truth = np.asarray(list(values), str), np.asarray(called, bool), np.asarray(positive, bool)
    if column.shape != call.shape:
        raise ValueError(f"expected equal lists, got {column.shape}, {call.shape}")
    names, places = np.unique(column, return_inverse=True)
    return {str(name): rates(call[places == k], truth[places == k], level) for k, name in enumerate(names)}


def predictive_values(found: Rates, prevalence: float, level: float = LEVEL) -> tuple[Interval, Interval]:
    """PPV and NPV where a stated share of slides is positive, with logit intervals.

    Mercaldo, Lau, Zhou: Stat Med 2007;26:2170-83. Where a cell of the table is 0, z^2 / 2 slides are added to each of
    the four before the interval is found ("adjusted logit"), and its method says so; the estimate stays.

    Args:
        found: of slides sampled by their class, so that their own share of positives means nothing.
        prevalence: share of positive slides where the values are wanted, above 0 and below 1.

    Returns:
        NaN without bounds, where sensitivity or specificity is not defined or (for PPV) nothing would be called.

    Raises:
        ConfigError: the prevalence is no share.
    """
    if not 0 < prevalence < 1:
        raise ConfigError(f"a prevalence of {prevalence:g} is no share", "give one above 0 and below 1")
    positives, negatives = found.tp + found.fn, found.tn + found.fp
    if not positives or not negatives:
        return Interval(math.nan, level=level), Interval(math.nan, level=level)
    z = normal_quantile(level)
    zero = 0 in (found.tp, found.fn, found.tn, found.fp)
    method = f"{'adjusted ' if zero else ''}logit (Mercaldo et al. 2007)"
    extra = z**2 / 2 if zero else 0.0
    sensitivity, specificity = ((hits + extra) / (hits + missed + 2 * extra) for hits, missed in _sides(found))
    n1, n0 = positives + 2 * extra, negatives + 2 * extra
    odds = prevalence / (1 - prevalence)
    plain = (found.tp / positives, found.tn / negatives)
    # logit PPV = log(odds Se / (1 - Sp)), logit NPV = log(Sp / (odds (1 - Se)))
    ppv = _logit(
        _share(odds * plain[0], 1 - plain[1]),
        math.log(odds * sensitivity / (1 - specificity)),
        (1 - sensitivity) / sensitivity / n1 + specificity / (1 - specificity) / n0,
        z,
    )
    npv = _logit(
        _share(plain[1], odds * (1 - plain[0])),
        math.log(specificity / (odds * (1 - sensitivity))),
        sensitivity / (1 - sensitivity) / n1 + (1 - specificity) / specificity / n0,
        z,
    )
    return Interval(*ppv, level, method), Interval(*npv, level, method)


def _sides(found: Rates) -> tuple[tuple[int, int], tuple[int, int]]:
    return (found.tp, found.fn), (found.tn, found.fp)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else math.nan


def _logit(estimate: float, middle: float, variance: float, z: float) -> tuple[float, float, float]:
    low, high = (1 / (1 + math.exp(-(middle + side * z * math.sqrt(variance)))) for side in (-1, 1))
    return estimate, low, high
