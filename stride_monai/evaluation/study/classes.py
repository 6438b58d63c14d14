"""Which class was named for which: confusion matrix, precision, recall and F1 of the Bethesda classes."""

from __future__ import annotations

import numpy as np

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.evaluation.figures.confusion import confusion_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted, plain, plain_list
from stride_monai.evaluation.study.part import Part
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.metrics.slide import f1_macro

__all__ = ["classes_part"]


def classes_part(cohort: JudgedCohort) -> Part | None:
    """Of the slides whose grade is known and for which a class was named; None where there are none."""
    truth, predicted = cohort.truth_class.astype(np.int64), cohort.predicted.astype(np.int64)
    known = (truth >= 0) & (predicted >= 0)
    if not known.any():
        return None
    confusion = confusion_matrix(predicted[known], truth[known], len(SLIDE_CLASSES))
    scores, macro = class_scores(confusion), f1_macro(predicted[known], truth[known])
    numbers = {
        "slides": int(known.sum()),
        "f1_macro": plain(macro),
        "accuracy": plain(np.trace(confusion) / confusion.sum()),
        "confusion": confusion.tolist(),
        "classes": {
            name: {
                **{score: plain(getattr(scores, score)[k]) for score in ("precision", "recall", "f1")},
                "slides": int(scores.support[k]),
            }
            for k, name in enumerate(SLIDE_CLASSES)
        },
    }
    rows = [
        (name, f"{int(scores.support[k]):,}", *(_shown(getattr(scores, s)[k]) for s in ("precision", "recall", "f1")))
        for k, name in enumerate(SLIDE_CLASSES)
    ]
    left = int((~known).sum())
    text = [f"F1-macro {macro:.3f} over the classes that occur, accuracy {np.trace(confusion) / confusion.sum():.3f}."]
    if left:
        text.append(f"{counted(left, 'slide')} without a class, or with a lesion of unknown grade, left out.")
    figure = confusion_figure(confusion, SLIDE_CLASSES)
    recalls = ", ".join(f"{name} {value}" for name, value in zip(SLIDE_CLASSES, plain_list(scores.recall), strict=True))
    section = Section(
        "classes",
        "Bethesda classes",
        text=text,
        figures=[
            PageFigure(
                "confusion", figure, "Confusion matrix; color is the share of the true class.", f"Recall: {recalls}"
            )
        ],
        tables=[PageTable("By class (SCC belongs to HSIL)", ("class", "slides", "precision", "recall", "F1"), rows)],
    )
    table = (
        ("true", *SLIDE_CLASSES),
        [(name, *row) for name, row in zip(SLIDE_CLASSES, confusion.tolist(), strict=True)],
    )
    return Part("classes", numbers, section, {"confusion": table})


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
