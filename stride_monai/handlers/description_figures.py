"""Figures of an evaluation of descriptions, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stride_monai.metrics.descriptions import TextScores, ThresholdCurve

__all__ = ["scores_figure", "threshold_figure"]


def threshold_figure(curve: ThresholdCurve, threshold: float) -> Figure:
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


def scores_figure(texts: Sequence[str], scores: TextScores) -> Figure:
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
