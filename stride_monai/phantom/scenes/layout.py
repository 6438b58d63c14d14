"""Where figures may lie and how they gather: sheets and heaps of cells, rows and crowds of lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stride_monai.phantom.cells.anatomy import packed
from stride_monai.units import Box

__all__ = ["Gathering", "Region", "adhering", "drawn_together", "free_place", "gathered", "group_offsets"]

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Region:
    """Where cells may lie: a disc (deposit) or the whole rectangle (field), in level-0 px.

    Attributes:
        radius: px of the disc; None for the rectangle.
        shift: (x, y) px of the disc's middle from the rectangle's.
    """

    width: int
    height: int
    radius: float | None = None
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def middle(self) -> tuple[float, float]:
        """Middle of the disc, px."""
        return self.width / 2 + self.shift[0], self.height / 2 + self.shift[1]

    def area_mm2(self, mpp: float) -> float:
        px = self.width * self.height if self.radius is None else np.pi * self.radius**2
        return float(px) * (mpp / 1000) ** 2

    def sample(self, rng: np.random.Generator, n: int, inset: float = 0.0) -> Points:
        """``[n, 2]`` uniform points at least ``inset`` px from the border (as far as that leaves room)."""
        if self.radius is None:
            inset = min(inset, 0.45 * self.width, 0.45 * self.height)
            return rng.uniform((inset, inset), (self.width - inset, self.height - inset), (n, 2))
        reach = max(self.radius - inset, 0.1 * self.radius) * np.sqrt(rng.random(n))
        angle = rng.uniform(0, 2 * np.pi, n)
        return np.array(self.middle) + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which of ``[n, 2]`` points lie inside."""
        if self.radius is None:
            inside = (points >= 0).all(axis=1) & (points < (self.width, self.height)).all(axis=1)
            return np.asarray(inside)
        return np.asarray(np.hypot(*(points - self.middle).T) <= self.radius)


@dataclass(frozen=True, slots=True)
class Gathering:
    """How cells of a sort gather.

    Attributes:
        diameter_um: of a typical cell.
        single: share of the cells that lie alone.
        typical: median number of cells in a sheet or heap.
        largest: most cells in one.
        spacing: from, to: distance of neighbours as a share of the diameter; a heap has little, a sheet about 0.8.
    """

    diameter_um: float
    single: float
    typical: float
    largest: int
    spacing: tuple[float, float]


