"""Where every cell of a slide or field lies, decided before a pixel is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stride_monai.bethesda import NEGATIVE, SEVERITY
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.kinds import EPITHELIAL, HARD_NEGATIVES, NORMAL
from stride_monai.phantom.cells.lesions import lesion
from stride_monai.phantom.cells.sprites import ORIENTATIONS
from stride_monai.phantom.scenes.artefacts import Artefact
from stride_monai.phantom.scenes.layout import (
    Gathering,
    Region,
    adhering,
    drawn_together,
    free_place,
    gathered,
    group_offsets,
)
from stride_monai.phantom.stain import Centre, color_weights

__all__ = ["Common", "Plan", "Region", "Unique", "lesion_counts", "make_plan"]

_FULL_SLIDE_CELLS = 80_000

_RANGES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "ASC-US": (1, 20, 6),
        "LSIL": (20, 500, 12),
        "ASC-H": (2, 30, 8),
        "HSIL": (20, 500, 16),
        "SCC": (20, 500, 16),
        "AGC": (1, 15, 3),
    }
)
"""Lesions (AGC: groups) on a full slide, from and to, and the floor on a small deposit."""

_COMPANIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "ASC-US": {},
        "LSIL": {"ASC-US": 0.35},
        "ASC-H": {"ASC-US": 0.4},
        "AGC": {"ASC-US": 0.3},
        "HSIL": {"LSIL": 0.25, "ASC-US": 0.12, "ASC-H": 0.15},
        "SCC": {"HSIL": 0.6, "LSIL": 0.1},
    }
)
"""Lesser lesions that come with a label, relative to the number of its own."""

_GROUPED: Mapping[str, tuple[float, int]] = MappingProxyType(
    {"HSIL": (0.5, 14), "ASC-H": (0.4, 6), "LSIL": (0.4, 7), "SCC": (0.4, 9), "ASC-US": (0.25, 4)}
)
"""Chance that a lesion lies in a group, and the largest group."""

_MIX: Mapping[str, float] = MappingProxyType(
    {"superficial": 0.27, "intermediate": 0.5, "parabasal": 0.07, "metaplastic": 0.06, "columnar": 0.03}
)
_HARD_MIX: Mapping[str, float] = MappingProxyType(
    {
        "reactive": 0.02,
        "naked_nucleus": 0.015,
        "halo_only": 0.012,
        "rolled": 0.015,
        "clump": 0.006,
        "folded_sheet": 0.003,
        "mucus": 0.004,
        "candida": 0.012,
    }
)
_CANDIDA_PATIENTS = 0.12
_MEMBERS: Mapping[str, int] = MappingProxyType({"superficial": 56, "intermediate": 72, "red_cell": 16, "debris": 24})
_OTHER_MEMBERS = 32
"""Sprites of each normal kind."""

_GATHERINGS: tuple[tuple[tuple[str, ...], Gathering], ...] = (
    (("superficial", "intermediate"), Gathering(40.0, 0.3, 5.0, 30, (0.45, 0.95))),
    (("parabasal", "metaplastic"), Gathering(20.0, 0.3, 5.0, 24, (0.6, 1.0))),
    (("columnar",), Gathering(14.0, 0.3, 5.0, 14, (0.5, 0.8))),
)
"""Kinds that lie together, and how."""

_DEFOCUSED = 0.02
"""Share of the figures that float far out of the layer; the focus of all others is the scene's."""
_HARD_DEFOCUS_UM = 2.0
_TRIALS = 12
"""Hard negatives of a kind that are made to learn how far its figures reach."""


