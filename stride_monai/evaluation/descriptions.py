"""How well descriptions are chosen for cells: scores by text and class, retrieval, threshold curve; with figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS
from stride_monai.evaluation.reports import hash_of, header, plain, plain_list
from stride_monai.findings import DISCLAIMER
from stride_monai.metrics.descriptions import (
    TextScores,
    ThresholdCurve,
    agreement,
    exact_match,
    micro_scores,
    retrieval,
    text_scores,
    threshold_curve,
)

__all__ = ["JudgedCells", "described_cells", "description_figures", "description_report", "kept_report"]

SCHEMA_VERSION = "1.0"
_CURVE_POINTS = 101
_SCORES = ("precision", "recall", "f1", "average_precision")
Bools = NDArray[np.bool_]


class JudgedCells(NamedTuple):
    """Cells and what is said of them.

    Attributes:
        similarity: ``[n, N]``, cosines with the texts. right: ``[n, N]``, the texts that are right for a cell.
        truth: ``[n]``, class. predicted: ``[n]``, class by the encoder's head.
    """

    similarity: NDArray[np.floating[Any]]
    right: Bools
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def of(self, chosen: Bools) -> JudgedCells:
        """Some of the cells."""
        return JudgedCells(self.similarity[chosen], self.right[chosen], self.truth[chosen], self.predicted[chosen])

    @property
    def curve(self) -> ThresholdCurve:
        """Scores at thresholds that lie evenly between the least and the greatest cosine."""
        thresholds = np.linspace(float(self.similarity.min()), float(self.similarity.max()), _CURVE_POINTS)
        return threshold_curve(self.similarity, self.right, thresholds)


def _allowed_texts(texts: Sequence[str]) -> Bools:
    """Which of the texts each class lists: bool ``[cell classes, N]``."""
    return np.array([[text in DESCRIPTIONS_BY_CLASS[name] for text in texts] for name in CELL_CLASSES])


def description_report(
    judged: JudgedCells,
    texts: Sequence[str],
    threshold: float,
    encoder_sha256: str,
    split: str = "",
    undescribed: str = "",
    weights: Path | str | None = None,
) -> dict[str, Any]:
    """The content of ``description_report.json``; fields: docs/artifacts.md.

    Args:
        judged: the cells. texts: ``N``. threshold: on the cosine, above which a text is kept.
        encoder_sha256: of the image encoder that the aligner was trained on.
        split: name of what is judged. undescribed: what was done with cells without descriptions.
        weights: the aligner's file.
    """
    allowed = _allowed_texts(texts)

    def summary(cells: JudgedCells) -> dict[str, Any]:
        """What is said of all cells, of those of each class, and of those whose class is right or wrong."""
        micro = micro_scores(cells.similarity, cells.right, threshold)
        return {
            "cells": len(cells.truth),
            "micro": dict(zip(("precision", "recall", "f1"), plain_list(micro), strict=True)),
            "exact_match": plain(exact_match(cells.similarity, cells.right, threshold)),
            "class_agreement": _facts(agreement(cells.similarity > threshold, allowed, cells.predicted)),
        }

    wrong = judged.truth != judged.predicted
    scores = text_scores(judged.similarity, judged.right, threshold)
    kept = judged.similarity > threshold
    return {
        **header(SCHEMA_VERSION),
        "weights_sha256": hash_of(weights),
        "encoder_sha256": encoder_sha256,
        "split": split,
        "undescribed": undescribed,
        "threshold": threshold,
        **summary(judged),
        "macro": {
            name: plain(np.nanmean(np.where(scores.support > 0, getattr(scores, name), np.nan))) for name in _SCORES
        },
        "descriptions": {
            text: {
                "cells": int(scores.support[k]),
                "kept": int(kept[:, k].sum()),
                **{name: plain(getattr(scores, name)[k]) for name in _SCORES},
            }
            for k, text in enumerate(texts)
        },
        "classes": {name: summary(judged.of(judged.truth == k)) for k, name in enumerate(CELL_CLASSES)},
        "right_class": summary(judged.of(~wrong)),
        "wrong_class": summary(judged.of(wrong)),
        "retrieval": _facts(retrieval(judged.similarity, judged.right)),
        "curve": {name: plain_list(column) for name, column in judged.curve._asdict().items()},
        "disclaimer": DISCLAIMER,
    }


def kept_report(judged: JudgedCells, texts: Sequence[str]) -> dict[str, Any]:
    """What a :func:`description_report` says of texts that were kept or not, without their cosines.

    Args:
        judged: with 1 as the similarity of a text that was kept, and 0 of one that was not. texts: ``N``.
    """
    whole = description_report(judged, texts, 0.5, "")
    facts = ("cells", "micro", "exact_match", "class_agreement", "macro", "descriptions", "classes")
    kept = {name: whole[name] for name in (*facts, "right_class", "wrong_class")}
    for scores in (kept["macro"], *kept["descriptions"].values()):
        del scores["average_precision"]  # it needs an order
    return kept


def _facts(values: Any) -> dict[str, float | None]:
    return {name: plain(value) for name, value in values._asdict().items()}


def described_cells(
    cells: JudgedCells, scores: NDArray[Any], boxes: NDArray[Any], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """The ``cells`` of ``<slide id>.descriptions.json``; fields: docs/artifacts.md.

    A text that the predicted class does not list is kept all the same: it is marked, not hidden.

    Args:
        cells: of a bag in order of rank; ``truth`` is -1 where it is not known, ``right`` the texts that are kept.
        scores: ``[n]``, of the detector. boxes: ``[n, 4]``.
        texts: ``N``.
    """
    allowed, described = _allowed_texts(texts), []
    for k, (similarity, predicted) in enumerate(zip(cells.similarity, cells.predicted.tolist(), strict=True)):
        nearest = sorted(np.flatnonzero(cells.right[k]).tolist(), key=lambda n: -similarity[n])
        known = int(cells.truth[k])
        described.append(
            {
                "rank": k + 1,
                "score": plain(scores[k]),
                "box": plain_list(boxes[k]),
                "class": CELL_CLASSES[predicted],
                "known_class": None if known < 0 else CELL_CLASSES[known],
                "descriptions": [
                    {
                        "text": texts[n],
                        "similarity": plain(similarity[n]),
                        "fits_class": bool(allowed[predicted, n]),
                    }
                    for n in nearest
                ],
                "similarities": plain_list(similarity),
            }
        )
    return described


def description_figures(judged: JudgedCells, texts: Sequence[str], threshold: float) -> dict[str, Figure]:
    """``description_curves`` and ``description_scores``; arguments as of :func:`description_report`."""
    scores = text_scores(judged.similarity, judged.right, threshold)
    return {
        "description_curves": _threshold_figure(judged.curve, threshold),
        "description_scores": _scores_figure(texts, scores),
    }


def _threshold_figure(curve: ThresholdCurve, threshold: float) -> Figure:
    """Scores over the threshold on the cosine, with the stored one marked; precision against recall on the right."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("precision", "recall", "micro_f1", "macro_f1", "exact"):
        left.plot(curve.threshold, getattr(curve, name), label=name.replace("_f1", " F1").replace("exact", "exact set"))
    left.axvline(threshold, color="gray", linestyle="--", linewidth=1, label=f"stored threshold {threshold:.3f}")
    left.set(xlabel="threshold on the cosine", ylabel="score", ylim=(0, 1.02))
    left.legend(loc="best", fontsize=8)
    right.plot(curve.recall, curve.precision, color="#1f4e79")
    right.set(xlabel="recall (all texts)", ylabel="precision (all texts)", xlim=(0, 1.02), ylim=(0, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _scores_figure(texts: Sequence[str], scores: TextScores) -> Figure:
    """F1 and average precision of each text, the worst at the bottom; texts of no cell are left out."""
    order = [int(k) for k in np.argsort(scores.f1) if scores.support[k]]
    figure = Figure(figsize=(10, 1.5 + 0.4 * len(order)), layout="constrained")
    axes = figure.add_subplot(xlabel="score", xlim=(0, 1))
    places = np.arange(len(order))
    axes.barh(places + 0.2, scores.f1[order], height=0.38, color="#1f4e79", label="F1 at the threshold")
    axes.barh(places - 0.2, scores.average_precision[order], height=0.38, color="#9db7d1", label="average precision")
    names = [texts[k] if len(texts[k]) < 50 else f"{texts[k][:47]}..." for k in order]
    axes.set_yticks(places, [f"{name} ({scores.support[k]:,})" for name, k in zip(names, order, strict=True)])
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="lower right")
    return figure
