"""Figures of a detector's curves, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.files import replacing
from stride_monai.metrics.detection_curves import FROC_RATES, Froc

__all__ = ["froc_figure", "precision_recall_figure", "top_k_figure"]

Floats = NDArray[np.float64]


def precision_recall_figure(path: Path, curves: Mapping[str, tuple[Floats, Floats]]) -> None:
    """Precision against recall as a PNG; ``curves`` holds (recall, precision) by name."""
    figure, axes = _axes("Recall", "Precision")
    for name, (recall, precision) in curves.items():
        axes.plot(recall, precision, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    _save(figure, axes, path, "lower left")


def froc_figure(path: Path, curves: Mapping[str, Froc]) -> None:
    """Sensitivity against false positives per image (logarithmic) as a PNG, by name; dots where the score is read."""
    figure, axes = _axes("False positives per image", "Sensitivity")
    for name, curve in curves.items():
        if len(curve.rates):
            (line,) = axes.plot(curve.rates, curve.sensitivity, label=f"{name}: score {curve.score:.3f}")
            read = np.interp(FROC_RATES, curve.rates, curve.sensitivity)
            axes.plot(FROC_RATES, read, "o", color=line.get_color(), markersize=4)
    axes.set_xscale("log")
    most = max((float(curve.rates[-1]) for curve in curves.values() if len(curve.rates)), default=0.0)
    axes.set(xlim=(0.05, max(most, 16.0)), ylim=(0, 1.02))
    _save(figure, axes, path, "lower right")


def top_k_figure(path: Path, ks: list[int], recall: Mapping[str, Floats]) -> None:
    """Share of the lesions within the K best boxes of a slide against K (logarithmic) as a PNG, by slide class."""
    figure, axes = _axes("K, best boxes of a slide", "Lesions found")
    for name, values in recall.items():
        style = {"color": "black", "linewidth": 2.5} if name == "all" else {}
        axes.plot(ks, values, label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set(xlim=(min(ks), max(ks)), ylim=(0, 1.02))
    _save(figure, axes, path, "lower right")


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Any, path: Path, legend: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=legend)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
