"""Figures of a reader study: every reader in the plane of sensitivity and specificity, and what the help changes."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, GRAY, SINGLE, drawable, new_figure, paper_style
from stride_monai.evaluation.readers.summary import StudySummary

__all__ = ["study_figures"]

_SHAPES = ("o", "s", "^", "D", "v", "P")  # tell the arms as the colors do


@paper_style
def study_figures(summary: StudySummary) -> dict[str, Figure]:
    """``readers`` and, with two arms to compare, ``differences``."""
    figures = {"readers": _readers(summary)}
    if any(one.estimate is not None for one, _ in summary.differences):
        figures["differences"] = _differences(summary)
    return figures


def _readers(summary: StudySummary) -> Figure:
    """A mark for each reader and arm, joined by an arrow from the first compared arm to the second."""
    figure: Figure
    figure, axes = new_figure(SINGLE)
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for k, arm in enumerate(summary.study.arms):
        mine = {
            (one.reader, arm): (1 - one.specificity.estimate, one.sensitivity.estimate)
            for one in summary.readers
            if one.arm == arm and math.isfinite(one.specificity.estimate + one.sensitivity.estimate)
        }
        look = {"color": COLORS[k % len(COLORS)], "marker": _SHAPES[k % len(_SHAPES)]}
        x, y = ([place[side] for place in mine.values()] for side in (0, 1))
        axes.plot(x, y, linestyle="none", markeredgecolor="white", label=drawable(arm, f"arm {k + 1}"), **look)
        places |= mine
    for reader in summary.study.readers if summary.compared else ():
        start, end = (places.get((reader, arm)) for arm in summary.compared or ())
        if start is not None and end is not None:
            arrow = {"arrowstyle": "->", "color": GRAY, "shrinkA": 4, "shrinkB": 4, "linewidth": 0.8}
            axes.annotate("", end, start, arrowprops=arrow)
    right = max([0.2, *(x for x, _ in places.values())]) + 0.05
    bottom = min([0.8, *(y for _, y in places.values())]) - 0.05
    axes.set(xlim=(-0.02, min(right, 1.02)), ylim=(max(bottom, -0.02), 1.02))
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
    axes.set_title(f"Readers at {summary.group}", fontsize=9)
    axes.grid()
    axes.legend(loc="lower right")
    return figure


def _differences(summary: StudySummary) -> Figure:
    """The differences with their intervals, and the margin where one is stated."""
    shown = [(one.measure, one.estimate.interval) for one, _ in reversed(summary.differences) if one.estimate]
    figure: Figure
    figure, axes = new_figure(DOUBLE, 0.8 + 0.22 * len(shown))
    for row, (_, interval) in enumerate(shown):
        axes.plot(interval.estimate, row, "o", color=COLORS[0], markersize=4)
        if interval.known:
            axes.plot((interval.low, interval.high), (row, row), color=COLORS[0])
    axes.axvline(0, color="black", linewidth=0.8)
    margins = [said.margin for _, said in summary.differences if said is not None]
    if margins:
        axes.axvline(-margins[0], color=COLORS[1], linestyle="--", linewidth=1, label=f"margin −{margins[0]:g}")
        axes.legend(loc="best")
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    first, second = (drawable(arm, word) for arm, word in zip(summary.compared or (), ("first", "second"), strict=True))
    axes.set_xlabel(f"{second} − {first}")
    axes.grid(axis="x")
    return figure
