"""Reliability diagrams and decision curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, GRAY, SINGLE, new_figure, paper_style
from stride_monai.evaluation.statistics import DecisionCurve
from stride_monai.metrics.cell import Reliability

__all__ = ["decision_figure", "reliability_figure"]

_MARKS = ("o-", "s--", "^-.")


@paper_style
def reliability_figure(curves: Mapping[str, Reliability]) -> Figure:
    """Scores against shares, with the number of slides of each bin beneath."""
    sides: dict[str, Any] = {"height_ratios": (4, 1), "sharex": True}
    figure, (axes, bars) = new_figure(SINGLE, SINGLE * 1.2, rows=2, **sides)
    axes.plot((0, 1), (0, 1), color=GRAY, linestyle=":", linewidth=0.8)
    for k, (name, curve) in enumerate(curves.items()):
        some = curve.number > 0
        label = f"{name}, ECE {curve.error:.3f}"
        axes.plot(
            curve.confidence[some], curve.accuracy[some], _MARKS[k % 3], color=COLORS[k], markersize=3.5, label=label
        )
        width = np.diff(curve.edges) / (len(curves) + 0.5)
        bars.bar(curve.edges[:-1] + k * width, curve.number, width=width, align="edge", color=COLORS[k])
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="Share of positive slides")
    axes.grid(True)
    axes.legend(loc="upper left")
    bars.set(xlabel="Slide score", ylabel="Slides", yscale="symlog")
    bars.set_yticks([tick for tick in (1, 10, 100, 1000, 10_000, 100_000) if tick <= 2 * _most(curves)])
    return figure


def _most(curves: Mapping[str, Reliability]) -> int:
    return max(int(curve.number.max()) for curve in curves.values())


@paper_style
def decision_figure(curve: DecisionCurve) -> Figure:
    """Net benefit of acting on the score, of looking at every slide, and at none."""
    figure, axes = new_figure(SINGLE, SINGLE * 0.85)
    axes.fill_between(curve.threshold, curve.low, curve.high, color=COLORS[0], alpha=0.18, linewidth=0)
    axes.plot(curve.threshold, curve.score, color=COLORS[0], label="by the score")
    axes.plot(curve.threshold, curve.everyone, "--", color=COLORS[1], label="every slide is read")
    axes.axhline(0, color="black", linewidth=0.9, label="no slide is read")
    top = float(np.nanmax(curve.high))
    axes.set(xlim=(0, float(curve.threshold[-1])), ylim=(-0.12 * top, 1.08 * top))
    axes.set(xlabel="Risk from which a slide is read", ylabel="Net benefit")
    axes.grid(True)
    axes.legend(loc="best")
    return figure
