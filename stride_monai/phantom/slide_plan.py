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
from stride_monai.phantom.artefacts import Artefact
from stride_monai.phantom.figures import Figure
from stride_monai.phantom.kinds import HARD_NEGATIVES, NORMAL, packed
from stride_monai.phantom.lesions import lesion
from stride_monai.phantom.sprites import ORIENTATIONS
from stride_monai.phantom.stain import Centre, colour_weights
from stride_monai.units import Box

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

_MIX: Mapping[str, float] = MappingProxyType(
    {"superficial": 0.27, "intermediate": 0.5, "parabasal": 0.07, "metaplastic": 0.06, "columnar": 0.03}
)
_HARD_MIX: Mapping[str, float] = MappingProxyType(
    {"reactive": 0.02, "naked_nucleus": 0.015, "halo_only": 0.012, "rolled": 0.015, "clump": 0.006}
)
_MEMBERS = 40
_DEFOCUSED = 0.06
_HARD_DEFOCUS_UM = 2.0
_TRIALS = 12
"""Hard negatives of a kind that are made to learn how far its figures reach."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where cells may lie: a disc (deposit) or the whole rectangle (field), in level-0 px.

    Attributes:
        radius: px of the disc around the middle; None for the rectangle.
    """

    width: int
    height: int
    radius: float | None = None

    def area_mm2(self, mpp: float) -> float:
        px = self.width * self.height if self.radius is None else np.pi * self.radius**2
        return float(px) * (mpp / 1000) ** 2

    def sample(self, rng: np.random.Generator, n: int, inset: float = 0.0) -> NDArray[np.float64]:
        """``[n, 2]`` uniform points at least ``inset`` px from the border (as far as that leaves room)."""
        if self.radius is None:
            inset = min(inset, 0.45 * self.width, 0.45 * self.height)
            return rng.uniform((inset, inset), (self.width - inset, self.height - inset), (n, 2))
        reach = max(self.radius - inset, 0.1 * self.radius) * np.sqrt(rng.random(n))
        angle = rng.uniform(0, 2 * np.pi, n)
        middle = np.array([self.width / 2, self.height / 2])
        return middle + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of ``[n, 2]`` points lie inside."""
        if self.radius is None:
            inside = (points >= 0).all(axis=1) & (points < (self.width, self.height)).all(axis=1)
            return np.asarray(inside)
        return np.asarray(np.hypot(*(points - (self.width / 2, self.height / 2)).T) <= self.radius)


@dataclass(frozen=True, slots=True)
class Common:
    """The abundant cells: members of the bank, turned and recoloured. One array element per cell.

    Attributes:
        member: index into :attr:`Plan.bank`.
        orientation: 0 to ``ORIENTATIONS`` - 1.
        x, y: level-0 px.
        weights: colour weights ``[n, 2, 3]`` of the cytoplasm and nuclear planes.
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
        """Colour weights ``[2, 3]`` of the cytoplasm and nuclear planes."""
        return colour_weights(self.centre, np.array([self.figure.cytoplasm, self.figure.nuclear]))


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
) -> Plan:
    """Place everything.

    Args:
        lesions: label -> number of lesion cells (AGC: groups).
        density_per_mm2: epithelial cells per mm2; leucocytes and debris come on top.
        pinned: a figure to put exactly in the middle, for single-cell crops.
    """
    patient = stream(seed, _PATIENT)
    pinkness = float(np.clip(centre.eosinophilic + patient.normal(0, 0.12), 0.05, 0.95))
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
    bank, members = _bank(every, seed, pinkness)
    common = _place_common(region, every, seed, mpp, centre, bank, members, placed)
    return Plan(region, mpp, centre, seed, bank, common, (*placed, *hard), tuple(artefacts), epithelial + len(placed))


def _composition(rng: np.random.Generator, epithelial: int) -> tuple[list[str], list[int]]:
    """Kinds and their numbers for one patient; leucocytes and debris follow the epithelial cells."""
    names = [*_MIX, *_HARD_MIX]
    shares = np.array([*_MIX.values(), *_HARD_MIX.values()]) * rng.lognormal(0, 0.45, len(names))
    counts = np.rint(shares / shares.sum() * epithelial).astype(int).tolist()
    inflammation = float(np.clip(rng.lognormal(np.log(0.3), 0.7), 0.05, 1.2))
    dirt = float(np.clip(rng.lognormal(np.log(0.2), 0.6), 0.03, 1.0))
    return [*names, "neutrophil", "debris"], [*counts, round(inflammation * epithelial), round(dirt * epithelial)]


def _defocused(figure: Figure, rng: np.random.Generator, chance: float, most: float) -> Figure:
    if rng.random() >= chance:
        return figure
    return replace(figure, defocus_um=float(rng.uniform(0.5, most)))