@dataclass(frozen=True, slots=True)
class Common:
    """The abundant cells: members of the bank, turned and recoloured. One array element per cell.

    Attributes:
        member: index into :attr:`Plan.bank`.
        orientation: 0 to ``ORIENTATIONS`` - 1.
        x, y: level-0 px.
        weights: colour weights ``[n, 3, 3]`` of the cytoplasm, nuclear and accent planes.
    """

    member: NDArray[np.int32]
    orientation: NDArray[np.int32]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    weights: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Unique:
    """A figure that is drawn for one place only: a lesion or a hard negative.

    It is made when it is first asked for: of the thousands of hard negatives of a full slide a bag shows a few hundred.

    Attributes:
        kind: as :attr:`Figure.kind`, known before the figure is made.
        x, y: level-0 px.
        hard: a benign look-alike.
        reach_um, defocus_um: at least those of the figure.
        make: makes the figure, the same one every time.
        centre: whose stain it takes.
    """

    kind: str
    x: int
    y: int
    hard: bool
    reach_um: float
    defocus_um: float
    make: Callable[[], Figure]
    centre: Centre

    @cached_property
    def figure(self) -> Figure:
        return self.make()

    @cached_property
    def weights(self) -> NDArray[np.uint16]:
        """Colour weights ``[3, 3]`` of the cytoplasm, nuclear and accent planes."""
        return color_weights(self.centre, np.array(self.figure.dyes()))


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a picture is painted from."""

    region: Region
    mpp: float
    centre: Centre
    seed: int
    bank: tuple[Figure, ...]
    common: Common
    unique: tuple[Unique, ...]
    artefacts: tuple[Artefact, ...]
    cells_drawn: int


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent generator for one purpose of a slide; the same on every machine and in any order of use."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


_PATIENT, _BANK, _COMMON, _LESION, _HARD, _PLACES = range(6)
TEXTURE, FIELDS, ARTEFACTS_STREAM = 6, 7, 8


def lesion_counts(label: str, cells: float, rng: np.random.Generator) -> dict[str, int]:
    """How many lesions of which label a deposit of so many epithelial cells holds.

    The number for a full slide of 80,000 cells is drawn log-uniformly from the ranges of :data:`_RANGES` and scaled by
    the number of cells. A small deposit keeps a floor (ASC-US 6, LSIL 12, ASC-H 8, HSIL and SCC 16, AGC 3 groups), or
    it would hold none at all.
    """
    if label == NEGATIVE:
        return {}
    low, high, floor = _RANGES[label]
    full = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    share = cells / _FULL_SLIDE_CELLS
    counts = {label: max(round(full * share), floor if share < 0.5 else low)}
    for other, ratio in _COMPANIONS[label].items():
        counts[other] = round(counts[label] * ratio * rng.uniform(0.3, 1.7))
    return {name: count for name, count in counts.items() if count > 0}


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
        crowd_per_mm2: normal kind -> number per mm2 instead of the patient's own; leucocytes or blood that hide cells.
    """
    patient = stream(seed, _PATIENT)
    pinkness = float(np.clip(centre.eosinophilic + patient.normal(0, 0.12), 0.05, 0.95))
    # No two slides of a laboratory take the dyes alike.
    strength = np.asarray(centre.strength) * patient.lognormal(0, (0.12, 0.13, 0.13, 0.2, 0.13))
    centre = replace(centre, strength=tuple(strength.tolist()))
    placed = [] if pinned is None else [_unique(pinned, region.width / 2, region.height / 2, centre, False)]
    placed += _place_lesions(region, lesions, seed, mpp, centre, pinkness, artefacts)
    epithelial = max(round(density_per_mm2 * region.area_mm2(mpp)), 1)
    kinds, counts = _composition(patient, epithelial)
    hard = _place_hard(
        region,
        {k: n for k, n in zip(kinds, counts, strict=True) if k in HARD_NEGATIVES},
        seed,
        mpp,
        centre,
        pinkness,
        placed,
    )
    every = dict(zip(kinds, counts, strict=True))
    every |= {kind: round(n * region.area_mm2(mpp)) for kind, n in (crowd_per_mm2 or {}).items()}
    bank, members = _bank(every, seed, pinkness)
    common = _place_common(region, every, seed, mpp, centre, bank, members, placed)
    return Plan(region, mpp, centre, seed, bank, common, (*placed, *hard), tuple(artefacts), epithelial + len(placed))


