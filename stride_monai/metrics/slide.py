"""Metrics of slides and cells in plain numpy (METHOD section 8)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.errors import ManifestError
from stride_monai.metrics.cell import class_scores, confusion_matrix

__all__ = [
    "Threshold",
    "at_threshold",
    "auc",
    "conformal_threshold",
    "f1_macro",
    "positive_scores",
    "positives_needed",
    "roc_curve",
    "sides",
    "specificity_at_sensitivity",
]

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]


class Threshold(NamedTuple):
    """A threshold on the slide score and what it achieves; a slide is called positive at or above it."""

    threshold: float
    sensitivity: float
    specificity: float


def positive_scores(probabilities: Floats) -> NDArray[np.float64]:
    """Slide scores ``[N]``: the summed probability of the positive classes of ``[N, C]`` slide probabilities."""
    positive = [index for index, name in enumerate(SLIDE_CLASSES) if name != NEGATIVE]
    scores: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)[:, positive].sum(axis=1)
    return scores


def sides(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the positive and of the negative slides, in the order given.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth.

    Raises:
        ValueError: the lists differ in length.
        ManifestError: all slides are of one kind, or a score is not finite.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"expected two equal lists, got {values.shape}, {truth.shape}")
    if truth.all() or not truth.any():
        kind = "negative" if truth.all() and len(truth) else "positive"
        raise ManifestError(f"there is no {kind} slide among the {len(truth)} to judge by", "give slides of both kinds")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ManifestError(
            f"{len(wrong)} of {len(values)} slide scores are not finite, the first is number {wrong[0] + 1}",
            "leave those slides out; in a training, lower the learning rate",
        )
    return values[truth], values[~truth]


def auc(scores: Floats, positive: Bools) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth.

    Raises:
        ManifestError: all slides are of one kind, so the area is not defined.
    """
    positives, negatives = sides(scores, positive)
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return float((below + not_above).sum() / 2 / (len(positives) * len(negatives)))


def roc_curve(scores: Floats, positive: Bools) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate and sensitivity, each ``[T + 1]``, from (0, 0) to (1, 1): one point per score that occurs.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth.

    Raises:
        ManifestError: all slides are of one kind.
    """
    ordered = [np.sort(side) for side in sides(scores, positive)]
    thresholds = np.unique(np.concatenate(ordered))[::-1]
    found = [1 - np.searchsorted(side, thresholds, side="left") / len(side) for side in ordered]
    sensitivity, false_positives = (np.concatenate([[0.0], rate]) for rate in found)
    return false_positives, sensitivity


def specificity_at_sensitivity(scores: Floats, positive: Bools, sensitivity: float = 0.95) -> Threshold:
    """The highest threshold whose sensitivity is at least ``sensitivity``; a score that occurs, never interpolated.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth. sensitivity: share of positives to find, (0, 1].

    Raises:
        ManifestError: all slides are of one kind.
    """
    positives = np.sort(sides(scores, positive)[0])[::-1]
    found = np.arange(1, len(positives) + 1) / len(positives)
    return at_threshold(scores, positive, float(positives[np.argmax(found >= sensitivity)]))


def conformal_threshold(
    scores: Floats, positive: Bools, sensitivity: float = 0.95, confidence: float = 0.95
) -> Threshold:
    """The highest threshold whose sensitivity on new slides is at least ``sensitivity``, with this confidence.

    The k-th smallest of the n scores of positive slides has a sensitivity above ``s`` with the probability that at
    least k of n slides fall below the threshold of sensitivity ``s``: P(Bin(n, 1 - s) >= k), whatever the scores'
    distribution. k is the largest for which that is ``confidence`` or more, so the lower Clopper-Pearson bound of what
    it finds here is ``sensitivity`` or more (training-conditional conformal prediction, Vovk 2012; distribution-free
    tolerance limits, Wilks 1941). Equal scores make it find more. New slides have to be drawn as these were.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth. sensitivity, confidence: (0, 1).

    Returns:
        The threshold, and what it achieves on these slides.

    Raises:
        ManifestError: all slides are of one kind, or there are fewer than :func:`positives_needed`.
    """
    positives = np.sort(sides(scores, positive)[0])
    allowed = _misses_allowed(len(positives), sensitivity, confidence)
    if allowed < 0:
        sure = f"{100 * confidence:g} % sure of a sensitivity of {sensitivity:g}"
        raise ManifestError(
            f"{len(positives)} positive slides are too few to be {sure}",
            f"give {positives_needed(sensitivity, confidence)} or more",
        )
    return at_threshold(scores, positive, float(positives[allowed]))


def positives_needed(sensitivity: float = 0.95, confidence: float = 0.95) -> int:
    """The fewest positive slides from which :func:`conformal_threshold` can be told: 59 for 0.95 and 0.95."""
    needed = int(np.floor(np.log(1 - confidence) / np.log(sensitivity)))  # s^n <= 1 - c
    while _misses_allowed(needed, sensitivity, confidence) < 0:
        needed += 1
    return needed


def _misses_allowed(positives: int, sensitivity: float, confidence: float) -> int:
    """The most of n positive slides that may score below a threshold; -1 where even none is no proof."""
    if not 0 < sensitivity < 1 or not 0 < confidence < 1:
        raise ValueError(f"sensitivity ({sensitivity}) and confidence ({confidence}) must be above 0 and below 1")
    misses = np.arange(positives + 1)
    return int((special.bdtr(misses, positives, 1 - sensitivity) <= 1 - confidence).sum()) - 1


def at_threshold(scores: Floats, positive: Bools, threshold: float) -> Threshold:
    """Sensitivity and specificity at a fixed threshold.

    Raises:
        ManifestError: all slides are of one kind.
    """
    positives, negatives = sides(scores, positive)
    return Threshold(threshold, float((positives >= threshold).mean()), float((negatives < threshold).mean()))


def f1_macro(predicted: Ints, truth: Ints) -> float:
    """Mean of the F1 scores of all classes that occur in the prediction or in the truth.

    Args:
        predicted: class indices ``[N]`` (not one-hot rows). truth: class indices ``[N]``.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.ndim != 1 or predicted.shape != truth.shape or not len(truth):
        raise ValueError(f"expected two equal, non-empty lists of class indices, got {predicted.shape}, {truth.shape}")
    confusion = confusion_matrix(predicted, truth, int(max(predicted.max(), truth.max())) + 1)
    return float(np.nanmean(class_scores(confusion).f1))
