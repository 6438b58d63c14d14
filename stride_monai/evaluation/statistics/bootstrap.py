"""Clustered bootstrap: intervals of any statistic of weighted slides, resampling patients or centres whole.

A replicate is a weight for each slide: how often its cluster was drawn. A statistic sorts the slides once and reads
each replicate in one pass, so that 300,000 slides cost milliseconds a replicate, and no replicate is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stride_monai.evaluation.statistics.intervals import LEVEL, Interval, logit_interval
from stride_monai.metrics.cell import class_scores, confusion_matrix, share
from stride_monai.metrics.slide import sides

__all__ = [
    "Bootstrap",
    "CallStatistics",
    "ClassStatistics",
    "RankStatistics",
    "Statistic",
    "bootstrap",
    "cluster_interval",
    "cluster_weights",
    "joined",
]

Floats = NDArray[np.float64]

TOLERATED = 0.05
"""Share of replicates in which a statistic may be undefined (no positive slide drawn) before its interval is."""


class Statistic(Protocol):
    """Some figures of weighted slides, each between 0 and 1."""

    names: tuple[str, ...]

    def __call__(self, weights: Floats) -> Floats:
        """The figures in the order of ``names``, NaN where undefined; ``weights [N]`` are 1 for the slides as given."""
        ...


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a bootstrap found.

    Attributes:
        intervals: by name of the figure. clusters: number of clusters. replicates: number of resamples.
        undefined: by name, in how many of them the figure was not defined; those are left out.
    """

    intervals: dict[str, Interval]
    clusters: int
    replicates: int
    undefined: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        figures = {name: x.as_json() | {"undefined": self.undefined[name]} for name, x in self.intervals.items()}
        return {"clusters": self.clusters, "replicates": self.replicates, "figures": figures}


class RankStatistics:
    """AUC, and specificity at wanted sensitivities by METHOD's rule, of weighted slides.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth. targets: sensitivities. prefix: before each name.

    Raises:
        ManifestError: all slides are of one kind, or a score is not finite.
    """

    def __init__(self, scores: ArrayLike, positive: ArrayLike, targets: Sequence[float] = (), prefix: str = "") -> None:
        cases, controls = sides(scores, positive)
        truth = np.asarray(positive, bool)
        up, down = np.argsort(controls, kind="stable"), np.argsort(-cases, kind="stable")
        self._controls, self._cases = np.flatnonzero(~truth)[up], np.flatnonzero(truth)[down]
        self._below = np.searchsorted(controls[up], cases[down], side="left")
        self._not_above = np.searchsorted(controls[up], cases[down], side="right")
        self._targets = tuple(targets)
        self.names = (f"{prefix}auc", *(f"{prefix}specificity_at_{target:g}" for target in targets))

    def __call__(self, weights: Floats) -> Floats:
        cases = weights[self._cases]
        lower = np.concatenate([[0.0], np.cumsum(weights[self._controls])])  # of controls, by their order
        positives, negatives = cases.sum(), lower[-1]
        if not positives or not negatives:
            return np.full(len(self.names), np.nan)
        below = lower[self._below]
        area = cases @ (below + lower[self._not_above]) / 2 / (positives * negatives)
        found = np.cumsum(cases) / positives
        places = [np.argmax(found >= target) for target in self._targets]
        return np.array([area, *(below[place] / negatives for place in places)])


class CallStatistics:
    """Sensitivity, specificity, PPV and NPV of weighted slides.

    Args:
        called: ``[N]``, the slides that are called positive. positive: ``[N]``, the truth. prefix: before each name.
    """

    def __init__(self, called: ArrayLike, positive: ArrayLike, prefix: str = "") -> None:
        call, truth = np.asarray(called, bool), np.asarray(positive, bool)
        if call.ndim != 1 or call.shape != truth.shape:
            raise ValueError(f"expected two equal lists, got {call.shape}, {truth.shape}")
        self._cells = 2 * truth + call  # TN, FP, FN, TP
        self.names = tuple(f"{prefix}{name}" for name in ("sensitivity", "specificity", "ppv", "npv"))

    def __call__(self, weights: Floats) -> Floats:
        tn, fp, fn, tp = np.bincount(self._cells, weights, minlength=4)
        parts, wholes = np.array([tp, tn, tp, tn]), np.array([tp + fn, tn + fp, tp + fp, tn + fn])
        return share(parts, wholes)


