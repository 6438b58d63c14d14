"""Figures of reads that are clustered by reader and by case, whoever has read what, and the difference of two arms.

The variance is that of Cameron, Gelbach and Miller 2011 (https://doi.org/10.1198/jbes.2010.07136): by reader, plus by
case, less by both; what a read adds to a figure is taken from the figure without it (the infinitesimal jackknife). It
serves designs in which not every reader has read every case in every arm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stride_monai.evaluation.readers.estimate import FEWEST_RANDOM, Estimate, estimate_of
from stride_monai.evaluation.readers.merits import Merit
from stride_monai.evaluation.statistics.intervals import LEVEL

__all__ = ["pooled", "pooled_difference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
METHOD = "clustered by reader and case"


def pooled(merit: Merit, readers: Ints, cases: Ints, level: float = LEVEL) -> Estimate:
    """A figure of all reads together.

    Args:
        merit: with the values without each read ``[n]``. readers, cases: ``[n]``, a number for each.
        level: of the interval.
    """
    return _estimate(merit.value, _pull(merit), readers, cases, level, test=False)


def pooled_difference(first: Merit, second: Merit, readers: Ints, cases: Ints, level: float = LEVEL) -> Estimate:
    """The second arm less the first.

    Args:
        first, second: figures of the reads of each arm, ``[n1]`` and ``[n2]``.
        readers, cases: ``[n1 + n2]``, those of the first arm before those of the second. level: of the interval.
    """
    pull = np.concatenate([-_pull(first), _pull(second)])
    return _estimate(second.value - first.value, pull, readers, cases, level, test=True)


def _pull(merit: Merit) -> Floats:
    reads = len(merit.left_out)
    pull: Floats = (reads - 1) / reads * (merit.value - merit.left_out)
    return pull


def _by_cluster(pull: Floats, clusters: Ints) -> tuple[float, int]:
    """Variance of the sum of ``pull`` if clusters are independent, and how many there are."""
    sums = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=pull)
    number = len(sums)
    return float((sums**2).sum()) * number / max(number - 1, 1), number


def _estimate(value: float, pull: Floats, readers: Ints, cases: Ints, level: float, test: bool) -> Estimate:
    readers, cases = np.unique(readers, return_inverse=True)[1], np.unique(cases, return_inverse=True)[1]
    of_cases, cases_number = _by_cluster(pull, cases)
    variance, freedom = of_cases, max(cases_number - 1, 1)
    of_readers, readers_number = _by_cluster(pull, readers)
    random_readers = readers_number >= FEWEST_RANDOM
    if random_readers:
        of_both, _ = _by_cluster(pull, readers * cases_number + cases)
        # The three can add up to less than one of them, or to nothing, by chance.
        variance = max(of_readers + of_cases - of_both, of_readers, of_cases)
        freedom = min(readers_number, cases_number) - 1
    return estimate_of(value, variance, float(freedom), random_readers, METHOD, test, level)
