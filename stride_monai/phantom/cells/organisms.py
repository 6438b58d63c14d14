"""What infections leave on a slide, each a function ``rng, pinkness -> Figure``: NILM in the Bethesda system.

Sizes are diameters in um. No slide has them unless it is asked for; fungi, which some patients have anyway, are in
:mod:`stride_monai.phantom.cells.surroundings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.cells.anatomy import (
    NORMAL_TEXT,
    Maker,
    disc_area,
    inside,
    mature_part,
    nuclear_dyes,
    packed,
    spots,
    squamous,
    squamous_dyes,
    vesicular,
)
from stride_monai.phantom.cells.figures import Figure, Nucleus, Part
from stride_monai.phantom.cells.outlines import ellipse, enclosing, molded, polygonal
from stride_monai.phantom.cells.strands import Strand, winding
from stride_monai.phantom.cells.surroundings import neutrophil_part

__all__ = ["ORGANISMS"]


def _leucocytes(rng: np.random.Generator, chance: float, distance: float) -> tuple[Part, ...]:
    """By ``chance`` one to five leucocytes about so many um from the middle."""
    if rng.random() >= chance:
        return ()
    turns = rng.uniform(0, 2 * np.pi, int(rng.integers(1, 6)))
    away = distance * rng.uniform(0.85, 1.3, len(turns))
    places = zip((away * np.cos(turns)).tolist(), (away * np.sin(turns)).tolist(), strict=True)
    return tuple(neutrophil_part(rng, x, y) for x, y in places)


def herpes(rng: np.random.Generator, pinkness: float) -> Figure:
    """Herpes simplex: nuclei, mostly many, that mold each other; glassy, their chromatin at the membrane.

    Some have an inclusion with a clear zone around it in place of the glass. An early cell has one nucleus.
    """
    count = int(rng.choice((1, 2, 3, 4, 6, 9, 13), p=(0.18, 0.16, 0.15, 0.15, 0.16, 0.13, 0.07)))
    diameter = rng.uniform(9.0, 15.0) * (1.0 if count < 5 else 0.9)
    crowded = rng.uniform(0.68, 0.98)
    bodies = [
        ellipse(
            rng,
            disc_area(diameter * rng.uniform(0.85, 1.15)),
            x=x,
            y=y,
            elongation=rng.uniform(1, 1.35),
            irregularity=rng.uniform(0.02, 0.08),
        )
        for x, y in packed(rng, count, diameter * crowded)
    ]
    density, clearing, membrane = rng.uniform(0.32, 0.8), rng.uniform(0.15, 0.65), rng.uniform(0.25, 1.2)
    softness, included = rng.uniform(0.35, 1.1), rng.random() < 0.2
    nuclei = []
    for body in molded(bodies, rng.uniform(0.1, 0.7)):
        dots = spots(rng, 1, body.reach * 0.15, (1.0, 2.0), body.x, body.y) if included else ()
        nuclei.append(
            Nucleus(
                body,
                density * rng.uniform(0.85, 1.15),
                chromatin=rng.uniform(0.02, 0.09),
                membrane=membrane * rng.uniform(0.8, 1.2),
                clearing=clearing * rng.uniform(0.7, 1.1),
                nucleoli=dots,
                softness=softness,
            )
        )
    filled = sum(nucleus.outline.area for nucleus in nuclei) * rng.uniform(1.1, 2.8)
    if rng.random() < 0.7:
        cell = ellipse(rng, filled, elongation=rng.uniform(1, 1.6), irregularity=rng.uniform(0.04, 0.16))
    else:
        cell = polygonal(rng, filled, corners=int(rng.integers(3, 7)), elongation=rng.uniform(1, 1.8), rounding=3.0)
    part = Part(
        enclosing(cell, [nucleus.outline for nucleus in nuclei], rng.uniform(0.6, 2.0)),
        tuple(nuclei),
        density=float(np.clip(rng.lognormal(np.log(0.36), 0.5), 0.1, 0.9)),
        texture=rng.uniform(0.06, 0.25),
        edge=rng.uniform(0.0, 0.14),
        bulge=rng.uniform(0.0, 0.5),
        grain=rng.uniform(0.1, 0.8),
        wrinkles=rng.uniform(0.0, 0.3),
        softness=rng.uniform(0.4, 1.4),
    )
    return squamous(rng, "herpes", NEGATIVE, (part, *_leucocytes(rng, 0.25, cell.reach)), rng.random() < 0.2)


def trichomonas(rng: np.random.Generator, pinkness: float) -> Figure:
    """Trichomonas vaginalis: grey-green pears of 8-20 um with a faint spindle of a nucleus off their middle."""
    parts = []
    for x, y in packed(rng, int(rng.choice((1, 2, 4), p=(0.75, 0.17, 0.08))), 13.0):
        along, length = rng.uniform(0, 2 * np.pi), rng.uniform(8, 19)
        body = ellipse(
            rng,
            disc_area(length) * 0.65,
            x=x,
            y=y,
            elongation=rng.uniform(1.1, 2.0),
            angle=along,
            irregularity=rng.uniform(0.05, 0.14),
        )
        aside = length * rng.uniform(0.0, 0.2)
        nucleus = Nucleus(
            ellipse(
                rng,
                rng.uniform(3.5, 9.0),
                x=x + aside * np.cos(along),
                y=y + aside * np.sin(along),
                elongation=rng.uniform(1.3, 2.8),
                angle=along + rng.normal(0, 0.3),
            ),
            rng.uniform(0.12, 0.6),
            chromatin=0.06,
            membrane=0.0,
            softness=rng.uniform(0.6, 1.8),
        )
        parts.append(
            Part(
                body,
                (nucleus,),
                density=rng.uniform(0.1, 0.42),
                texture=rng.uniform(0.2, 0.45),
                edge=rng.uniform(0.0, 0.1),
                grain=rng.uniform(0.3, 1.2),
                softness=rng.uniform(0.5, 1.8),
                granules=spots(rng, int(rng.integers(0, 6)), length * 0.25, (0.15, 0.4), x, y),
            )
        )
    dyes = (rng.uniform(0.15, 0.5), rng.uniform(0, 0.12), rng.uniform(0.5, 1.0), 0.0, rng.uniform(0.0, 0.25))
    parts += _leucocytes(rng, 0.35, 13.0)
    return Figure("trichomonas", NEGATIVE, tuple(parts), dyes, nuclear_dyes(rng), NORMAL_TEXT)


def clue_cell(rng: np.random.Generator, pinkness: float) -> Figure:
    """A mature cell under a film of coccobacilli, which blurs its border."""
    nucleus = vesicular(rng, disc_area(rng.uniform(5.0, 8.0)), *inside(rng, 4.5), rng.uniform(0.5, 0.95))
    diameter, pink = rng.uniform(34, 54), rng.random() < 0.4 + 0.4 * pinkness
    part = mature_part(rng, diameter=diameter, nuclei=(nucleus,), crumpled=rng.random() < 0.15)
    film = spots(rng, int(rng.integers(120, 700)), diameter * rng.uniform(0.42, 0.52), (0.15, 0.32))
    part = replace(
        part,
        density=rng.uniform(0.2, 0.55),
        grain=rng.uniform(1.0, 2.5),
        softness=rng.uniform(0.8, 2.5),
        fray=rng.uniform(0.3, 1.2),
        granules=film,
        accent=0.0,
    )
    haze = np.array((rng.uniform(0.1, 0.5), 0, 0, 0, 0))
    dyes = tuple((np.asarray(squamous_dyes(rng, pink)) + haze).tolist())
    return Figure("clue_cell", NEGATIVE, (part,), dyes, nuclear_dyes(rng), NORMAL_TEXT)


def actinomyces(rng: np.random.Generator, pinkness: float) -> Figure:
    """Actinomyces: a dark woolly ball of filaments that stand out at its edge."""
    diameter = float(np.clip(rng.lognormal(np.log(34), 0.6), 12, 110))
    ball = ellipse(rng, disc_area(diameter), elongation=rng.uniform(1, 1.8), irregularity=rng.uniform(0.08, 0.25))
    density = rng.uniform(0.35, 1.5)
    filaments = []
    for _ in range(int(rng.integers(10, 30) + 0.6 * diameter)):
        turn = rng.uniform(0, 2 * np.pi)
        away = 0.5 * diameter * rng.uniform(0.55, 1.0)
        start = float(away * np.cos(turn)), float(away * np.sin(turn))
        length = float(np.clip(rng.lognormal(np.log(8), 0.6), 3, 40))
        points = winding(rng, start=start, angle=turn + rng.normal(0, 0.5), length=length, turn=0.6, pieces=6)
        filaments.append(Strand(points, np.full(len(points), rng.uniform(0.15, 0.45)), density * rng.uniform(0.3, 0.8)))
    part = Part(
        ball,
        density=density,
        texture=rng.uniform(0.2, 0.45),
        edge=0.0,
        bulge=rng.uniform(0.2, 0.9),
        grain=rng.uniform(0.4, 1.4),
        softness=rng.uniform(1.5, 5.0),
        fray=rng.uniform(0.5, 2.0),
        strands=tuple(filaments),
    )
    dyes = (rng.uniform(0.3, 0.9), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9), 0.0, rng.uniform(0.1, 0.5))
    around = _leucocytes(rng, 0.5, 0.6 * diameter)
    return Figure("actinomyces", NEGATIVE, (part, *around), dyes, nuclear_dyes(rng), NORMAL_TEXT)


ORGANISMS: Mapping[str, Maker] = {
    "herpes": herpes,
    "trichomonas": trichomonas,
    "clue_cell": clue_cell,
    "actinomyces": actinomyces,
}
"""Infections, each drawn individually; the name is the kind of the figure."""
