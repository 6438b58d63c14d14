"""Figures of adversarial colors hold every picture and every centre; which slides are shown."""

from __future__ import annotations

import numpy as np
import pytest

from stride_monai.evaluation.colors import ORIGINAL, AttackedSlide, chosen_slides, stain_figure, triplets_figure

SPACES = ("rgb", "hsv")


def attacked_slide(seed: int, centre: str) -> AttackedSlide:
    random, names = np.random.default_rng(seed), (ORIGINAL, *SPACES)
    return AttackedSlide(
        centre,
        "HSIL",
        {name: random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8) for name in names},
        {name: random.random((4, 3)) for name in names},
        {name: float(random.random()) for name in names},
        {name: random.normal(size=3).tolist() for name in SPACES},
    )


def test_shows_a_few_slides_of_a_few_centres_positive_ones_first() -> None:
    items = [{"slide_id": f"s{k}", "label": label} for k, label in enumerate((0, 0, 4, 2, 0, 1))]
    centres = {"s0": "north", "s1": "north", "s2": "north", "s3": "south", "s5": "east"}
    assert chosen_slides(items, centres, 2, 1) == [(2, "north"), (3, "south")]
    assert chosen_slides(items, centres, 9, 2) == [(2, "north"), (0, "north"), (3, "south"), (4, "s4"), (5, "east")]


def test_figures_hold_every_picture_and_every_centre() -> None:
    slides = [attacked_slide(k, centre) for k, centre in enumerate(("a", "b", "a"))]
    figure = triplets_figure(slides)
    shown = [axes.images[0].get_array() for row in figure.subfigs for axes in row.axes]
    expected = [slide.pictures[name][cell] for slide in slides for cell in range(2) for name in (ORIGINAL, *SPACES)]
    assert len(shown) == len(expected)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(shown, expected, strict=True))
    panels = stain_figure(slides).axes
    assert len(panels) == 3
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == ["a", "b"]
    median = float(np.median(np.concatenate([slides[0].stain[ORIGINAL][:, 0], slides[2].stain[ORIGINAL][:, 0]])))
    levels = [line.get_ydata()[0] for line in panels[0].lines if len(set(line.get_ydata())) == 1]
    assert any(level == pytest.approx(median) for level in levels)
