"""Lesion cells of every Bethesda class with the descriptions that were drawn (METHOD section 10)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stride_monai.bethesda import PAPER_DESCRIPTIONS
from stride_monai.phantom.cells.anatomy import Maker, disc_area, inside, mature_part, pale_zone, spots, squamous
from stride_monai.phantom.cells.carcinoma import scc
from stride_monai.phantom.cells.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.glandular import agc
from stride_monai.phantom.cells.measures import A0, irregular, texts_of
from stride_monai.phantom.cells.outlines import ellipse, enclosing, polygonal

__all__ = ["LESIONS", "lesion"]

_ENLARGED, _MEMBRANE, _MILD, _CHROMATIN = PAPER_DESCRIPTIONS["ASC-US"]
_LARGE, _BINUCLEATE, _, _, _RAISIN, _HALO, _DARK = PAPER_DESCRIPTIONS["LSIL"]
_HIGH_RATIO, _, _, _, _PLEOMORPHIC, _NUCLEOLI = PAPER_DESCRIPTIONS["ASC-H/HSIL"]


def ascus(rng: np.random.Generator, pinkness: float) -> Figure:
    """Mature cell, nucleus 2.5-3 A0 and mildly dark."""
    coarse, irregularity = rng.random() < 0.5, rng.uniform(0.03, 0.16)
    x, y = inside(rng, 4.0)
    nucleus = Nucleus(
        ellipse(rng, A0 * rng.uniform(2.52, 2.98), x=x, y=y, elongation=rng.uniform(1, 1.6), irregularity=irregularity),
        density=rng.uniform(0.63, 0.8),
        chromatin=rng.uniform(0.2, 0.32) if coarse else rng.uniform(0.08, 0.22),
        coarse=coarse,
        membrane=rng.uniform(0.0, 0.2),
        clearing=rng.uniform(-0.05, 0.12),
        softness=rng.uniform(0.5, 1.3),
    )
    part = mature_part(
        rng,
        diameter=rng.uniform(34, 50),
        nuclei=(nucleus,),
        folded=rng.random() < 0.1,
        vacuoles=(pale_zone(rng, nucleus.outline),) if rng.random() < 0.25 else (),
    )
    texts = texts_of((True, _ENLARGED), (irregular((nucleus,)), _MEMBRANE), (True, _MILD), (coarse, _CHROMATIN))
    return squamous(rng, "ascus", "ASC-US", (part,), rng.random() < 0.75 * pinkness, texts)


def _lsil_nuclei(
    rng: np.random.Generator, count: int, raisin: bool, coarse: bool, irregularity: float
) -> tuple[Nucleus, ...]:
    """One to five nuclei of over 3 A0 that touch or overlap; smudged (dark, blurred, without detail) at times."""
    x, y = inside(rng, 4.0)
    turn = rng.uniform(0, 2 * np.pi)
    # Neighbours on the ring are one diameter apart, or less where they mould.
    distance = 0.0 if count == 1 else 6.4 / np.sin(np.pi / count) * rng.uniform(0.72, 1.05)
    largest = {1: 5.0, 2: 3.8}.get(count, 3.4)
    smudged = not coarse and rng.random() < 0.35
    density = rng.uniform(0.74, 1.02) if smudged else rng.uniform(0.7, 0.9)
    softness = rng.uniform(1.0, 2.0) if smudged else rng.uniform(0.5, 1.0)
    contrast = 0.06 if smudged else rng.uniform(0.22, 0.36) if coarse else rng.uniform(0.1, 0.24)
    nuclei = []
    for i in range(count):
        at = turn + 2 * np.pi * i / count
        outline = ellipse(
            rng,
            A0 * rng.uniform(3.05, largest),
            x=x + distance * np.cos(at) + rng.normal(0, 0.6) * (count > 1),
            y=y + distance * np.sin(at) + rng.normal(0, 0.6) * (count > 1),
            elongation=rng.uniform(1, 1.6 if count == 1 else 1.3),
            irregularity=irregularity + 0.07 * raisin,
        )
        membrane, clearing = rng.uniform(0.0, 0.2), rng.uniform(-0.05, 0.1)
        stain = density * rng.uniform(0.88, 1.0)
        nuclei.append(Nucleus(outline, stain, contrast, coarse, membrane, clearing, (), raisin, softness))
    return tuple(nuclei)


def _koilocytic_halo(rng: np.random.Generator, nuclei: tuple[Nucleus, ...], diameter: float) -> Halo:
    """A large, sharp, often eccentric clearing with a dense rim."""
    centre = np.mean([(n.outline.x, n.outline.y) for n in nuclei], axis=0)
    spread = max(np.hypot(n.outline.x - centre[0], n.outline.y - centre[1]) + n.outline.reach for n in nuclei)
    x, y = inside(rng, 2.5)
    most = 2.6 if len(nuclei) == 1 else 1.6
    room = min(disc_area(2 * spread) * rng.uniform(1.15, most), disc_area(diameter) * 0.5)
    outline = ellipse(
        rng,
        room,
        x=centre[0] + x,
        y=centre[1] + y,
        elongation=rng.uniform(1, 1.6),
        irregularity=rng.uniform(0.05, 0.16),
    )
    return Halo(outline, clearing=rng.uniform(0.5, 0.92), rim=rng.uniform(0.08, 0.32), sharpness=rng.uniform(0.6, 1.3))


def lsil(rng: np.random.Generator, pinkness: float) -> Figure:
    """Mature cell, nuclei over 3 A0, one to five; half the time in a sharp halo with a dense rim (koilocyte)."""
    count = int(rng.choice((1, 2, 3, 4, 5), p=(0.66, 0.24, 0.06, 0.03, 0.01)))
    raisin, coarse, halo = rng.random() < 0.3, rng.random() < 0.55, rng.random() < 0.5
    nuclei = _lsil_nuclei(rng, count, raisin, coarse, rng.uniform(0.03, 0.16))
    diameter = rng.uniform(40, 52) + 3.0 * (count - 1)
    vacuoles: tuple[Halo, ...] = ()
    if halo:
        vacuoles = (_koilocytic_halo(rng, nuclei, diameter),)
    elif count == 1 and rng.random() < 0.25:
        vacuoles = (pale_zone(rng, nuclei[0].outline),)
    part = mature_part(
        rng,
        diameter=diameter,
        nuclei=nuclei,
        folded=not halo and rng.random() < 0.1,
        vacuoles=vacuoles,
        density=rng.uniform(0.22, 0.46) if halo else None,
        granular=rng.random() < 0.06,
    )
    texts = texts_of(
        (True, _LARGE),
        (count > 1, _BINUCLEATE),
        (coarse, _CHROMATIN),
        (irregular(nuclei), _MEMBRANE),
        (raisin, _RAISIN),
        (halo, _HALO),
        (True, _DARK),
    )
    return squamous(rng, "koilocyte" if halo else "lsil", "LSIL", (part,), rng.random() < 0.8 * pinkness, texts)


def _immature(rng: np.random.Generator, diameter: float, nucleus: Nucleus) -> Part:
    """A small cell of dense or scanty cytoplasm around a large nucleus; round, angular or with a tail."""
    density = rng.uniform(0.22, 0.58)
    if rng.random() < 0.55:
        cell = ellipse(rng, disc_area(diameter), elongation=rng.uniform(1, 1.45), irregularity=rng.uniform(0.05, 0.18))
    else:
        cell = polygonal(
            rng,
            disc_area(diameter),
            corners=int(rng.integers(4, 7)),
            elongation=rng.uniform(1, 1.4),
            raggedness=rng.uniform(0.05, 0.15),
            rounding=rng.uniform(3.5, 7.0),
        )
    return Part(
        enclosing(cell, [nucleus.outline]),
        (nucleus,),
        density=density,
        texture=rng.uniform(0.1, 0.3),
        edge=rng.uniform(0.0, 0.12),
        grain=rng.uniform(0.1, 0.8),
        softness=rng.uniform(0.5, 1.8),
        accent=rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 0.0,
    )


def _dark_nucleus(
    rng: np.random.Generator,
    diameter: float,
    cell: float,
    *,
    dark: tuple[float, float],
    coarse: bool,
    irregularity: float,
    notch: float = 0.0,
    nucleoli: bool = False,
) -> Nucleus:
    x, y = inside(rng, max(cell - diameter, 0.5) * 0.3)
    outline = ellipse(
        rng, disc_area(diameter), x=x, y=y, elongation=rng.uniform(1, 1.5), irregularity=irregularity, notch=notch
    )
    dots = spots(rng, int(rng.integers(1, 3)), diameter * 0.28, (0.6, 1.0), x, y) if nucleoli else ()
    return Nucleus(
        outline,
        density=rng.uniform(*dark),
        chromatin=rng.uniform(0.22, 0.38) if coarse else rng.uniform(0.08, 0.22),
        coarse=coarse,
        membrane=rng.uniform(0.0, 0.25),
        clearing=rng.uniform(-0.1, 0.12),
        nucleoli=dots,
        softness=rng.uniform(0.5, 1.2),
    )


def asch(rng: np.random.Generator, pinkness: float) -> Figure:
    """A cell of metaplastic size whose nucleus is 1.5-2.5 A0, dark and somewhat irregular."""
    nuclear = float(np.sqrt(4 / np.pi * A0 * rng.uniform(1.52, 2.48)))
    diameter = float(np.clip(nuclear / rng.uniform(0.5, 0.68), 15, 22))
    coarse, irregularity = rng.random() < 0.5, rng.uniform(0.03, 0.16)
    nucleus = _dark_nucleus(rng, nuclear, diameter, dark=(0.66, 0.96), coarse=coarse, irregularity=irregularity)
    part = _immature(rng, diameter, nucleus)
    texts = texts_of(
        (nuclear / diameter >= 0.5, _HIGH_RATIO),
        (True, _DARK),
        (irregular((nucleus,)), _MEMBRANE),
        (coarse, _CHROMATIN),
    )
    return squamous(rng, "asch", "ASC-H", (part,), rng.random() < 0.4, texts)


def hsil(rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """A small cell, N:C diameter ratio 1/2 to over 3/4, with a dark, coarse, notched nucleus.

    Args:
        crowded: the cell lies in a group of its like; adds the description of disorder.
    """
    diameter = rng.uniform(12.5, 19.0)
    nuclear = max(rng.uniform(0.55, 0.86) * diameter, 8.6)
    coarse, nucleoli = rng.random() < 0.7, rng.random() < 0.12
    nucleus = _dark_nucleus(
        rng,
        nuclear,
        diameter,
        dark=(0.72, 1.06),
        coarse=coarse,
        irregularity=rng.uniform(0.05, 0.2),
        notch=rng.uniform(0.12, 0.3) if rng.random() < 0.55 else 0.0,
        nucleoli=nucleoli,
    )
    part = _immature(rng, diameter, nucleus)
    texts = texts_of(
        (True, _HIGH_RATIO),
        (True, _DARK),
        (irregular((nucleus,)), _MEMBRANE),
        (coarse, _CHROMATIN),
        (crowded, _PLEOMORPHIC),
        (nucleoli, _NUCLEOLI),
    )
    return squamous(rng, "hsil", "HSIL", (part,), rng.random() < 0.4, texts)


LESIONS: Mapping[str, Maker] = {"ASC-US": ascus, "LSIL": lsil, "ASC-H": asch, "HSIL": hsil, "SCC": scc, "AGC": agc}
"""Label -> maker of one lesion figure."""


def lesion(label: str, rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """One lesion figure of a label of :data:`LESIONS`."""
    if label == "HSIL":
        return hsil(rng, pinkness, crowded)
    return LESIONS[label](rng, pinkness)
