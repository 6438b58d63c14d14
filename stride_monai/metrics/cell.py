"""Metrics of cell classes in plain numpy: confusion, scores by class, calibration (METHOD section 4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassScores",
    "Reliability",
    "brier_score",
    "calibration",
    "class_scores",
    "confusion_matrix",
    "reliability",
    "share",
]

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


class ClassScores(NamedTuple):
    """Scores of each class, ``[C]``, NaN where a score is not defined.

    Attributes:
        precision: share of the cells called so that are; not defined where none is called so.
        recall: share of the cells that are that are called so; not defined where none is.
        f1: ``2 TP / (2 TP + FP + FN)``; not defined where none is and none is called so.
        support: number of cells of the class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


class Reliability(NamedTuple):
    """How often predictions of a confidence come true, by equally wide bins of the confidence; NaN in empty bins.

    Attributes:
        edges: ``[bins + 1]``, 0 to 1. A bin holds its upper edge, the first both.
        number: ``[bins]``, how many predictions.
        confidence: ``[bins]``, their mean confidence.
        accuracy: ``[bins]``, the share of them that is true.
    """

    edges: NDArray[np.float64]
    number: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Mean distance of confidence and accuracy over all predictions (expected calibration error), 0 to 1."""
        weight = self.number / self.number.sum()
        return float(np.nansum(weight * np.abs(self.confidence - self.accuracy)))


def confusion_matrix(predicted: Ints, truth: Ints, classes: int) -> NDArray[np.int64]:
    """Number of cells, ``[C, C]``: rows are the true class, columns the predicted one.

    Args:
        predicted: class indices ``[N]``. truth: class indices ``[N]``. classes: C, number of classes.

    Raises:
        ValueError: the lists differ in length, or an index is not in 0..C-1.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.ndim != 1 or predicted.shape != truth.shape:
        raise ValueError(f"expected two equal lists of class indices, got {predicted.shape}, {truth.shape}")
    for indices in (predicted, truth):
        if len(indices) and not (indices.min() >= 0 and indices.max() < classes):
            raise ValueError(f"a class index is outside 0..{classes - 1}")
    matrix: NDArray[np.int64] = np.bincount(truth * classes + predicted, minlength=classes**2)
    return matrix.reshape(classes, classes)


def class_scores(confusion: Ints) -> ClassScores:
    """Precision, recall, F1 and support of every class of a :func:`confusion_matrix`.

    F1-macro over the classes that occur (:func:`stride_monai.metrics.slide.f1_macro`) is ``nanmean`` of the F1.
    """
    hits = np.diag(confusion).astype(np.float64)
    called, support = confusion.sum(axis=0), confusion.sum(axis=1)
    return ClassScores(
        precision=share(hits, called),
        recall=share(hits, support),
        f1=share(2 * hits, called + support),
        support=support.astype(np.int64),
    )


def share(part: Any, whole: Any) -> NDArray[np.float64]:
    """``part / whole``, broadcast; NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def reliability(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Confidence against accuracy by bins.

    Args:
        confidence: probabilities ``[N]`` that were given to predictions. correct: ``[N]``, which of them are true.
        bins: number of bins; 15 as in Guo et al. 2017 (https://arxiv.org/abs/1706.04599).

    Raises:
        ValueError: there is no prediction, or the lists differ in length.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if not len(confidence) or confidence.shape != correct.shape:
        raise ValueError(f"expected two equal, non-empty lists, got {confidence.shape}, {correct.shape}")
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    number = np.bincount(places, minlength=bins)
    return Reliability(
        edges=edges,
        number=number,
        confidence=share(np.bincount(places, weights=confidence, minlength=bins), number),
        accuracy=share(np.bincount(places, weights=correct.astype(np.float64), minlength=bins), number),
    )


def calibration(probabilities: Floats, truth: Ints, bins: int = 15) -> tuple[Reliability, list[Reliability]]:
    """Reliability of the most probable class, and of every class by itself.

    Args:
        probabilities: ``[N, C]``. truth: class indices ``[N]``. bins: of the confidence.

    Returns:
        Of the most probable class, whose error is the expected calibration error (Guo et al. 2017), and of the
        probability of each class, whether it is the most probable or not; the mean of their errors is the classwise
        error of Kull et al. 2019 (https://arxiv.org/abs/1910.12656).
    """
    probabilities, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    top = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, bins)
    return top, [reliability(probabilities[:, c], truth == c, bins) for c in range(probabilities.shape[1])]


def brier_score(probabilities: Floats, truth: Ints) -> float:
    """Mean squared distance of probabilities ``[N, C]`` from the truth ``[N]`` as one-hot rows, 0 to 2 (Brier 1950)."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    wanted = np.eye(probabilities.shape[1])[np.asarray(truth)]
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())
