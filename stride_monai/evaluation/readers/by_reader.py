"""Each reader alone: counts, sensitivity, specificity and kappa in each arm, and McNemar's test between two arms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from stride_monai.bethesda import LABELS
from stride_monai.evaluation.readers.merits import jackknife_covariance, jackknife_freedom, kappa
from stride_monai.evaluation.readers.study import OPEN, Study
from stride_monai.evaluation.statistics.intervals import FISHER, LEVEL, Interval, logit_interval, wilson
from stride_monai.metrics.cell import confusion_matrix
from stride_monai.metrics.kappa import fleiss_kappa

__all__ = [
    "FEWEST_BY_NORMAL",
    "McNemar",
    "ReaderInArm",
    "between_readers",
    "kappa_interval",
    "mcnemar_test",
    "readers_in_arms",
    "tests_by_reader",
]

Ints = NDArray[np.int64]
FEWEST_BY_NORMAL = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""
_NOTHING = 1e-12  # rounding


class ReaderInArm(NamedTuple):
    """One reader in one arm, at a threshold.

    Attributes:
        counts: ``tp``, ``fn``, ``fp``, ``tn``, and ``open``: reads that a bare ``positive`` of theirs, or of the panel,
            leaves open.
        sensitivity, specificity: with Wilson's interval. kappa: at the threshold. weighted: of the labels, quadratic.
        exact: share of the reads that name the very labels of the panel, composite ones included. Both are NaN for a
            reader who says ``positive`` without a class.
        seconds: median; NaN where no time was taken.
    """

    reader: str
    arm: str
    counts: Counter[str]
    sensitivity: Interval
    specificity: Interval
    kappa: Interval
    weighted: Interval
    exact: float
    seconds: float


class McNemar(NamedTuple):
    """Cases of one kind that a reader reads in two arms.

    Attributes:
        kind: ``positive`` or ``negative`` cases. both, neither: right in both arms, wrong in both.
        gained, lost: right in the second arm alone, in the first alone.
        p: two-sided; NaN where no such case was read in both arms. exact: whether by the binomial test.
    """

    reader: str
    kind: str
    both: int
    neither: int
    gained: int
    lost: int
    p: float
    exact: bool


def kappa_interval(said: Ints, truth: Ints, classes: int, kind: str = "none", level: float = LEVEL) -> Interval:
    """Cohen's kappa of class indices ``[n]`` with an interval on the scale of Fisher's z.

    The variance is the jackknife's. The normal interval of Fleiss, Cohen and Everitt 1969 is too narrow with weights,
    where a few cases of far classes make most of the variance. With weights Student's t allows for that by
    :func:`~stride_monai.evaluation.readers.merits.jackknife_freedom`. Without, all disagreements weigh alike, and how
    far their few make the variance uncertain goes with kappa itself, which Fisher's z allows for.

    Args:
        kind: of :func:`~stride_monai.metrics.kappa.kappa_weights`.

    Returns:
        NaN where there is no case, or both say one and the same class of all; no bounds where they agree in all, or
        would say one class of all without one of the cases.
    """
    method = "jackknife, Fisher's z"
    if not len(said):
        return Interval(math.nan, level=level, method=method)
    with np.errstate(invalid="ignore"):  # without the only case there is no kappa
        found = kappa(said, truth, classes, kind)
    apart = found.left_out - found.left_out.mean()
    if not float((apart**2).sum()) > _NOTHING:  # NaN, too
        return Interval(found.value, level=level, method=method)
    error = math.sqrt(float(jackknife_covariance(found.left_out[None])[0, 0]))
    freedom = math.inf if kind == "none" else jackknife_freedom(found.left_out)
    return logit_interval(found.value, error, level, method, scale=FISHER, freedom=freedom)


def readers_in_arms(study: Study, group: str, level: float = LEVEL) -> Iterator[ReaderInArm]:
    """Every reader in every arm with a read.

    Args:
        group: the threshold, of :data:`~stride_monai.bethesda.REPORT_GROUPS`. level: of the intervals.
    """
    said, true = study.within(group)
    same = np.array([read.diagnosis == study.panel[c].label for read, c in zip(study.reads, study.case, strict=True)])
    for arm, arm_name in enumerate(study.arms):
        for reader, name in enumerate(study.readers):
            chosen = (study.arm == arm) & (study.reader == reader)
            if not chosen.any():
                continue
            clear = chosen & (said != OPEN) & (true != OPEN)
            classed = chosen & (study.truth != OPEN)
            if (study.severity[chosen] == OPEN).any():  # the clear ones alone would say too much
                classed = np.zeros_like(chosen)
            (tn, fp), (fn, tp) = confusion_matrix(said[clear], true[clear], 2).tolist()
            seconds = [s for k in np.flatnonzero(chosen) if (s := study.reads[k].seconds) is not None]
            yield ReaderInArm(
                reader=name,
                arm=arm_name,
                counts=Counter(tp=tp, fn=fn, fp=fp, tn=tn, open=int(chosen.sum() - clear.sum())),
                sensitivity=wilson(tp, tp + fn, level),
                specificity=wilson(tn, tn + fp, level),
                kappa=kappa_interval(said[clear], true[clear], 2, level=level),
                weighted=kappa_interval(study.severity[classed], study.truth[classed], len(LABELS), "quadratic", level),
                exact=float(same[classed].mean()) if classed.any() else math.nan,
                seconds=float(np.median(seconds)) if seconds else math.nan,
            )


def mcnemar_test(gained: int, lost: int) -> tuple[float, bool]:
    """Two-sided p of as many pairs that changed in each direction, and whether by the exact test (statsmodels).

    Exact below :data:`FEWEST_BY_NORMAL` pairs, by chi-squared with continuity correction from there on; 1 without any.
    """
    exact = gained + lost < FEWEST_BY_NORMAL
    if not gained + lost:
        return 1.0, True
    return float(mcnemar([[0, gained], [lost, 0]], exact=exact, correction=True).pvalue), exact


def tests_by_reader(study: Study, group: str, first: str, second: str) -> Iterator[McNemar]:
    """McNemar's test of the right and wrong reads of every reader who has read cases in both arms."""
    said, true = study.within(group)
    for reader, name in enumerate(study.readers):
        for kind, wanted in (("positive", 1), ("negative", 0)):
            usable = (study.reader == reader) & (said != OPEN) & (true == wanted)
            pairs = study.block([first, second], usable).reads
            if not pairs.size:
                continue
            right = said[pairs[:, 0]] == wanted  # [2, cases]
            gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
            p, exact = mcnemar_test(gained, lost)
            both, neither = int(right.all(axis=0).sum()), int((~right).all(axis=0).sum())
            yield McNemar(name, kind, both, neither, gained, lost, p, exact)


def between_readers(study: Study, arm: str) -> tuple[float, int, int]:
    """Fleiss' kappa of the labels between the readers of an arm, with how many readers and cases.

    NaN with one reader, without a case that all have read, and where all say one and the same label.
    """
    block = study.block([arm], study.severity != OPEN)
    _, readers, cases = block.reads.shape
    if readers < 2 or not cases:
        return math.nan, readers, cases
    said = study.severity[block.reads[0]]  # [readers, cases]
    counts = np.stack([(said == rank).sum(axis=0) for rank in range(len(LABELS))], axis=1)
    return fleiss_kappa(counts), readers, cases
