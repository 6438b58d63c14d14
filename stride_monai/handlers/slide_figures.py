"""Figures of a slide classifier's evaluation, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.metrics.slide import Threshold

__all__ = ["roc_figure"]

Floats = NDArray[np.float64]


def roc_figure(curves: Mapping[str, tuple[Floats, Floats]], points: Mapping[str, Threshold]) -> Figure:
    """Receiver operating characteristics; grey is chance.

    Args:
        curves: (false positive rate, sensitivity) by name, see :func:`stride_monai.metrics.roc_curve`.
        points: thresholds to mark, by name.
    """
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axes = figure.add_subplot(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.plot((0, 1), (0, 1), color="gray", linestyle="--", linewidth=1)
    for name, (false_positives, sensitivity) in curves.items():
        axes.plot(false_positives, sensitivity, label=name)
    for name, point in points.items():
        text = f"{name}: sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f}"
        axes.plot(1 - point.specificity, point.sensitivity, "o", color="black", markersize=5, label=text)
    axes.legend(loc="lower right", fontsize=8)
    return figure
