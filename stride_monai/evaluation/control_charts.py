"""Control charts of what a laboratory screens, week after week against a reference: Shewhart's and the EWMA.

Each week is held against the reference by a test that asks nothing of the distribution but that both are drawn alike,
and what it says is put on one scale, ``z``, standard normal where nothing has changed: a chart of Shewhart (1931) finds
a large change in one week, an exponentially weighted moving average (Roberts 1959) a small one that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["EWMA_WEIGHT", "ControlChart", "control_chart", "share_z", "values_z"]

EWMA_WEIGHT = 0.2
"""Of the last week in the moving average; about the last nine weeks count."""
_MOST = 8.0
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def values_z(reference: ArrayLike, week: ArrayLike) -> float:
    """How far the values of a week lie above (or below) those of the reference, as a standard normal deviate.

    Normal scores of the pooled ranks (van der Waerden 1952), with the variance that they have where each order is as
    likely as any other: no outlier and no skewness deceives it, and equal values share their ranks. 0 where all values
    are equal.

    Args:
        reference: ``[N]``, finite. week: ``[n]``, finite, both not empty.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(week, np.float64)
    pooled = np.concatenate([first, second])
    scores = stats.norm.ppf(stats.rankdata(pooled) / (len(pooled) + 1))
    scores -= scores.mean()
    variance = len(first) * len(second) / (len(pooled) * (len(pooled) - 1)) * float(scores @ scores)
    return float(scores[len(first) :].sum() / np.sqrt(variance)) if variance > 1e-12 else 0.0


def share_z(reference_hits: int, reference: int, hits: int, week: int) -> float:
    """How far the share of a week lies above (or below) that of the reference, as a normal deviate of its mid-p.

    The number of hits of the week, given those of both together, is hypergeometric (Fisher's exact test).

    Args:
        reference_hits, hits: numbers that count. reference, week: numbers of all, above 0.
    """
    both = reference_hits + hits
    possible = np.arange(max(0, both - reference), min(week, both) + 1)
    law = stats.hypergeom.pmf(possible, reference + week, both, week)
    here = float(law[possible == hits].sum()) / 2
    below, above = (float(law[side].sum()) + here for side in (possible < hits, possible > hits))
    z = -stats.norm.isf(below) if below < above else stats.norm.isf(above)
    return float(np.clip(z, -_MOST, _MOST))


@dataclass(frozen=True, eq=False)
class ControlChart:
    """A measure week after week.

    Attributes:
        z: ``[W]``, each week against the reference.
        limit: on both sides of ``z``.
        ewma: ``[W]``. ewma_limits: ``[W]``, on both sides of it.
        crossed: ``[W]``, the weeks in which either lies beyond its limits.
    """

    z: Floats
    limit: float
    ewma: Floats
    ewma_limits: Floats

    @property
    def crossed(self) -> Bools:
        found: Bools = (np.abs(self.z) > self.limit) | (np.abs(self.ewma) > self.ewma_limits)
        return found


def control_chart(
    z: ArrayLike, slides: ArrayLike, reference: int, false_alarms: float, weight: float = EWMA_WEIGHT
) -> ControlChart:
    """The chart of a measure.

    All weeks are held against one reference, so they are not independent: the fewer slides it has, the more alike
    their deviations, by ``1 / N / sqrt((1 / N + 1 / n_i) (1 / N + 1 / n_j))``. The limits of the moving average
    allow for it.

    Args:
        z: ``[W]``, in the order of the weeks. slides: ``[W]``, that each is made from.
        reference: N, slides of the reference.
        false_alarms: share of the weeks in which each of ``z`` and moving average crosses where nothing has changed.
        weight: of the last week in the moving average.
    """
    deviations, sizes = np.asarray(z, np.float64), np.asarray(slides, np.float64)
    quantile = float(stats.norm.isf(false_alarms / 2))
    spread = np.sqrt(1 / sizes + 1 / reference)
    together = 1 / reference / np.outer(spread, spread)
    np.fill_diagonal(together, 1.0)
    ewma, limits = np.zeros((2, len(deviations)))
    for last in range(len(deviations)):
        weights = weight * (1 - weight) ** np.arange(last, -1, -1)
        ewma[last] = weights @ deviations[: last + 1]
        limits[last] = quantile * np.sqrt(weights @ together[: last + 1, : last + 1] @ weights)
    return ControlChart(deviations, quantile, ewma, limits)
