"""The kinds of normal cell and of hard negative, each a function ``rng, pinkness -> Figure`` (METHOD section 10).

Sizes are diameters in um; :data:`A0` is the area of a normal intermediate nucleus, the yardstick of Bethesda.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.outlines import Fold, Outline, ellipse, polygonal

__all__ = [
    "A0",
    "HARD_NEGATIVES",
    "NORMAL",
    "NORMAL_TEXT",
    "disc_area",
    "inside",
    "mature_cell",
    "nuclear_dyes",
    "packed",
    "shifted",
    "squamous_dyes",
]

A0 = 42.0
"""Reference nuclear area, um2."""

NORMAL_TEXT = ("normal cell",)

Dyes = tuple[float, ...]
Maker = Callable[[np.random.Generator, float], Figure]


def disc_area(diameter: float) -> float:
    """Area in um2 of a disc of ``diameter`` um."""
    return float(np.pi * diameter**2 / 4)


def nuclear_dyes(rng: np.random.Generator) -> Dyes:
    """Dye mix of a nucleus: haematoxylin with a little of the rest."""
    return (1.0, float(rng.uniform(0.0, 0.18)), float(rng.uniform(0, 0.08)), 0.0, float(rng.uniform(0.0, 0.15)))


def squamous_dyes(rng: np.random.Generator, pink: bool) -> Dyes:
    """Dye mix of squamous cytoplasm: pink to orange, or pale blue-green."""
    if pink:
        orange = float(rng.beta(1.0, 1.5))
        return (0.02, float(rng.uniform(0.6, 1.0)) * (1 - 0.6 * orange), 0.0, orange * 1.3, 0.1 * orange)
    haze = float(rng.uniform(0.1, 0.5))
    return (haze, float(rng.uniform(0, 0.15)), float(rng.uniform(0.6, 1.0)), float(rng.uniform(0, 0.1)), 0.05)


def inside(rng: np.random.Generator, reach: float) -> tuple[float, float]:
    """A point uniform in the disc of radius ``reach``."""
    radius, angle = reach * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def shifted(outline: Outline, dx: float, dy: float) -> Outline:
    """The same curve somewhere else."""
    return Outline(outline.x + dx, outline.y + dy, outline.radii, outline.fold)


def _mature_outline(rng: np.random.Generator, diameter: float, folded: bool) -> Outline:
    fold = None
    if folded:
        offset = float(diameter * rng.uniform(0.22, 0.42))
        fold = Fold(rng.uniform(0, 2 * np.pi), offset, float(rng.normal(0, 0.009)))
    return polygonal(
        rng,
        disc_area(diameter),
        corners=int(rng.integers(4, 8)),
        elongation=float(rng.uniform(1.0, 1.9)),
        raggedness=float(rng.uniform(0.04, 0.16)),
        rounding=float(rng.uniform(0.6, 3.5)),
        fold=fold,
    )


def mature_cell(
    rng: np.random.Generator,
    *,
    diameter: float,
    nuclei: tuple[Nucleus, ...],
    folded: bool = False,
    vacuoles: tuple[Halo, ...] = (),
    density: float | None = None,
    granular: bool = False,
) -> Part:
    """A large flat squamous cell around given nuclei."""
    outline = _mature_outline(rng, diameter, folded)
    spots: list[tuple[float, float, float]] = []
    if granular:
        for _ in range(int(rng.integers(10, 50))):
            x, y = inside(rng, diameter * 0.36)
            spots.append((x, y, float(rng.uniform(0.2, 0.55))))
    return Part(
        cell=outline,
        nuclei=nuclei,
        density=float(np.clip(rng.lognormal(np.log(0.22), 0.45), 0.07, 0.45)) if density is None else density,
        texture=float(rng.uniform(0.1, 0.34)),
        edge=float(rng.uniform(0.03, 0.16)),
        bulge=float(rng.uniform(0.0, 0.7)),
        wrinkles=float(rng.uniform(0.15, 0.7) * (rng.random() < 0.75)),
        granules=tuple(spots),
        vacuoles=vacuoles,
    )


def superficial(rng: np.random.Generator, pinkness: float) -> Figure:
    """Large, mostly pink cell with a small dark (pyknotic) nucleus."""
    diameter = float(rng.uniform(40, 50))
    x, y = inside(rng, 3.5)
    nucleus = Nucleus(
        ellipse(rng, disc_area(rng.uniform(4.2, 6.0)), x=x, y=y, elongation=rng.uniform(1, 1.5), irregularity=0.04),
        density=float(rng.uniform(0.75, 1.1)),
        chromatin=0.06,
        membrane=0.0,
        clearing=0.0,
    )
    part = mature_cell(
        rng, diameter=diameter, nuclei=(nucleus,), folded=rng.random() < 0.25, granular=rng.random() < 0.15
    )
    pink = rng.random() < 0.35 + 0.65 * pinkness
    return Figure("superficial", NEGATIVE, (part,), squamous_dyes(rng, pink), nuclear_dyes(rng), NORMAL_TEXT)


def _vesicular(rng: np.random.Generator, area: float, x: float, y: float, density: float) -> Nucleus:
    """A normal open nucleus: oval, smooth, finely granular."""
    return Nucleus(
        ellipse(rng, area, x=x, y=y, elongation=rng.uniform(1.0, 1.45), irregularity=rng.uniform(0.02, 0.07)),
        density=density,
        chromatin=float(rng.uniform(0.16, 0.36)),
        membrane=float(rng.uniform(0.08, 0.25)),
        clearing=float(rng.uniform(0.0, 0.3)),
    )


def intermediate(rng: np.random.Generator, pinkness: float) -> Figure:
    """Large pale cell with an open oval nucleus of 7-8 um."""
    x, y = inside(rng, 4.0)
    nucleus = _vesicular(rng, disc_area(rng.uniform(7, 8)), x, y, float(rng.uniform(0.36, 0.6)))
    part = mature_cell(
        rng,
        diameter=float(rng.uniform(30, 50)),
        nuclei=(nucleus,),
        folded=rng.random() < 0.3,
        granular=rng.random() < 0.05,
    )
    pink = rng.random() < 0.75 * pinkness
    return Figure("intermediate", NEGATIVE, (part,), squamous_dyes(rng, pink), nuclear_dyes(rng), NORMAL_TEXT)


def _round_cell(
    rng: np.random.Generator, kind: str, cell: tuple[float, float], nucleus: tuple[float, float], density: float
) -> Figure:
    """A small round cell with dense cytoplasm."""
    diameter, nuclear = float(rng.uniform(*cell)), float(rng.uniform(*nucleus))
    x, y = inside(rng, (diameter - nuclear) * 0.2)
    outline = ellipse(rng, disc_area(diameter), elongation=rng.uniform(1.0, 1.4), irregularity=rng.uniform(0.04, 0.14))
    part = Part(
        outline,
        (_vesicular(rng, disc_area(nuclear), x, y, float(rng.uniform(0.38, 0.65))),),
        density=density * float(rng.lognormal(0, 0.25)),
        texture=float(rng.uniform(0.1, 0.25)),
        edge=float(rng.uniform(0.05, 0.2)),
    )
    return Figure(kind, NEGATIVE, (part,), squamous_dyes(rng, rng.random() < 0.25), nuclear_dyes(rng), NORMAL_TEXT)


def parabasal(rng: np.random.Generator, pinkness: float) -> Figure:
    """Round cell of 15-30 um, dense cytoplasm, nucleus of 8-10 um."""
    return _round_cell(rng, "parabasal", (16, 30), (8, 9.8), 0.38)


def metaplastic(rng: np.random.Generator, pinkness: float) -> Figure:
    """Cobblestone cell of 15-25 um, dense cytoplasm, nucleus about 8 um."""
    return _round_cell(rng, "metaplastic", (16, 25), (7.5, 8.5), 0.48)


def columnar_part(rng: np.random.Generator, angle: float, nucleus: Nucleus | None = None) -> Part:
    """A tall cell along ``angle`` with its nucleus near the basal end (towards ``-angle``)."""
    width, length = float(rng.uniform(8, 12)), float(rng.uniform(20, 30))
    outline = ellipse(
        rng, width * length * 0.85, elongation=length / width, angle=angle, irregularity=rng.uniform(0.02, 0.08)
    )
    basal = -length * float(rng.uniform(0.16, 0.26))
    x, y = basal * np.cos(angle), basal * np.sin(angle)
    if nucleus is None:
        nucleus = Nucleus(
            ellipse(
                rng, disc_area(rng.uniform(7, 8.6)), elongation=rng.uniform(1, 1.35), angle=angle, irregularity=0.05
            ),
            density=float(rng.uniform(0.38, 0.62)),
        )
    placed = replace(nucleus, outline=shifted(nucleus.outline, x, y))
    return Part(outline, (placed,), density=float(rng.uniform(0.15, 0.32)), texture=0.25, edge=0.08)


def columnar(rng: np.random.Generator, pinkness: float) -> Figure:
    """A tall endocervical cell, 8-12 x 20-30 um."""
    part = columnar_part(rng, rng.uniform(0, 2 * np.pi))
    return Figure("columnar", NEGATIVE, (part,), squamous_dyes(rng, False), nuclear_dyes(rng), NORMAL_TEXT)


def _neutrophil_part(rng: np.random.Generator, x: float, y: float) -> Part:
    lobes = []
    step, turn = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
    reach = float(rng.uniform(1.3, 2.4))
    for i in range(int(rng.integers(3, 5))):
        at = step + turn * i * rng.uniform(1.2, 1.8)
        lobe = ellipse(
            rng,
            disc_area(rng.uniform(3.0, 4.4)),
            x=x + reach * np.cos(at),
            y=y + reach * np.sin(at),
            elongation=rng.uniform(1, 1.6),
            irregularity=0.1,
        )
        lobes.append(Nucleus(lobe, float(rng.uniform(0.9, 1.3)), 0.15, False, 0.0, 0.0))
    cell = ellipse(rng, disc_area(rng.uniform(9, 12)), x=x, y=y, irregularity=0.12)
    return Part(cell, tuple(lobes), density=float(rng.uniform(0.02, 0.16)), texture=0.4, edge=0.04)


def neutrophil(rng: np.random.Generator, pinkness: float) -> Figure:
    """A leucocyte of 9-12 um with 3-4 dark lobes; often a few together."""
    count = 1 if rng.random() < 0.65 else int(rng.integers(2, 7))
    parts = [_neutrophil_part(rng, *inside(rng, 4.2 * np.sqrt(count) * (count > 1))) for _ in range(count)]
    return Figure("neutrophil", NEGATIVE, tuple(parts), squamous_dyes(rng, False), nuclear_dyes(rng), NORMAL_TEXT)


def debris(rng: np.random.Generator, pinkness: float) -> Figure:
    """Specks: bacteria, stain precipitate and shreds."""
    parts = []
    spread = float(rng.uniform(4, 30))
    for _ in range(int(rng.integers(3, 22))):
        x, y = inside(rng, spread)
        speck = ellipse(rng, rng.uniform(0.3, 1.6), x=x, y=y, elongation=rng.uniform(1, 3.5), irregularity=0.2)
        parts.append(Part(None, (Nucleus(speck, float(rng.uniform(0.06, 0.45)), 0.0, False, 0.0, 0.0),)))
    return Figure("debris", NEGATIVE, tuple(parts), squamous_dyes(rng, False), nuclear_dyes(rng), NORMAL_TEXT)


def reactive(rng: np.random.Generator, pinkness: float) -> Figure:
    """Nucleus of 1.5-2 A0, smooth and pale: enlarged but benign."""
    nuclei = []
    count = 2 if rng.random() < 0.12 else 1
    for i in range(count):
        x, y = inside(rng, 3.0)
        area = A0 * float(rng.uniform(1.5, 2.0))
        outline = ellipse(
            rng, area, x=x + (i * 2 - count + 1) * 4.8, y=y, elongation=rng.uniform(1, 1.25), irregularity=0.03
        )
        nuclei.append(
            Nucleus(
                outline,
                float(rng.uniform(0.3, 0.45)),
                0.14,
                False,
                0.12,
                float(rng.uniform(0.1, 0.35)),
                _nucleoli(rng, outline, 0.3),
            )
        )
    part = mature_cell(rng, diameter=float(rng.uniform(32, 48)), nuclei=tuple(nuclei))
    pink = rng.random() < 0.8 * pinkness
    return Figure("reactive", NEGATIVE, (part,), squamous_dyes(rng, pink), nuclear_dyes(rng), NORMAL_TEXT)


def _nucleoli(rng: np.random.Generator, outline: Outline, chance: float) -> tuple[tuple[float, float, float], ...]:
    if rng.random() > chance:
        return ()
    found = []
    for _ in range(int(rng.integers(1, 3))):
        x, y = inside(rng, outline.reach * 0.4)
        found.append((outline.x + x, outline.y + y, float(rng.uniform(0.6, 1.1))))
    return tuple(found)


def naked_nucleus(rng: np.random.Generator, pinkness: float) -> Figure:
    """A nucleus that lost its cytoplasm."""
    nucleus = _vesicular(rng, disc_area(rng.uniform(6.5, 9.0)), 0, 0, float(rng.uniform(0.4, 0.75)))
    return Figure(
        "naked_nucleus", NEGATIVE, (Part(None, (nucleus,)),), squamous_dyes(rng, False), nuclear_dyes(rng), NORMAL_TEXT
    )


def halo_only(rng: np.random.Generator, pinkness: float) -> Figure:
    """A perinuclear halo (inflammation, glycogen) around a normal nucleus: not LSIL."""
    nucleus = _vesicular(rng, disc_area(rng.uniform(7, 8.2)), 0, 0, float(rng.uniform(0.38, 0.68)))
    halo = Halo(
        ellipse(
            rng,
            nucleus.outline.area * rng.uniform(2.2, 7.0),
            x=rng.normal(0, 0.8),
            y=rng.normal(0, 0.8),
            elongation=rng.uniform(1, 1.5),
            irregularity=0.1,
        ),
        clearing=float(rng.uniform(0.4, 0.85)),
        rim=float(rng.uniform(0.0, 0.1)),
        sharpness=float(rng.uniform(1.0, 2.5)),
    )
    part = mature_cell(
        rng,
        diameter=float(rng.uniform(30, 46)),
        nuclei=(nucleus,),
        vacuoles=(halo,),
        density=float(rng.uniform(0.25, 0.5)),
    )
    return Figure(
        "halo_only", NEGATIVE, (part,), squamous_dyes(rng, rng.random() < pinkness), nuclear_dyes(rng), NORMAL_TEXT
    )


def clump(rng: np.random.Generator, pinkness: float) -> Figure:
    """A crowded group of benign small cells (parabasal or columnar sheets) or of leucocytes."""
    if rng.random() < 0.35:
        count = int(rng.integers(10, 30))
        parts = [_neutrophil_part(rng, *inside(rng, 2.6 * np.sqrt(count))) for _ in range(count)]
    else:
        count = int(rng.integers(5, 16))
        diameter = float(rng.uniform(11, 16))
        parts = []
        for x, y in packed(rng, count, diameter * 0.8):
            nucleus = _vesicular(rng, disc_area(rng.uniform(7.0, 8.2)), x, y, float(rng.uniform(0.38, 0.62)))
            outline = ellipse(rng, disc_area(diameter * rng.uniform(0.9, 1.1)), x=x, y=y, irregularity=0.12)
            parts.append(Part(outline, (nucleus,), density=float(rng.uniform(0.2, 0.4)), texture=0.2, edge=0.1))
    return Figure(
        "clump", NEGATIVE, tuple(parts), squamous_dyes(rng, rng.random() < 0.3), nuclear_dyes(rng), NORMAL_TEXT
    )


def packed(rng: np.random.Generator, count: int, spacing: float) -> list[tuple[float, float]]:
    """Points of a jittered honeycomb around the origin, nearest first."""
    side = int(np.ceil(np.sqrt(count))) + 2
    row, column = np.mgrid[-side : side + 1, -side : side + 1]
    x = (column + 0.5 * (row % 2)) * spacing + rng.normal(0, 0.16 * spacing, row.shape)
    y = row * 0.87 * spacing + rng.normal(0, 0.16 * spacing, row.shape)
    stretch = float(rng.uniform(0.7, 1.4))
    order = np.argsort((x / stretch) ** 2 + (y * stretch) ** 2, axis=None)[:count]
    return [(float(x.flat[i]), float(y.flat[i])) for i in order]


def rolled(rng: np.random.Generator, pinkness: float) -> Figure:
    """A mature cell folded over its own nucleus: dark by thickness, not by atypia."""
    nucleus = _vesicular(rng, disc_area(rng.uniform(6.0, 8.0)), 0, 0, float(rng.uniform(0.5, 0.8)))
    diameter = float(rng.uniform(34, 50))
    part = mature_cell(rng, diameter=diameter, nuclei=(nucleus,), density=float(rng.uniform(0.25, 0.5)))
    assert part.cell is not None
    fold = Fold(rng.uniform(0, 2 * np.pi), diameter * float(rng.uniform(0.1, 0.16)), float(rng.normal(0, 0.012)))
    folded = Outline(part.cell.x, part.cell.y, part.cell.radii, fold)
    part = Part(folded, part.nuclei, part.density, part.texture, part.edge, part.bulge, 0.4)
    return Figure(
        "rolled", NEGATIVE, (part,), squamous_dyes(rng, rng.random() < pinkness), nuclear_dyes(rng), NORMAL_TEXT
    )


NORMAL: Mapping[str, Maker] = MappingProxyType(
    {
        "superficial": superficial,
        "intermediate": intermediate,
        "parabasal": parabasal,
        "metaplastic": metaplastic,
        "columnar": columnar,
        "neutrophil": neutrophil,
        "debris": debris,
    }
)
"""The abundant kinds; a slide draws a bank of each and places its members many times, turned and recoloured."""

HARD_NEGATIVES: Mapping[str, Maker] = MappingProxyType(
    {
        "reactive": reactive,
        "naked_nucleus": naked_nucleus,
        "halo_only": halo_only,
        "rolled": rolled,
        "clump": clump,
    }
)
"""Benign look-alikes, each drawn individually."""
