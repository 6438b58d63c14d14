"""An operating point at a new centre: whether its scores are those that the threshold was chosen on, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.joining import JudgedCohort, join_truth
from stride_monai.evaluation.inputs.predictions import Predictions
from stride_monai.evaluation.inputs.results_folder import refuse_other_point
from stride_monai.evaluation.inputs.truth import Truth
from stride_monai.evaluation.operating_points import CONFIDENCE, share
from stride_monai.evaluation.reports import header, plain
from stride_monai.findings import DISCLAIMER
from stride_monai.metrics.slide import positives_needed
from stride_monai.names import readable
from stride_monai.operating_point import OperatingPointFile, Share

__all__ = ["Needed", "Shift", "Transfer", "positives_for_margin", "psi", "shift_of", "transfer", "transfer_report"]

SCHEMA_VERSION = "1.0"
MARGINS = (0.01, 0.02, 0.03)
_BINS = 10
_NAMED = 5
Floats = NDArray[np.float64]


class Shift(NamedTuple):
    """Scores of a new centre against those of the reference.

    Attributes:
        slides, reference: how many.
        quantiles, reference_quantiles: at 5, 25, 50, 75 and 95 %.
        psi: population stability index, see :func:`psi`. psi_by_chance: what 95 % of equal cohorts of these sizes stay
            below.
        ks: greatest distance of the two distribution functions. ks_p: its p-value (Kolmogorov, Smirnov).
    """

    slides: int
    reference: int
    quantiles: Sequence[float]
    reference_quantiles: Sequence[float]
    psi: float
    psi_by_chance: float
    ks: float
    ks_p: float

    @property
    def shifted(self) -> bool:
        """Whether either says more than chance does."""
        return self.psi > self.psi_by_chance or self.ks_p < 1 - CONFIDENCE


class Needed(NamedTuple):
    """Labelled slides to choose the operating point anew by the conformal bound.

    Attributes:
        margin: the sensitivity is at least the target, and at most so much more, with 95 % confidence each; None for
            the fewest slides with which there is a bound at all.
        positives: positive slides. slides: in all, at the share of positives of the new centre; None if not known.
    """

    margin: float | None
    positives: int
    slides: int | None


@dataclass(frozen=True, eq=False)
class Transfer:
    """How an operating point does at a new centre.

    Attributes:
        shifts: of ``all`` scores, and of those of ``negative`` and ``positive`` slides where both truths are known.
        scores, reference_scores: all of them.
        called, reference_called: shares at or above the threshold.
        sensitivity, specificity: at the threshold; None without truth, or without such slides.
        verdict: what the sensitivity says of the target, in words.
    """

    point: OperatingPointFile
    name: str
    shifts: dict[str, Shift]
    scores: Floats
    reference_scores: Floats
    called: Share
    reference_called: Share
    sensitivity: Share | None
    specificity: Share | None
    verdict: str
    needed: Sequence[Needed]
    notes: Sequence[str]


def psi(reference: ArrayLike, new: ArrayLike, bins: int = _BINS) -> tuple[float, float]:
    """Population stability index of scores, and the value that 95 % of equal cohorts of these sizes stay below.

    ``sum (q - p) ln(q / p)`` over bins that hold equal shares p of the reference; half a slide is added to each bin, so
    that an empty one counts. Where nothing has changed it is about chi-square, with one degree of freedom less than
    bins, times ``1 / N + 1 / n`` (Yurdakul 2018): the usual marks of 0.1 and 0.25 mean little for few slides.

    Args:
        reference: ``[N]``. new: ``[n]``, neither empty.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(new, np.float64)
    edges = np.unique(np.quantile(first, np.arange(1, bins) / bins))
    count = len(edges) + 1
    p, q = (
        (np.bincount(np.searchsorted(edges, side, side="right"), minlength=count) + 0.5) / (len(side) + 0.5 * count)
        for side in (first, second)
    )
    chance = stats.chi2.ppf(CONFIDENCE, max(count - 1, 1)) * (1 / len(first) + 1 / len(second))
    return float(((q - p) * np.log(q / p)).sum()), float(chance)


def shift_of(reference: Floats, new: Floats) -> Shift:
    """The shift of scores; both finite and not empty."""
    at = (0.05, 0.25, 0.5, 0.75, 0.95)
    test = stats.ks_2samp(new, reference)
    mine, before = (tuple(np.quantile(side, at).tolist()) for side in (new, reference))
    return Shift(
        len(new), len(reference), mine, before, *psi(reference, new), float(test.statistic), float(test.pvalue)
    )


def positives_for_margin(target: float, margin: float, confidence: float = CONFIDENCE) -> int:
    """Positive slides with which the conformal threshold's sensitivity is at most ``target + margin``, this sure.

    At the k-th smallest of n scores the sensitivity has the law Beta(n - k + 1, k)
    (:func:`~stride_monai.metrics.conformal_threshold` says which k).

    Args:
        target, target + margin: (0, 1).
    """
    if not 0 < target < target + margin < 1:
        raise ValueError(f"target {target:g} and margin {margin:g} leave no room below 1")
    start, size = positives_needed(target, confidence), 1024
    while True:
        n = np.arange(start, start + size)
        misses = stats.binom.ppf(1 - confidence, n, 1 - target)
        misses -= stats.binom.cdf(misses, n, 1 - target) > 1 - confidence
        upper = special.betaincinv(n - misses, misses + 1, confidence)
        enough = (misses >= 0) & (upper <= target + margin)
        if enough.any():
            return int(n[enough.argmax()])
        start, size = start + size, 2 * size


