"""Figures of merit of one reader, each with its values when one case after the other is left out (the jackknife).

The covariance between readers and arms that an Obuchowski-Rockette analysis needs comes from these values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.metrics.cell import confusion_matrix
from stride_monai.metrics.kappa import cohen_kappa, kappa_weights

__all__ = ["Merit", "area", "jackknife_covariance", "jackknife_freedom", "kappa", "mean"]

_NOTHING = 1e-12  # rounding

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]


class Merit(NamedTuple):
    """A figure of merit.

    Attributes:
        value: of all cases.
        left_out: ``[cases]``, the value without each case.
    """

    value: float
    left_out: Floats


def mean(values: Floats) -> Merit:
    """Mean of values ``[n]``, such as 1 and 0 for right and wrong reads; NaN without one for n of 1."""
    values = np.asarray(values, np.float64)
    others = max(len(values) - 1, 0)
    left_out = (values.sum() - values) / others if others else np.full(len(values), np.nan)
    return Merit(float(values.mean()), left_out)


def area(ratings: Floats, positive: Bools) -> Merit:
    """Area under the ROC curve of ratings ``[n]``, ties counting half (Mann-Whitney); two or more cases of each kind.

    Without a case the area is known from its placement among the cases of the other kind (DeLong 1988), so that all n
    values cost one sort.
    """
    ratings, positive = np.asarray(ratings, np.float64), np.asarray(positive, np.bool_)
    up, down = ratings[positive], ratings[~positive]
    above = _placements(np.sort(down), up)  # [positives], share of the negatives below
    below = 1 - _placements(np.sort(up), down)  # [negatives], share of the positives above
    value = float(above.mean())
    left_out = np.empty(len(ratings))
    left_out[positive] = (above.sum() - above) / (len(up) - 1)
    left_out[~positive] = (below.sum() - below) / (len(down) - 1)
    return Merit(value, left_out)


def _placements(ordered: Floats, values: Floats) -> Floats:
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    share: Floats = below / (2.0 * len(ordered))
    return share


def kappa(said: Ints, truth: Ints, classes: int, kind: str = "none") -> Merit:
    """Cohen's kappa of class indices ``[n]`` against others; ``kind`` of :func:`stride_monai.metrics.kappa_weights`."""
    weights = kappa_weights(classes, kind)
    table = confusion_matrix(said, truth, classes)
    fewer = np.repeat(table[None].astype(np.float64), classes**2, axis=0)
    fewer[np.arange(classes**2), *np.divmod(np.arange(classes**2), classes)] -= 1  # [C * C, C, C]
    occurs = table.reshape(-1) > 0
    each = np.full(classes**2, np.nan)
    each[occurs] = cohen_kappa(fewer[occurs], weights)
    return Merit(float(cohen_kappa(table, weights)), each[np.asarray(truth) * classes + np.asarray(said)])


def jackknife_covariance(left_out: Floats) -> Floats:
    """Covariance ``[m, m]`` of m figures from their values ``[m, n]`` without each of n cases: (n - 1)/n times the sum
    of the products of the deviations (Hillis et al. 2005, https://doi.org/10.1002/sim.2024)."""
    values = np.asarray(left_out, np.float64)
    apart = values - values.mean(axis=1, keepdims=True)
    cases = values.shape[1]
    covariance: Floats = (cases - 1) / cases * (apart @ apart.T)
    return covariance


def jackknife_freedom(left_out: Floats) -> float:
    """Degrees of freedom of the jackknife's variance of a figure, from its values ``[n]`` without each of n cases.

    Those of a chi-squared law that varies as the variance does (Satterthwaite 1946): twice n over kurtosis less 1. A
    few cases that make most of the variance leave few; infinite where all cases weigh the same.
    """
    apart = np.asarray(left_out, np.float64) - np.mean(left_out)
    squares = float((apart**2).sum())
    if not squares > _NOTHING**2:
        return math.inf
    kurtosis = len(apart) * float((apart**4).sum()) / squares**2
    return 2 * len(apart) / (kurtosis - 1) if kurtosis > 1 + _NOTHING else math.inf
