"""How well descriptions are chosen for cells, in plain numpy.

Throughout, ``similarity [n, N]`` are the cosines of n cells with N texts, ``target [n, N]`` says which texts describe
them, and a text is kept where its cosine is greater than the threshold (equation 6). What is not defined is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.metrics.cell import share

__all__ = [
    "Agreement",
    "Retrieval",
    "TextScores",
    "ThresholdCurve",
    "agreement",
    "at_prevalence",
    "average_precision",
    "best_threshold",
    "exact_match",
    "micro_scores",
    "retrieval",
    "text_scores",
    "threshold_curve",
]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer[Any]]


class TextScores(NamedTuple):
    """Scores of each text ``[N]``.

    Attributes:
        precision: share of the cells for which it was kept that it describes.
        recall: share of the cells that it describes for which it was kept.
        f1: ``2 TP / (2 TP + FP + FN)``.
        average_precision: over all thresholds, see :func:`average_precision`.
        support: number of cells that it describes.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    support: NDArray[np.int64]


class ThresholdCurve(NamedTuple):
    """Scores at each of some thresholds ``[T]``: micro, macro F1 and the share of cells whose whole set is right."""

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    micro_f1: NDArray[np.float64]
    macro_f1: NDArray[np.float64]
    exact: NDArray[np.float64]


class Agreement(NamedTuple):
    """How the kept descriptions go together with the predicted class.

    Attributes:
        texts: share of the kept texts that the predicted class lists.
        cells: share of the cells with a kept text all of whose kept texts the predicted class lists.
        contradicted: share of the cells with a kept text none of whose kept texts it lists.
        silent: share of all cells for which no text was kept.
    """

    texts: float
    cells: float
    contradicted: float
    silent: float


class Retrieval(NamedTuple):
    """Search in both directions, by the order of the cosines alone.

    Attributes:
        text_precision_at_1: of the cells, the share whose nearest text describes them.
        text_map: mean over cells of the average precision of the texts, nearest first.
        cell_precision_at_10: mean over texts of the share of right cells among the ten nearest (of all, where a text
            describes fewer than ten, at most that share can be reached).
        cell_map: mean over texts of the average precision of the cells, nearest first.
    """

    text_precision_at_1: float
    text_map: float
    cell_precision_at_10: float
    cell_map: float


def _mean(values: Any) -> float:
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def average_precision(scores: Floats, positive: Bools) -> float:
    """Mean of the precision over the positives, each at its own score; ties count together.

    Args:
        scores: ``[n]``. positive: ``[n]``.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each group of equal scores
    if len(hits) == 0 or hits[-1] == 0:
        return float("nan")
    found = hits[last]
    return float((np.diff(found, prepend=0) * found / (last + 1)).sum() / hits[-1])


def text_scores(similarity: Floats, target: Bools, threshold: float) -> TextScores:
    """Scores of each text."""
    kept, wanted = similarity > threshold, target.astype(np.bool_)
    hits, said, there = (kept & wanted).sum(0), kept.sum(0), wanted.sum(0)
    each = [average_precision(similarity[:, k], wanted[:, k]) for k in range(wanted.shape[1])]
    return TextScores(share(hits, said), share(hits, there), share(2 * hits, said + there), np.array(each), there)


def micro_scores(similarity: Floats, target: Bools, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 over all pairs of cells and texts."""
    kept, wanted = similarity > threshold, target.astype(np.bool_)
    hits, said, there = int((kept & wanted).sum()), int(kept.sum()), int(wanted.sum())
    return float(share(hits, said)), float(share(hits, there)), float(share(2 * hits, said + there))


def exact_match(similarity: Floats, target: Bools, threshold: float) -> float:
    """Share of the cells for which exactly the right texts are kept."""
    return _mean(((similarity > threshold) == target.astype(np.bool_)).all(axis=1))


