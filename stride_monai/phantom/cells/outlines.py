"""Closed star-shaped outlines in micrometres: the geometry that drawing and truth share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fold", "Outline", "ellipse", "enclosing", "molded", "polygonal"]

SAMPLES = 96
_ANGLES = np.arange(SAMPLES) * (2 * np.pi / SAMPLES)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fold:
    """A straight fold: what lies beyond the line ``p . (cos, sin)(angle) = offset`` is turned over onto the cell.

    Attributes:
        angle: direction of the line's normal, radians.
        offset: distance of the line from the outline's own centre, um.
        bend: curvature of the line, 1/um.
    """

    angle: float
    offset: float
    bend: float = 0.0


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed curve given by its radius at equally spaced angles.

    Attributes:
        x, y: centre in um, relative to the figure's centre.
        radii: um, at ``SAMPLES`` angles from 0 to 2 pi.
        fold: a fold of the shape, if any; only cells have one.
    """

    x: float
    y: float
    radii: NDArray[np.float64]
    fold: Fold | None = None

    @property
    def reach(self) -> float:
        """Largest radius, um."""
        return float(self.radii.max())

    @property
    def area(self) -> float:
        """Area of :meth:`polygon` in um2 (shoelace formula)."""
        points = self.polygon()
        x, y = points[:, 0], points[:, 1]
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    def polygon(self) -> NDArray[np.float64]:
        """Vertices ``[SAMPLES, 2]`` (x, y) in um; the part beyond a fold is laid on the fold line."""
        points = np.stack([self.radii * np.cos(_ANGLES), self.radii * np.sin(_ANGLES)], axis=1)
        if self.fold is not None:
            normal = np.array([np.cos(self.fold.angle), np.sin(self.fold.angle)])
            along = points @ np.array([-normal[1], normal[0]])
            beyond = np.maximum(points @ normal - self.fold.offset + self.fold.bend * along**2, 0.0)
            points = points - beyond[:, None] * normal
        return np.asarray(points + np.array([self.x, self.y]), np.float64)

    def depth(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Radial distance (um) to the unfolded curve of points ``x, y`` (um), positive inside."""
        u, v = x - np.float32(self.x), y - np.float32(self.y)
        position = np.arctan2(v, u) * np.float32(SAMPLES / (2 * np.pi))
        lower = np.floor(position)
        fraction = position - lower
        index = lower.astype(np.int32) % SAMPLES
        table = np.concatenate([self.radii, self.radii[:1]]).astype(np.float32)
        radius = table[index] * (1 - fraction) + table[index + 1] * fraction
        return np.asarray(radius - np.hypot(u, v), dtype=np.float32)


def _waves(rng: np.random.Generator, amplitude: float, first: int, last: int, fall: float = 1.0) -> NDArray[np.float64]:
    """Random Fourier perturbation of unit mean whose amplitude falls with the given power of the frequency."""
    waves = np.ones(SAMPLES)
    for k in range(first, last + 1):
        waves += amplitude * rng.normal() / k**fall * np.cos(k * _ANGLES + rng.uniform(0, 2 * np.pi))
    return np.clip(waves, 0.45, 1.8)


def _with_area(radii: NDArray[np.float64], area: float) -> NDArray[np.float64]:
    """Scaled so that the polygon through the radii has ``area``."""
    polygon_area = 0.5 * np.sin(2 * np.pi / SAMPLES) * float(np.dot(radii, np.roll(radii, -1)))
    return np.asarray(radii * np.sqrt(area / polygon_area), np.float64)


def ellipse(
    rng: np.random.Generator,
    area: float,
    *,
    x: float = 0.0,
    y: float = 0.0,
    elongation: float = 1.0,
    angle: float | None = None,
    irregularity: float = 0.0,
    notch: float = 0.0,
) -> Outline:
    """An ellipse with a Fourier-perturbed edge and an optional notch, scaled to an exact area.

    Args:
        area: um2.
        elongation: long over short axis, >= 1.
        angle: direction of the long axis, radians; random when None.
        irregularity: 0 is smooth; 0.3 is clearly irregular.
        notch: depth of one indentation as a share of the radius.
    """
    turn = rng.uniform(0, 2 * np.pi) if angle is None else angle
    theta = _ANGLES - turn
    radii = 1 / np.sqrt(np.cos(theta) ** 2 / elongation + np.sin(theta) ** 2 * elongation)
    # Bulges and flat stretches rather than scallops: little is left beyond the fifth wave.
    radii = radii * _waves(rng, 2.7 * irregularity, 2, 9, 1.9)
    if notch > 0:
        place = rng.uniform(0, 2 * np.pi)
        gap = np.angle(np.exp(1j * (_ANGLES - place)))
        radii = radii * (1 - notch * np.exp(-((gap / 0.35) ** 2)))
    return Outline(x, y, _with_area(radii, area))


def enclosing(outline: Outline, inner: Sequence[Outline], margin: float = 0.4) -> Outline:
    """The outline pushed out, where need be, so that other outlines lie ``margin`` um inside it."""
    needed = np.zeros(SAMPLES)
    for other in inner:
        around = other.polygon() - (outline.x, outline.y)
        # Between the vertices too: the sides of a polygon near the centre span wide angles.
        points = np.concatenate(
            [around + share * (np.roll(around, -1, axis=0) - around) for share in (0, 0.25, 0.5, 0.75)]
        )
        index = np.rint(np.arctan2(points[:, 1], points[:, 0]) * (SAMPLES / (2 * np.pi))).astype(int) % SAMPLES
        np.maximum.at(needed, index, np.hypot(points[:, 0], points[:, 1]) + margin)
    needed = np.maximum(needed, np.maximum(np.roll(needed, 1), np.roll(needed, -1)) * (needed > 0))
    return Outline(outline.x, outline.y, np.maximum(outline.radii, needed), outline.fold)


def molded(outlines: Sequence[Outline], gap: float) -> list[Outline]:
    """Outlines that press on each other: each is flattened half a ``gap`` (um) before the middle of the way to others.

    No outline grows. Two whose centres are the same stay as they are.
    """
    pressed = []
    for one in outlines:
        radii = one.radii
        for other in outlines:
            dx, dy = other.x - one.x, other.y - one.y
            apart = float(np.hypot(dx, dy))
            if apart <= 2 * gap:
                continue
            facing = np.cos(_ANGLES - np.arctan2(dy, dx))
            wall = np.where(facing > 0.05, (apart - gap) / 2 / np.maximum(facing, 0.05), np.inf)
            radii = np.minimum(radii, wall)
        pressed.append(Outline(one.x, one.y, np.minimum(one.radii, _circular_blur(radii, 1.2)), one.fold))
    return pressed


def polygonal(
    rng: np.random.Generator,
    area: float,
    *,
    corners: int = 6,
    elongation: float = 1.0,
    raggedness: float = 0.06,
    rounding: float = 3.0,
    nicks: int = 0,
    fold: Fold | None = None,
) -> Outline:
    """The angular outline of a flat squamous cell: a random convex polygon, slightly rounded, frayed and torn.

    Args:
        area: um2 before any fold.
        raggedness: amplitude of the bows of the sides and of the fraying of the edge.
        rounding: width of the smoothing of the corners in angle samples.
        nicks: number of small tears.
    """
    at = (np.arange(corners) + rng.uniform(-0.32, 0.32, corners)) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.72, 1.15, corners)
    x, y = distance * np.cos(at) * np.sqrt(elongation), distance * np.sin(at) / np.sqrt(elongation)
    radii = np.full(SAMPLES, np.inf)
    for i in range(corners):
        j = (i + 1) % corners
        normal = np.array([y[j] - y[i], x[i] - x[j]])
        normal /= np.hypot(*normal)
        facing = normal[0] * np.cos(_ANGLES) + normal[1] * np.sin(_ANGLES)
        away = normal[0] * x[i] + normal[1] * y[i]
        radii = np.minimum(radii, np.where(facing > 1e-3, away / np.maximum(facing, 1e-3), np.inf))
    radii = _circular_blur(np.minimum(radii, 2.0), rounding)
    radii = radii * _waves(rng, 1.1 * raggedness, 2, 12)
    # Fraying: equal amplitude at all fine scales, unlike the bows above; more of it on some stretches than on others.
    fraying = _circular_blur(rng.normal(size=SAMPLES), 0.7) * np.clip(_waves(rng, 1.0, 1, 4), 0, None)
    radii = radii * (1 + 0.09 * raggedness * fraying)
    for _ in range(nicks):
        gap = np.angle(np.exp(1j * (_ANGLES - rng.uniform(0, 2 * np.pi))))
        radii = radii * (1 - rng.uniform(0.05, 0.22) * np.exp(-(np.abs(gap / rng.uniform(0.05, 0.14)) ** 1.5)))
    return Outline(0.0, 0.0, _with_area(radii, area), fold)


def _circular_blur(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    frequency = np.fft.rfftfreq(SAMPLES)
    kernel = np.exp(-2 * (np.pi * frequency * sigma) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(values) * kernel, SAMPLES))
