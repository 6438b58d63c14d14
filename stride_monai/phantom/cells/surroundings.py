"""What lies between the epithelial cells: leucocytes, red cells, debris, mucus and fungi."""

from __future__ import annotations

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.cells.anatomy import NORMAL_TEXT, disc_area, inside, nuclear_dyes, squamous
from stride_monai.phantom.cells.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.outlines import ellipse
from stride_monai.phantom.cells.strands import Strand, winding

__all__ = ["candida", "debris", "mucus", "neutrophil", "neutrophil_part", "red_cell"]


def neutrophil_part(rng: np.random.Generator, x: float, y: float) -> Part:
    """A leucocyte of 9-12 um around (x, y): 3-4 dark lobes in cytoplasm that is hardly seen."""
    lobes = []
    step, turn = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
    reach, density = rng.uniform(1.0, 2.1), rng.uniform(0.75, 1.1)
    softness = rng.uniform(0.45, 0.9)
    for i in range(int(rng.integers(3, 5))):
        at = step + turn * i * rng.uniform(1.1, 1.7)
        lobe = ellipse(
            rng,
            disc_area(rng.uniform(2.8, 4.3)),
            x=x + reach * np.cos(at),
            y=y + reach * np.sin(at),
            elongation=rng.uniform(1, 1.7),
            irregularity=0.1,
        )
        lobes.append(Nucleus(lobe, density * rng.uniform(0.75, 1.0), 0.15, False, 0.0, 0.0, softness=softness))
    cell = ellipse(rng, disc_area(rng.uniform(9, 12)), x=x, y=y, irregularity=0.15)
    faint = rng.uniform(0.01, 0.05) if rng.random() < 0.8 else rng.uniform(0.05, 0.12)
    return Part(cell, tuple(lobes), density=faint, texture=0.5, edge=0.0, softness=2.0)


def neutrophil(rng: np.random.Generator, pinkness: float) -> Figure:
    """A leucocyte of 9-12 um with 3-4 dark lobes; often a few together."""
    count = 1 if rng.random() < 0.8 else int(rng.integers(2, 6))
    parts = [neutrophil_part(rng, *inside(rng, 5.5 * np.sqrt(count) * (count > 1))) for _ in range(count)]
    return squamous(rng, "neutrophil", NEGATIVE, parts)


def red_cell(rng: np.random.Generator, pinkness: float) -> Figure:
    """Red cells of 6-8 um, orange-pink with a paler middle or shrunken; mostly several together."""
    count = int(rng.choice((1, 2, 4, 9, 16), p=(0.4, 0.2, 0.2, 0.12, 0.08)))
    parts = []
    for _ in range(count):
        x, y = inside(rng, 3.6 * np.sqrt(count) * (count > 1))
        outline = ellipse(
            rng, disc_area(rng.uniform(6, 7.8)), x=x, y=y, elongation=rng.uniform(1, 1.3), irregularity=0.05
        )
        pallor = Halo(ellipse(rng, disc_area(3.2), x=x, y=y), rng.uniform(0, 0.5), 0.0, 3.0, distinct=False)
        density = rng.uniform(0.12, 0.38)
        parts.append(Part(outline, (), density, texture=0.1, edge=0.04, softness=0.8, vacuoles=(pallor,)))
    dyes = (0.03, 0.8, 0.0, rng.uniform(0.3, 1.0), 0.15)
    return Figure("red_cell", NEGATIVE, tuple(parts), dyes, nuclear_dyes(rng), NORMAL_TEXT)


def debris(rng: np.random.Generator, pinkness: float) -> Figure:
    """Specks: bacteria, stain precipitate and shreds."""
    parts = []
    spread = rng.uniform(4, 34)
    rods = rng.random() < 0.4
    for _ in range(int(rng.integers(3, 24))):
        x, y = inside(rng, spread)
        area = rng.uniform(0.4, 1.5) if rods else rng.lognormal(np.log(0.5), 0.7)
        speck = ellipse(rng, area, x=x, y=y, elongation=rng.uniform(3, 6) if rods else rng.uniform(1, 2.5))
        density = rng.uniform(0.08, 0.35) if rods else rng.uniform(0.04, 0.5)
        parts.append(Part(None, (Nucleus(speck, density, 0.0, False, 0.0, 0.0, softness=0.7),)))
    return squamous(rng, "debris", NEGATIVE, parts)


