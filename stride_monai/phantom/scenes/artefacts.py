"""Things on a slide that are no cells: pen, air bubbles, the coverslip's edge, heaps of dust and fibres."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import check_name
from stride_monai.phantom.stain import OD_UNITS
from stride_monai.units import Box

__all__ = ["ARTEFACTS", "Artefact", "Bubble", "CoverslipEdge", "DustPatch", "Fibre", "PenStroke", "make_artefacts"]

ARTEFACTS: tuple[str, ...] = ("pen", "bubbles", "coverslip", "dust", "fibre")
"""Names that a caller may ask for."""


class Artefact(Protocol):
    """Adds optical density to a window of the slide; depends on absolute level-0 coordinates only."""

    @property
    def box(self) -> Box: ...

    @property
    def opaque(self) -> bool:
        """Whether cells under it cannot be read; lesions are kept clear of its box."""

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        """Add to ``density [3, h, w]`` (integer optical density) whose corner is at ``x0, y0``."""


def _axes(density: NDArray[np.uint16], x0: int, y0: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, height, width = density.shape
    return np.arange(x0, x0 + width) + 0.5, (np.arange(y0, y0 + height) + 0.5)[:, None]


@dataclass(frozen=True, slots=True)
class PenStroke:
    """A wide wavy stroke of a marker: even, because the ink lies on the coverslip, out of focus.

    Attributes:
        start, end: level-0 px.
        half_width: px.
        od: optical density in red, green and blue.
        wave: amplitude px, length px and phase of its waviness.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    half_width: float
    od: tuple[float, float, float]
    wave: tuple[float, float, float]
    opaque: bool = True

    @property
    def box(self) -> Box:
        reach = self.half_width + self.wave[0] + 2
        (ax, ay), (bx, by) = self.start, self.end
        return Box(min(ax, bx) - reach, min(ay, by) - reach, max(ax, bx) + reach, max(ay, by) + reach)

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        x, y = _axes(density, x0, y0)
        (ax, ay), (bx, by) = self.start, self.end
        length = float(np.hypot(bx - ax, by - ay))
        ux, uy = (bx - ax) / length, (by - ay) / length
        along = (x - ax) * ux + (y - ay) * uy
        across = (y - ay) * ux - (x - ax) * uy
        across = across + self.wave[0] * np.sin(along * 2 * np.pi / self.wave[1] + self.wave[2])
        beyond = np.hypot(across, np.maximum(np.maximum(-along, along - length), 0))
        edge = np.clip((self.half_width - beyond) / (0.04 * self.half_width + 1), 0, 1)
        streaks = 0.96 + 0.04 * np.sin(across * 9 / self.half_width)
        for channel, od in enumerate(self.od):
            density[channel] += np.rint(od * OD_UNITS * edge * streaks).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Bubble:
    """An air bubble: a dark refracting ring around a clear middle."""

    x: float
    y: float
    radius: float
    rim: float
    opaque: bool = False

    @property
    def box(self) -> Box:
        return Box.around(self.x, self.y, 2 * (self.radius + 3 * self.rim))

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        x, y = _axes(density, x0, y0)
        distance = np.hypot(x - self.x, y - self.y) - self.radius
        ring = np.exp(-((distance / self.rim) ** 2)) + 0.25 * np.exp(-(((distance + 2 * self.rim) / self.rim) ** 2))
        density += np.rint(0.9 * OD_UNITS * ring).astype(np.uint16)