def _composition(rng: np.random.Generator, epithelial: int) -> tuple[list[str], list[int]]:
    """Kinds and their numbers for one patient; leucocytes and debris follow the epithelial cells."""
    names = [*_MIX, *_HARD_MIX]
    shares = np.array([*_MIX.values(), *_HARD_MIX.values()]) * rng.lognormal(0, 0.45, len(names))
    counts = np.rint(shares / shares.sum() * epithelial).astype(int).tolist()
    counts[names.index("candida")] *= int(rng.random() < _CANDIDA_PATIENTS)
    inflammation = float(np.clip(rng.lognormal(np.log(0.3), 0.7), 0.05, 1.2))
    dirt = float(np.clip(rng.lognormal(np.log(0.2), 0.6), 0.03, 1.0))
    blood = float(np.clip(rng.lognormal(np.log(0.02), 1.4), 0.0, 0.6))
    extra = {"neutrophil": inflammation, "debris": dirt, "red_cell": blood}
    return [*names, *extra], [*counts, *(round(share * epithelial) for share in extra.values())]


def _defocused(figure: Figure, rng: np.random.Generator, chance: float, most: float) -> Figure:
    if rng.random() >= chance:
        return figure
    return replace(figure, defocus_um=float(rng.uniform(0.5, most)))


def _bank(counts: Mapping[str, int], seed: int, pinkness: float) -> tuple[tuple[Figure, ...], dict[str, range]]:
    """Figures of every normal kind, as far as there are cells to use them, from green to pink, and their indices."""
    figures: list[Figure] = []
    members = {}
    for k, (kind, maker) in enumerate(NORMAL.items()):
        size = min(max(counts[kind], 1), _MEMBERS.get(kind, _OTHER_MEMBERS))
        members[kind] = range(len(figures), len(figures) + size)
        mine = []
        for i in range(size):
            rng = stream(seed, _BANK, k, i)
            mine.append(_defocused(maker(rng, pinkness), rng, _DEFOCUSED, 2.0))
        figures += sorted(mine, key=_redness)
    return tuple(figures), members


def _redness(figure: Figure) -> float:
    """Eosin and orange less green: what tells pink cells from blue ones."""
    return figure.cytoplasm[1] + figure.cytoplasm[3] - figure.cytoplasm[2]


def _unique(figure: Figure, x: float, y: float, centre: Centre, hard: bool) -> Unique:
    return Unique(figure.kind, round(x), round(y), hard, figure.reach_um, figure.defocus_um, lambda: figure, centre)


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


def _place_lesions(
    region: Region,
    lesions: Mapping[str, int],
    seed: int,
    mpp: float,
    centre: Centre,
    pinkness: float,
    artefacts: Sequence[Artefact],
) -> list[Unique]:
    places = stream(seed, _PLACES)
    closed = [artefact.box for artefact in artefacts if artefact.opaque]
    placed: list[Unique] = []
    taken: list[tuple[float, float, float]] = []
    for label in sorted(lesions, key=SEVERITY.__getitem__, reverse=True):
        drawn = 0
        for size in _groups(label, lesions[label], places, centre.crowding):
            figures = []
            for _ in range(size):
                rng = stream(seed, _LESION, SEVERITY[label], drawn)
                figures.append(_defocused(lesion(label, rng, pinkness, crowded=size > 2), rng, _DEFOCUSED, 1.0))
                drawn += 1
            figures = _kin(figures, places)
            diameter = 2 * float(np.median([_body_um(figure) for figure in figures])) * (1 - 0.25 * centre.crowding)
            offsets = group_offsets(places, label, size, diameter)
            reach = max(np.hypot(*o) + f.reach_um for o, f in zip(offsets, figures, strict=True)) / mpp
            x, y = free_place(region, places, taken, closed, float(reach))
            taken.append((x, y, float(reach)))
            placed += [
                _unique(figure, x + dx / mpp, y + dy / mpp, centre, False)
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
    region: Region,
    rng: np.random.Generator,
    points: NDArray[np.float64],
    reach: NDArray[np.float64],
    placed: Sequence[Unique],
    mpp: float,
    spare: float,
) -> NDArray[np.float64]:
    """Move most points that would cover a lesion elsewhere, so that lesions stay mostly visible."""
    if not placed or not len(points):
        return points
    centres = np.array([(cell.x, cell.y) for cell in placed], float)
    radii = np.array([cell.reach_um / mpp for cell in placed])
    tree = cKDTree(centres)
    points = points.copy()
    for _ in range(3):
        distance, nearest = tree.query(points)
        covers = (distance < radii[nearest] + 0.6 * reach) & (rng.random(len(points)) > spare)
        points[covers] = region.sample(rng, int(covers.sum()))
    return points


