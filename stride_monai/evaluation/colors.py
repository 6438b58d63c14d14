"""Cells in adversarial colors, and the stain of slides before and after: which slides to show, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES

__all__ = ["ORIGINAL", "AttackedSlide", "chosen_slides", "stain_figure", "triplets_figure"]

ORIGINAL = "original"
"""Name of the colours that a slide has, beside those of the spaces of shifts."""

_TITLES: Mapping[str, str] = {ORIGINAL: "original", "rgb": "RGB-adversarial", "hsv": "HSV-adversarial"}
_COLORS: Mapping[str, str] = {ORIGINAL: "#1f4e79", "rgb": "#c0392b", "hsv": "#4c8c4a"}


class AttackedSlide(NamedTuple):
    """A slide in its own colours (:data:`ORIGINAL`) and in those that each space's shift gives it.

    Attributes:
        centre, slide_class: in words.
        pictures: by colours, uint8 ``[n, S, S, 3]`` of the cells to show.
        stain: by colours, ``[K, 3]``: mean red, green and blue (0..1) of the stained pixels of each cell of the bag, of
            the same pixels in every colour.
        loss: by colours, of the slide.
        shift: by space, ``[3]``.
    """

    centre: str
    slide_class: str
    pictures: Mapping[str, NDArray[np.uint8]]
    stain: Mapping[str, NDArray[np.floating]]
    loss: Mapping[str, float]
    shift: Mapping[str, Sequence[float]]


def chosen_slides(
    items: Sequence[Mapping[str, Any]], centres: Mapping[str, str], most_centres: int, of_each: int
) -> list[tuple[int, str]]:
    """Places in ``items`` of the slides to show, with their centres: positive ones first, then in their order.

    A slide whose centre is not known stands for itself. Centres come in the order in which they are met.

    Args:
        items: with ``slide_id`` and ``label``.
        centres: by slide id.
        most_centres: so many at most. of_each: slides of a centre, at most.
    """
    found: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(centres.get(item["slide_id"], item["slide_id"]), []).append(place)
    negative = SLIDE_CLASSES.index(NEGATIVE)
    return [
        (place, centre)
        for centre, places in list(found.items())[:most_centres]
        for place in sorted(places, key=lambda place: int(items[place]["label"]) == negative)[:of_each]
    ]


def triplets_figure(slides: Sequence[AttackedSlide]) -> Figure:
    """A row for each slide: its cells as they are, and in the colours that raise the slide's loss most, RGB and HSV.

    Below the first pictures stands what was added to red, green and blue, or to hue, saturation and value; above each
    row the slide's centre and class and its loss in each colour.
    """
    cells = len(slides[0].pictures[ORIGINAL])
    figure = Figure(figsize=(1.25 * 3 * cells + 0.3, 1.78 * len(slides)), layout="constrained")
    rows = figure.subfigures(len(slides), 1, squeeze=False)[:, 0]
    for row, slide in zip(rows, slides, strict=True):
        loss = ", ".join(f"{_TITLES[name]} {value:.3f}" for name, value in slide.loss.items())
        row.suptitle(f"{slide.centre}, {slide.slide_class}: loss {loss}", fontsize=8, x=0.01, ha="left")
        grid = row.subplots(1, 3 * cells, squeeze=False)[0]
        for place, axes in enumerate(grid):
            cell, name = place // 3, (*slide.pictures,)[place % 3]
            axes.imshow(slide.pictures[name][cell])
            axes.set(xticks=[], yticks=[])
            if cell == 0 and name != ORIGINAL:
                axes.set_xlabel(" ".join(f"{value:+.3f}" for value in slide.shift[name]), fontsize=6)
            axes.set_title(_TITLES[name], fontsize=7)
    return figure


def stain_figure(slides: Sequence[AttackedSlide]) -> Figure:
    """Red, green and blue of what is stained in each cell, by centre, in the three colours.

    Boxes are quartiles, whiskers the 5th and 95th percentile, over all cells of the slides of a centre.
    """
    centres = list(dict.fromkeys(slide.centre for slide in slides))
    figure = Figure(figsize=(max(5.0, 1.1 * len(centres) + 1.5), 6.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    names = list(slides[0].stain)
    for channel, axes in enumerate(panels):
        axes.set_ylabel(("red", "green", "blue")[channel], fontsize=9)
        axes.grid(axis="y", alpha=0.3)
        for k, name in enumerate(names):
            values = [
                np.concatenate([slide.stain[name][:, channel] for slide in slides if slide.centre == centre])
                for centre in centres
            ]
            boxes = axes.boxplot(
                values,
                positions=np.arange(len(centres)) + 0.26 * (k - (len(names) - 1) / 2),
                widths=0.22,
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                label=_TITLES[name],
                medianprops={"color": "black"},
            )
            for box in boxes["boxes"]:
                box.set(facecolor=_COLORS[name], alpha=0.7)
    panels[0].legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    panels[-1].set_xticks(range(len(centres)), centres, fontsize=8)
    return figure
