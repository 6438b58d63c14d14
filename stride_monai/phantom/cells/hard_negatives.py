"""Benign look-alikes, each a function ``rng, pinkness -> Figure`` (METHOD section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.cells.anatomy import (
    Maker,
    columnar_part,
    compact_part,
    disc_area,
    inside,
    mature_part,
    moved,
    packed,
    spots,
    squamous,
    vesicular,
)
from stride_monai.phantom.cells.figures import Crease, Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.measures import A0
from stride_monai.phantom.cells.outlines import Fold, Outline, ellipse
from stride_monai.phantom.cells.surroundings import candida, mucus, neutrophil_part

__all__ = ["HARD_NEGATIVES", "RARE"]


def reactive(rng: np.random.Generator, pinkness: float) -> Figure:
    """Nucleus of 1.5-2 A0, smooth and pale: enlarged but benign; sometimes two or more of them."""
    count = int(rng.choice((1, 2, 3, 4), p=(0.8, 0.15, 0.03, 0.02)))
    x, y = inside(rng, 3.0)
    turn = rng.uniform(0, 2 * np.pi)
    distance = 0.0 if count == 1 else 4.9 / np.sin(np.pi / max(count, 2)) * rng.uniform(0.85, 1.1)
    density, chromatin = rng.uniform(0.38, 0.58), rng.uniform(0.06, 0.18)
    nuclei = []
    for i in range(count):
        at = turn + 2 * np.pi * i / count
        outline = ellipse(
            rng,
            A0 * rng.uniform(1.5, 2.0),
            x=x + distance * np.cos(at),
            y=y + distance * np.sin(at),
            elongation=rng.uniform(1, 1.25),
            irregularity=0.02,
        )
        clearing, number = rng.uniform(0.05, 0.35), int(rng.integers(1, 3)) if rng.random() <= 0.3 else 0
        nucleoli = spots(rng, number, outline.reach * 0.4, (0.5, 0.95), outline.x, outline.y)
        nuclei.append(Nucleus(outline, density, chromatin, False, 0.14, clearing, nucleoli, softness=0.8))
    if count == 1 and rng.random() < 0.3:
        # Repair: a smaller, denser metaplastic-like cell.
        part = compact_part(rng, rng.uniform(20, 28), nuclei[0], 0.36)
    else:
        part = mature_part(rng, diameter=rng.uniform(34, 48), nuclei=tuple(nuclei))
    return squamous(rng, "reactive", NEGATIVE, (part,), rng.random() < 0.8 * pinkness)


def naked_nucleus(rng: np.random.Generator, pinkness: float) -> Figure:
    """A nucleus that lost its cytoplasm; at times some of them, or with shreds left."""
    count = 1 if rng.random() < 0.75 else int(rng.integers(2, 6))
    parts = []
    for x, y in packed(rng, count, 11.0):
        nucleus = vesicular(rng, disc_area(rng.uniform(6.5, 9.0)), x, y, rng.uniform(0.4, 0.8))
        parts.append(Part(None, (replace(nucleus, softness=rng.uniform(0.5, 1.8)),)))
    return squamous(rng, "naked_nucleus", NEGATIVE, parts, False)


def swollen_nucleus(rng: np.random.Generator, pinkness: float) -> Figure:
    """A naked nucleus of 9 to 15 um, swollen or dried: as large as that of a lesion, and benign; at times some of them.

    Smears of atrophic epithelium, and such as dried before they were fixed, are strewn with them.
    """
    count = 1 if rng.random() < 0.8 else int(rng.integers(2, 5))
    density, softness = rng.uniform(0.2, 0.62), rng.uniform(0.4, 2.0)
    parts = []
    for x, y in packed(rng, count, 17.0):
        outline = ellipse(
            rng,
            disc_area(rng.uniform(9.0, 15.0)),
            x=x,
            y=y,
            elongation=rng.uniform(1.0, 1.9),
            irregularity=rng.uniform(0.01, 0.08),
        )
        chromatin, membrane, clearing = rng.uniform(0.1, 0.4), rng.uniform(0.0, 0.16), rng.uniform(-0.1, 0.3)
        nucleus = Nucleus(outline, density, chromatin, False, membrane, clearing, softness=softness)
        parts.append(Part(None, (nucleus,)))
    return squamous(rng, "swollen_nucleus", NEGATIVE, parts, False)


def halo_only(rng: np.random.Generator, pinkness: float) -> Figure:
    """A perinuclear halo (inflammation, glycogen) around a normal nucleus: not LSIL."""
    nucleus = vesicular(rng, disc_area(rng.uniform(7, 8.2)), 0, 0, rng.uniform(0.42, 0.8))
    halo = Halo(
        ellipse(
            rng,
            nucleus.outline.area * rng.uniform(2.2, 7.0),
            x=rng.normal(0, 0.8),
            y=rng.normal(0, 0.8),
            elongation=rng.uniform(1, 1.5),
            irregularity=0.1,
        ),
        clearing=rng.uniform(0.4, 0.9),
        rim=rng.uniform(0.0, 0.12),
        sharpness=rng.uniform(0.8, 2.5),
    )
    part = mature_part(
        rng,
        diameter=rng.uniform(30, 46),
        nuclei=(nucleus,),
        vacuoles=(halo,),
        density=rng.uniform(0.25, 0.5),
    )
    return squamous(rng, "halo_only", NEGATIVE, (part,), rng.random() < pinkness)


def rolled(rng: np.random.Generator, pinkness: float) -> Figure:
    """A mature cell folded over its own nucleus or crumpled around it: dark by thickness, not by atypia."""
    nucleus = vesicular(rng, disc_area(rng.uniform(6.0, 8.0)), 0, 0, rng.uniform(0.5, 0.85))
    diameter, crumpled = rng.uniform(34, 50), rng.random() < 0.4
    density = rng.uniform(0.25, 0.5)
    part = mature_part(rng, diameter=diameter, nuclei=(nucleus,), density=density, crumpled=crumpled)
    assert part.cell is not None
    if not crumpled:
        fold = Fold(rng.uniform(0, 2 * np.pi), diameter * rng.uniform(0.1, 0.16), rng.normal(0, 0.012))
        part = replace(part, cell=Outline(part.cell.x, part.cell.y, part.cell.radii, fold), accent=0.0)
    return squamous(rng, "rolled", NEGATIVE, (part,), rng.random() < pinkness)


def clump(rng: np.random.Generator, pinkness: float) -> Figure:
    """A crowded group of benign small cells (parabasal, or columnar honeycomb and palisade) or of leucocytes."""
    form = rng.random()
    if form < 0.3:
        count = int(rng.integers(10, 30))
        parts = [neutrophil_part(rng, *inside(rng, 2.6 * np.sqrt(count))) for _ in range(count)]
    elif form < 0.8:
        parts = _cobbles(rng, int(rng.integers(5, 18)), rng.uniform(11, 17))
    else:
        parts = _palisade(rng, int(rng.integers(4, 9)))
    return squamous(rng, "clump", NEGATIVE, parts, rng.random() < 0.3)


def _cobbles(rng: np.random.Generator, count: int, diameter: float) -> list[Part]:
    """A flat sheet of like cells with evenly spaced round nuclei."""
    nuclear, dark, density = rng.uniform(7.0, 8.0), rng.uniform(0.45, 0.75), rng.uniform(0.16, 0.36)
    parts = []
    for x, y in packed(rng, count, diameter * rng.uniform(0.68, 0.85)):
        nucleus = vesicular(rng, disc_area(nuclear * rng.uniform(0.97, 1.05)), 0, 0, dark * rng.uniform(0.9, 1.1))
        part = compact_part(rng, diameter * rng.uniform(0.9, 1.1), nucleus, density)
        parts.append(moved(replace(part, softness=1.2, accent=0.0), x, y))
    return parts


def _palisade(rng: np.random.Generator, count: int) -> list[Part]:
    """Benign columnar cells side by side: nuclei in line, no crowding."""
    turn, parts = rng.uniform(0, 2 * np.pi), []
    for i in range(count):
        along, angle = (i - (count - 1) / 2) * 8.0, turn + np.pi / 2 + rng.normal(0, 0.07)
        parts.append(moved(columnar_part(rng, angle), along * np.cos(turn), along * np.sin(turn)))
    return parts


def folded_sheet(rng: np.random.Generator, pinkness: float) -> Figure:
    """A sheet of mature cells with one fold running through it, dark along the fold."""
    count, diameter = int(rng.integers(3, 7)), rng.uniform(34, 44)
    turn, bend, width = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.004), rng.uniform(2.5, 7.0)
    density = rng.uniform(0.18, 0.36)
    parts = []
    for x, y in packed(rng, count, diameter * 0.62):
        nucleus = vesicular(rng, disc_area(rng.uniform(7, 8)), *inside(rng, 4), rng.uniform(0.45, 0.75))
        part = moved(mature_part(rng, diameter=diameter, nuclei=(nucleus,), density=density), x, y)
        fold = Crease(0.0, 0.0, turn, 2.2 * diameter, bend, width, rng.uniform(0.8, 1.4), True)
        parts.append(replace(part, creases=(*part.creases, fold), accent=0.0))
    return squamous(rng, "folded_sheet", NEGATIVE, parts, rng.random() < pinkness)


HARD_NEGATIVES: Mapping[str, Maker] = {
    "reactive": reactive,
    "naked_nucleus": naked_nucleus,
    "halo_only": halo_only,
    "rolled": rolled,
    "clump": clump,
    "folded_sheet": folded_sheet,
    "mucus": mucus,
    "candida": candida,
}
"""Benign look-alikes, each drawn individually; the name is the kind of the figure."""

RARE: Mapping[str, Maker] = {"swollen_nucleus": swollen_nucleus}
"""Look-alikes that lie only on slides that are asked to hold them (``crowd_per_mm2``)."""