class ClassStatistics:
    """F1-macro, accuracy and F1 of each class of weighted slides.

    Args:
        predicted, truth: class indices ``[N]``. classes: their names. prefix: before each name.
    """

    def __init__(self, predicted: ArrayLike, truth: ArrayLike, classes: Sequence[str], prefix: str = "") -> None:
        self._count = len(classes)
        called, true = np.asarray(predicted, int), np.asarray(truth, int)
        confusion_matrix(called, true, self._count)  # refuses what fits not
        self._cells = true * self._count + called
        self.names = tuple(f"{prefix}{name}" for name in ("f1_macro", "accuracy", *(f"f1_{name}" for name in classes)))

    def __call__(self, weights: Floats) -> Floats:
        confusion = np.bincount(self._cells, weights, minlength=self._count**2).reshape(self._count, -1)
        f1 = class_scores(confusion).f1
        macro = np.nanmean(f1) if np.isfinite(f1).any() else np.nan
        return np.array([macro, *share(np.diag(confusion).sum(), confusion.sum()).ravel(), *f1])


class _Joined:
    def __init__(self, statistics: Sequence[Statistic]) -> None:
        self._statistics = tuple(statistics)
        self.names = tuple(name for one in self._statistics for name in one.names)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a name is given twice among {', '.join(self.names)}")

    def __call__(self, weights: Floats) -> Floats:
        return np.concatenate([one(weights) for one in self._statistics])


def joined(*statistics: Statistic) -> Statistic:
    """Several statistics as one, so that they share the resamples."""
    return _Joined(statistics)


def cluster_weights(clusters: ArrayLike, replicates: int, seed: int = 0) -> Iterator[Floats]:
    """Weights of the slides in each resample, ``[N]``.

    Args:
        clusters: ``[N]``, number of each slide's cluster, 0 to C - 1. As many clusters are drawn, with replacement, as
            there are; a cluster comes with all its slides.
    """
    places = np.asarray(clusters)
    count = int(places.max()) + 1
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        drawn = np.bincount(random.integers(0, count, count, dtype=np.int32), minlength=count)
        yield drawn.astype(np.float64)[places]


def bootstrap(
    statistic: Statistic,
    slides: int,
    clusters: Iterable[str] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> Bootstrap:
    """Intervals by resampling clusters whole: the resamples' standard error, Student's t, on the logit scale.

    Percentiles of the resamples are too short with few clusters and lie too high near 1: those of 12 centres held 92 to
    94 % where 95 were stated, for all that t and ``sqrt(C / (C - 1))`` widened them (Hesterberg, Am Stat
    2015;69:371-86, section 5.3). The same two factors on the resamples' standard error, on a scale where figures near 1
    are not skewed, hold.

    Args:
        statistic: figures of weighted slides. slides: N, their number.
        clusters: ``[N]``, patient or centre of each slide; None if every slide is its own cluster. What is empty is
            nobody's: each such slide is a cluster of its own. Centres hold their patients, so clustering by centre
            allows for both.
        replicates: number of resamples. seed: of the resampling; the same seed gives the same interval.

    Returns:
        One cluster gives estimates without bounds, and so does what is undefined in more than 5 % of the resamples, 0
        or 1 (nothing varies then, so that resamples do not tell how far the truth may be), or the same in each.
    """
    places = _numbers(slides, clusters)
    count = int(places.max()) + 1 if slides else 0
    estimates = statistic(np.ones(slides))
    drawn = np.full((replicates, len(statistic.names)), np.nan)
    if count > 1:
        for row, weights in enumerate(cluster_weights(places, replicates, seed)):
            drawn[row] = statistic(weights)
    undefined = np.isnan(drawn).sum(axis=0)
    intervals = {}
    for k, name in enumerate(statistic.names):
        enough = count > 1 and undefined[k] <= TOLERATED * replicates
        intervals[name] = cluster_interval(float(estimates[k]), drawn[:, k] if enough else drawn[:0, k], count, level)
    named = {name: int(number) if count > 1 else 0 for name, number in zip(statistic.names, undefined, strict=True)}
    return Bootstrap(intervals, count, replicates, named)


def cluster_interval(estimate: float, drawn: Floats, clusters: int, level: float = LEVEL) -> Interval:
    """The interval of a figure between 0 and 1 from its values in resamples of clusters.

    Args:
        drawn: ``[R]``, NaN where undefined; no bounds with fewer than two values, or where all are the same.
    """
    method = f"bootstrap of {clusters:,} clusters, logit"
    values = drawn[np.isfinite(drawn)]
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(estimate, level=level, method=method)
    error = float(values.std(ddof=1)) * math.sqrt(clusters / (clusters - 1))
    return logit_interval(estimate, error, level, method, freedom=clusters - 1)


def _numbers(slides: int, clusters: Iterable[str] | None) -> NDArray[np.int64]:
    if clusters is None:
        return np.arange(slides)
    names = np.asarray(["" if name is None else str(name) for name in clusters], str)
    if len(names) != slides:
        raise ValueError(f"{len(names)} clusters for {slides} slides")
    known, places = np.unique(names, return_inverse=True)
    if len(known) and known[0] == "":  # sorts before all others
        alone = places == 0
        places = np.where(alone, len(known) - 1 + np.cumsum(alone), places) - 1
    return places.astype(np.int64)
