"""What a slide classifier's predictions are worth: scores by centre, confusion, ROC; as report, table and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE, SLIDE_CLASSES
from stride_monai.data.tables import table_text
from stride_monai.evaluation.figures.confusion import confusion_figure
from stride_monai.evaluation.figures.roc import RocLine, roc_figure
from stride_monai.evaluation.reports import hash_of, header, plain, plain_list
from stride_monai.evaluation.statistics import auc_interval, roc_band
from stride_monai.findings import DISCLAIMER, OperatingPoint
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.metrics.slide import (
    Threshold,
    at_threshold,
    auc,
    f1_macro,
    positive_scores,
    roc_curve,
    specificity_at_sensitivity,
)

__all__ = ["JudgedSlides", "slide_figures", "slide_report", "slide_table"]

SCHEMA_VERSION = "1.0"
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class JudgedSlides(NamedTuple):
    """Slides and what is said of them.

    Attributes:
        slide_id: ``[N]``. probabilities: ``[N, C]``. label: ``[N]``.
        cells: confusion matrix ``[cell classes, cell classes]`` of the cells whose class is known, rows the truth.
    """

    slide_id: Sequence[str]
    probabilities: Floats
    label: Labels
    cells: Labels

    @property
    def scores(self) -> Floats:
        """Slide scores ``[N]``."""
        return positive_scores(self.probabilities)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """The slides that are not NILM, ``[N]``."""
        positive: NDArray[np.bool_] = self.label != SLIDE_CLASSES.index(NEGATIVE)
        return positive

    @property
    def both_kinds(self) -> bool:
        """Whether there are positive and negative slides."""
        return bool(self.positive.any() and not self.positive.all())

    @property
    def confusion(self) -> Labels:
        """Confusion matrix of the slides, rows the truth."""
        return confusion_matrix(self.probabilities.argmax(axis=1), self.label, len(SLIDE_CLASSES))


def slide_report(
    slides: JudgedSlides,
    threshold: float,
    centres: Mapping[str, str] | None = None,
    split: str = "",
    sensitivity: float = 0.95,
    weights: Path | str | None = None,
) -> dict[str, Any]:
    """The content of ``slide_report.json``; fields: docs/artifacts.md.

    Args:
        slides: of every process. threshold: on the slide score, that is judged.
        centres: centre of each slide by slide id; empty for a report without a table of centres.
        split: name of what is judged.
        sensitivity: the specificity at it is reported beside that at the threshold.
        weights: the weights file that is judged.
    """
    centres = centres or {}
    places = np.array([centres.get(slide_id, "") for slide_id in slides.slide_id])

    def summary(of: NDArray[np.bool_]) -> dict[str, Any]:
        """Of all slides, or of those of one centre; what is not defined without slides of both kinds is None."""
        scores, positive = slides.scores[of], slides.positive[of]
        found: dict[str, Any] = {
            "slides": int(of.sum()),
            "positive": int(positive.sum()),
            "f1_macro": plain(f1_macro(slides.probabilities[of].argmax(axis=1), slides.label[of])),
        }
        if not positive.any() or positive.all():
            return {**found, "auc": None, "at_sensitivity": None, "at_threshold": None}
        points = {
            "at_sensitivity": specificity_at_sensitivity(scores, positive, sensitivity),
            "at_threshold": at_threshold(scores, positive, threshold),
        }
        judged = {name: {key: plain(x) for key, x in point._asdict().items()} for name, point in points.items()}
        return {**found, "auc": plain(auc(scores, positive)), **judged}

    f1 = plain_list(class_scores(slides.confusion).f1)
    return {
        **header(SCHEMA_VERSION),
        "weights_sha256": hash_of(weights),
        "split": split,
        **summary(np.ones(len(places), bool)),
        "classes": {
            name: {"slides": int((slides.label == k).sum()), "f1": f1[k]} for k, name in enumerate(SLIDE_CLASSES)
        },
        "confusion": slides.confusion.tolist(),
        "cells": {
            "known": int(slides.cells.sum()),
            "f1": dict(zip(CELL_CLASSES, plain_list(class_scores(slides.cells).f1), strict=True)),
            "confusion": slides.cells.tolist(),
        },
        "centres": {
            str(name) or "(no centre)": summary(places == name) for name in (np.unique(places) if centres else [])
        },
        "disclaimer": DISCLAIMER,
    }


def slide_table(
    slides: JudgedSlides, points: Sequence[OperatingPoint], centres: Mapping[str, str] | None = None
) -> bytes:
    """The content of ``slides.csv``, by slide id; fields: docs/artifacts.md.

    Args:
        slides: of every process.
        points: of each slide, the operating point as far as it holds for its cells.
        centres: as for :func:`slide_report`.
    """
    centres = centres or {}
    header = ["slide_id", "centre", "label", "class", "score", "call", *(f"p_{name}" for name in SLIDE_CLASSES)]
    scores = slides.scores.tolist()
    rows: list[list[Any]] = [
        [
            slide_id,
            centres.get(slide_id) or "",
            SLIDE_CLASSES[slides.label[k]],
            SLIDE_CLASSES[int(slides.probabilities[k].argmax())],
            round(scores[k], 9),
            points[k].call(scores[k]) or "",
            *(round(float(value), 9) for value in slides.probabilities[k]),
        ]
        for k, slide_id in sorted(enumerate(slides.slide_id), key=lambda one: one[1])
    ]
    return table_text(header, rows)


def slide_figures(slides: JudgedSlides, point: Threshold | None = None) -> dict[str, Figure]:
    """``confusion`` of slides, ``cell_confusion`` if the classes of cells are known, ``roc`` if it is defined.

    Args:
        slides: of every process. point: a threshold to mark, and what it achieves.
    """
    drawn = {"confusion": confusion_figure(slides.confusion, SLIDE_CLASSES)}
    if slides.cells.sum():
        drawn["cell_confusion"] = confusion_figure(slides.cells, CELL_CLASSES)
    if slides.both_kinds:
        drawn["roc"] = _roc_figure(slides, point)
    return drawn


def _roc_figure(slides: JudgedSlides, point: Threshold | None) -> Figure:
    scores, positive = slides.scores, slides.positive
    line = RocLine("", *roc_curve(scores, positive), auc_interval(scores, positive))
    return roc_figure(line, roc_band(scores, positive), (), point)
