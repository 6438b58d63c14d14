"""Papanicolaou dyes, Beer-Lambert, and what a centre can do differently.

Light through dyes of density ``c`` keeps ``10 ** -(c @ D)`` of its intensity, where row i of ``D`` holds the optical
density of dye i in red, green and blue. Optical densities add, so translucent overlap needs no rule of its own.

Inside the painter an optical density is an integer: :data:`OD_UNITS` units are OD 1. Integers make the sum independent
of order and of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, check_name

__all__ = [
    "DYES",
    "OD_OFFSET",
    "OD_UNITS",
    "SCANNERS",
    "STANDARD_DYES",
    "Centre",
    "color_weights",
    "lookup_table",
    "tinted",
]

DYES: tuple[str, ...] = ("haematoxylin", "eosin", "light_green", "orange_g", "bismarck_brown")

PLANE_UNITS = 100
"""Sprite planes are uint8: 100 is dye density 1."""

_WEIGHT_UNITS = 128
_SHIFT = 4
OD_UNITS = PLANE_UNITS * _WEIGHT_UNITS >> _SHIFT
OD_OFFSET = 80
"""Index of OD 0 in the lookup table; noise may fall below it."""

_TABLE = 4096

STANDARD_DYES = (
    (0.74, 0.80, 0.42),
    (0.06, 0.52, 0.34),
    (0.62, 0.34, 0.24),
    (0.05, 0.30, 0.84),
    (0.30, 0.52, 0.72),
)

SCANNERS: tuple[str, ...] = ("aperio", "leica")
"""Layouts of the slide file; see :mod:`stride_monai.phantom.files.slide_writer`."""


@dataclass(frozen=True, slots=True)
class Centre:
    """How one laboratory prepares, stains and scans. Presets: :data:`stride_monai.phantom.CENTRES`.

    Attributes:
        dye_od: optical density (red, green, blue) of each of :data:`DYES` at density 1.
        strength: relative amount of each dye that this laboratory's protocol leaves in a cell.
        eosinophilic: how strongly mature cells take the pink and orange dyes instead of green, 0-1.
        background: RGB 0-255 of clear glass before white balance.
        gamma: exponent of the scanner's tone curve on transmitted intensity.
        white_balance: gain of red, green and blue after the tone curve; what exceeds 255 is clipped, as in an
            overexposed scan.
        glare: scattered light, as a share of the background: even the darkest nucleus is no blacker.
        blur_um: standard deviation of the optics' point spread.
        sharpen: share of the detail (sigma about 1.6 px) that the scanner adds in red, green and blue, -1 to 2. It
            makes the bright fringe around cells; a negative share softens one channel, as a lens does that is not
            corrected for colour.
        noise: standard deviation of sensor noise as a share of the signal.
        noise_color: 0-1, from noise that all channels share to noise of their own, blue the most.
        haze: optical density of the film of mucus and protein between the cells.
        streaks: optical density of streaks in that film, as a brush or a smear leaves them.
        dirt_per_mm2: bacteria, stain grains and dust on the deposit.
        shading: optical density by which a scanner's field is darker at its border.
        jpeg_quality: 1-100.
        mpp: um/px of level 0.
        aperture: numerical aperture of the objective; it sets how fast cells blur out of focus.
        focus_um: root mean square of the focus error over a slide, um.
        depth_um: standard deviation of the depth of cells in the layer, um.
        deposit_mm: diameter of the deposit.
        density_per_mm2: epithelial cells; None for that of a deposit of the diameter asked for.
        crowding: 0-1, how much lesions lie in groups and among other cells that cover them, as on a conventional smear;
            on a liquid-based slide (0) most lie free.
        offset_mm: (x, y) of the deposit's middle from the middle of the scanned region.
        scanner: how the file is laid out, one of :data:`SCANNERS`.
        origin_mm: (x, y) of the scanned region on the scanner's stage; only ``leica`` files can state it.
    """

    name: str
    dye_od: tuple[tuple[float, float, float], ...] = STANDARD_DYES
    strength: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    eosinophilic: float = 0.5
    background: tuple[int, int, int] = (238, 239, 241)
    gamma: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    glare: float = 0.03
    blur_um: float = 0.17
    sharpen: tuple[float, float, float] = (0.3, 0.3, 0.15)
    noise: float = 0.008
    noise_color: float = 0.4
    haze: float = 0.008
    streaks: float = 0.0
    dirt_per_mm2: float = 500.0
    shading: float = 0.006
    jpeg_quality: int = 85
    mpp: float = 0.25
    aperture: float = 0.75
    focus_um: float = 0.8
    depth_um: float = 0.8
    deposit_mm: float = 20.0
    density_per_mm2: float | None = None
    crowding: float = 0.0
    offset_mm: tuple[float, float] = (0.0, 0.0)
    scanner: str = "aperio"
    origin_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_name("phantom scanner", self.scanner, SCANNERS)
        if not (0.1 <= self.mpp <= 1.1 and 1 <= self.jpeg_quality <= 100 and 0 < self.aperture < 1.4):
            raise ConfigError(
                f"centre '{self.name}' has an impossible scanner",
                "give 0.1-1.1 um/px, JPEG quality 1-100 and an aperture under 1.4",
            )
        amounts = (self.blur_um, self.noise, self.haze, self.streaks, self.dirt_per_mm2, self.focus_um, self.depth_um)
        if min(*amounts, *self.white_balance, *self.strength, self.gamma) < 0:
            raise ConfigError(f"centre '{self.name}' has a negative amount", "give 0 or more")
        if not 0 <= self.crowding <= 1:
            raise ConfigError(f"centre '{self.name}' has a crowding of {self.crowding:g}", "give 0 to 1")


def tinted(red: float, green: float, blue: float) -> tuple[tuple[float, float, float], ...]:
    """The standard dyes seen through another camera: each channel's response scaled."""
    return tuple((r * red, g * green, b * blue) for r, g, b in STANDARD_DYES)


def color_weights(centre: Centre, dyes: NDArray[np.float64]) -> NDArray[np.uint16]:
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
    values = np.asarray(centre.background)[:, None] * (centre.glare + (1 - centre.glare) * transmitted[None, :])
    values *= np.asarray(centre.white_balance)[:, None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
