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

from stride_monai.evaluation.readers.estimate import (
    FEWEST_RANDOM,
    Estimate,
    Published,
    Spread,
    difference_of,
    estimate_of,
)
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
    figures: Floats,
    covariance: Floats,
    random_readers: bool | None = None,
    level: float = LEVEL,
    least: float | None = None,
    cases_freedom: float = math.inf,
) -> Estimate:
    """The second arm less the first, of two.

    The error is the published one. Without ``least`` all else is, too; with it the interval and p are those of
    :func:`~stride_monai.evaluation.readers.estimate.logit_difference` with the degrees of freedom of
    :func:`_random_spread`, and ``published`` has what OR-DBM MRMC, MRMCaov and others print.

    Args:
        figures: ``[2, readers]``. covariance: as of :func:`components`.
        random_readers: readers are a sample of all readers (analysis 1), or are fixed (analysis 2); by default random
            from :data:`FEWEST_RANDOM` on. level: of the interval.
        least: the lowest value that the figure of an arm can have. cases_freedom: of the variance that comes of cases.
    """
    readers = figures.shape[1]
    part = components(figures, covariance)
    random_readers = readers >= FEWEST_RANDOM if random_readers is None else random_readers
    common = max(part.cov2 - part.cov3, 0.0)
    noise = part.error - part.cov1 - common
    printed = _spread(part.both, common, noise, readers, random_readers).times(2)
    by_arm = float(figures[0].mean()), float(figures[1].mean())
    published = estimate_of(by_arm[1] - by_arm[0], printed, random_readers, METHOD, test=True, level=level)
    if least is None:
        return published
    apart = printed
    if random_readers:
        apart = _random_spread(part.both, common, noise, readers, cases_freedom).times(2)
    arms = [_arm_spread(figures[k], _block(covariance, k, readers), random_readers) for k in (0, 1)]
    found = difference_of(by_arm, (arms[0], arms[1]), apart, random_readers, METHOD, level, least)
    return found._replace(published=Published(published.interval, published.freedom, published.p))


def arm_estimate(
    figures: Floats,
    covariance: Floats,
    random_readers: bool | None = None,
    level: float = LEVEL,
    least: float | None = None,
    cases_freedom: float = math.inf,
) -> Estimate:
    """The mean over readers of one arm.

    OR-DBM MRMC prints the interval about the mean itself. That is too low where readers are few and figures near 1, so
    that reports take the one on the logit scale, with the same error and the degrees of freedom of
    :func:`_random_spread`.

    Args:
        figures: ``[readers]``. covariance: ``[readers, readers]``. random_readers, level: as of :func:`difference`.
        least: the lowest value that the figure can have, for the interval on the logit scale; None for the plain one.
        cases_freedom: as of :func:`difference`.
    """
    readers = len(figures)
    random_readers = readers >= FEWEST_RANDOM if random_readers is None else random_readers
    if least is not None and random_readers:
        part = components(figures[None], covariance)
        common = max(part.cov2, 0.0)
        spread = _random_spread(part.readers, common, part.error - common, readers, cases_freedom)
    else:
        spread = _arm_spread(figures, covariance, random_readers)
    return estimate_of(float(figures.mean()), spread, random_readers, METHOD, level=level, least=least)


def _arm_spread(figures: Floats, covariance: Floats, random_readers: bool) -> Spread:
    part = components(figures[None], covariance)
    common = max(part.cov2, 0.0)
    return _spread(part.readers, common, part.error - common, len(figures), random_readers)


def _block(covariance: Floats, arm: int, readers: int) -> Floats:
    own = slice(arm * readers, (arm + 1) * readers)
    return covariance[own, own]


def _spread(square: float, common: float, noise: float, readers: int, random_readers: bool) -> Spread:
    """Of the mean over readers, as published: Hillis 2007 for random readers, the normal distribution for fixed ones.

    Args:
        square: mean square of readers. common: covariance of two readers. noise: variance that a reader has alone.
    """
    if not random_readers:
        return Spread(noise / readers + common, math.inf)
    variance = square / readers + common
    return Spread(variance, variance**2 / ((square / readers) ** 2 / (readers - 1)) if square > 0 else math.inf)


def _random_spread(square: float, common: float, noise: float, readers: int, cases_freedom: float) -> Spread:
    """As published, with degrees of freedom that few readers do not lead astray.

    A mean square of three readers can be near 0 by chance. Hillis' degrees of freedom then are many, since what is left
    of the variance is taken as known, and the interval is too short by both. Here the mean square counts in them as no
    less than what it would be, were readers all alike: ``noise``. And the covariance of readers is estimated, too.
    """
    variance = square / readers + common
    likely = max(square, noise, 0.0) / readers
    doubt = likely**2 / (readers - 1) + common**2 / cases_freedom
    return Spread(variance, max((likely + common) ** 2 / doubt, readers - 1.0) if doubt > 0 else math.inf)
