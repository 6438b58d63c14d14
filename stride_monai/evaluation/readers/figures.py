"""Figures of a reader study: every reader in the plane of sensitivity and specificity, and what the help changes."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from stride_monai.evaluation.readers.summary import StudySummary
from stride_monai.evaluation.reports import new_axes

__all__ = ["study_figures"]

# Of the palette of Okabe and Ito, which color-blind readers can tell apart; shapes tell the same.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_SHAPES = ("o", "s", "^", "D", "v", "P")


def study_figures(summary: StudySummary) -> dict[str, Figure]:
    """``readers`` and, with two arms to compare, ``differences``."""
    figures = {"readers": _readers(summary)}
    if any(one.estimate is not None for one, _ in summary.differences):
        figures["differences"] = _differences(summary)
    return figures


def _readers(summary: StudySummary) -> Figure:
    """A mark for each reader and arm, joined by an arrow from the first compared arm to the second."""
    figure, axes = new_axes("1 - specificity", "sensitivity", (5.4, 5.2))
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for k, arm in enumerate(summary.study.arms):
        mine = [one for one in summary.readers if one.arm == arm]
        x, y = [1 - one.specificity.estimate for one in mine], [one.sensitivity.estimate for one in mine]
        look = {"color": _COLORS[k % len(_COLORS)], "marker": _SHAPES[k % len(_SHAPES)]}
        axes.plot(x, y, linestyle="none", markersize=7, label=arm, markeredgecolor="white", **look)
        places |= {(one.reader, arm): (a, b) for one, a, b in zip(mine, x, y, strict=True)}
    for reader in summary.study.readers if summary.compared else ():
        ends = [places.get((reader, arm)) for arm in summary.compared or ()]
        if all(end is not None and np.isfinite(end).all() for end in ends):
            axes.annotate(
                "", ends[1], ends[0], arrowprops={"arrowstyle": "->", "color": "#666666", "shrinkA": 5, "shrinkB": 5}
            )
    known = [place for place in places.values() if np.isfinite(place).all()]
    if known:
        right = max(0.2, *(x for x, _ in known)) + 0.05
        bottom = min(0.8, *(y for _, y in known)) - 0.05
        axes.set(xlim=(-0.02, min(right, 1.02)), ylim=(max(bottom, -0.02), 1.02))
    axes.set_title(f"readers at {summary.group}", fontsize=10)
    axes.legend(loc="lower right", fontsize=9)
    return figure


def _differences(summary: StudySummary) -> Figure:
    """The differences with their intervals, and the margin where one is stated."""
    shown = [(one, said) for one, said in summary.differences if one.estimate is not None]
    assert summary.compared is not None
    figure, axes = new_axes(f"{summary.compared[1]} - {summary.compared[0]}", "", (6.8, 1.2 + 0.34 * len(shown)))
    margin = next((said.margin for _, said in shown if said is not None), None)
    for row, (one, _) in enumerate(reversed(shown)):
        interval = one.estimate.interval if one.estimate else None
        assert interval is not None
        axes.plot(interval.estimate, row, "o", color=_COLORS[0])
        if math.isfinite(interval.low):
            axes.plot((interval.low, interval.high), (row, row), color=_COLORS[0], linewidth=1.6)
    axes.axvline(0, color="black", linewidth=0.8)
    if margin is not None:
        axes.axvline(-margin, color=_COLORS[1], linestyle="--", linewidth=1, label=f"margin -{margin:g}")
        axes.legend(loc="best", fontsize=8)
    axes.set_yticks(range(len(shown)), [one.measure for one, _ in reversed(shown)], fontsize=9)
    return figure
