"""Atypical glandular cells: crowded strips, rosettes and sheets whose edges are feathered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stride_monai.bethesda import AGC_DESCRIPTION, PAPER_DESCRIPTIONS
from stride_monai.phantom.cells.anatomy import columnar_part, moved, packed, squamous
from stride_monai.phantom.cells.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.measures import A0, IRREGULAR_FROM, measures
from stride_monai.phantom.cells.outlines import ellipse
from stride_monai.phantom.cells.strands import Strand
from stride_monai.phantom.cells.words import DARK_FROM

__all__ = ["agc"]

_DARK, _PLEOMORPHIC, _MEMBRANE, _VACUOLES, _ROSETTE, _DISORDER, _DISPLACED = PAPER_DESCRIPTIONS["AGC"]

_PLEOMORPHIC_FROM = 0.18
"""Coefficient of variation of the nuclear area from which nuclei vary in size."""
_DISORDER_FROM = 0.3
"""Standard deviation (radians) of the cells' direction from which polarity counts as lost."""
_DISPLACED_FROM = 0.0
"""Mean place of the nuclei along their cells (-0.5 is the base, 0.5 the top) from which they are displaced upward."""

_Place = tuple[float, float, float]


def agc(rng: np.random.Generator, pinkness: float) -> Figure:
    """A crowded group of atypical glandular cells: a strip of palisading cells, a rosette or a sheet."""
    form = str(rng.choice(("strip", "rosette", "sheet"), p=(0.38, 0.32, 0.3)))
    disorder = rng.uniform(0.06, 0.5)
    places = {"strip": _strip, "rosette": _rosette, "sheet": _sheet}[form](rng, disorder)
    feathered, vacuolated = form != "rosette" and rng.random() < 0.75, rng.random() < 0.4
    basal, variation = rng.uniform(-0.25, 0.15), rng.uniform(0.05, 0.3)
    dark, coarse = rng.uniform(0.56, 1.0), rng.random() < 0.7
    parts, bases = [], []
    for x, y, angle in places:
        nucleus = _nucleus(rng, angle + rng.normal(0, 0.2), variation, dark, coarse)
        place = float(np.clip(basal + rng.normal(0, 0.08), -0.3, 0.3))
        part = columnar_part(rng, angle, nucleus, basal=place)
        part = replace(part, density=part.density * 0.75, edge=0.0, wrinkles=0.2, softness=1.5)
        if vacuolated and rng.random() < 0.4:
            part = _with_vacuole(rng, part)
        part = moved(part, x, y)
        if feathered and rng.random() < 0.5:
            part = replace(part, strands=(_feather(rng, part, angle),))
        parts.append(part)
        bases.append(place)
    figure = squamous(rng, f"agc_{form}", "AGC", parts, texts=(AGC_DESCRIPTION,))
    read = measures(figure)
    drawn = {
        _DARK: read["nuclear_density_ratio"] >= DARK_FROM,
        _PLEOMORPHIC: read["nuclear_area_cv"] >= _PLEOMORPHIC_FROM,
        _MEMBRANE: read["contour_irregularity"] >= IRREGULAR_FROM,
        _VACUOLES: read["vacuoles"] > 0,
        _ROSETTE: form == "rosette" or any(part.strands for part in parts),
        _DISORDER: disorder >= _DISORDER_FROM,
        _DISPLACED: float(np.mean(bases)) >= _DISPLACED_FROM,
    }
    return replace(figure, observed=tuple(text for text, is_drawn in drawn.items() if is_drawn))


def _strip(rng: np.random.Generator, disorder: float) -> list[_Place]:
    """Palisading and pseudostratified: side by side, each displaced along its own axis."""
    count, turn, bend = int(rng.integers(8, 18)), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.05)
    spacing, found = rng.uniform(4.2, 6.0), []
    for i in range(count):
        along = (i - (count - 1) / 2) * spacing
        angle = turn + np.pi / 2 + bend * (i - count / 2) + rng.normal(0, disorder)
        lift = rng.normal(0, 4.0)
        x = along * np.cos(turn) + rng.normal(0, 1.2) + lift * np.cos(angle)
        y = along * np.sin(turn) + rng.normal(0, 1.2) + lift * np.sin(angle)
        found.append((float(x), float(y), float(angle)))
    return found


def _rosette(rng: np.random.Generator, disorder: float) -> list[_Place]:
    """Around a lumen, nuclei outside."""
    count, turn, found = int(rng.integers(8, 17)), rng.uniform(0, 2 * np.pi), []
    for i in range(count):
        outward = turn + 2 * np.pi * i / count + rng.normal(0, 0.15)
        distance = rng.uniform(7, 12) + 0.45 * count
        angle = outward + np.pi + rng.normal(0, disorder)
        found.append((float(distance * np.cos(outward)), float(distance * np.sin(outward)), float(angle)))
    return found


def _sheet(rng: np.random.Generator, disorder: float) -> list[_Place]:
    """A crowded sheet: overlapping nuclei inside, cells that point outward at the edge."""
    found = []
    for x, y in packed(rng, int(rng.integers(12, 26)), rng.uniform(8.0, 10.5)):
        angle = float(np.arctan2(y, x)) + rng.normal(0, 0.4 + disorder)
        found.append((x, y, float(angle)))
    return found


def _nucleus(rng: np.random.Generator, angle: float, variation: float, dark: float, coarse: bool) -> Nucleus:
    """An elongated crowded nucleus of 1.3-2.4 A0."""
    area = A0 * float(np.clip(1.8 * rng.lognormal(0, variation), 1.32, 2.38))
    outline = ellipse(rng, area, elongation=rng.uniform(1.2, 2.0), angle=angle, irregularity=rng.uniform(0.03, 0.14))
    return Nucleus(
        outline,
        density=dark * rng.uniform(0.88, 1.12),
        chromatin=rng.uniform(0.22, 0.34) if coarse else rng.uniform(0.1, 0.2),
        coarse=coarse,
        membrane=rng.uniform(0.0, 0.2),
        clearing=0.05,
        softness=rng.uniform(0.5, 1.2),
    )


def _with_vacuole(rng: np.random.Generator, part: Part) -> Part:
    """A cleared bubble in the part of the cell that is free of the nucleus."""
    away = -np.array([part.nuclei[0].outline.x, part.nuclei[0].outline.y])
    # Opposite the nucleus; where that lies in the middle there is room on either side.
    distance = max(float(np.hypot(*away)), 1e-6)
    reach = part.nuclei[0].outline.reach - distance + 3.4
    x, y = away / distance * max(reach, 2.0)
    bubble = ellipse(rng, rng.uniform(8, 22), x=float(x), y=float(y))
    return replace(part, vacuoles=(Halo(bubble, 0.7, 0.08),))


def _feather(rng: np.random.Generator, part: Part, angle: float) -> Strand:
    """A wisp of cytoplasm drawn out beyond the cell's top."""
    assert part.cell is not None
    index = round(angle / (2 * np.pi) * len(part.cell.radii)) % len(part.cell.radii)
    reach, length = 0.85 * float(part.cell.radii[index]), rng.uniform(4, 11)
    ends = np.array([reach, reach + 0.5 * length, reach + length])
    angles = angle + np.array([0.0, rng.normal(0, 0.05), rng.normal(0, 0.12)])
    points = np.stack([part.cell.x + ends * np.cos(angles), part.cell.y + ends * np.sin(angles)], axis=1)
    return Strand(points, np.array([1.6, 1.0, 0.0]), 0.7 * part.density)
