"""Squamous cell carcinoma: fibre, tadpole, spindle and bizarre keratinised cells, and the non-keratinising sort."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stride_monai.phantom.cells.anatomy import Dyes, disc_area, nuclear_dyes, spots, squamous_dyes
from stride_monai.phantom.cells.figures import Figure, Nucleus, Part
from stride_monai.phantom.cells.measures import A0
from stride_monai.phantom.cells.outlines import Outline, ellipse, enclosing, polygonal
from stride_monai.phantom.cells.strands import Strand, winding
from stride_monai.phantom.cells.words import described

__all__ = ["scc"]


def scc(rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """One carcinoma cell; two thirds are keratinised: orange, dense, drawn out, with an ink-dark nucleus.

    Args:
        crowded: the cell lies in a group of its like; adds the description of disorder, which odd shapes have anyway.
    """
    form = str(
        rng.choice(("fibre", "tadpole", "spindle", "bizarre", "non_keratinizing"), p=(0.1, 0.17, 0.2, 0.2, 0.33))
    )
    round_ = form == "non_keratinizing"
    part = _non_keratinizing(rng) if round_ else _keratinized(rng, form)
    dyes: Dyes = squamous_dyes(rng, False)
    if not round_ or rng.random() < 0.15:
        dyes = (0.05, rng.uniform(0.4, 0.9), 0.0, rng.uniform(0.5, 1.2), 0.2)
    figure = Figure(f"scc_{form}", "SCC", (part,), dyes, nuclear_dyes(rng))
    return replace(figure, descriptions=described(figure, disordered=crowded or not round_))


def _ink_dark(rng: np.random.Generator, area: float, elongation: float, angle: float) -> Nucleus:
    outline = ellipse(rng, area, elongation=elongation, angle=angle, irregularity=rng.uniform(0.04, 0.24))
    coarse = rng.random() < 0.6
    return Nucleus(
        outline,
        density=rng.uniform(0.95, 1.4),
        chromatin=0.3 if coarse else 0.1,
        coarse=coarse,
        membrane=0.1,
        clearing=0.0,
        softness=rng.uniform(0.5, 1.3),
    )


def _tail(rng: np.random.Generator, cell: Outline, angle: float, width: float, density: float) -> Strand:
    """A tail that leaves the cell along ``angle`` and tapers to a point."""
    index = round(angle / (2 * np.pi) * len(cell.radii)) % len(cell.radii)
    inner = 0.8 * float(cell.radii[index])
    points = winding(
        rng,
        start=(inner * np.cos(angle), inner * np.sin(angle)),
        angle=angle,
        length=rng.uniform(18, 45),
        turn=0.6,
        pieces=10,
    )
    return Strand(points, width * np.linspace(1, 0, 11) ** 0.7, density)


def _keratinized(rng: np.random.Generator, form: str) -> Part:
    angle = rng.uniform(0, 2 * np.pi)
    density = rng.uniform(0.38, 0.8)
    strands: tuple[Strand, ...] = ()
    if form == "bizarre":
        cell = polygonal(
            rng,
            disc_area(rng.uniform(20, 34)),
            corners=int(rng.integers(3, 6)),
            elongation=rng.uniform(1.1, 2.0),
            raggedness=0.14,
            rounding=2.0,
        )
        nucleus = _ink_dark(rng, A0 * rng.uniform(2.0, 4.5), rng.uniform(1.1, 2.0), angle)
    elif form == "tadpole":
        cell = ellipse(
            rng, disc_area(rng.uniform(14, 22)), elongation=rng.uniform(1.2, 1.7), angle=angle, irregularity=0.12
        )
        nucleus = _ink_dark(rng, A0 * rng.uniform(1.5, 2.6), rng.uniform(1.1, 1.7), angle)
        strands = (_tail(rng, cell, angle, rng.uniform(2.5, 4.5), density),)
    else:
        long = form == "fibre"
        elongation = rng.uniform(3.5, 5.0) if long else rng.uniform(2.2, 3.6)
        cell = ellipse(rng, rng.uniform(200, 420), elongation=elongation, angle=angle, irregularity=0.1)
        nucleus = _ink_dark(rng, A0 * rng.uniform(1.1, 1.9), rng.uniform(2.0, 3.2), angle)
        if long:
            strands = tuple(_tail(rng, cell, end, 2.2, density) for end in (angle, angle + np.pi))
    return Part(
        enclosing(cell, [nucleus.outline]),
        (nucleus,),
        density=density,
        texture=rng.uniform(0.1, 0.3),
        edge=rng.uniform(0.0, 0.15),
        grain=rng.uniform(0.0, 0.5),
        wrinkles=rng.uniform(0.0, 0.6),
        softness=rng.uniform(0.5, 1.0),
        strands=strands,
    )


def _non_keratinizing(rng: np.random.Generator) -> Part:
    """A large round nucleus with uneven, cleared chromatin and macronucleoli in scanty fragile cytoplasm."""
    nuclear = rng.uniform(11, 17)
    outline = ellipse(rng, disc_area(nuclear), elongation=rng.uniform(1, 1.5), irregularity=rng.uniform(0.02, 0.22))
    nucleoli = spots(rng, int(rng.choice(4, p=(0.3, 0.35, 0.2, 0.15))), nuclear * 0.27, (0.9, 1.6))
    pale = rng.random() < 0.2
    nucleus = Nucleus(
        outline,
        density=rng.uniform(*((0.5, 0.64) if pale else (0.83, 1.05))),
        chromatin=rng.uniform(0.26, 0.42),
        coarse=True,
        membrane=rng.uniform(0.15, 0.4),
        clearing=rng.uniform(0.05, 0.3),
        nucleoli=nucleoli,
    )
    cell = ellipse(
        rng,
        disc_area(nuclear / rng.uniform(0.5, 0.85)),
        elongation=rng.uniform(1, 1.5),
        irregularity=rng.uniform(0.1, 0.2),
    )
    return Part(
        enclosing(cell, [nucleus.outline]),
        (nucleus,),
        density=rng.uniform(0.15, 0.35),
        texture=0.3,
        grain=rng.uniform(0.2, 0.8),
        softness=rng.uniform(1.0, 2.2),
    )
