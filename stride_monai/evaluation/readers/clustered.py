"""Figures of reads that are clustered by reader and by case, whoever has read what, and the difference of two arms.

The variance is that of Cameron, Gelbach and Miller 2011 (https://doi.org/10.1198/jbes.2010.07136): by reader, plus by
case, less by both; what a read adds to a figure is taken from the figure without it (the infinitesimal jackknife). It
serves designs in which not every reader has read every case in every arm.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stride_monai.evaluation.readers.estimate import FEWEST_RANDOM, Estimate, Spread, difference_of, estimate_of
from stride_monai.evaluation.readers.merits import Merit, jackknife_freedom
from stride_monai.evaluation.statistics.intervals import LEVEL, Scale

__all__ = ["pooled", "pooled_difference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
METHOD = "clustered by reader and case"


def pooled(merit: Merit, readers: Ints, cases: Ints, level: float = LEVEL, scale: Scale | None = None) -> Estimate:
    """A figure of all reads together.

    Args:
        merit: with the values without each read ``[n]``. readers, cases: ``[n]``, a number for each.
        level: of the interval. scale: of the interval; None for one about the value itself.
    """
    spread, random_readers = _spread(_pull(merit), readers, cases)
    return estimate_of(merit.value, spread, random_readers, METHOD, level=level, scale=scale)


def pooled_difference(
    first: Merit, second: Merit, readers: Ints, cases: Ints, level: float = LEVEL, scale: Scale | None = None
) -> Estimate:
    """The second arm less the first.

    Args:
        first, second: figures of the reads of each arm, ``[n1]`` and ``[n2]``.
        readers, cases: ``[n1 + n2]``, those of the first arm before those of the second. level: of the interval.
        scale: of the arms, on which the pivot is; None for an interval about the difference itself.
    """
    pulls, here = (_pull(first), _pull(second)), len(first.left_out)
    of_first, of_second = slice(here), slice(here, None)
    spreads = (
        _spread(pulls[0], readers[of_first], cases[of_first])[0],
        _spread(pulls[1], readers[of_second], cases[of_second])[0],
    )
    apart, random_readers = _spread(np.concatenate([-pulls[0], pulls[1]]), readers, cases)
    return difference_of((first.value, second.value), spreads, apart, random_readers, METHOD, level, scale)


def _pull(merit: Merit) -> Floats:
    reads = len(merit.left_out)
    pull: Floats = (reads - 1) / reads * (merit.value - merit.left_out)
    return pull


def _sums(pull: Floats, clusters: Ints) -> Floats:
    """Of each cluster."""
    return np.bincount(np.unique(clusters, return_inverse=True)[1], weights=pull).astype(np.float64)


def _variance(sums: Floats) -> float:
    """Of their sum if they are independent."""
    return float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1)


def _spread(pull: Floats, readers: Ints, cases: Ints) -> tuple[Spread, bool]:
    """Of the sum of ``pull``, and whether it holds for readers in general.

    What cases add to the variance is never less than nothing; the sum of the three can be, by chance. The degrees of
    freedom are those that the variances by reader and by case leave together (Satterthwaite), where that by reader
    counts as no less than what it would be, were readers all alike.
    """
    by_case, by_reader = _sums(pull, cases), _sums(pull, readers)
    if len(by_reader) < FEWEST_RANDOM:
        return Spread(_variance(by_case), float(max(len(by_case) - 1, 1))), False
    both = np.unique(readers, return_inverse=True)[1] * (int(cases.max()) + 1) + cases
    alone = _variance(_sums(pull, both))
    of_readers, of_cases = _variance(by_reader), max(_variance(by_case) - alone, 0.0)
    likely, fewest = max(of_readers, alone), len(by_reader) - 1
    doubt = likely**2 / fewest + of_cases**2 / jackknife_freedom(by_case)
    freedom = max((likely + of_cases) ** 2 / doubt, float(fewest)) if doubt > 0 else math.inf
    return Spread(of_readers + of_cases, freedom), True
