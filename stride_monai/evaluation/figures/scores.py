"""Distributions of scores: by diagnosis, and by centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, new_figure, paper_style

__all__ = ["scores_figure"]

_MANY = 400  # slides of one kind, above which quantiles are drawn instead of each slide


@paper_style
def scores_figure(
    groups: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]],
    threshold: float | None,
    label: str,
    drawn: Mapping[str, str] | None = None,
) -> Figure:
    """A line for each group: scores of its NILM slides above, of its positive slides below.

    Few slides are drawn as they are; of many, the range from the 5th to the 95th percentile, the quartiles and the
    median.

    Args:
        groups: by name: scores ``[n]``, and which of them are positive.
        threshold: is marked. label: of the axis of groups. drawn: how each name is written, if not as it is.
    """
    figure, axes = new_figure(DOUBLE, 0.9 + 0.3 * len(groups))
    draw = np.random.default_rng(0)
    for place, (scores, positive) in enumerate(groups.values()):
        for of, color, side in ((~positive, COLORS[0], -0.19), (positive, COLORS[1], 0.19)):
            _line(axes, scores[of], place + side, color, draw)
    if threshold is not None:
        axes.axvline(threshold, color="black", linewidth=0.9, linestyle="--")
    names = [f"{(drawn or {}).get(name, name)} ({len(scores):,})" for name, (scores, _) in groups.items()]
    axes.set_yticks(range(len(groups)), names)
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel="Slide score", ylabel=label)
    axes.grid(axis="x")
    _legend(axes, threshold)
    return figure


def _line(axes: object, scores: NDArray[np.float64], y: float, color: str, draw: np.random.Generator) -> None:
    if not len(scores):
        return
    if len(scores) <= _MANY:
        jitter = y + draw.uniform(-0.1, 0.1, len(scores))
        axes.plot(scores, jitter, "o", markersize=2.4, color=color, alpha=0.6, markeredgewidth=0)  # type: ignore[attr-defined]
        return
    low, q1, middle, q3, high = np.quantile(scores, (0.05, 0.25, 0.5, 0.75, 0.95))
    axes.plot((low, high), (y, y), color=color, linewidth=1)  # type: ignore[attr-defined]
    axes.plot((q1, q3), (y, y), color=color, linewidth=5, solid_capstyle="butt")  # type: ignore[attr-defined]
    axes.plot(middle, y, "|", color="white", markersize=6, markeredgewidth=1.5)  # type: ignore[attr-defined]


def _legend(axes: object, threshold: float | None) -> None:
    entries: Sequence[Line2D] = [
        Line2D([], [], color=color, marker="o", linestyle="-", markersize=3.5, label=name)
        for color, name in ((COLORS[0], "NILM"), (COLORS[1], "positive"))
    ]
    if threshold is not None:
        entries = [*entries, Line2D([], [], color="black", linestyle="--", linewidth=0.9, label="threshold")]
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": len(entries)}
    axes.legend(handles=entries, **place)  # type: ignore[attr-defined]
