"""Plans of slides and fields: every cell is given its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stride_monai.bethesda import SEVERITY
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.hard_negatives import HARD_NEGATIVES, RARE
from stride_monai.phantom.cells.lesions import lesion
from stride_monai.phantom.cells.organisms import ORGANISMS
from stride_monai.phantom.cells.sprites import ORIENTATIONS
from stride_monai.phantom.scenes.artefacts import Artefact
from stride_monai.phantom.scenes.composition import DEFOCUSED, bank_of, composition, defocused
from stride_monai.phantom.scenes.layout import (
    Gathering,
    Region,
    adhering,
    drawn_together,
    free_place,
    gathered,
    group_offsets,
)
from stride_monai.phantom.scenes.slide_plan import Common, Plan, Unique
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.stain import Centre, color_weights
from stride_monai.units import Box

__all__ = ["make_plan"]

_GROUPED: Mapping[str, tuple[float, int]] = {
    "HSIL": (0.5, 14),
    "ASC-H": (0.4, 6),
    "LSIL": (0.4, 7),
    "SCC": (0.4, 9),
    "ASC-US": (0.25, 4),
}
"""Chance that a lesion lies in a group, and the largest group."""

_GATHERINGS: tuple[tuple[tuple[str, ...], Gathering], ...] = (
    (("superficial", "intermediate"), Gathering(40.0, 0.3, 5.0, 30, (0.45, 0.95))),
    (("parabasal", "metaplastic"), Gathering(20.0, 0.3, 5.0, 24, (0.6, 1.0))),
    (("columnar",), Gathering(14.0, 0.3, 5.0, 14, (0.5, 0.8))),
)
"""Kinds that lie together, and how."""

_ADHERING: Mapping[str, float] = {"neutrophil": 0.6, "red_cell": 0.15, "debris": 0.3}
"""Share of the other normal kinds that sticks to epithelial cells."""

_HARD_DEFOCUS_UM = 2.0
_TRIALS = 12
_BENIGN = {**HARD_NEGATIVES, **ORGANISMS, **RARE}  # further kinds last: each counts its random streams by its place
"""Hard negatives of a kind that are made to learn how far its figures reach."""


@dataclass(frozen=True, slots=True)
class _Preparation:
    """What all figures of a slide have in common: where they may lie, their laboratory's stain, their patient."""

    region: Region
    seed: int
    mpp: float
    centre: Centre
    pinkness: float


def make_plan(
    region: Region,
    *,
    lesions: Mapping[str, int],
    seed: int,
    mpp: float,
    density_per_mm2: float,
    centre: Centre,
    artefacts: Sequence[Artefact] = (),
    pinned: Figure | None = None,
    crowd_per_mm2: Mapping[str, float] | None = None,
) -> Plan:
    """Place everything.

    Args:
        lesions: label -> number of lesion cells (AGC: groups).
        density_per_mm2: epithelial cells per mm2; leucocytes and debris come on top.
        pinned: a figure to put exactly in the middle, for single-cell crops.
        crowd_per_mm2: kind that is no lesion -> number per mm2 instead of the patient's own: leucocytes or blood that
            hide cells, organisms, which no patient has unasked but fungi.
    """
    patient = stream(seed, Draw.PATIENT)
    pinkness = float(np.clip(centre.eosinophilic + patient.normal(0, 0.12), 0.05, 0.95))
    # No two slides of a laboratory take the dyes alike.
    strength = np.asarray(centre.strength) * patient.lognormal(0, (0.12, 0.13, 0.13, 0.2, 0.13))
    at = _Preparation(region, seed, mpp, replace(centre, strength=tuple(strength.tolist())), pinkness)
    placed = [] if pinned is None else [Unique.of(pinned, region.width / 2, region.height / 2, at.centre)]
    placed += _place_lesions(at, lesions, [artefact.box for artefact in artefacts if artefact.opaque])
    epithelial = max(round(density_per_mm2 * region.area_mm2(mpp)), 1)
    counts = composition(patient, epithelial)
    counts |= {kind: round(n * region.area_mm2(mpp)) for kind, n in (crowd_per_mm2 or {}).items()}
    hard = _place_hard(at, counts, placed)
    bank, members = bank_of(counts, seed, pinkness)
    common = _place_common(at, counts, bank, members, placed)
    unique = (*placed, *hard)
    return Plan(region, mpp, at.centre, seed, bank, common, unique, tuple(artefacts), epithelial + len(placed))


