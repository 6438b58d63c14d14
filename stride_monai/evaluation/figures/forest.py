"""Forest plots by centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, GRAY, new_figure, paper_style
from stride_monai.evaluation.statistics import Forest

__all__ = ["forest_figure"]


@paper_style
def forest_figure(forests: Mapping[str, Forest], names: Sequence[str], drawn: Mapping[str, str]) -> Figure:
    """A panel for each kind of share: a line for each centre, the pooled value beneath.

    Args:
        names: of the centres that are drawn, from top to bottom. drawn: how each is written.
    """
    height = 0.95 + 0.19 * (len(names) + 2)
    figure, panels = new_figure(DOUBLE, height, columns=len(forests), sharey=True)
    for axes, (kind, one) in zip(panels, forests.items(), strict=True):
        _panel(axes, kind, one, names)
    panels[0].set_yticks(range(len(names) + 1), [*(drawn[name] for name in names), "Pooled"])
    panels[0].set_ylim(len(names) + 0.9, -0.7)
    return figure


def _panel(axes: Any, kind: str, one: Forest, names: Sequence[str]) -> None:
    most = max((share.total for share in one.centres.values()), default=1)
    for place, name in enumerate(names):
        if name not in one.centres:
            axes.text(0.01, place, "no such slide", va="center", fontsize=6.5, color=GRAY)
            continue
        share = one.centres[name]
        axes.plot((share.wilson.low, share.wilson.high), (place, place), color=COLORS[0], linewidth=0.9)
        size = 2 + 5 * (share.total / most) ** 0.5
        axes.plot(share.estimate, place, "s", color=COLORS[0], markersize=size)
        axes.text(1.03, place, f"{share.hits:,}/{share.total:,}", va="center", fontsize=6.5, color=GRAY, clip_on=False)
    place = len(names)
    if one.prediction.known:
        axes.plot((one.prediction.low, one.prediction.high), (place + 0.35,) * 2, color=GRAY, linewidth=2)
    if one.pooled.known:
        low, middle, high = one.pooled.low, one.pooled.estimate, one.pooled.high
        axes.fill((low, middle, high, middle), (place, place - 0.28, place, place + 0.28), color=COLORS[1])
        axes.axvline(middle, color=COLORS[1], linewidth=0.7, linestyle=":")
    title = kind.capitalize()
    if one.i_squared == one.i_squared:
        title += f", I² {100 * one.i_squared:.0f} %"
    axes.set(xlim=(-0.02, 1.02), xlabel=title)
    axes.axhline(len(names) - 0.5, color=GRAY, linewidth=0.5)
    axes.grid(axis="x")
