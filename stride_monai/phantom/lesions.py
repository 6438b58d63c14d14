"""Lesion cells of every Bethesda class with the descriptions that were drawn (METHOD section 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from stride_monai.bethesda import AGC_DESCRIPTION, PAPER_DESCRIPTIONS
from stride_monai.phantom.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.kinds import (
    A0,
    columnar_part,
    disc_area,
    inside,
    mature_cell,
    nuclear_dyes,
    shifted,
    squamous_dyes,
)
from stride_monai.phantom.outlines import Outline, ellipse

__all__ = ["LESIONS", "lesion"]

Maker = Callable[[np.random.Generator, float], Figure]

_ENLARGED, _MEMBRANE, _MILD, _CHROMATIN = PAPER_DESCRIPTIONS["ASC-US"]
_LARGE, _BINUCLEATE, _, _, _RAISIN, _HALO, _DARK = PAPER_DESCRIPTIONS["LSIL"]
_HIGH_RATIO, _, _, _, _PLEOMORPHIC, _NUCLEOLI = PAPER_DESCRIPTIONS["ASC-H/HSIL"]

IRREGULAR_FROM = 0.09
"""Fourier amplitude from which a nuclear outline counts as irregular."""


def _texts(*pairs: tuple[bool, str]) -> tuple[str, ...]:
    return tuple(text for drawn, text in pairs if drawn)


def ascus(rng: np.random.Generator, pinkness: float) -> Figure:
    """Mature cell, nucleus 2.5-3 A0 and mildly dark."""
    coarse, irregularity = rng.random() < 0.5, float(rng.uniform(0.04, 0.14))
    x, y = inside(rng, 3.0)
    nucleus = Nucleus(
        ellipse(rng, A0 * rng.uniform(2.52, 2.98), x=x, y=y, elongation=rng.uniform(1, 1.5), irregularity=irregularity),
        density=float(rng.uniform(0.52, 0.72)),
        chromatin=0.45 if coarse else 0.25,
        coarse=coarse,
        membrane=0.2,
        clearing=0.1,
    )
    part = mature_cell(rng, diameter=float(rng.uniform(34, 50)), nuclei=(nucleus,))
    texts = _texts((True, _ENLARGED), (irregularity >= IRREGULAR_FROM, _MEMBRANE), (True, _MILD), (coarse, _CHROMATIN))
    dyes = squamous_dyes(rng, rng.random() < 0.75 * pinkness)
    return Figure("ascus", "ASC-US", (part,), dyes, nuclear_dyes(rng), texts)


def _lsil_nuclei(
    rng: np.random.Generator, count: int, raisin: bool, coarse: bool, irregularity: float
) -> tuple[Nucleus, ...]:
    x, y = inside(rng, 3.0)
    spread, turn = (6.2 if count == 2 else 7.4), rng.uniform(0, 2 * np.pi)
    largest = {1: 5.0, 2: 3.7, 3: 3.3}[count]
    density = float(rng.uniform(0.62, 0.98))
    nuclei = []
    for i in range(count):
        at = turn + 2 * np.pi * i / count
        distance = 0.0 if count == 1 else spread
        outline = ellipse(
            rng,
            A0 * rng.uniform(3.05, largest),
            x=x + distance * np.cos(at),
            y=y + distance * np.sin(at),
            elongation=rng.uniform(1, 1.5 if count == 1 else 1.2),
            irregularity=irregularity + 0.08 * raisin,
        )
        nuclei.append(Nucleus(outline, density, 0.45 if coarse else 0.25, coarse, 0.15, 0.05, (), raisin))
    return tuple(nuclei)


def lsil(rng: np.random.Generator, pinkness: float) -> Figure:
    """Mature cell, nuclei over 3 A0, one to three of them, often in a sharp halo with a dense rim (koilocyte)."""
    count = int(rng.choice([1, 2, 3], p=[0.68, 0.27, 0.05]))
    raisin, coarse, halo = rng.random() < 0.35, rng.random() < 0.6, rng.random() < 0.62
    irregularity = float(rng.uniform(0.05, 0.16))
    nuclei = _lsil_nuclei(rng, count, raisin, coarse, irregularity)
    centre = np.mean([(n.outline.x, n.outline.y) for n in nuclei], axis=0)
    area = sum(n.outline.area for n in nuclei)
    diameter = float(rng.uniform(40, 52)) + 3.0 * (count - 1)
    vacuoles: tuple[Halo, ...] = ()
    if halo:
        x, y = inside(rng, 2.5)
        room = min(area * rng.uniform(2.2, 4.0) + 120 * (count - 1), disc_area(diameter) * 0.5)
        outline = ellipse(
            rng,
            room,
            x=centre[0] + x,
            y=centre[1] + y,
            elongation=rng.uniform(1, 1.5),
            irregularity=rng.uniform(0.05, 0.14),
        )
        vacuoles = (Halo(outline, float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.18, 0.45)), 0.6),)
    part = mature_cell(
        rng,
        diameter=diameter,
        nuclei=nuclei,
        vacuoles=vacuoles,
        density=float(rng.uniform(0.25, 0.5)) if halo else None,
    )
    texts = _texts(
        (True, _LARGE),
        (count > 1, _BINUCLEATE),
        (coarse, _CHROMATIN),
        (irregularity + 0.08 * raisin >= IRREGULAR_FROM, _MEMBRANE),
        (raisin, _RAISIN),
        (halo, _HALO),
        (True, _DARK),
    )
    dyes = squamous_dyes(rng, rng.random() < 0.8 * pinkness)
    return Figure("koilocyte" if halo else "lsil", "LSIL", (part,), dyes, nuclear_dyes(rng), texts)


def _immature(
    rng: np.random.Generator,
    diameter: float,
    nuclear: float,
    *,
    dark: tuple[float, float],
    irregularity: float,
    coarse: bool,
    notch: float,
    nucleoli: bool = False,
) -> Part:
    """A small cell of dense cytoplasm around a large nucleus."""
    x, y = inside(rng, max(diameter - nuclear, 0.5) * 0.3)
    outline = ellipse(
        rng, disc_area(nuclear), x=x, y=y, elongation=rng.uniform(1, 1.45), irregularity=irregularity, notch=notch
    )
    spots = []
    if nucleoli:
        for _ in range(int(rng.integers(1, 3))):
            dx, dy = inside(rng, nuclear * 0.28)
            spots.append((x + dx, y + dy, float(rng.uniform(0.7, 1.1))))
    nucleus = Nucleus(
        outline,
        float(rng.uniform(*dark)),
        0.5 if coarse else 0.25,
        coarse,
        float(rng.uniform(0.1, 0.3)),
        float(rng.uniform(0, 0.15)),
        tuple(spots),
    )
    cell = ellipse(
        rng,
        disc_area(diameter),
        elongation=rng.uniform(1, 1.5),
        irregularity=rng.uniform(0.06, 0.2),
        angle=float(rng.uniform(0, 2 * np.pi)),
    )
    return Part(
        cell,
        (nucleus,),
        density=float(rng.uniform(0.28, 0.62)),
        texture=float(rng.uniform(0.12, 0.3)),
        edge=float(rng.uniform(0.02, 0.15)),
    )


def asch(rng: np.random.Generator, pinkness: float) -> Figure:
    """A cell of metaplastic size whose nucleus is 1.5-2.5 A0, dark and somewhat irregular."""
    nuclear = float(np.sqrt(4 / np.pi * A0 * rng.uniform(1.52, 2.48)))
    diameter = float(np.clip(nuclear / rng.uniform(0.5, 0.66), 15, 22))
    coarse, irregularity = rng.random() < 0.5, float(rng.uniform(0.05, 0.15))
    part = _immature(rng, diameter, nuclear, dark=(0.64, 1.0), irregularity=irregularity, coarse=coarse, notch=0.0)
    texts = _texts(
        (nuclear / diameter >= 0.5, _HIGH_RATIO),
        (True, _DARK),
        (irregularity >= IRREGULAR_FROM, _MEMBRANE),
        (coarse, _CHROMATIN),
    )
    return Figure("asch", "ASC-H", (part,), squamous_dyes(rng, rng.random() < 0.35), nuclear_dyes(rng), texts)


def hsil(rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """A small cell, N:C diameter ratio 1/2 to over 3/4, with a dark, coarse, notched nucleus.

    Args:
        crowded: the cell lies in a group of its like; adds the description of disorder.
    """
    ratio = float(rng.uniform(0.55, 0.86))
    diameter = float(rng.uniform(12.5, 19.0))
    nuclear = max(ratio * diameter, 8.6)
    ratio = nuclear / diameter
    coarse, irregularity = rng.random() < 0.75, float(rng.uniform(0.07, 0.2))
    notch = float(rng.uniform(0.12, 0.3)) if rng.random() < 0.55 else 0.0
    nucleoli = rng.random() < 0.12
    part = _immature(
        rng,
        diameter,
        nuclear,
        dark=(0.7, 1.15),
        irregularity=irregularity,
        coarse=coarse,
        notch=notch,
        nucleoli=nucleoli,
    )
    texts = _texts(
        (True, _HIGH_RATIO),
        (True, _DARK),
        (irregularity >= IRREGULAR_FROM or notch > 0, _MEMBRANE),
        (coarse, _CHROMATIN),
        (crowded, _PLEOMORPHIC),
        (nucleoli, _NUCLEOLI),
    )
    return Figure("hsil", "HSIL", (part,), squamous_dyes(rng, rng.random() < 0.4), nuclear_dyes(rng), texts)


def scc(rng: np.random.Generator, pinkness: float) -> Figure:
    """A keratinised spindle or tadpole cell, orange and dense, with an ink-dark irregular nucleus."""
    angle = float(rng.uniform(0, 2 * np.pi))
    elongation = float(rng.uniform(2.2, 4.5))
    cell = ellipse(rng, rng.uniform(260, 650), elongation=elongation, angle=angle, irregularity=0.16)
    nucleus = Nucleus(
        ellipse(rng, A0 * rng.uniform(1.8, 4.0), elongation=min(elongation, 2.4), angle=angle, irregularity=0.16),
        density=float(rng.uniform(0.9, 1.4)),
        chromatin=0.3,
        coarse=True,
        membrane=0.1,
        clearing=0.0,
    )
    nucleus_room = Part(cell, (nucleus,), density=float(rng.uniform(0.5, 0.9)), texture=0.2, edge=0.1)
    dyes = (0.05, 0.7, 0.0, float(rng.uniform(0.7, 1.2)), 0.2)
    texts = (_DARK, _MEMBRANE, _CHROMATIN, _PLEOMORPHIC)
    return Figure("scc", "SCC", (nucleus_room,), dyes, nuclear_dyes(rng), texts)


def _agc_nucleus(rng: np.random.Generator, angle: float) -> Nucleus:
    outline = ellipse(
        rng,
        A0 * rng.uniform(1.3, 2.4),
        elongation=rng.uniform(1.2, 1.9),
        angle=angle + rng.normal(0, 0.25),
        irregularity=rng.uniform(0.06, 0.14),
    )
    return Nucleus(outline, float(rng.uniform(0.6, 0.9)), 0.4, True, 0.15, 0.05)


def _moved(part: Part, dx: float, dy: float) -> Part:
    """A part without vacuoles or granules elsewhere in its figure."""
    cell = None if part.cell is None else shifted(part.cell, dx, dy)
    nuclei = tuple(replace(nucleus, outline=shifted(nucleus.outline, dx, dy)) for nucleus in part.nuclei)
    return replace(part, cell=cell, nuclei=nuclei)


def _with_vacuole(rng: np.random.Generator, part: Part) -> Part:
    cell = part.cell
    assert cell is not None
    bubble: Outline = ellipse(rng, rng.uniform(8, 22), x=cell.x + rng.normal(0, 2), y=cell.y + rng.normal(0, 2))
    return replace(part, vacuoles=(Halo(bubble, 0.7, 0.08),))


def agc(rng: np.random.Generator, pinkness: float) -> Figure:
    """A crowded group of atypical glandular cells: a strip of palisading cells, or a rosette; edges feathered."""
    rosette = rng.random() < 0.45
    count = int(rng.integers(8, 17))
    vacuolated = rng.random() < 0.4
    turn = float(rng.uniform(0, 2 * np.pi))
    bend = float(rng.normal(0, 0.05))
    parts = []
    for i in range(count):
        if rosette:
            outward = turn + 2 * np.pi * i / count + rng.normal(0, 0.15)
            distance = float(rng.uniform(7, 12)) + 0.45 * count
            x, y, angle = distance * np.cos(outward), distance * np.sin(outward), outward + np.pi
        else:
            along = (i - (count - 1) / 2) * 5.0
            x = along * np.cos(turn) + rng.normal(0, 1.5)
            y = along * np.sin(turn) + rng.normal(0, 1.5)
            angle = turn + np.pi / 2 + bend * (i - count / 2) + rng.normal(0, 0.12)
            # Pseudostratified: each cell is displaced along its own axis.
            lift = rng.normal(0, 3.5)
            x, y = x + lift * np.cos(angle), y + lift * np.sin(angle)
        part = _moved(columnar_part(rng, float(angle), _agc_nucleus(rng, float(angle))), float(x), float(y))
        parts.append(_with_vacuole(rng, part) if vacuolated and rng.random() < 0.4 else part)
    kind = "agc_rosette" if rosette else "agc_strip"
    return Figure(kind, "AGC", tuple(parts), squamous_dyes(rng, False), nuclear_dyes(rng), (AGC_DESCRIPTION,))


LESIONS: Mapping[str, Maker] = MappingProxyType(
    {"ASC-US": ascus, "LSIL": lsil, "ASC-H": asch, "HSIL": hsil, "SCC": scc, "AGC": agc}
)
"""Label -> maker of one lesion figure."""


def lesion(label: str, rng: np.random.Generator, pinkness: float, crowded: bool = False) -> Figure:
    """One lesion figure of a label of :data:`LESIONS`."""
    if label == "HSIL":
        return hsil(rng, pinkness, crowded)
    return LESIONS[label](rng, pinkness)