def gathered(
    region: Region, rng: np.random.Generator, n: int, mpp: float, how: Gathering, patchiness: float
) -> tuple[Points, NDArray[np.int64]]:
    """Places ``[n, 2]`` in px of ``n`` cells, and for each the number of the group that it lies in.

    Args:
        patchiness: share of the groups that crowd into some parts of the region and leave others empty, 0-1.
    """
    sizes = _group_sizes(rng, n, how)
    group = np.repeat(np.arange(len(sizes)), sizes)[:n]
    rank = np.arange(n) - np.concatenate([[0], np.cumsum(sizes)])[group]
    middles = region.sample(rng, len(sizes))
    crowded = np.flatnonzero(rng.random(len(sizes)) < patchiness)
    if crowded.size >= 5:
        towns = region.sample(rng, max(crowded.size // 5, 1))
        near = towns[rng.integers(len(towns), size=crowded.size)] + rng.normal(0, 75 / mpp, (crowded.size, 2))
        middles[crowded] = np.where(region.contains(near)[:, None], near, middles[crowded])
    # A sunflower spiral packs a group evenly whatever its size; jitter and a stretch of the group hide the spiral.
    spacing = rng.uniform(*how.spacing, len(sizes)) * how.diameter_um / mpp
    stretch, turn = np.exp(rng.normal(0, 0.45, len(sizes))), rng.uniform(0, 2 * np.pi, len(sizes))
    radius = 0.56 * np.sqrt(rank + 0.5 * (sizes[group] > 1)) + 0.0
    angle = rank * 2.399963 + turn[group]
    x = (radius * np.cos(angle) + rng.normal(0, 0.16, n) * (rank > 0)) * stretch[group]
    y = (radius * np.sin(angle) + rng.normal(0, 0.16, n) * (rank > 0)) / stretch[group]
    cos, sin = np.cos(3 * turn[group]), np.sin(3 * turn[group])
    offset = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) * spacing[group, None]
    points = middles[group] + offset
    outside = ~region.contains(points)
    points[outside] = region.sample(rng, int(outside.sum()))
    return points, group


def _group_sizes(rng: np.random.Generator, n: int, how: Gathering) -> NDArray[np.int64]:
    """Numbers of cells of groups that hold at least ``n`` together: singles first, then heaps of a long-tailed size."""
    single = int(n * how.single)
    most = max(n - single, 0)
    heaps = np.clip(np.rint(how.typical * rng.lognormal(0, 0.8, most // 2 + 1)), 2, how.largest).astype(np.int64)
    needed = int(np.searchsorted(np.cumsum(heaps), most)) + 1
    return np.concatenate([np.ones(single, np.int64), heaps[:needed]])


def drawn_together(
    region: Region,
    rng: np.random.Generator,
    points: Points,
    group: NDArray[np.int64],
    sites: Points,
    share: float,
    reach: float,
) -> Points:
    """Move whole groups of cells to where some of the sites are, so that what lies there lies in a crowd.

    Args:
        points: ``[n, 2]`` px; one that would leave the region stays where it is.
        group: number of the group of every point, as :func:`gathered` gives it.
        sites: ``[m, 2]`` px.
        share: of the sites that get a group, 0-1, as far as there are groups.
        reach: px; of each group that moves one cell comes to lie within this of its site.
    """
    groups = rng.permutation(int(group.max(initial=-1)) + 1)
    chosen = sites[rng.random(len(sites)) < share][: len(groups)]
    shift = np.zeros((len(groups), 2))
    first = np.searchsorted(group, np.arange(len(groups)))
    size = np.diff(np.append(first, len(group)))
    for number, site in zip(groups, chosen, strict=False):
        if size[number] == 0:
            continue
        angle, distance = rng.uniform(0, 2 * np.pi), reach * rng.uniform(0.2, 1.0)
        member = first[number] + rng.integers(size[number])
        shift[number] = site + distance * np.array([np.cos(angle), np.sin(angle)]) - points[member]
    moved = points + shift[group]
    return np.where(region.contains(moved)[:, None], moved, points)


def adhering(
    region: Region, rng: np.random.Generator, n: int, mpp: float, hosts: Points, share: float, spread_um: float
) -> Points:
    """Places ``[n, 2]`` in px of small things of which a share sticks to some of the host cells, several to each.

    Args:
        hosts: places of the cells, px.
        spread_um: radius of a host.
    """
    points = region.sample(rng, n)
    stuck = int(n * share)
    if stuck >= 1 and len(hosts):
        chosen = hosts[rng.integers(len(hosts), size=max(stuck // 5, 1))]
        # Most lie along one side of a host's edge.
        side = rng.uniform(0, 2 * np.pi, len(chosen))
        host = rng.integers(len(chosen), size=stuck)
        angle = side[host] + rng.normal(0, 0.9, stuck)
        distance = np.clip(rng.normal(0.9, 0.4, stuck), 0.1, 1.9) * spread_um / mpp
        near = chosen[host] + np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
        points[:stuck] = np.where(region.contains(near)[:, None], near, points[:stuck])
    return points


def group_offsets(rng: np.random.Generator, label: str, count: int, diameter_um: float) -> list[tuple[float, float]]:
    """Where the lesions of one group lie around its middle, um.

    High-grade cells lie in a row ("Indian file"), in a crowded syncytium with overlapping nuclei, or loosely; others in
    sheets.
    """
    if count == 1:
        return [(0.0, 0.0)]
    form, high_grade = rng.random(), label in {"HSIL", "ASC-H", "SCC"}
    if high_grade and form < 0.3:
        return _row(rng, count, diameter_um * rng.uniform(0.7, 0.95))
    spacing = (0.52, 0.72) if high_grade and form < 0.65 else (0.6, 0.85)
    return packed(rng, count, diameter_um * rng.uniform(*spacing))


def _row(rng: np.random.Generator, count: int, spacing: float) -> list[tuple[float, float]]:
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.22, count))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * spacing * rng.uniform(0.85, 1.1, (count, 1))
    places = np.cumsum(steps, axis=0)
    return [(float(x), float(y)) for x, y in places - places.mean(axis=0)]


def free_place(
    region: Region,
    rng: np.random.Generator,
    taken: Sequence[tuple[float, float, float]],
    closed: Sequence[Box],
    reach: float,
) -> tuple[float, float]:
    """A place clear of what is taken and out of closed boxes; the least crowded of 60 when there is none.

    Args:
        taken: (x, y, radius) of what lies there already, px.
        closed: boxes where nothing may lie, px.
        reach: radius of what is to be placed, px.
    """
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