def _groups(label: str, count: int, rng: np.random.Generator, crowding: float) -> list[int]:
    """Split lesions into singles and groups that lie together."""
    grouped, largest = _GROUPED.get(label, (0.0, 1))
    grouped += 0.6 * crowding * (1 - grouped) * (largest > 1)
    sizes = []
    while count > 0:
        size = int(rng.integers(2, largest + 1)) if rng.random() < grouped else 1
        sizes.append(min(size, count))
        count -= sizes[-1]
    return sizes


def _place_lesions(at: _Preparation, lesions: Mapping[str, int], closed: Sequence[Box]) -> list[Unique]:
    """Lesions, alone and in groups, out of the closed boxes."""
    places, crowding = stream(at.seed, Draw.PLACES), at.centre.crowding
    placed: list[Unique] = []
    taken: list[tuple[float, float, float]] = []
    for label in sorted(lesions, key=SEVERITY.__getitem__, reverse=True):
        drawn = 0
        for size in _groups(label, lesions[label], places, crowding):
            figures = []
            for _ in range(size):
                rng = stream(at.seed, Draw.LESION, SEVERITY[label], drawn)
                figures.append(defocused(lesion(label, rng, at.pinkness, crowded=size > 2), rng, DEFOCUSED, 1.0))
                drawn += 1
            figures = _kin(figures, places)
            diameter = 2 * float(np.median([_body_um(figure) for figure in figures])) * (1 - 0.25 * crowding)
            offsets = group_offsets(places, label, size, diameter)
            reach = max(np.hypot(*o) + f.reach_um for o, f in zip(offsets, figures, strict=True)) / at.mpp
            x, y = free_place(at.region, places, taken, closed, float(reach))
            taken.append((x, y, float(reach)))
            placed += [
                Unique.of(figure, x + dx / at.mpp, y + dy / at.mpp, at.centre)
                for figure, (dx, dy) in zip(figures, offsets, strict=True)
            ]
    return placed


def _kin(figures: list[Figure], rng: np.random.Generator) -> list[Figure]:
    """The cells of a group, most of them stained like the first."""
    first = figures[0]
    alike = rng.random(len(figures)) < 0.75
    return [
        replace(figure, cytoplasm=first.cytoplasm, accent=first.accent) if same else figure
        for figure, same in zip(figures, alike, strict=True)
    ]


def _body_um(figure: Figure) -> float:
    """Radius of the cell itself, tails left out."""
    cells = [part.cell for part in figure.parts if part.cell is not None]
    return figure.reach_um if len(cells) != 1 else float(np.sqrt(cells[0].area / np.pi))


def _clear_of(
    at: _Preparation,
    rng: np.random.Generator,
    points: NDArray[np.float64],
    reach: NDArray[np.float64],
    placed: Sequence[Unique],
    spare: float,
) -> NDArray[np.float64]:
    """Move most points that would cover a lesion elsewhere, so that lesions stay mostly visible."""
    if not placed or not len(points):
        return points
    centres = np.array([(cell.x, cell.y) for cell in placed], float)
    radii = np.array([cell.reach_um / at.mpp for cell in placed])
    tree = cKDTree(centres)
    points = points.copy()
    for _ in range(3):
        distance, nearest = tree.query(points)
        covers = (distance < radii[nearest] + 0.6 * reach) & (rng.random(len(points)) > spare)
        points[covers] = at.region.sample(rng, int(covers.sum()))
    return points


def _place_hard(at: _Preparation, counts: Mapping[str, int], placed: Sequence[Unique]) -> list[Unique]:
    """Hard negatives, in their places before any of them is made."""
    kinds: list[str] = []
    makers: list[Callable[[], Figure]] = []
    reaches: list[float] = []
    for k, kind in enumerate(_BENIGN):
        n = counts.get(kind, 0)
        trials = [_hard(at.seed, k, i, at.pinkness) for i in range(min(n, _TRIALS))]
        most = 1.3 * max((figure.reach_um for figure in trials), default=0.0)
        kinds += [kind] * n
        makers += [partial(_hard_within, at.seed, k, i, at.pinkness, most) for i in range(n)]
        reaches += [most] * n
    rng = stream(at.seed, Draw.PLACES, 1)
    points = at.region.sample(rng, len(kinds), inset=10 / at.mpp)
    points = _clear_of(at, rng, points, np.array(reaches) / at.mpp, placed, 0.05 + 0.25 * at.centre.crowding)
    return [
        Unique(kind, round(x), round(y), True, reach, _HARD_DEFOCUS_UM, make, at.centre)
        for kind, make, reach, (x, y) in zip(kinds, makers, reaches, points.tolist(), strict=True)
    ]


def _hard(seed: int, kind: int, number: int, pinkness: float, attempt: int = 0) -> Figure:
    rng = stream(seed, Draw.HARD, kind, number, *([attempt] if attempt else []))
    return defocused(list(_BENIGN.values())[kind](rng, pinkness), rng, DEFOCUSED, _HARD_DEFOCUS_UM)


