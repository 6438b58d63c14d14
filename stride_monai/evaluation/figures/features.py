"""Slides as points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.evaluation.figures.style import COLORS, SINGLE, new_figure, paper_style

__all__ = ["scatter_figure"]

_MARKS = "os^vDPX*"


@paper_style
def scatter_figure(
    places: NDArray[np.float64], groups: Mapping[str, NDArray[np.bool_]], by: str, drawn: Mapping[str, str]
) -> Figure:
    """Points ``[N, 2]`` by group; color and form tell the groups apart. ``drawn``: how each name is written."""
    figure, axes = new_figure(SINGLE * 1.3, SINGLE * 1.05)
    size = 14 if len(places) < 500 else 5
    for k, (name, of) in enumerate(groups.items()):
        label = f"{drawn.get(name, name)} ({int(of.sum()):,})"
        style = {"marker": _MARKS[k % len(_MARKS)], "color": COLORS[k % len(COLORS)], "linewidths": 0}
        axes.scatter(*places[of].T, s=size, alpha=0.75, label=label, rasterized=len(places) > 2000, **style)
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.4, title=by.capitalize())
    return figure
