"""The STARD flow of slides as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, GRAY, new_figure, paper_style

__all__ = ["Box", "flow_figure"]

_LINE = 0.17  # inches
_GAP = 0.34
_BESIDE, _PAD = 0.66, 0.0105  # where the text of a box at the side begins, and how far the box goes beyond it
_SIDE = {"fontsize": 7.5}


class Box(NamedTuple):
    """A step: its text, what leaves to the side after it, and what it parts into (the last one alone)."""

    text: str
    out: Sequence[str] = ()
    into: Sequence[str] = ()


@paper_style
def flow_figure(boxes: Sequence[Box]) -> Figure:
    """Boxes from top to bottom, each with what is left out beside it."""
    heights = [max(0.5, _LINE * (1 + len(box.text.split("\n"))), _LINE * (2 + len(box.out))) for box in boxes]
    parts = [part.count("\n") + 2 for part in boxes[-1].into]
    last = _LINE * max(parts, default=0)
    total = sum(heights) + _GAP * len(heights) + last
    figure, axes = new_figure(DOUBLE * 0.8, total)
    axes.set(xlim=(0, 1), ylim=(0, total))
    axes.axis("off")
    middle, top = 0.34, total
    above = total
    for place, (box, height) in enumerate(zip(boxes, heights, strict=True)):
        centre = top - height / 2
        if place:
            _arrow(axes, (middle, above), (middle, centre + _half(box.text)))
        if box.out:
            _arrow(axes, (middle, centre), (_BESIDE - _PAD, centre))
            _box(axes, _BESIDE, centre, "Not analysed\n" + "\n".join(box.out), GRAY, "left")
        _box(axes, middle, centre, box.text, COLORS[0])
        above = centre - _half(box.text)
        top -= height + _GAP
    for x, text, size in zip((0.18, 0.52), boxes[-1].into, parts, strict=False):
        centre = last - _LINE * size / 2
        _arrow(axes, (middle, above), (x, centre + _half(text)))
        _box(axes, x, centre, text, COLORS[0])
    return figure


def _half(text: str) -> float:
    """Half the height of a box, inches."""
    return 0.068 * (text.count("\n") + 1) + 0.07


def _box(axes: object, x: float, y: float, text: str, color: str, side: str = "center") -> None:
    style = {"boxstyle": "round,pad=0.5,rounding_size=0.15", "facecolor": "white", "edgecolor": color, "linewidth": 1}
    axes.text(x, y, text, ha=side, va="center", multialignment=side, bbox=style, zorder=3, **_SIDE)  # type: ignore[attr-defined]


def _arrow(axes: object, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": GRAY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=look)  # type: ignore[attr-defined]