def _hard_within(seed: int, kind: int, number: int, pinkness: float, most: float) -> Figure:
    """A hard negative that reaches no further than ``most`` um, so that its place can be chosen before it is made."""
    for attempt in range(8):
        figure = _hard(seed, kind, number, pinkness, attempt)
        if figure.reach_um <= most:
            return figure
    return _hard(seed, kind, 0, pinkness)  # the first of the trials that ``most`` was taken from


def _members_of_groups(
    rng: np.random.Generator, banks: Sequence[range], kind: NDArray[np.int64], group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For cells that lie in groups, the members of the bank whose shape and whose stain they take.

    Neighbours take the stain alike, that of members of about the same rank in the bank, which goes from green to pink;
    their shapes differ.

    Args:
        banks: the members of each kind.
        kind: index into ``banks`` of every cell.
        group: number of the group of every cell; cells of a group are consecutive.
    """
    groups = int(group.max(initial=-1)) + 1
    rank = rng.random(groups)[group] + rng.normal(0, 0.13, len(group))
    rank = np.clip(1 - np.abs(1 - np.abs(rank)), 0, 1 - 1e-9)
    step = np.arange(len(group)) + rng.integers(1 << 20, size=groups)[group]
    shapes, stains = np.zeros(len(kind), np.int64), np.zeros(len(kind), np.int64)
    for k, bank in enumerate(banks):
        mine, order = kind == k, rng.permutation(len(bank))
        shapes[mine] = bank.start + order[step[mine] % len(bank)]
        stains[mine] = bank.start + np.floor(rank[mine] * len(bank)).astype(np.int64)
    return shapes, stains


_Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Of common cells ``[n]``: the members of the bank that they have their shape and their stain from; points, level-0 px
``[n, 2]``; how strongly they take each dye ``[n, 5]``."""


def _gathered(
    at: _Preparation,
    rng: np.random.Generator,
    counts: Mapping[str, int],
    members: Mapping[str, range],
    placed: Sequence[Unique],
) -> list[_Places]:
    """Epithelial cells, kinds that lie together at a time."""
    patchiness, crowding = rng.uniform(0.15, 0.75), at.centre.crowding
    made = []
    for kinds, how in _GATHERINGS:
        kind_of = rng.permutation(np.repeat(np.arange(len(kinds)), [counts[kind] for kind in kinds]))
        points, group = gathered(at.region, rng, len(kind_of), at.mpp, how, patchiness)
        if crowding and placed:
            sites = np.array([(cell.x, cell.y) for cell in placed], float)
            points = drawn_together(at.region, rng, points, group, sites, 0.7 * crowding, how.diameter_um / at.mpp)
        shapes, stains = _members_of_groups(rng, [members[kind] for kind in kinds], kind_of, group)
        made.append((shapes, stains, points, rng.lognormal(0, 0.14, (len(group) + 1, 5))[group]))
    return made


def _place_common(
    at: _Preparation,
    counts: Mapping[str, int],
    bank: Sequence[Figure],
    members: Mapping[str, range],
    placed: Sequence[Unique],
) -> Common:
    rng = stream(at.seed, Draw.COMMON)
    made = _gathered(at, rng, counts, members, placed)
    hosts = np.concatenate([points for _, _, points, _ in made])
    # Leucocytes, blood and debris, a share of each on the epithelial cells.
    for kind, share in _ADHERING.items():
        n, mine = counts[kind], members[kind]
        shapes = rng.integers(mine.start, mine.stop, size=n)
        made.append((shapes, shapes, adhering(at.region, rng, n, at.mpp, hosts, share, 19.0), np.ones((n, 5))))
    shapes, stains, points, shades = map(np.concatenate, zip(*made, strict=True))
    member = shapes.astype(np.int32)
    reach = np.array([figure.reach_um / at.mpp for figure in bank])[member]
    points = _clear_of(at, rng, points, reach, placed, 0.25 + 0.65 * at.centre.crowding)
    dyes = np.array([figure.dyes() for figure in bank])[stains]
    dyes[:, ::2] *= shades[:, None]
    dyes *= rng.lognormal(0, 0.08, (len(member), 1, 5))
    dyes *= rng.lognormal(0, (0.2, 0.1, 0.2), (len(member), 3))[..., None]
    return Common(
        member,
        rng.integers(ORIENTATIONS, size=len(member)).astype(np.int32),
        np.rint(points[:, 0]).astype(np.int32),
        np.rint(points[:, 1]).astype(np.int32),
        color_weights(at.centre, dyes),
    )
