"""Decision curve: what acting on a score is worth against calling every slide, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.statistics.intervals import LEVEL, normal_quantile
from stride_monai.metrics.slide import sides

__all__ = ["THRESHOLDS", "DecisionCurve", "decision_curve"]

Floats = NDArray[np.float64]

THRESHOLDS = tuple(k / 200 for k in range(1, 61))
"""Risks from 0.5 % to 30 %: of how many slides looked at in vain, for one lesion, from 199 down to 2.3."""


class DecisionCurve(NamedTuple):
    """Net benefit in true positives per slide, each ``[T]``; that of calling none is 0.

    Attributes:
        threshold: risk from which a slide is called. score: of calling by the score.
        low, high: pointwise normal interval of ``score``. everyone: of calling every slide.
    """

    threshold: Floats
    score: Floats
    low: Floats
    high: Floats
    everyone: Floats


def decision_curve(
    risks: ArrayLike,
    positive: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    prevalence: float | None = None,
    level: float = LEVEL,
) -> DecisionCurve:
    """Net benefit over thresholds: ``TP / n - FP / n * t / (1 - t)``.

    Vickers and Elkin, Med Decis Making 2006;26:565-74.

    Args:
        risks: ``[N]``, calibrated probabilities of being positive. positive: ``[N]``, the truth.
        thresholds: ``[T]``, above 0 and below 1.
        prevalence: share of positives where the score is to be used, if not that of these slides. The risks must be of
            that place too (:func:`~stride_monai.evaluation.statistics.calibration.shift_prevalence`).

    Raises:
        ManifestError: all slides are of one kind, or a risk is no probability.
        ConfigError: a threshold or the prevalence is no share.
    """
    values = np.asarray(risks, np.float64)
    cases, controls = (np.sort(side) for side in sides(values, positive))
    if values.min() < 0 or values.max() > 1:
        raise ManifestError("risks outside 0 to 1 have no net benefit", "calibrate the scores on validation")
    at = np.asarray(thresholds, np.float64)
    share = len(cases) / len(values) if prevalence is None else prevalence
    if not ((at > 0) & (at < 1)).all() or not 0 < share < 1:
        raise ConfigError("a risk threshold or prevalence is no share", "give numbers above 0 and below 1")
    found, falsely = (1 - np.searchsorted(side, at, side="left") / len(side) for side in (cases, controls))
    price = at / (1 - at)
    score = share * found - (1 - share) * falsely * price
    of_cases, of_controls = share**2 * found * (1 - found), ((1 - share) * price) ** 2 * falsely * (1 - falsely)
    variance = of_cases / len(cases) + of_controls / len(controls)
    if prevalence is None:  # how many slides are positive is then chance as well
        variance = variance + share * (1 - share) * (found + falsely * price) ** 2 / len(values)
    half = normal_quantile(level) * np.sqrt(variance)
    return DecisionCurve(at, score, score - half, score + half, share - (1 - share) * price)