def at_prevalence(lesion: Bools, prevalence: float) -> NDArray[np.float64]:
    """Weights ``[n]`` of cells, 1 on average, under which a share of ``prevalence`` of them are lesions.

    A sample that was drawn for training holds far more lesions than a slide does. What is right most often on it says
    too much on a slide.

    Args:
        lesion: ``[n]``, which cells are lesions.
        prevalence: share of lesions among the cells that will be described, above 0 and below 1.

    Raises:
        ManifestError: there are no lesions, or nothing else.
        ConfigError: the prevalence is no share.
    """
    if not 0 < prevalence < 1:
        raise ConfigError(f"a prevalence of {prevalence:g} is no share", "give one above 0 and below 1")
    share_here = float(np.mean(lesion)) if len(lesion) else 0.0
    if not 0 < share_here < 1:
        raise ManifestError(
            "validation cells that are all lesions, or all normal, cannot be weighted to a prevalence",
            "describe cells of both kinds, or leave out the prevalence",
        )
    return np.where(lesion, prevalence / share_here, (1 - prevalence) / (1 - share_here))


def best_threshold(similarity: Floats, target: Bools, weight: Floats | None = None) -> float:
    """The threshold with the highest micro F1; of several the highest.

    It lies half-way to the next lower cosine, rounded to float32 so that the weights can hold it without keeping other
    texts. One threshold serves all texts, as in equation 6.

    Args:
        weight: ``[n]``, how much each cell counts (:func:`at_prevalence`); all alike by default.

    Raises:
        ManifestError: there is no cell, no text is right for any, or a cosine is non-finite.
    """
    scores = np.asarray(similarity, np.float32).reshape(-1)
    wanted = np.asarray(target, np.bool_).reshape(-1)
    if not wanted.any() or not np.isfinite(scores).all():
        raise ManifestError(
            "no threshold can be tuned: no validation cell has a description, or the training has diverged",
            "describe validation cells; if they are, lower the learning rate",
        )
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    counts = np.ones(len(scores)) if weight is None else np.repeat(np.asarray(weight, np.float64), np.shape(target)[1])
    hits = np.cumsum(counts[order] * wanted[order])[last]
    best = int(np.argmax(2 * hits / (np.cumsum(counts[order])[last] + (counts * wanted).sum())))
    lowest = ranked[last[best]]
    lower = last[best] + 1
    below = ranked[lower] if lower < len(ranked) else np.nextafter(lowest, np.float32(-2))
    middle = np.float32((float(lowest) + float(below)) / 2)
    return float(middle if middle < lowest else below)


def threshold_curve(similarity: Floats, target: Bools, thresholds: Sequence[float] | Floats) -> ThresholdCurve:
    """Scores over thresholds."""
    points = np.asarray(thresholds, np.float64)
    rows = []
    for threshold in points:
        precision, recall, f1 = micro_scores(similarity, target, float(threshold))
        kept, wanted = similarity > threshold, target.astype(np.bool_)
        macro = _mean(share(2 * (kept & wanted).sum(0), kept.sum(0) + wanted.sum(0)))
        rows.append((precision, recall, f1, macro, exact_match(similarity, target, float(threshold))))
    return ThresholdCurve(points, *np.array(rows, np.float64).reshape(len(points), 5).T)


def agreement(kept: Bools, allowed: Bools, predicted: Ints) -> Agreement:
    """How the kept texts go together with the predicted class.

    Args:
        kept: ``[n, N]``. allowed: ``[C, N]``, which texts each class lists. predicted: class of each cell ``[n]``.
    """
    fitting = kept & allowed[predicted]
    speaking = kept.any(axis=1)
    return Agreement(
        texts=float(share(fitting.sum(), kept.sum())),
        cells=float(share((speaking & (fitting == kept).all(axis=1)).sum(), speaking.sum())),
        contradicted=float(share((speaking & ~fitting.any(axis=1)).sum(), speaking.sum())),
        silent=_mean(~speaking),
    )


def retrieval(similarity: Floats, target: Bools) -> Retrieval:
    """Search for texts by cells, and for cells by texts; cells and texts without a partner are left out."""
    wanted = target.astype(np.bool_)
    cells, texts = wanted.any(axis=1), wanted.any(axis=0)
    nearest = similarity.argmax(axis=1)
    top = np.argsort(-similarity, axis=0, kind="stable")[:10]
    return Retrieval(
        text_precision_at_1=_mean(wanted[np.arange(len(wanted)), nearest][cells]),
        text_map=_mean([average_precision(similarity[i], wanted[i]) for i in np.flatnonzero(cells)]),
        cell_precision_at_10=_mean(np.take_along_axis(wanted, top, axis=0).mean(axis=0)[texts]),
        cell_map=_mean([average_precision(similarity[:, k], wanted[:, k]) for k in np.flatnonzero(texts)]),
    )
