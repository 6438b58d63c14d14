"""The kinds of normal cell, each a function ``rng, pinkness -> Figure`` (METHOD section 10).

Sizes are diameters in um. Leucocytes, red cells and debris are in :mod:`stride_monai.phantom.cells.surroundings`,
benign look-alikes in :mod:`stride_monai.phantom.cells.hard_negatives`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.cells.anatomy import (
    NORMAL_TEXT,
    Maker,
    accent_dyes,
    columnar_part,
    compact_part,
    disc_area,
    inside,
    mature_part,
    nuclear_dyes,
    pale_zone,
    squamous_dyes,
    vesicular,
)
from stride_monai.phantom.cells.figures import Figure, Nucleus, Part
from stride_monai.phantom.cells.hard_negatives import HARD_NEGATIVES
from stride_monai.phantom.cells.measures import A0
from stride_monai.phantom.cells.outlines import ellipse
from stride_monai.phantom.cells.surroundings import debris, neutrophil, red_cell

__all__ = ["A0", "EPITHELIAL", "HARD_NEGATIVES", "NORMAL", "NO_CELLS"]


def _normal(rng: np.random.Generator, kind: str, part: Part, pink: bool) -> Figure:
    dyes = squamous_dyes(rng, pink)
    # The accent comes in any case: cells of the bank lend each other their stain.
    return Figure(kind, NEGATIVE, (part,), dyes, nuclear_dyes(rng), NORMAL_TEXT, accent_dyes(rng, dyes, pink))


def superficial(rng: np.random.Generator, pinkness: float) -> Figure:
    """Large, mostly pink cell with a small dark (pyknotic) nucleus."""
    diameter = rng.uniform(40, 50)
    x, y = inside(rng, 4.5)
    nucleus = Nucleus(
        ellipse(rng, disc_area(rng.uniform(4.2, 6.0)), x=x, y=y, elongation=rng.uniform(1, 1.5), irregularity=0.05),
        density=rng.uniform(0.75, 1.15),
        chromatin=0.06,
        membrane=0.0,
        clearing=0.0,
        softness=rng.uniform(0.45, 0.9),
    )
    part = mature_part(
        rng,
        diameter=diameter,
        nuclei=(nucleus,),
        folded=rng.random() < 0.2,
        crumpled=rng.random() < 0.08,
        granular=rng.random() < 0.2,
        vacuoles=(pale_zone(rng, nucleus.outline),) if rng.random() < 0.25 else (),
    )
    return _normal(rng, "superficial", part, rng.random() < 0.35 + 0.65 * pinkness)


def intermediate(rng: np.random.Generator, pinkness: float) -> Figure:
    """Large pale cell with an open oval nucleus of 7-8 um; a few have two."""
    x, y = inside(rng, 5.0)
    nuclei = [vesicular(rng, disc_area(rng.uniform(7, 8)), x, y, rng.uniform(0.42, 0.74))]
    if rng.random() < 0.02:
        angle = rng.uniform(0, 2 * np.pi)
        x, y = x + 7.6 * np.cos(angle), y + 7.6 * np.sin(angle)
        nuclei.append(vesicular(rng, disc_area(rng.uniform(7, 8)), x, y, nuclei[0].density))
    part = mature_part(
        rng,
        diameter=rng.uniform(30, 50),
        nuclei=tuple(nuclei),
        folded=rng.random() < 0.22,
        crumpled=rng.random() < 0.12,
        granular=rng.random() < 0.05,
        vacuoles=(pale_zone(rng, nuclei[0].outline),) if rng.random() < 0.3 else (),
    )
    return _normal(rng, "intermediate", part, rng.random() < 0.75 * pinkness)


def _small(
    rng: np.random.Generator, kind: str, cell: tuple[float, float], nucleus: tuple[float, float], density: float
) -> Figure:
    diameter, nuclear = rng.uniform(*cell), rng.uniform(*nucleus)
    x, y = inside(rng, (diameter - nuclear) * 0.2)
    body = vesicular(rng, disc_area(nuclear), x, y, rng.uniform(0.42, 0.74))
    return _normal(rng, kind, compact_part(rng, diameter, body, density), rng.random() < 0.3)


def parabasal(rng: np.random.Generator, pinkness: float) -> Figure:
    """Round cell of 15-30 um, dense cytoplasm, nucleus of 8-10 um."""
    return _small(rng, "parabasal", (16, 30), (8, 9.8), 0.36)


def metaplastic(rng: np.random.Generator, pinkness: float) -> Figure:
    """Cobblestone cell of 15-25 um, dense cytoplasm, nucleus about 8 um."""
    return _small(rng, "metaplastic", (16, 25), (7.5, 8.5), 0.44)


def columnar(rng: np.random.Generator, pinkness: float) -> Figure:
    """A tall endocervical cell, 8-12 x 20-30 um."""
    return _normal(rng, "columnar", columnar_part(rng, rng.uniform(0, 2 * np.pi)), False)


EPITHELIAL: Mapping[str, Maker] = {
    "superficial": superficial,
    "intermediate": intermediate,
    "parabasal": parabasal,
    "metaplastic": metaplastic,
    "columnar": columnar,
}
"""Normal epithelial cells."""

NORMAL: Mapping[str, Maker] = {**EPITHELIAL, "neutrophil": neutrophil, "red_cell": red_cell, "debris": debris}
"""The abundant kinds; a slide draws a bank of each and places its members many times, turned and recoloured."""

NO_CELLS: frozenset[str] = frozenset({"debris", "red_cell"})
"""Kinds that no one would annotate as a cell; the truth's sample of normal cells leaves them out."""
