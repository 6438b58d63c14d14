"""What a cell classifier's predictions are worth: scores by class and centre, confusion, calibration; with figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.tables import table_text
from stride_monai.evaluation.figures.confusion import confusion_figure
from stride_monai.evaluation.reports import hash_of, header, new_axes, plain, plain_list
from stride_monai.findings import DISCLAIMER
from stride_monai.metrics.cell import (
    Reliability,
    brier_score,
    calibration,
    class_scores,
    confusion_matrix,
)

__all__ = ["cell_confusion", "cell_figures", "cell_report", "cell_table"]

SCHEMA_VERSION = "1.0"
_ALL = "#1f4e79"
_CLASSES = ("#4c8c4a", "#e0a100", "#e07b00", "#c0392b", "#7d3c98")  # by severity, green to purple
Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


def cell_report(
    probabilities: Probabilities,
    truth: Labels,
    centres: Sequence[str | None] = (),
    training_counts: Mapping[str, int] | None = None,
    split: str = "",
    bins: int = 15,
    weights: Path | str | None = None,
) -> dict[str, Any]:
    """The content of ``cell_report.json``; fields: docs/artifacts.md.

    Args:
        probabilities: ``[N, C]``. truth: class indices ``[N]``.
        centres: of each cell, None where it is not known; empty for a report without a table of centres.
        training_counts: number of training cells by class.
        split: name of what is judged. bins: of the calibration.
        weights: the weights file that is judged.
    """
    names = [*sorted({name for name in centres if name is not None}), None] if len(centres) else []
    groups = {
        "(no centre)" if name is None else name: np.array([one == name for one in centres], bool) for name in names
    }
    counts, confusion = training_counts or {}, cell_confusion(probabilities, truth)
    scores, (top, by_class) = class_scores(confusion), calibration(probabilities, truth, bins)
    return {
        **header(SCHEMA_VERSION),
        "weights_sha256": hash_of(weights),
        "split": split,
        **_summary(probabilities, truth),
        "classes": {
            name: {
                "cells": int(scores.support[k]),
                "training_cells": counts.get(name),
                "precision": plain(scores.precision[k]),
                "recall": plain(scores.recall[k]),
                "f1": plain(scores.f1[k]),
                "ece": plain(by_class[k].error),
            }
            for k, name in enumerate(CELL_CLASSES)
        },
        "confusion": confusion.tolist(),
        "calibration": {
            "bins": bins,
            "ece": plain(top.error),
            "classwise_ece": plain(np.mean([one.error for one in by_class])),
            "brier": plain(brier_score(probabilities, truth)),
            "reliability": {
                "count": top.number.tolist(),
                "confidence": plain_list(top.confidence),
                "accuracy": plain_list(top.accuracy),
            },
        },
        "centres": {name: _summary(probabilities[of], truth[of]) for name, of in groups.items() if of.any()},
        "disclaimer": DISCLAIMER,
    }


def cell_confusion(probabilities: Probabilities, truth: Labels) -> Labels:
    """Confusion matrix of the most probable classes, rows the truth."""
    return confusion_matrix(probabilities.argmax(axis=1), truth, len(CELL_CLASSES))


def _summary(probabilities: Probabilities, truth: Labels) -> dict[str, Any]:
    """What is said of all cells, and of those of each centre."""
    scores = class_scores(cell_confusion(probabilities, truth))
    return {
        "cells": len(truth),
        "f1_macro": plain(np.nanmean(scores.f1)),
        "accuracy": plain((probabilities.argmax(axis=1) == truth).mean()),
        "f1": dict(zip(CELL_CLASSES, plain_list(scores.f1), strict=True)),
    }


def cell_table(probabilities: NDArray[Any], scores: NDArray[Any], boxes: NDArray[Any]) -> bytes:
    """The content of ``<slide id>.cells.csv``; fields: docs/artifacts.md.

    Args:
        probabilities: ``[n, C]`` of the cells of a bag in order of rank. scores: ``[n]``, of the detector.
        boxes: ``[n, 4]``.
    """
    columns = ["rank", "score", "x0", "y0", "x1", "y1", "class", *(f"p_{name}" for name in CELL_CLASSES)]
    rows: list[list[Any]] = [
        [k + 1, *plain_list([score, *box]), CELL_CLASSES[int(p.argmax())], *plain_list(p)]
        for k, (p, score, box) in enumerate(zip(probabilities, scores, boxes, strict=True))
    ]
    return table_text(columns, rows)


def cell_figures(
    probabilities: Probabilities,
    truth: Labels,
    training_counts: Mapping[str, int] | None = None,
    split: str = "",
    bins: int = 15,
) -> dict[str, Figure]:
    """``confusion``, ``f1_by_count`` and ``reliability``; arguments as of :func:`cell_report`.

    Without training counts (or all 0) the cells that are judged are counted instead, and the figure says so.
    """
    confusion = cell_confusion(probabilities, truth)
    counts, where = dict(zip(CELL_CLASSES, confusion.sum(axis=1).tolist(), strict=True)), "judged"
    if training_counts and any(training_counts.values()):
        counts, where = {name: training_counts.get(name, 0) for name in CELL_CLASSES}, "training"
    elif split:
        where = f"judged, {split}"
    return {
        "confusion": confusion_figure(confusion, CELL_CLASSES),
        "f1_by_count": _f1_by_count_figure(class_scores(confusion).f1.tolist(), counts, where),
        "reliability": _reliability_figure(*calibration(probabilities, truth, bins), CELL_CLASSES),
    }


def _f1_by_count_figure(f1: Sequence[float], counts: Mapping[str, int], where: str) -> Figure:
    """F1 of each class against its number of cells, on a logarithmic axis.

    Args:
        f1: ``[C]``, in the order of ``counts``; NaN leaves a class out.
        counts: number of cells by class. where: what they were counted in, e.g. ``training``.
    """
    figure, axes = new_axes(f"cells of the class ({where})", "F1", ylim=(0, 1.05))
    shown = [(k, *item) for k, item in enumerate(counts.items()) if np.isfinite(f1[k])]
    for k, name, count in shown:
        place = max(count, 0.5)  # a class without a cell stands left of 1
        color = _CLASSES[k % len(_CLASSES)]
        axes.plot(place, f1[k], "o", markersize=9, color=color, label=f"{name}: {f1[k]:.3f}, {count:,} cells")
    if shown:
        mean = float(np.mean([f1[k] for k, _, _ in shown]))
        axes.axhline(mean, color="gray", linestyle="--", linewidth=1, label=f"F1-macro: {mean:.3f}")
        axes.legend(loc="best")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    return figure


def _reliability_figure(top: Reliability, by_class: Sequence[Reliability], names: Sequence[str]) -> Figure:
    """Reliability diagrams: on the left the most probable class, on the right the probability of every class.

    A well calibrated classifier lies on the diagonal; below it it is surer than it should be. Bars beneath show how
    many predictions a bin holds.
    """
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    classwise = float(np.mean([one.error for one in by_class]))
    left = figure.add_subplot(
        grid[0, 0], ylabel="share that is right", title=f"most probable class, ECE {top.error:.3f}"
    )
    left.plot(top.confidence, top.accuracy, "o-", color=_ALL)
    right = figure.add_subplot(
        grid[0, 1], ylabel="share that is of the class", title=f"every class, mean ECE {classwise:.3f}"
    )
    for k, (name, one) in enumerate(zip(names, by_class, strict=True)):
        color = _CLASSES[k % len(_CLASSES)]
        right.plot(one.confidence, one.accuracy, "o-", markersize=4, color=color, label=f"{name} {one.error:.3f}")
    right.legend(loc="upper left", fontsize=8)
    for axes in (left, right):
        axes.plot((0, 1), (0, 1), color="gray", linestyle="--", linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    for place, counts in ((0, top.number), (1, sum(one.number for one in by_class))):
        bars = figure.add_subplot(
            grid[1, place], xlabel="confidence", ylabel="predictions", xlim=(0, 1), yscale="symlog"
        )
        bars.bar(top.edges[:-1], counts, width=np.diff(top.edges), align="edge", color="#9db7d1", edgecolor="white")
    return figure