def _place_hard(
    region: Region,
    counts: Mapping[str, int],
    seed: int,
    mpp: float,
    centre: Centre,
    pinkness: float,
    placed: Sequence[Unique],
) -> list[Unique]:
    kinds: list[str] = []
    makers: list[Callable[[], Figure]] = []
    reaches: list[float] = []
    for k, kind in enumerate(HARD_NEGATIVES):
        n = counts.get(kind, 0)
        trials = [_hard(seed, k, i, pinkness) for i in range(min(n, _TRIALS))]
        most = 1.3 * max((figure.reach_um for figure in trials), default=0.0)
        kinds += [kind] * n
        makers += [partial(_hard_within, seed, k, i, pinkness, most) for i in range(n)]
        reaches += [most] * n
    rng = stream(seed, _PLACES, 1)
    points = region.sample(rng, len(kinds), inset=10 / mpp)
    points = _clear_of(region, rng, points, np.array(reaches) / mpp, placed, mpp, 0.05 + 0.25 * centre.crowding)
    return [
        Unique(kind, round(x), round(y), True, reach, _HARD_DEFOCUS_UM, make, centre)
        for kind, make, reach, (x, y) in zip(kinds, makers, reaches, points.tolist(), strict=True)
    ]


def _hard(seed: int, kind: int, number: int, pinkness: float, attempt: int = 0) -> Figure:
    rng = stream(seed, _HARD, kind, number, *([attempt] if attempt else []))
    return _defocused(list(HARD_NEGATIVES.values())[kind](rng, pinkness), rng, _DEFOCUSED, _HARD_DEFOCUS_UM)


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


def _place_common(
    region: Region,
    counts: Mapping[str, int],
    seed: int,
    mpp: float,
    centre: Centre,
    bank: Sequence[Figure],
    members: Mapping[str, range],
    placed: Sequence[Unique],
) -> Common:
    rng = stream(seed, _COMMON)
    patchiness = float(rng.uniform(0.15, 0.75))
    chosen, stained, places, shades = [], [], [], []
    for kinds, how in _GATHERINGS:
        banks = [members[kind] for kind in kinds]
        kind_of = rng.permutation(np.repeat(np.arange(len(kinds)), [counts[kind] for kind in kinds]))
        points, group = gathered(region, rng, len(kind_of), mpp, how, patchiness)
        if centre.crowding and placed:
            sites = np.array([(cell.x, cell.y) for cell in placed], float)
            points = drawn_together(region, rng, points, group, sites, 0.7 * centre.crowding, how.diameter_um / mpp)
        shapes, stains = _members_of_groups(rng, banks, kind_of, group)
        chosen.append(shapes)
        stained.append(stains)
        places.append(points)
        shades.append(rng.lognormal(0, 0.14, (len(group) + 1, 5))[group])
    hosts = np.concatenate(places)
    for kind in NORMAL:
        if kind not in EPITHELIAL:
            n, share = counts[kind], {"neutrophil": 0.6, "debris": 0.3}.get(kind, 0.15)
            chosen.append(rng.integers(members[kind].start, members[kind].stop, size=n))
            stained.append(chosen[-1])
            places.append(adhering(region, rng, n, mpp, hosts, share, 19.0))
            shades.append(np.ones((n, 5)))
    member = np.concatenate(chosen).astype(np.int32)
    reach = np.array([figure.reach_um / mpp for figure in bank])[member]
    points = _clear_of(region, rng, np.concatenate(places), reach, placed, mpp, 0.25 + 0.65 * centre.crowding)
    dyes = np.array([figure.dyes() for figure in bank])[np.concatenate(stained)]
    dyes[:, ::2] *= np.concatenate(shades)[:, None]
    dyes = (
        dyes
        * rng.lognormal(0, 0.08, (len(member), 1, 5))
        * rng.lognormal(0, (0.2, 0.1, 0.2), (len(member), 3))[..., None]
    )
    return Common(
        member,
        rng.integers(ORIENTATIONS, size=len(member)).astype(np.int32),
        np.rint(points[:, 0]).astype(np.int32),
        np.rint(points[:, 1]).astype(np.int32),
        color_weights(centre, dyes),
    )
