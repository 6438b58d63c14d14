"""Lesion cells of every Bethesda class with the descriptions that were drawn (METHOD section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stride_monai.phantom.cells.anatomy import Maker, disc_area, inside, mature_part, pale_zone, spots, squamous
from stride_monai.phantom.cells.carcinoma import scc
from stride_monai.phantom.cells.figures import Crease, Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.glandular import agc
from stride_monai.phantom.cells.measures import A0
from stride_monai.phantom.cells.outlines import Outline, ellipse, enclosing, polygonal
from stride_monai.phantom.cells.words import described

__all__ = ["LESIONS", "lesion"]

_PALE = (0.46, 0.63)
"""Haematoxylin of a nucleus that is no darker than a normal one. Some lesions of every class have such nuclei."""
_SMOOTH, _UNEVEN = (0.01, 0.05), (0.16, 0.26)
"""Irregularity of contours that an observer passes, and of those that he notes; a few fall between."""
_FINE, _COARSE = (0.06, 0.18), (0.24, 0.4)


def _of_range(rng: np.random.Generator, chance: float, then: tuple[float, float], other: tuple[float, float]) -> float:
    """A number of one range, by ``chance``, or of another."""
    return float(rng.uniform(*(then if rng.random() < chance else other)))


def ascus(rng: np.random.Generator, pinkness: float) -> Figure:
    """Mature cell, nucleus 2.5-3 A0; in two of three mildly dark."""
    coarse, irregularity = rng.random() < 0.5, _of_range(rng, 0.45, _UNEVEN, _SMOOTH)
    x, y = inside(rng, 4.0)
    nucleus = Nucleus(
        ellipse(rng, A0 * rng.uniform(2.52, 2.98), x=x, y=y, elongation=rng.uniform(1, 1.6), irregularity=irregularity),
        density=_of_range(rng, 0.67, (0.68, 0.79), _PALE),
        chromatin=rng.uniform(*(_COARSE if coarse else _FINE)),
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
    return _lesion(rng, "ascus", "ASC-US", part, rng.random() < 0.75 * pinkness)


def _lesion(
    rng: np.random.Generator, kind: str, label: str, part: Part, pink: bool, disordered: bool = False
) -> Figure:
    """A figure that bears the texts of what was drawn."""
    figure = squamous(rng, kind, label, (part,), pink, ())
    return replace(figure, descriptions=described(figure, disordered))


def _lsil_nuclei(rng: np.random.Generator, count: int, raisin: bool, coarse: bool) -> tuple[Nucleus, ...]:
    """One to five nuclei of over 3 A0 that touch or overlap; smudged (dark, blurred, without detail) at times."""
    x, y = inside(rng, 4.0)
    turn = rng.uniform(0, 2 * np.pi)
    # Neighbours on the ring are one diameter apart, or less where they mould.
    distance = 0.0 if count == 1 else 6.4 / np.sin(np.pi / count) * rng.uniform(0.72, 1.05)
    largest = {1: 5.0, 2: 3.8}.get(count, 3.4)
    irregularity = _of_range(rng, 0.85 if raisin else 0.42, _UNEVEN, _SMOOTH)
    smudged = not (coarse or raisin) and rng.random() < 0.35
    density = rng.uniform(0.88, 1.08) if smudged else _of_range(rng, 0.7, (0.87, 1.02), _PALE)
    softness = rng.uniform(1.0, 2.0) if smudged else rng.uniform(0.5, 1.0)
    contrast = 0.06 if smudged else rng.uniform(*(_COARSE if coarse else _FINE))
    nuclei = []
    for i in range(count):
        at = turn + 2 * np.pi * i / count
        outline = ellipse(
            rng,
            A0 * rng.uniform(3.05, largest),
            x=x + distance * np.cos(at) + rng.normal(0, 0.6) * (count > 1),
            y=y + distance * np.sin(at) + rng.normal(0, 0.6) * (count > 1),
            elongation=rng.uniform(1, 1.6 if count == 1 else 1.3),
            irregularity=irregularity,
        )
        membrane, clearing = rng.uniform(0.0, 0.2), rng.uniform(-0.05, 0.1)
        stain = density * rng.uniform(0.95, 1.0)
        creases = _raisin(rng, outline) if raisin else ()
        nuclei.append(Nucleus(outline, stain, contrast, coarse, membrane, clearing, (), creases, softness))
    return tuple(nuclei)


def _raisin(rng: np.random.Generator, outline: Outline) -> tuple[Crease, ...]:
    """Ridges that run roughly one way from rim to rim, each beside a furrow."""
    radius = float(np.sqrt(outline.area / np.pi))
    main, found = rng.uniform(0, np.pi), []
    for place in np.linspace(-0.6, 0.6, int(rng.integers(3, 6))):
        aside, along = radius * (place + rng.normal(0, 0.12)), radius * rng.normal(0, 0.15)
        angle, bend = main + rng.normal(0, 0.35), rng.normal(0, 0.1)
        length, width = radius * rng.uniform(0.5, 1.1), rng.uniform(0.55, 0.85)
        for shift, strength in ((0.0, rng.uniform(0.3, 0.7)), (1.5, -rng.uniform(0.35, 0.65))):
            x = outline.x + along * np.cos(main) - (aside + shift) * np.sin(main)
            y = outline.y + along * np.sin(main) + (aside + shift) * np.cos(main)
            found.append(Crease(float(x), float(y), angle, length, bend, width, strength))
    return tuple(found)


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
    raisin, coarse, halo = rng.random() < 0.3, rng.random() < 0.5, rng.random() < 0.5
    nuclei = _lsil_nuclei(rng, count, raisin, coarse)
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
    return _lesion(rng, "koilocyte" if halo else "lsil", "LSIL", part, rng.random() < 0.8 * pinkness)


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


def _high_grade_nucleus(
    rng: np.random.Generator,
    diameter: float,
    cell: float,
    *,
    density: float,
    coarse: bool,
    irregularity: float,
    notch: float = 0.0,
    nucleoli: bool = False,
) -> Nucleus:
    x, y = inside(rng, max(cell - diameter, 0.5) * 0.3)
    outline = ellipse(
        rng, disc_area(diameter), x=x, y=y, elongation=rng.uniform(1, 1.5), irregularity=irregularity, notch=notch
    )
    dots = spots(rng, int(rng.integers(1, 3)), diameter * 0.22, (1.0, 1.4), x, y) if nucleoli else ()
    return Nucleus(
        outline,
        density=density,
        chromatin=rng.uniform(*(_COARSE if coarse else _FINE)),
        coarse=coarse,
        membrane=rng.uniform(0.0, 0.25),
        clearing=rng.uniform(-0.1, 0.12),
        nucleoli=dots,
        softness=rng.uniform(0.5, 1.2),
    )


def asch(rng: np.random.Generator, pinkness: float) -> Figure:
    """A cell of metaplastic size, nucleus 1.5-2.5 A0, that is dark or too large for its cell, or both."""
    nuclear = float(np.sqrt(4 / np.pi * A0 * rng.uniform(1.52, 2.48)))
    roomy = rng.random() < 0.45
    diameter = float(np.clip(nuclear / rng.uniform(*((0.44, 0.56) if roomy else (0.63, 0.75))), 14, 24))
    nucleus = _high_grade_nucleus(
        rng,
        nuclear,
        diameter,
        density=_of_range(rng, 1.0 if roomy else 0.6, (0.83, 1.02), _PALE),
        coarse=rng.random() < 0.5,
        irregularity=_of_range(rng, 0.5, _UNEVEN, _SMOOTH),
    )
    return _lesion(rng, "asch", "ASC-H", _immature(rng, diameter, nucleus), rng.random() < 0.4)


def hsil(rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """A small cell, N:C diameter ratio 1/2 to over 3/4, mostly high; its nucleus mostly dark, coarse and notched.

    Args:
        crowded: the cell lies in a group of its like; adds the description of disorder.
    """
    roomy = rng.random() < 0.2
    diameter = rng.uniform(17.0, 20.5) if roomy else rng.uniform(12.5, 19.0)
    nuclear = max(rng.uniform(*((0.51, 0.57) if roomy else (0.63, 0.86))) * diameter, 8.6)
    nucleus = _high_grade_nucleus(
        rng,
        nuclear,
        diameter,
        density=_of_range(rng, 1.0 if roomy else 0.82, (0.84, 1.1), _PALE),
        coarse=rng.random() < 0.65,
        irregularity=_of_range(rng, 0.5, _UNEVEN, _SMOOTH),
        notch=rng.uniform(0.22, 0.34) if rng.random() < 0.4 else 0.0,
        nucleoli=rng.random() < 0.18,
    )
    return _lesion(rng, "hsil", "HSIL", _immature(rng, diameter, nucleus), rng.random() < 0.4, crowded)


LESIONS: Mapping[str, Maker] = {"ASC-US": ascus, "LSIL": lsil, "ASC-H": asch, "HSIL": hsil, "SCC": scc, "AGC": agc}
"""Label -> maker of one lesion figure."""


def lesion(label: str, rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """One lesion figure of a label of :data:`LESIONS`."""
    if label == "HSIL":
        return hsil(rng, pinkness, crowded)
    if label == "SCC":
        return scc(rng, pinkness, crowded)
    return LESIONS[label](rng, pinkness)
