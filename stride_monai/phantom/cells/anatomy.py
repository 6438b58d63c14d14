"""What cells are made of: outlines, nuclei, creases and dyes that several kinds share.

Sizes are diameters in um.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from stride_monai.phantom.cells.figures import Crease, Figure, Halo, Nucleus, Part
from stride_monai.phantom.cells.outlines import Fold, Outline, ellipse, enclosing, polygonal

__all__ = [
    "NORMAL_TEXT",
    "Dyes",
    "Maker",
    "accent_dyes",
    "columnar_part",
    "compact_part",
    "disc_area",
    "inside",
    "mature_part",
    "moved",
    "nuclear_dyes",
    "packed",
    "pale_zone",
    "shifted",
    "spots",
    "squamous",
    "squamous_dyes",
    "vesicular",
]

NORMAL_TEXT = ("normal cell",)

Dyes = tuple[float, ...]
Maker = Callable[[np.random.Generator, float], Figure]


def disc_area(diameter: float) -> float:
    """Area in um2 of a disc of ``diameter`` um."""
    return float(np.pi * diameter**2 / 4)


def inside(rng: np.random.Generator, reach: float) -> tuple[float, float]:
    """A point uniform in the disc of radius ``reach``."""
    radius, angle = reach * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def spots(
    rng: np.random.Generator, count: int, reach: float, radii: tuple[float, float], x: float = 0.0, y: float = 0.0
) -> tuple[tuple[float, float, float], ...]:
    """Dots (x, y, radius) in um within ``reach`` of a point, their radii between two bounds."""
    places = (inside(rng, reach) for _ in range(count))
    return tuple((x + dx, y + dy, rng.uniform(*radii)) for dx, dy in places)


def shifted(outline: Outline, dx: float, dy: float) -> Outline:
    """The same curve somewhere else."""
    return Outline(outline.x + dx, outline.y + dy, outline.radii, outline.fold)


def moved(part: Part, dx: float, dy: float) -> Part:
    """A part without granules, nucleoli or strands elsewhere in its figure."""
    cell = None if part.cell is None else shifted(part.cell, dx, dy)
    nuclei = tuple(replace(nucleus, outline=shifted(nucleus.outline, dx, dy)) for nucleus in part.nuclei)
    creases = tuple(replace(crease, x=crease.x + dx, y=crease.y + dy) for crease in part.creases)
    haloes = tuple(replace(halo, outline=shifted(halo.outline, dx, dy)) for halo in part.vacuoles)
    return replace(part, cell=cell, nuclei=nuclei, creases=creases, vacuoles=haloes)


def packed(rng: np.random.Generator, count: int, spacing: float) -> list[tuple[float, float]]:
    """Points of a jittered honeycomb around the origin, nearest first."""
    side = int(np.ceil(np.sqrt(count))) + 2
    row, column = np.mgrid[-side : side + 1, -side : side + 1]
    x = (column + 0.5 * (row % 2)) * spacing + rng.normal(0, 0.16 * spacing, row.shape)
    y = row * 0.87 * spacing + rng.normal(0, 0.16 * spacing, row.shape)
    stretch = rng.uniform(0.7, 1.4)
    order = np.argsort((x / stretch) ** 2 + (y * stretch) ** 2, axis=None)[:count]
    return [(float(x.flat[i]), float(y.flat[i])) for i in order]


def nuclear_dyes(rng: np.random.Generator) -> Dyes:
    """Dye mix of a nucleus: haematoxylin with a little of the rest."""
    return (1.0, rng.uniform(0.0, 0.25), rng.uniform(0, 0.08), 0.0, rng.uniform(0.0, 0.12))


def squamous_dyes(rng: np.random.Generator, pink: bool) -> Dyes:
    """Dye mix of squamous cytoplasm: pink to orange, or pale blue-green."""
    if pink:
        orange = rng.beta(1.0, 1.5)
        return (0.02, rng.uniform(0.6, 1.0) * (1 - 0.6 * orange), 0.0, orange * 1.3, 0.1 * orange)
    haze = rng.uniform(0.1, 0.5)
    return (haze, rng.uniform(0, 0.15), rng.uniform(0.6, 1.0), rng.uniform(0, 0.1), 0.05)


def accent_dyes(rng: np.random.Generator, own: Dyes, pink: bool) -> Dyes:
    """Dye mix in the middle of a two-tone cell: pink in a blue cell, or a deeper shade of its own."""
    if rng.random() < (0.06 if pink else 0.55):
        other = squamous_dyes(rng, not pink)
        return tuple(0.2 * a + 0.8 * b for a, b in zip(own, other, strict=True))
    shade = rng.uniform((0.8, 1.0, 0.7, 0.8, 1.0), (1.6, 1.7, 1.3, 2.2, 2.0))
    return tuple(float(amount) for amount in (np.asarray(own) + np.array([0.03, 0.06, 0, 0.05, 0])) * shade)


def squamous(
    rng: np.random.Generator,
    kind: str,
    label: str,
    parts: Sequence[Part],
    pink: bool = False,
    texts: tuple[str, ...] = NORMAL_TEXT,
) -> Figure:
    """A figure in the dyes of squamous cells, two-tone where a part takes an accent."""
    dyes = squamous_dyes(rng, pink)
    accent = accent_dyes(rng, dyes, pink) if any(part.accent > 0 for part in parts) else None
    return Figure(kind, label, tuple(parts), dyes, nuclear_dyes(rng), texts, accent)


def vesicular(rng: np.random.Generator, area: float, x: float, y: float, density: float) -> Nucleus:
    """A normal open nucleus: oval, smooth, finely granular."""
    return Nucleus(
        ellipse(rng, area, x=x, y=y, elongation=rng.uniform(1.0, 1.45), irregularity=rng.uniform(0.01, 0.055)),
        density=density,
        chromatin=rng.uniform(0.14, 0.36),
        membrane=rng.uniform(0.0, 0.16),
        clearing=rng.uniform(-0.12, 0.18),
        softness=rng.uniform(0.3, 0.75),
    )


def pale_zone(rng: np.random.Generator, outline: Outline) -> Halo:
    """The faint pale zone that many normal nuclei have around them; no halo."""
    zone = ellipse(
        rng,
        outline.area * rng.uniform(1.8, 5.0),
        x=outline.x + rng.normal(0, 0.8),
        y=outline.y + rng.normal(0, 0.8),
        elongation=rng.uniform(1, 1.6),
        irregularity=0.12,
    )
    return Halo(zone, rng.uniform(0.12, 0.35), 0.0, rng.uniform(2.0, 4.0), distinct=False)


def _creases(rng: np.random.Generator, diameter: float, crumpled: bool) -> tuple[Crease, ...]:
    """Wrinkles that run roughly one way, pleats, and curled stretches of the rim."""
    main = rng.uniform(0, np.pi)
    found = []
    for _ in range(int(rng.poisson(6.0 if crumpled else 2.2))):
        x, y = inside(rng, 0.36 * diameter)
        length, strength = diameter * rng.uniform(0.1, 0.36), rng.uniform(0.15, 0.75)
        found.append(
            Crease(x, y, main + rng.normal(0, 0.4), length, rng.normal(0, 0.02), rng.uniform(0.3, 0.6), strength)
        )
    pleats = int(rng.integers(4, 9)) if crumpled else int(rng.choice(4, p=(0.5, 0.27, 0.16, 0.07)))
    for _ in range(pleats):
        x, y = inside(rng, 0.38 * diameter)
        angle = main + rng.normal(0, 0.5) + np.pi * rng.integers(2)
        length, width = diameter * rng.uniform(0.15, 0.5), rng.uniform(0.8, 5.0)
        found.append(Crease(x, y, angle, length, rng.normal(0, 0.014), width, rng.uniform(0.35, 1.1), True))
    for _ in range(int(rng.poisson(0.7))):
        towards = rng.uniform(0, 2 * np.pi)
        x, y = 0.43 * diameter * np.cos(towards), 0.43 * diameter * np.sin(towards)
        length, width = diameter * rng.uniform(0.12, 0.3), rng.uniform(0.8, 2.5)
        found.append(Crease(x, y, towards + np.pi / 2, length, 1 / diameter, width, rng.uniform(0.3, 1.0), True))
    return tuple(found)


def mature_part(
    rng: np.random.Generator,
    *,
    diameter: float,
    nuclei: tuple[Nucleus, ...],
    folded: bool = False,
    crumpled: bool = False,
    vacuoles: tuple[Halo, ...] = (),
    density: float | None = None,
    granular: bool = False,
) -> Part:
    """A large flat squamous cell around given nuclei.

    Args:
        folded: a corner is turned over.
        crumpled: pleated all over.
        density: dye density of the cytoplasm; drawn when None.
        granular: with keratohyaline granules.
    """
    fold = None
    if folded:
        offset = diameter * rng.uniform(0.3, 0.46)
        fold = Fold(rng.uniform(0, 2 * np.pi), offset, rng.normal(0, 0.012))
    outline = polygonal(
        rng,
        disc_area(diameter),
        corners=int(rng.integers(4, 9)),
        elongation=rng.uniform(1.0, 1.7) if rng.random() < 0.85 else rng.uniform(1.7, 2.6),
        raggedness=rng.uniform(0.03, 0.16),
        rounding=rng.uniform(0.5, 3.0),
        nicks=int(rng.poisson(0.8)),
        fold=fold,
    )
    granules = spots(rng, int(rng.integers(10, 50)), diameter * 0.36, (0.15, 0.5)) if granular else ()
    return Part(
        cell=enclosing(outline, [nucleus.outline for nucleus in nuclei], 1.0),
        nuclei=nuclei,
        density=float(np.clip(rng.lognormal(np.log(0.24), 0.45), 0.07, 0.5)) if density is None else density,
        texture=rng.uniform(0.06, 0.26),
        edge=rng.uniform(0.0, 0.12),
        bulge=rng.uniform(0.1, 0.7),
        grain=float(rng.choice((0.3, 0.7, 1.2), p=(0.35, 0.45, 0.2)) * rng.uniform(0.6, 1.3)),
        wrinkles=rng.uniform(0.1, 0.5) * (rng.random() < 0.6),
        softness=rng.uniform(0.35, 0.8),
        fray=rng.uniform(0.0, 0.25),
        accent=rng.uniform(0.35, 0.95) if rng.random() < 0.35 else 0.0,
        accent_from=rng.uniform(0.15, 0.6),
        granules=granules,
        vacuoles=vacuoles,
        creases=_creases(rng, diameter, crumpled),
    )


def compact_part(rng: np.random.Generator, diameter: float, nucleus: Nucleus, density: float) -> Part:
    """A small round to polygonal cell with dense cytoplasm."""
    if rng.random() < 0.5:
        cell = ellipse(rng, disc_area(diameter), elongation=rng.uniform(1.0, 1.4), irregularity=rng.uniform(0.03, 0.13))
    else:
        cell = polygonal(
            rng,
            disc_area(diameter),
            corners=int(rng.integers(4, 7)),
            elongation=rng.uniform(1.0, 1.5),
            raggedness=rng.uniform(0.04, 0.12),
            rounding=rng.uniform(3.0, 6.0),
        )
    return Part(
        enclosing(cell, [nucleus.outline]),
        (nucleus,),
        vacuoles=(pale_zone(rng, nucleus.outline),) if rng.random() < 0.4 else (),
        density=density * rng.lognormal(0, 0.25),
        texture=rng.uniform(0.08, 0.25),
        edge=rng.uniform(0.0, 0.16),
        bulge=rng.uniform(0.0, 0.5),
        grain=rng.uniform(0.2, 1.0),
        wrinkles=rng.uniform(0.0, 0.4),
        softness=rng.uniform(0.4, 1.1),
        accent=rng.uniform(0.4, 1.0) if rng.random() < 0.3 else 0.0,
    )


def columnar_part(
    rng: np.random.Generator, angle: float, nucleus: Nucleus | None = None, basal: float | None = None
) -> Part:
    """A tall cell along ``angle`` with its nucleus near the basal end (towards ``-angle``).

    Args:
        basal: where the nucleus lies along the cell, as a share of its length; -0.5 is the basal end.
    """
    width, length = rng.uniform(8, 12), rng.uniform(20, 30)
    outline = ellipse(
        rng, width * length * 0.85, elongation=length / width, angle=angle, irregularity=rng.uniform(0.03, 0.1)
    )
    place = length * (-rng.uniform(0.16, 0.26) if basal is None else basal)
    if nucleus is None:
        body = ellipse(
            rng, disc_area(rng.uniform(7, 8.6)), elongation=rng.uniform(1, 1.35), angle=angle, irregularity=0.04
        )
        nucleus = Nucleus(body, rng.uniform(0.48, 0.75), 0.2, softness=0.8)
    placed = replace(nucleus, outline=shifted(nucleus.outline, place * np.cos(angle), place * np.sin(angle)))
    return Part(
        enclosing(outline, [placed.outline]),
        (placed,),
        density=rng.uniform(0.13, 0.32),
        texture=rng.uniform(0.12, 0.3),
        edge=rng.uniform(0.0, 0.1),
        grain=rng.uniform(0.2, 0.8),
        wrinkles=rng.uniform(0.1, 0.6),
        softness=rng.uniform(0.6, 1.5),
    )