def transfer(
    new: Predictions,
    reference: Predictions,
    point: OperatingPointFile,
    truth: Truth | None = None,
    reference_truth: Truth | None = None,
) -> Transfer:
    """How an operating point does at a new centre.

    Args:
        new, reference: what the system said of the slides of the new centre, and of those that it was chosen on.
        truth, reference_truth: of either, where it is known.

    Raises:
        ManifestError: either has no scores; all slides are the reference's own; they were screened in different ways,
            or otherwise than the operating point holds for.
    """
    scores, before = _scores(new), _scores(reference)
    refuse_other_point(point, [*new.screened, *reference.screened])
    notes = [*new.notes, *(f"reference: {note}" for note in reference.notes), *_shared(new, reference)]
    shifts = {"all": shift_of(before, scores)}
    cohort = None if truth is None else join_truth(new, truth)
    if cohort is not None and reference_truth is not None:
        other = join_truth(reference, reference_truth)
        for name, wanted in (("negative", False), ("positive", True)):
            mine, theirs = cohort.score[cohort.positive == wanted], other.score[other.positive == wanted]
            if len(mine) and len(theirs):
                shifts[name] = shift_of(theirs, mine)
    sensitivity, specificity = (None, None) if cohort is None else _achieved(cohort, point.threshold)
    prevalence = None if cohort is None else float(cohort.positive.mean())
    return Transfer(
        point,
        new.name,
        shifts,
        scores,
        before,
        share(scores >= point.threshold),
        share(before >= point.threshold),
        sensitivity,
        specificity,
        _verdict(sensitivity, point.target),
        _needed(point.target, prevalence),
        notes,
    )


def _shared(new: Predictions, reference: Predictions) -> list[str]:
    """A note on slides of the new centre that are the reference's own: the same id with the same score.

    Raises:
        ManifestError: all of them are.
    """
    before = dict(zip(reference.slide_id, reference.score.tolist(), strict=True))
    scored = [(name, score) for name, score in zip(new.slide_id, new.score.tolist(), strict=True) if score == score]
    same = [name for name, score in scored if before.get(name) == score]
    if not same:
        return []
    if len(same) == len(scored):
        raise ManifestError(
            f"every slide of {new.name} is one of the reference, by its id and score",
            "name the results of the new centre, and those that the operating point was chosen on",
        )
    some = ", ".join(map(readable, same[:_NAMED])) + (", ..." if len(same) > _NAMED else "")
    return [
        f"{len(same):,} of {len(scored):,} slides are of the reference too, by id and score ({some}): "
        "they hide a shift, and what judges an operating point must not have chosen it"
    ]


def _scores(of: Predictions) -> Floats:
    judged = np.array([status == "ok" for status in of.status], bool)
    scores = of.score[judged & np.isfinite(of.score)]
    if not len(scores):
        raise ManifestError(f"{of.name} has no slide with a score", "see the status of its slides")
    return scores


def _achieved(cohort: JudgedCohort, threshold: float) -> tuple[Share | None, Share | None]:
    called, positive = cohort.score >= threshold, cohort.positive
    return (
        share(called[positive]) if positive.any() else None,
        share(~called[~positive]) if not positive.all() else None,
    )


def _verdict(sensitivity: Share | None, target: float) -> str:
    if sensitivity is None:
        return "without positive slides whose diagnosis is known nothing can be said of the sensitivity here"
    if sensitivity.low >= target:
        return f"the sensitivity here is at least the target of {target:g}"
    if sensitivity.high < target:
        return f"the sensitivity here is below the target of {target:g}: choose the operating point anew"
    return f"{sensitivity.of:,} positive slides are too few to tell whether the sensitivity here is {target:g}"


def _needed(target: float, prevalence: float | None) -> list[Needed]:
    if not 0 < target < 1:
        return []
    wanted = [(None, positives_needed(target, CONFIDENCE))]
    wanted += [(margin, positives_for_margin(target, margin)) for margin in MARGINS if target + margin < 1]  # type: ignore[misc]
    return [Needed(margin, n, math.ceil(n / prevalence) if prevalence else None) for margin, n in wanted]


def transfer_report(found: Transfer) -> dict[str, Any]:
    """The content of ``transfer.json``; fields: docs/artifacts.md."""

    def shown(one: Share | None) -> dict[str, Any] | None:
        return None if one is None else {name: plain(value) for name, value in asdict(one).items()}

    return {
        **header(SCHEMA_VERSION),
        "threshold": found.point.threshold,
        "target": found.point.target,
        "shifts": {name: {**one._asdict(), "shifted": one.shifted} for name, one in found.shifts.items()},
        "called_positive": shown(found.called),
        "reference_called_positive": shown(found.reference_called),
        "sensitivity": shown(found.sensitivity),
        "specificity": shown(found.specificity),
        "verdict": found.verdict,
        "needed": [one._asdict() for one in found.needed],
        "notes": list(found.notes),
        "disclaimer": DISCLAIMER,
    }
