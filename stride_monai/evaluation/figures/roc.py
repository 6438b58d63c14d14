"""ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.evaluation.figures.style import COLORS, GRAY, SINGLE, new_figure, paper_style
from stride_monai.evaluation.statistics import AtSensitivity, Interval, RocBand
from stride_monai.metrics.slide import Threshold

__all__ = ["RocLine", "curves_figure", "roc_figure"]

_STYLES = ("-", "--", "-.", ":")


class RocLine(NamedTuple):
    """A curve: false positive rate and sensitivity, ``[P]`` each, and its area."""

    name: str
    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    auc: Interval


def _axes() -> tuple[Figure, Any]:
    figure, axes = new_figure(SINGLE)
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.plot((0, 1), (0, 1), color=GRAY, linestyle=":", linewidth=0.8)
    axes.grid(True)
    return figure, axes


def _area(line: RocLine) -> str:
    return line.auc.text().replace("-", "–")  # of areas, a range


@paper_style
def roc_figure(line: RocLine, band: RocBand, points: Sequence[AtSensitivity], call: Threshold | None) -> Figure:
    """A curve with its band, the thresholds of wanted sensitivities, and the operating point."""
    figure, axes = _axes()
    axes.fill_between(band.false_positive_rate, band.low, band.high, color=COLORS[0], alpha=0.18, linewidth=0)
    axes.plot(line.false_positive_rate, line.sensitivity, color=COLORS[0], label=f"AUC {_area(line)}")
    for marker, point in zip("^sv", points, strict=False):
        text = f"sensitivity {point.point.sensitivity:.3f}, specificity {point.point.specificity:.3f}"
        style = {"color": "white", "markeredgecolor": COLORS[0], "markersize": 4.5, "linestyle": "none"}
        axes.plot(1 - point.point.specificity, point.point.sensitivity, marker, label=text, **style)
    if call is not None:
        text = f"operating point: {call.sensitivity:.3f}, {call.specificity:.3f}"
        axes.plot(1 - call.specificity, call.sensitivity, "o", color=COLORS[1], markersize=5, label=text)
    axes.legend(loc="lower right")
    return figure


@paper_style
def curves_figure(lines: Sequence[RocLine]) -> Figure:
    """Curves of several groups of lesions, or of several systems on the same slides."""
    figure, axes = _axes()
    for k, line in enumerate(lines):
        style = {"color": COLORS[k % len(COLORS)], "linestyle": _STYLES[k % len(_STYLES)]}
        axes.plot(line.false_positive_rate, line.sensitivity, label=f"{line.name}: {_area(line)}", **style)
    axes.legend(loc="lower right", title="AUC (95 % interval)")
    return figure
