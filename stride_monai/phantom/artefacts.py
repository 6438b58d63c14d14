"""Things on a slide that are no cells: a marker's stroke and air bubbles under the coverslip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError
from stride_monai.phantom.stain import OD_UNITS
from stride_monai.units import Box

__all__ = ["ARTEFACTS", "Artefact", "Bubble", "PenStroke", "make_artefacts"]

ARTEFACTS: tuple[str, ...] = ("pen", "bubbles")
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


_INKS = ((1.3, 0.9, 0.25), (1.5, 0.35, 0.9), (1.1, 1.1, 1.0))


def make_artefacts(
    names: tuple[str, ...], rng: np.random.Generator, width: int, height: int, mpp: float
) -> tuple[Artefact, ...]:
    """Random artefacts of the named sorts for a slide of ``width`` x ``height`` px.

    Raises:
        ConfigError: a name is not in :data:`ARTEFACTS`.
    """
    for name in names:
        if name not in ARTEFACTS:
            raise ConfigError(f"there is no phantom artefact '{name}'", f"use {' or '.join(ARTEFACTS)}")
    made: list[Artefact] = []
    if "pen" in names:
        half_width = min(350 / mpp, 0.05 * width)
        y = height * rng.uniform(0.06, 0.2)
        ends = (width * rng.uniform(0.02, 0.3), y), (width * rng.uniform(0.6, 0.98), y + height * rng.normal(0, 0.05))
        wave = (half_width * 0.4, width * rng.uniform(0.2, 0.5), rng.uniform(0, 2 * np.pi))
        made.append(PenStroke(*ends, half_width, _INKS[int(rng.integers(len(_INKS)))], wave))
    if "bubbles" in names:
        for _ in range(int(rng.integers(3, 8))):
            radius = min(float(rng.uniform(60, 400)) / mpp, 0.08 * width)
            x, y = width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.9)
            made.append(Bubble(x, y, radius, float(rng.uniform(3, 7)) / mpp))
    return tuple(made)