def _bank(counts: Mapping[str, int], seed: int, pinkness: float) -> tuple[tuple[Figure, ...], dict[str, range]]:
    """Figures of every normal kind, up to ``_MEMBERS`` as far as there are cells to use them, and their indices."""
    figures: list[Figure] = []
    members = {}
    for k, (kind, maker) in enumerate(NORMAL.items()):
        size = min(max(counts[kind], 1), _MEMBERS)
        members[kind] = range(len(figures), len(figures) + size)
        for i in range(size):
            rng = stream(seed, _BANK, k, i)
            figures.append(_defocused(maker(rng, pinkness), rng, _DEFOCUSED, 2.5))
    return tuple(figures), members


def _unique(figure: Figure, x: float, y: float, centre: Centre, hard: bool) -> Unique:
    return Unique(figure.kind, round(x), round(y), hard, figure.reach_um, figure.defocus_um, lambda: figure, centre)


def _groups(label: str, count: int, rng: np.random.Generator) -> list[int]:
    """Split lesions into singles and groups that lie together."""
    grouped, largest = {"HSIL": (0.5, 12), "ASC-H": (0.35, 4), "LSIL": (0.35, 5), "SCC": (0.3, 6)}.get(label, (0.0, 1))
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
        for size in _groups(label, lesions[label], places):
            figures = []
            for _ in range(size):
                rng = stream(seed, _LESION, SEVERITY[label], drawn)
                figures.append(_defocused(lesion(label, rng, pinkness, crowded=size > 2), rng, 0.05, 1.0))
                drawn += 1
            # Small cells moulder into tight groups; mature cells only touch.
            spacing = 2 * float(np.mean([figure.reach_um for figure in figures])) * (0.85 if label != "LSIL" else 0.75)
            offsets = [(0.0, 0.0)] if size == 1 else packed(places, size, spacing)
            reach = max(np.hypot(*o) + f.reach_um for o, f in zip(offsets, figures, strict=True)) / mpp
            x, y = _free_place(region, places, taken, closed, float(reach))
            taken.append((x, y, float(reach)))
            placed += [
                _unique(figure, x + dx / mpp, y + dy / mpp, centre, False)
                for figure, (dx, dy) in zip(figures, offsets, strict=True)
            ]
    return placed


def _free_place(
    region: Region,
    rng: np.random.Generator,
    taken: Sequence[tuple[float, float, float]],
    closed: Sequence[Box],
    reach: float,
) -> tuple[float, float]:
    """A place clear of what is taken and out of closed boxes; the least crowded of 60 when there is none."""
    candidates = region.sample(rng, 60, inset=reach)
    room = np.full(len(candidates), np.inf)
    if taken:
        others = np.array(taken)
        gap = np.hypot(candidates[:, None, 0] - others[:, 0], candidates[:, None, 1] - others[:, 1])
        room = (gap - others[:, 2] - reach).min(axis=1)
    x, y = candidates.T
    for box in closed:
        hidden = (x > box.x0 - reach) & (x < box.x1 + reach) & (y > box.y0 - reach) & (y < box.y1 + reach)
        room[hidden] = -np.inf
    free = np.flatnonzero(room > 0)
    best = int(free[0]) if free.size else int(room.argmax())
    return float(x[best]), float(y[best])


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
    points = _clear_of(region, rng, points, np.array(reaches) / mpp, placed, mpp, 0.05)
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
    chosen, places = [], []
    for kind in NORMAL:
        n = counts[kind]
        chosen.append(rng.integers(members[kind].start, members[kind].stop, size=n))
        places.append(_scattered(region, rng, n, mpp, clustered=0.6 if kind == "neutrophil" else 0.35))
    member = np.concatenate(chosen).astype(np.int32)
    reach = np.array([figure.reach_um / mpp for figure in bank])[member]
    points = _clear_of(region, rng, np.concatenate(places), reach, placed, mpp, 0.1)
    dyes = np.array([(figure.cytoplasm, figure.nuclear) for figure in bank])[member]
    dyes = dyes * rng.lognormal(0, 0.15, dyes.shape) * rng.lognormal(0, 0.16, (len(member), 2, 1))
    return Common(
        member,
        rng.integers(ORIENTATIONS, size=len(member)).astype(np.int32),
        np.rint(points[:, 0]).astype(np.int32),
        np.rint(points[:, 1]).astype(np.int32),
        colour_weights(centre, dyes),
    )


def _scattered(region: Region, rng: np.random.Generator, n: int, mpp: float, clustered: float) -> NDArray[np.float64]:
    """Points partly gathered in loose clusters of about five."""
    points = region.sample(rng, n)
    gathered = int(n * clustered)
    if gathered >= 5:
        parents = region.sample(rng, max(gathered // 5, 1))
        moved = parents[rng.integers(len(parents), size=gathered)] + rng.normal(0, 32 / mpp, (gathered, 2))
        inside = region.contains(moved)
        points[:gathered][inside] = moved[inside]
    return points