def mucus(rng: np.random.Generator, pinkness: float) -> Figure:
    """Threads and veils of mucus, with leucocytes caught in some."""
    angle, veil = rng.uniform(0, 2 * np.pi), rng.random() < 0.45
    length = rng.uniform(50, 110)
    parts = []
    for _ in range(int(rng.integers(3, 10))):
        aside = rng.normal(0, 7 if veil else 4)
        start = (
            -0.5 * length * np.cos(angle) - aside * np.sin(angle),
            -0.5 * length * np.sin(angle) + aside * np.cos(angle),
        )
        bent = angle + rng.normal(0, 0.12)
        points = winding(rng, start=start, angle=bent, length=length * rng.uniform(0.5, 1), turn=0.7, pieces=14)
        widest = rng.uniform(2.5, 8.0) if veil and rng.random() < 0.5 else rng.uniform(0.2, 1.4)
        taper = np.sin(np.linspace(0.05, np.pi - 0.05, len(points))) ** 0.6
        widths = widest * taper * rng.uniform(0.6, 1.2, len(points))
        density = rng.uniform(0.03, 0.09) if widest > 2 else rng.uniform(0.08, 0.3)
        parts.append(Part(None, (), strands=(Strand(points, widths, density),)))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(2, 9))):
            along, aside = rng.normal(0, 0.25 * length), rng.normal(0, 6)
            x, y = along * np.cos(angle) - aside * np.sin(angle), along * np.sin(angle) + aside * np.cos(angle)
            parts.append(neutrophil_part(rng, float(x), float(y)))
    dyes = (rng.uniform(0.2, 0.6), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9), 0.0, 0.1)
    return Figure("mucus", NEGATIVE, tuple(parts), dyes, nuclear_dyes(rng), NORMAL_TEXT)


def candida(rng: np.random.Generator, pinkness: float) -> Figure:
    """Pseudohyphae: pinkish-brown filaments of 2-3 um with constrictions, branches and budding spores of 2-4 um."""
    density = rng.uniform(0.25, 0.5)
    strands = []
    for _ in range(int(rng.integers(1, 5))):
        pieces = int(rng.integers(16, 30))
        points = winding(
            rng,
            start=inside(rng, 10),
            angle=rng.uniform(0, 2 * np.pi),
            length=rng.uniform(25, 65),
            turn=0.8,
            pieces=pieces,
        )
        # Every few pieces the filament is pinched: one elongated yeast ends and the next begins.
        pinched = 1 - 0.4 * (np.arange(pieces + 1) % int(rng.integers(4, 8)) == 0)
        strands.append(Strand(points, rng.uniform(0.8, 1.3) * pinched, density, hollow=0.4))
        for bud in rng.integers(1, pieces, int(rng.integers(0, 3))):
            twig = winding(
                rng,
                start=(float(points[bud, 0]), float(points[bud, 1])),
                angle=rng.uniform(0, 2 * np.pi),
                length=rng.uniform(5, 14),
                turn=0.3,
                pieces=4,
            )
            strands.append(Strand(twig, np.array([0.9, 0.9, 0.6, 0.9, 0.8]), density, hollow=0.4))
    for _ in range(int(rng.integers(3, 16))):
        middle, half, angle = np.array(inside(rng, 24)), rng.uniform(0.3, 0.9), rng.uniform(0, 2 * np.pi)
        step = half * np.array([np.cos(angle), np.sin(angle)])
        widths = np.full(2, rng.uniform(0.9, 1.5))
        strands.append(Strand(np.array([middle - step, middle + step]), widths, density, hollow=0.45))
    parts = tuple(Part(None, (), strands=(strand,)) for strand in strands)
    dyes = (0.15, rng.uniform(0.4, 0.9), 0.05, 0.1, rng.uniform(0.2, 0.6))
    return Figure("candida", NEGATIVE, parts, dyes, nuclear_dyes(rng), NORMAL_TEXT)
