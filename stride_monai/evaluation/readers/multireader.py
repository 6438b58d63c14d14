"""Many readers, many cases: the Obuchowski-Rockette analysis of a figure of merit, as Hillis has it.

Every reader reads every case in every arm. The figure of arm i and reader j is modelled as mean + arm + reader +
arm x reader + error, whose errors are correlated since the cases are the same. Formulas are those of Obuchowski and
Rockette 1995 (https://doi.org/10.1080/03610919508813243) with the degrees of freedom of Hillis 2007
(https://doi.org/10.1002/sim.2532), as the program OR-DBM MRMC prints them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.evaluation.readers.estimate import FEWEST_RANDOM, Estimate, estimate_of
from stride_monai.evaluation.statistics.intervals import LEVEL

__all__ = ["Components", "arm_estimate", "components", "difference"]

Floats = NDArray[np.float64]
METHOD = "Obuchowski-Rockette"


class Components(NamedTuple):
    """Mean squares and error covariances of ``[arms, readers]`` figures.

    Attributes:
        arms, readers: their mean squares. both: of arms x readers; 0 with one arm or one reader.
        error: variance of a figure. cov1: of the arms of a reader. cov2: of the readers of an arm. cov3: of both other.
    """

    arms: float
    readers: float
    both: float
    error: float
    cov1: float
    cov2: float
    cov3: float


def components(figures: Floats, covariance: Floats) -> Components:
    """Mean squares and covariances.

    Args:
        figures: ``[arms, readers]``. covariance: ``[arms * readers] * 2``, of the figures, arm by arm.
    """
    arms, readers = figures.shape
    by_arm, by_reader, mean = figures.mean(axis=1), figures.mean(axis=0), figures.mean()
    rest = figures - by_arm[:, None] - by_reader[None] + mean
    arm = np.repeat(np.arange(arms), readers)
    reader = np.tile(np.arange(readers), arms)
    same_arm, same_reader = arm[:, None] == arm, reader[:, None] == reader

    def mean_of(chosen: NDArray[np.bool_]) -> float:
        return float(covariance[chosen].mean()) if chosen.any() else 0.0

    return Components(
        arms=readers * float(((by_arm - mean) ** 2).sum()) / max(arms - 1, 1),
        readers=arms * float(((by_reader - mean) ** 2).sum()) / max(readers - 1, 1),
        both=float((rest**2).sum()) / max((arms - 1) * (readers - 1), 1),
        error=mean_of(same_arm & same_reader),
        cov1=mean_of(~same_arm & same_reader),
        cov2=mean_of(same_arm & ~same_reader),
        cov3=mean_of(~same_arm & ~same_reader),
    )


def difference(
    figures: Floats, covariance: Floats, random_readers: bool | None = None, level: float = LEVEL
) -> Estimate:
    """The second arm less the first, of two.

    Args:
        figures: ``[2, readers]``. covariance: as of :func:`components`.
        random_readers: readers are a sample of all readers (analysis 1), or are fixed (analysis 2); by default random
            from :data:`FEWEST_RANDOM` on. level: of the interval.
    """
    readers = figures.shape[1]
    part = components(figures, covariance)
    random_readers = readers >= FEWEST_RANDOM if random_readers is None else random_readers
    gain = max(part.cov2 - part.cov3, 0.0)
    freedom = math.inf
    if random_readers:
        spread = part.both + readers * gain
        if part.both > 0:
            freedom = spread**2 / (part.both**2 / (readers - 1))
    else:
        spread = part.error - part.cov1 + (readers - 1) * gain
    by_arm = figures.mean(axis=1)
    return estimate_of(
        float(by_arm[1] - by_arm[0]), 2 * spread / readers, freedom, random_readers, METHOD, test=True, level=level
    )


def arm_estimate(
    figures: Floats,
    covariance: Floats,
    random_readers: bool | None = None,
    level: float = LEVEL,
    least: float | None = None,
) -> Estimate:
    """The mean over readers of one arm.

    OR-DBM MRMC prints the interval about the mean itself. That is too low where readers are few and figures near 1, so
    that reports take the one on the logit scale, with the same error and the same degrees of freedom.

    Args:
        figures: ``[readers]``. covariance: ``[readers, readers]``. random_readers, level: as of :func:`difference`.
        least: the lowest value that the figure can have, for the interval on the logit scale; None for the plain one.
    """
    readers = len(figures)
    part = components(figures[None], covariance)
    random_readers = readers >= FEWEST_RANDOM if random_readers is None else random_readers
    freedom, common = math.inf, max(part.cov2, 0.0)
    if random_readers:
        spread = part.readers + readers * common
        if part.readers > 0:
            freedom = spread**2 / (part.readers**2 / (readers - 1))
    else:
        spread = part.error + (readers - 1) * common
    mean, variance = float(figures.mean()), spread / readers
    return estimate_of(mean, variance, freedom, random_readers, METHOD, test=False, level=level, least=least)