def _units(od: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Integer optical density; a negative one (light bent to where it was bright already) wraps around in the sum."""
    return np.asarray(np.rint(od * OD_UNITS).astype(np.int64).astype(np.uint16))


@dataclass(frozen=True, slots=True)
class CoverslipEdge:
    """The border of the coverslip: a dark line with a bright fringe and a shadow, straight through the slide.

    Attributes:
        point: (x, y) on the line, level-0 px.
        normal: unit vector across it.
        length: px on either side of the point.
        um: px per um.
    """

    point: tuple[float, float]
    normal: tuple[float, float]
    length: float
    um: float
    opaque: bool = False

    @property
    def box(self) -> Box:
        reach = 70 * self.um
        dx, dy = self.length * abs(self.normal[1]) + reach, self.length * abs(self.normal[0]) + reach
        return Box(self.point[0] - dx, self.point[1] - dy, self.point[0] + dx, self.point[1] + dy)

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        x, y = _axes(density, x0, y0)
        along = (y - self.point[1]) * self.normal[0] - (x - self.point[0]) * self.normal[1]
        across = ((x - self.point[0]) * self.normal[0] + (y - self.point[1]) * self.normal[1]) / self.um
        across = across + 0.8 * np.sin(along / (140 * self.um)) + 0.35 * np.sin(along / (23 * self.um) + 1)

        def ridge(at: float, width: float) -> NDArray[np.float64]:
            return np.asarray(np.exp(-(((across - at) / width) ** 2)))

        od = 0.55 * ridge(0, 2.2) + 0.22 * ridge(8, 3.5) - 0.04 * ridge(-6, 3.0) + 0.09 * ridge(22, 12)
        density += _units(od)


@dataclass(frozen=True, slots=True)
class DustPatch:
    """A heap of dust and dirt.

    Attributes:
        particles: ``[n, 5]``: x, y, half length and half width in level-0 px and angle of each.
        od: ``[n, 3]`` optical density of each in red, green and blue.
        soft: px over which their borders fade.
    """

    particles: NDArray[np.float64]
    od: NDArray[np.float64]
    soft: float
    opaque: bool = False

    @property
    def box(self) -> Box:
        x, y, half, _, _ = self.particles.T
        reach = 1.3 * half + 3 * self.soft
        return Box(*(float(v) for v in ((x - reach).min(), (y - reach).min(), (x + reach).max(), (y + reach).max())))

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        for (x, y, half, width, angle), od in zip(self.particles, self.od, strict=True):
            window = _inside(density, x0, y0, x, y, 1.3 * half + 3 * self.soft)
            if window is None:
                continue
            part, dx, dy = window
            u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
            turn = np.arctan2(v, u)
            border = 1 + 0.15 * np.sin(3 * turn + 5 * angle) + 0.1 * np.sin(7 * turn + 11 * angle)
            depth = (border - np.hypot(u / half, v / width)) * width
            cover = np.clip(depth / self.soft + 0.5, 0, 1)
            for channel in range(3):
                part[channel] += _units(od[channel] * cover)


@dataclass(frozen=True, slots=True)
class Fibre:
    """A fibre on the coverslip, far out of focus: a wide faint winding band.

    Attributes:
        points: ``[n, 2]`` level-0 px along it.
        width: px, standard deviation of its profile.
        od: optical density in red, green and blue along its middle.
    """

    points: NDArray[np.float64]
    width: float
    od: tuple[float, float, float]
    opaque: bool = False

    @property
    def box(self) -> Box:
        (ax, ay), (bx, by) = self.points.min(axis=0).tolist(), self.points.max(axis=0).tolist()
        reach = 3.2 * self.width
        return Box(ax - reach, ay - reach, bx + reach, by + reach)

    def add(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        _, height, width = density.shape
        distance = np.full((height, width), np.inf)
        for start, end in pairwise(self.points):
            middle, reach = (start + end) / 2, 3.2 * self.width + float(np.hypot(*(end - start))) / 2
            window = _inside(distance[None], x0, y0, float(middle[0]), float(middle[1]), reach)
            if window is None:
                continue
            part, dx, dy = window
            step = end - start
            share = np.clip((dx * step[0] + dy * step[1]) / (step @ step), -0.5, 0.5)
            np.minimum(part[0], np.hypot(dx - share * step[0], dy - share * step[1]), out=part[0])
        profile = np.exp(-0.5 * (np.minimum(distance, 1e6) / self.width) ** 2)
        for channel, od in enumerate(self.od):
            density[channel] += _units(od * profile)


_Number = TypeVar("_Number", np.uint16, np.float64)
_Part: TypeAlias = tuple[NDArray[_Number], NDArray[np.float64], NDArray[np.float64]]


def _inside(planes: NDArray[_Number], x0: int, y0: int, x: float, y: float, reach: float) -> _Part[_Number] | None:
    """The part of a window within ``reach`` px of a point and its px from that point; None where they do not meet."""
    _, height, width = planes.shape
    left, right = max(int(x - reach) - x0, 0), min(int(x + reach) + 2 - x0, width)
    top, bottom = max(int(y - reach) - y0, 0), min(int(y + reach) + 2 - y0, height)
    if left >= right or top >= bottom:
        return None
    dx = np.arange(x0 + left, x0 + right) + 0.5 - x
    return planes[:, top:bottom, left:right], dx, (np.arange(y0 + top, y0 + bottom) + 0.5 - y)[:, None]


_INKS = ((1.3, 0.9, 0.25), (1.5, 0.35, 0.9), (1.1, 1.1, 1.0))


def make_artefacts(
    names: tuple[str, ...], rng: np.random.Generator, width: int, height: int, mpp: float
) -> tuple[Artefact, ...]:
    """Random artefacts of the named sorts for a slide of ``width`` x ``height`` px.

    Raises:
        ConfigError: a name is not in :data:`ARTEFACTS`.
    """
    for name in names:
        check_name("phantom artefact", name, ARTEFACTS)
    made: list[Artefact] = []
    if "pen" in names:
        half_width = min(350 / mpp, 0.05 * width)
        y = height * rng.uniform(0.06, 0.2)
        ends = (width * rng.uniform(0.02, 0.3), y), (width * rng.uniform(0.6, 0.98), y + height * rng.normal(0, 0.05))
        wave = (half_width * 0.4, width * rng.uniform(0.2, 0.5), rng.uniform(0, 2 * np.pi))
        made.append(PenStroke(*ends, half_width, _INKS[int(rng.integers(len(_INKS)))], wave))
    if "bubbles" in names:
        for _ in range(int(rng.integers(3, 8))):
            radius = min(rng.uniform(60, 400) / mpp, 0.08 * width)
            x, y = width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.9)
            made.append(Bubble(x, y, radius, rng.uniform(3, 7) / mpp))
    if "coverslip" in names:
        made.append(_coverslip(rng, width, height, mpp))
    if "dust" in names:
        made += [_dust(rng, width, height, mpp) for _ in range(int(rng.integers(2, 5)))]
    if "fibre" in names:
        made += [_fibre(rng, width, height, mpp) for _ in range(int(rng.integers(1, 4)))]
    return tuple(made)


def _coverslip(rng: np.random.Generator, width: int, height: int, mpp: float) -> CoverslipEdge:
    """Along one of the four sides, a little way in."""
    share, lean = rng.uniform(0.05, 0.14), rng.normal(0, 0.008)
    quarter = int(rng.integers(4))
    angle = quarter * np.pi / 2 + lean
    x, y = ((1 - share, 0.5), (0.5, 1 - share), (share, 0.5), (0.5, share))[quarter]
    normal = (float(np.cos(angle)), float(np.sin(angle)))
    return CoverslipEdge((x * width, y * height), normal, float(max(width, height)), 1 / mpp)


_DUST = ((0.9, 1.0, 1.1), (0.5, 0.8, 1.2), (0.8, 0.8, 0.8))


def _dust(rng: np.random.Generator, width: int, height: int, mpp: float) -> DustPatch:
    number = int(rng.integers(40, 150))
    spread = min(rng.uniform(60, 220) / mpp, 0.06 * min(width, height))
    places = np.array([width, height]) * rng.uniform(0.12, 0.88, 2) + spread * rng.standard_normal((number, 2))
    half = np.exp(rng.normal(np.log(1.6), 0.6, number)).clip(0.6, 9.0) / mpp
    particles = np.column_stack([places, half, half * rng.uniform(0.4, 1.0, number), rng.uniform(0, np.pi, number)])
    od = np.array(_DUST)[rng.integers(len(_DUST), size=number)] * rng.uniform(0.25, 1.1, (number, 1))
    return DustPatch(particles, od, rng.uniform(0.6, 2.0) / mpp)


_FIBRES = ((0.30, 0.22, 0.14), (0.16, 0.22, 0.30), (0.25, 0.25, 0.25))


def _fibre(rng: np.random.Generator, width: int, height: int, mpp: float) -> Fibre:
    steps = 48
    length = min(rng.uniform(300, 1400) / mpp, 0.4 * min(width, height))
    bend = np.cumsum(rng.normal(0, 0.03, steps)) + rng.normal(0, 0.03)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend)
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * length / steps
    start = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    od = np.array(_FIBRES[int(rng.integers(len(_FIBRES)))]) * rng.uniform(0.5, 1.1)
    return Fibre(start + walk - walk.mean(axis=0), rng.uniform(3.5, 9) / mpp, (od[0], od[1], od[2]))
