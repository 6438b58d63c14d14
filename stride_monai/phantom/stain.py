"""Papanicolaou dyes, Beer-Lambert and the centres that differ in them.

Light through dyes of density ``c`` keeps ``10 ** -(c @ D)`` of its intensity, where row i of ``D`` holds the optical
density of dye i in red, green and blue. Optical densities add, so translucent overlap needs no rule of its own.

Inside the painter an optical density is an integer: :data:`OD_UNITS` units are OD 1. Integers make the sum independent
of order and of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError

__all__ = ["CENTRES", "DYES", "OD_OFFSET", "OD_UNITS", "Centre", "centre_named", "colour_weights", "lookup_table"]

DYES: tuple[str, ...] = ("haematoxylin", "eosin", "light_green", "orange_g", "bismarck_brown")

PLANE_UNITS = 100
"""Sprite planes are uint8: 100 is dye density 1."""

_WEIGHT_UNITS = 128
_SHIFT = 4
OD_UNITS = PLANE_UNITS * _WEIGHT_UNITS >> _SHIFT
OD_OFFSET = 80
"""Index of OD 0 in the lookup table; noise may fall below it."""

_TABLE = 4096

_DYE_OD = (
    (0.74, 0.80, 0.42),
    (0.06, 0.52, 0.34),
    (0.62, 0.34, 0.24),
    (0.05, 0.30, 0.84),
    (0.30, 0.52, 0.72),
)


@dataclass(frozen=True, slots=True)
class Centre:
    """How one laboratory stains and scans.

    Attributes:
        dye_od: optical density (red, green, blue) of each of :data:`DYES` at density 1.
        strength: relative amount of each dye that this laboratory's protocol leaves in a cell.
        eosinophilic: how strongly mature cells take the pink and orange dyes instead of green, 0-1.
        background: RGB 0-255 of clear glass.
        gamma: exponent of the scanner's tone curve on transmitted intensity.
        blur_um: standard deviation of the optics' point spread.
        noise: standard deviation of sensor noise as a share of the signal.
        haze: optical density of the film between the cells.
        jpeg_quality: 1-100.
    """

    name: str
    dye_od: tuple[tuple[float, float, float], ...] = _DYE_OD
    strength: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    eosinophilic: float = 0.5
    background: tuple[int, int, int] = (238, 239, 241)
    gamma: float = 1.0
    blur_um: float = 0.17
    noise: float = 0.008
    haze: float = 0.012
    jpeg_quality: int = 85


def _tinted(red: float, green: float, blue: float) -> tuple[tuple[float, float, float], ...]:
    """The standard dyes seen through another camera: each channel's response scaled."""
    return tuple((r * red, g * green, b * blue) for r, g, b in _DYE_OD)


CENTRES: Mapping[str, Centre] = MappingProxyType(
    {
        centre.name: centre
        for centre in (
            Centre("north"),
            Centre(
                "south",
                dye_od=_tinted(0.82, 1.0, 1.06),
                strength=(1.1, 0.95, 0.9, 1.35, 1.0),
                eosinophilic=0.75,
                background=(242, 241, 246),
                gamma=1.1,
            ),
            Centre(
                "east",
                dye_od=_tinted(1.0, 0.92, 0.62),
                strength=(1.15, 0.8, 0.8, 0.5, 0.6),
                eosinophilic=0.3,
                background=(221, 223, 221),
                gamma=1.05,
                blur_um=0.14,
                noise=0.012,
                jpeg_quality=80,
            ),
            Centre(
                "west",
                dye_od=_tinted(1.06, 0.84, 0.95),
                strength=(0.9, 0.85, 1.15, 0.9, 1.2),
                eosinophilic=0.35,
                background=(247, 250, 248),
                gamma=1.05,
                noise=0.006,
                haze=0.02,
                jpeg_quality=90,
            ),
            Centre(
                "coast",
                dye_od=_tinted(0.74, 1.04, 1.0),
                strength=(1.05, 1.45, 0.7, 0.7, 1.0),
                eosinophilic=0.7,
                background=(236, 240, 243),
                gamma=1.0,
                blur_um=0.26,
                noise=0.007,
                haze=0.016,
                jpeg_quality=75,
            ),
            Centre(
                "valley",
                dye_od=_tinted(0.92, 0.98, 1.15),
                strength=(0.85, 0.9, 1.1, 1.3, 1.5),
                eosinophilic=0.5,
                background=(240, 233, 219),
                gamma=0.88,
                blur_um=0.32,
                noise=0.014,
                haze=0.02,
                jpeg_quality=70,
            ),
        )
    }
)
"""Presets, told apart by eye: balanced, orange, blue and grey, green and bright, pink and soft, warm and noisy."""


def centre_named(name: str) -> Centre:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CENTRES:
        raise ConfigError(f"there is no phantom centre '{name}'", f"use one of {', '.join(CENTRES)}")
    return CENTRES[name]


def colour_weights(centre: Centre, dyes: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Integer weights ``[..., 3]`` (red, green, blue) of dye amounts ``[..., 5]`` per unit of a sprite plane."""
    density = (dyes * np.asarray(centre.strength)) @ np.asarray(centre.dye_od)
    return np.asarray(np.clip(np.rint(density * _WEIGHT_UNITS), 0, 255), np.uint16)


def weighted(plane: NDArray[np.uint16], weight: np.uint16) -> NDArray[np.uint16]:
    """Optical density (integer units) of a sprite plane in one colour channel."""
    return (plane * weight) >> np.uint16(_SHIFT)


def lookup_table(centre: Centre) -> NDArray[np.uint8]:
    """Integer optical density -> pixel value: ``[3, 4096]`` uint8, entry :data:`OD_OFFSET` being clear glass."""
    density = (np.arange(_TABLE) - OD_OFFSET) / OD_UNITS
    transmitted = 10.0 ** (-density * centre.gamma)
    # Scattered light keeps even the darkest nucleus off pure black.
    values = np.asarray(centre.background)[:, None] * (0.03 + 0.97 * transmitted[None, :])
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
