"""Shares with their intervals, one line each: by grade, by centre, by subgroup."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, SINGLE, new_figure, paper_style
from stride_monai.evaluation.statistics import Proportion

__all__ = ["grades_figure"]


@paper_style
def grades_figure(shares: Mapping[str, Proportion], label: str = "Share called positive") -> Figure:
    """Points with Wilson intervals, from top to bottom in the order given; of NILM, low is good."""
    figure, axes = new_figure(SINGLE, 0.75 + 0.26 * len(shares))
    for place, (name, found) in enumerate(shares.items()):
        color = COLORS[1] if name == "NILM" else COLORS[0]
        axes.plot((found.wilson.low, found.wilson.high), (place, place), color=color, linewidth=1.2)
        axes.plot(found.estimate, place, "o", color=color, markersize=4.5)
    axes.set_yticks(range(len(shares)), [f"{name} ({found.total:,})" for name, found in shares.items()])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(shares) - 0.5, -0.5), xlabel=label)
    axes.grid(axis="x")
    return figure
