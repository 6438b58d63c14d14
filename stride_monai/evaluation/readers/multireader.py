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
from stride_monai.evaluation.statistics.intervals import LEVEL, Scale

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
    scale: Scale | None = None,
    cases_freedom: float = math.inf,
) -> Estimate:
    """The second arm less the first, of two.

    The error is the published one. Without ``scale`` all else is, too; with it the interval and p are those of
    :func:`~stride_monai.evaluation.readers.estimate.logit_difference` with the degrees of freedom of
    :meth:`_Sources.ours`, and ``published`` has what OR-DBM MRMC, MRMCaov and others print.

    Args:
        figures: ``[2, readers]``. covariance: as of :func:`components`.
        random_readers: readers are a sample of all readers (analysis 1), or are fixed (analysis 2); by default random
            from :data:`FEWEST_RANDOM` on. level: of the interval.
        scale: of the arms' figures. cases_freedom: of the variance that comes of cases.
    """
    readers = figures.shape[1]
    random_readers = readers >= FEWEST_RANDOM if random_readers is None else random_readers
    part = components(figures, covariance)
    apart = _Sources.of(part.both, part.error - part.cov1, part.cov2 - part.cov3, readers, random_readers)
    printed = apart.published.times(2)
    by_arm = float(figures[0].mean()), float(figures[1].mean())
    published = estimate_of(by_arm[1] - by_arm[0], printed, random_readers, METHOD, test=True, level=level)
    if scale is None:
        return published
    arms = [_of_arm(figures[k], _block(covariance, k, readers), random_readers).published for k in (0, 1)]
    spread = apart.ours(cases_freedom).times(2)
    found = difference_of(by_arm, (arms[0], arms[1]), spread, random_readers, METHOD, level, scale)
    return found._replace(published=Published(published.interval, published.freedom, published.p))


def arm_estimate(
    figures: Floats,
    covariance: Floats,
    random_readers: bool | None = None,
    level: float = LEVEL,
    scale: Scale | None = None,
    cases_freedom: float = math.inf,
) -> Estimate:
    """The mean over readers of one arm.

    OR-DBM MRMC prints the interval about the mean itself. That is too low where readers are few and figures near 1, so
    that reports take the one on a scale such as the logit, with the same error and the degrees of freedom of
    :meth:`_Sources.ours`.

    Args:
        figures: ``[readers]``. covariance: ``[readers, readers]``. random_readers, level: as of :func:`difference`.
        scale: of the interval; None for the plain one. cases_freedom: as of :func:`difference`.
    """
    random_readers = len(figures) >= FEWEST_RANDOM if random_readers is None else random_readers
    sources = _of_arm(figures, covariance, random_readers)
    spread = sources.published if scale is None else sources.ours(cases_freedom)
    return estimate_of(float(figures.mean()), spread, random_readers, METHOD, level=level, scale=scale)


def _of_arm(figures: Floats, covariance: Floats, random_readers: bool) -> _Sources:
    part = components(figures[None], covariance)
    return _Sources.of(part.readers, part.error, part.cov2, len(figures), random_readers)


def _block(covariance: Floats, arm: int, readers: int) -> Floats:
    own = slice(arm * readers, (arm + 1) * readers)
    return covariance[own, own]


class _Sources(NamedTuple):
    """What the variance of a mean over readers comes of.

    Attributes:
        square: mean square of readers. common: covariance of two readers. noise: variance that a reader has alone.
        readers: how many. random: whether they are a sample of all readers.
    """

    square: float
    common: float
    noise: float
    readers: int
    random: bool

    @classmethod
    def of(cls, square: float, error: float, covariance: float, readers: int, random: bool) -> _Sources:
        """Of a mean square, and of the variance of a reader's figure and its covariance with another's."""
        common = max(covariance, 0.0)
        return cls(square, common, error - common, readers, random)

    @property
    def published(self) -> Spread:
        """Hillis 2007 for random readers, the normal distribution for fixed ones."""
        if not self.random:
            return Spread(self.noise / self.readers + self.common, math.inf)
        square = self.square / self.readers
        variance = square + self.common
        return Spread(variance, variance**2 / (square**2 / (self.readers - 1)) if square > 0 else math.inf)

    def ours(self, cases_freedom: float) -> Spread:
        """As published, of random readers with degrees of freedom that few of them do not lead astray.

        A mean square of three readers can be near 0 by chance. Hillis' degrees of freedom then are many, since what is
        left of the variance is taken as known, and the interval is too short by both. Here the mean square counts in
        them as no less than what it would be, were readers all alike: ``noise``. And the covariance of readers is
        estimated, too.
        """
        if not self.random:
            return self.published
        likely = max(self.square, self.noise, 0.0) / self.readers
        doubt = likely**2 / (self.readers - 1) + self.common**2 / cases_freedom
        freedom = max((likely + self.common) ** 2 / doubt, self.readers - 1.0) if doubt > 0 else math.inf
        return Spread(self.published.variance, freedom)
