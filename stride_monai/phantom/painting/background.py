"""What lies behind the cells: sensor noise, illumination, the film of mucus and protein, streaks and fine dirt.

All are integer optical densities that depend on absolute level-0 coordinates only. Fields that need a Fourier transform
are periodic, with periods that do not fit into each other; illumination is the sum of a row and a column profile, as a
scanner that stitches fields or sweeps lines has it; dirt is drawn grain by grain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.stain import OD_OFFSET, OD_UNITS

__all__ = ["GLASS_PERIOD", "Background"]

_NOISE_PERIOD = 512
_FILM_PERIOD = 1536
_STREAK_PERIOD = 1280
GLASS_PERIOD = 2048
"""Clear glass repeats itself after so many px: the illumination's period, a multiple of the noise's."""

_PAD = 520
"""Periodic fields are stored with so much of their beginning behind their end: a tile's window is then one slice."""

_SOFT_EDGE_UM = 60.0
_FILM_UNIT = 64
_FILM_DYES = np.array([0.25, 0.15, 0.5, 0.1, 0.05])
_GRAIN_BIN = 512
_GRAIN_SORTS = 64
_GRAIN_REACH_UM = 6.0
_BINS_KEPT = 1024

Density = NDArray[np.uint16]
_Integer = TypeVar("_Integer", np.uint8, np.uint16)


class Background:
    """Paints the background of a plan's windows."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        centre = plan.centre
        self._noise = _noise_field(plan)
        self._rows, self._columns = _illumination(plan)
        film, streaks = film_fields(plan.mpp)
        shifts = stream(plan.seed, Draw.FIELDS, 1).integers(_FILM_PERIOD, size=4).tolist()
        self._films = [
            (field, period, shifts[2 * i], shifts[2 * i + 1], _film_weights(plan, amount))
            for i, (field, period, amount) in enumerate(
                ((film, _FILM_PERIOD, centre.haze), (streaks, _STREAK_PERIOD, centre.streaks))
            )
            if amount > 0
        ]
        rng = stream(plan.seed, Draw.FIELDS, 7)
        self._grains = [_grain(plan, rng) for _ in range(_GRAIN_SORTS * (centre.dirt_per_mm2 > 0))]
        self._grains_of = lru_cache(_BINS_KEPT)(self._draw_grains)

    def window(self, x0: int, y0: int, width: int, height: int) -> Density:
        """Integer optical density ``[3, height, width]`` behind the cells; :data:`OD_OFFSET` is clear glass."""
        density = _periodic(self._noise, _NOISE_PERIOD, x0, y0, width, height).astype(np.uint16)
        rows = self._rows[:, (y0 + np.arange(height)) % GLASS_PERIOD]
        columns = self._columns[:, (x0 + np.arange(width)) % GLASS_PERIOD]
        for channel in range(3):
            density[channel] += rows[channel, :, None]
            density[channel] += columns[channel]
        cover = self.cover(x0, y0, width, height)
        if cover != 0:
            self._add_films(density, x0, y0, cover)
            if self._grains:
                self._add_grains(density, x0, y0)
        return density

    def cover(self, x0: int, y0: int, width: int, height: int) -> int:
        """2: wholly on the deposit's even film; 0: wholly off it; 1: on its soft edge."""
        radius = self.plan.region.radius
        if radius is None:
            return 2
        cx, cy = self.plan.region.middle
        far = np.hypot(max(abs(x0 - cx), abs(x0 + width - cx)), max(abs(y0 - cy), abs(y0 + height - cy)))
        near = np.hypot(max(x0 - cx, cx - x0 - width, 0), max(y0 - cy, cy - y0 - height, 0))
        soft = _SOFT_EDGE_UM / self.plan.mpp
        return 2 if far <= radius - soft else 0 if near >= radius + soft else 1

    def _add_films(self, density: Density, x0: int, y0: int, cover: int) -> None:
        _, height, width = density.shape
        share = self._share(x0, y0, width, height) if cover == 1 else None
        for field, period, dx, dy, weights in self._films:
            plane = _periodic(field, period, x0 + dx, y0 + dy, width, height)[0].astype(np.uint16)
            if share is not None:
                plane = np.rint(plane * share).astype(np.uint16)
            for channel in range(3):
                density[channel] += (plane * weights[channel]) >> np.uint16(8)

    def _share(self, x0: int, y0: int, width: int, height: int) -> NDArray[np.float32]:
        """0 off the deposit, 1 on it, over its soft edge."""
        region = self.plan.region
        assert region.radius is not None
        cx, cy = region.middle
        x = (np.arange(x0, x0 + width) + 0.5 - cx).astype(np.float32)
        y = (np.arange(y0, y0 + height) + 0.5 - cy).astype(np.float32)[:, None]
        half_soft = np.float32(0.5 * self.plan.mpp / _SOFT_EDGE_UM)
        inside = (np.float32(region.radius) - np.sqrt(x * x + y * y)) * half_soft
        return np.asarray(np.clip(inside + np.float32(0.5), 0, 1))

    def _add_grains(self, density: Density, x0: int, y0: int) -> None:
        _, height, width = density.shape
        reach = int(np.ceil(_GRAIN_REACH_UM / self.plan.mpp)) + 1
        for row in range((y0 - reach) // _GRAIN_BIN, (y0 + height + reach) // _GRAIN_BIN + 1):
            for column in range((x0 - reach) // _GRAIN_BIN, (x0 + width + reach) // _GRAIN_BIN + 1):
                for sort, x, y in self._grains_of(column, row).tolist():
                    self._add_grain(density, self._grains[sort], x - x0, y - y0)

    def _add_grain(self, density: Density, grain: NDArray[np.uint16], x: int, y: int) -> None:
        _, height, width = density.shape
        half = grain.shape[1] // 2
        top, left = y - half, x - half
        y0, y1 = max(top, 0), min(top + grain.shape[1], height)
        x0, x1 = max(left, 0), min(left + grain.shape[2], width)
        if y0 < y1 and x0 < x1:
            density[:, y0:y1, x0:x1] += grain[:, y0 - top : y1 - top, x0 - left : x1 - left]

    def _draw_grains(self, column: int, row: int) -> NDArray[np.int64]:
        """Grains ``[n, 3]`` (sort, x, y) of a square of the slide."""
        rng = stream(self.plan.seed, Draw.FIELDS, 6, column % (1 << 20), row % (1 << 20))
        area = (_GRAIN_BIN * self.plan.mpp / 1000) ** 2
        count = int(rng.poisson(self.plan.centre.dirt_per_mm2 * area * rng.lognormal(-0.25, 0.7)))
        corner = np.array([column, row]) * _GRAIN_BIN
        places = corner + rng.integers(_GRAIN_BIN, size=(count, 2))
        sorts = rng.integers(len(self._grains), size=(count, 1))
        found = np.concatenate([sorts, places], axis=1)
        radius = self.plan.region.radius
        if radius is not None:
            found = found[np.hypot(*(places - self.plan.region.middle).T) < radius]
        return found


def _noise_field(plan: Plan) -> Density:
    """Sensor noise around clear glass, ``[3, P, P]`` and padding; neighbours are correlated as after demosaicing."""
    rng = stream(plan.seed, Draw.FIELDS, 0)
    own = np.float32(plan.centre.noise_color)
    white = rng.standard_normal((4, _NOISE_PERIOD, _NOISE_PERIOD), np.float32)
    white += np.float32(0.45) * (np.roll(white, 1, axis=1) + np.roll(white, 1, axis=2))
    noise = np.sqrt(own) * white[:3] + np.sqrt(1 - own) * white[3]
    noise[2] *= 1 + own
    sigma = plan.centre.noise / np.log(10) * OD_UNITS
    field = np.clip(np.rint(noise / noise[1].std() * sigma) + OD_OFFSET, 0, 2 * OD_OFFSET)
    return _padded(np.asarray(field, np.uint16))


def _illumination(plan: Plan) -> tuple[Density, Density]:
    """Row and column profiles ``[3, GLASS_PERIOD]`` of the light's fall-off and of the sensor's columns."""
    rng = stream(plan.seed, Draw.FIELDS, 2)
    fall = np.linspace(-1, 1, GLASS_PERIOD, endpoint=False) ** 2
    rows, columns = np.broadcast_to(fall, (2, 3, GLASS_PERIOD)).copy() * 0.5
    stripes = np.convolve(rng.standard_normal(GLASS_PERIOD + 8), np.ones(9) / 3, "valid")
    columns += 0.05 * np.abs(stripes)
    # Lenses pass less blue towards the border of the field.
    tint = np.array([0.9, 0.9, 1.3])[:, None] * plan.centre.shading * OD_UNITS
    return np.rint(rows * tint).astype(np.uint16), np.rint(columns * tint).astype(np.uint16)


def _film_weights(plan: Plan, amount: float) -> Density:
    """Integer optical density (red, green, blue) per 256 units of a film."""
    density = (_FILM_DYES * np.asarray(plan.centre.strength)) @ np.asarray(plan.centre.dye_od) * amount
    return np.asarray(np.clip(np.rint(density * OD_UNITS * 256 / _FILM_UNIT), 0, 255), np.uint16)


@lru_cache(maxsize=8)
def film_fields(mpp: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Film between the cells, and streaks in it: ``[1, P, P]`` and padding, mean about 64; the same for all slides of a
    um/px. Each slide takes them from another place.
    """
    rng = np.random.default_rng(20_241)
    film = np.full((_FILM_PERIOD, _FILM_PERIOD), 1.1, np.float32)
    for grain_um, amount in ((45.0, 0.45), (9.0, 0.16), (0.7, 0.12)):
        film += np.float32(amount) * _smooth(rng, _FILM_PERIOD, grain_um / mpp, grain_um / mpp)
    lines = np.zeros((_STREAK_PERIOD, _STREAK_PERIOD), np.float32)
    for along_um, across_um, amount in ((70.0, 2.5, 0.9), (160.0, 9.0, 0.8)):
        lines += np.float32(amount) * np.maximum(
            _smooth(rng, _STREAK_PERIOD, along_um / mpp, across_um / mpp) - np.float32(0.3), 0
        )
    lines *= 1 + np.float32(0.5) * _smooth(rng, _STREAK_PERIOD, 0.8 / mpp, 0.8 / mpp)
    made = []
    for field in (film, lines):
        units = _padded(np.asarray(np.clip(np.rint(field * _FILM_UNIT), 0, 255)[None], np.uint8))
        units.setflags(write=False)
        made.append(units)
    return made[0], made[1]


def _smooth(rng: np.random.Generator, period: int, along: float, across: float) -> NDArray[np.float32]:
    """Noise of mean 0 and variance 1, smoothed over px along a line that leans by about 10 degrees and across it."""
    fy, fx = np.fft.fftfreq(period)[:, None], np.fft.rfftfreq(period)[None, :]
    lean = 0.18 if along != across else 0.0
    u, v = fx + lean * fy, fy - lean * fx
    kernel = np.exp(-2 * np.pi**2 * ((along * u) ** 2 + (across * v) ** 2)).astype(np.float32)
    field = irfft2(rfft2(rng.standard_normal((period, period), np.float32)) * kernel, (period, period))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


_GRAIN_COLORS = ((0.75, 0.7, 0.45), (0.5, 0.6, 0.75), (0.65, 0.65, 0.6), (0.8, 0.35, 0.15))


def _grain(plan: Plan, rng: np.random.Generator) -> NDArray[np.uint16]:
    """A stamp ``[3, size, size]`` of fine dirt, to be added; a bright rim is a negative density, which wraps around."""
    half = int(np.ceil(_GRAIN_REACH_UM / plan.mpp))
    axis = (np.arange(2 * half + 1) - half) * plan.mpp
    angle = rng.uniform(0, np.pi)
    u = axis * np.cos(angle) + axis[:, None] * np.sin(angle)
    v = axis[:, None] * np.cos(angle) - axis * np.sin(angle)
    sort = rng.random()
    width = float(np.exp(rng.uniform(np.log(0.18), np.log(0.45))))
    length = float(rng.choice((0.0, 0.15, 0.6, 1.1)))
    depth, blur, bright = rng.uniform(0.12, 0.55), plan.centre.blur_um, 0.0
    if sort < 0.3:  # out of focus
        depth, blur = depth * 0.8, rng.uniform(0.6, 1.8)
    elif sort < 0.4:  # refractile
        bright = rng.uniform(0.01, 0.03)
    # A bent rod with round ends; a dot where it has no length.
    v += rng.normal(0, 0.15) * u * u
    distance = np.hypot(np.maximum(np.abs(u) - length, 0), v)
    shape = np.clip((width - distance) / 0.15 + 0.5, 0, 1)
    shape = gaussian_filter(shape, max(blur / plan.mpp, 0.3))
    rim = np.exp(-(((distance - width - 0.6) / 0.35) ** 2))
    color = np.array(_GRAIN_COLORS[int(rng.choice(4, p=(0.5, 0.15, 0.27, 0.08)))])
    density = depth * color[:, None, None] * shape - bright * rim
    density[:, np.hypot(*np.broadcast_arrays(axis, axis[:, None])) > _GRAIN_REACH_UM] = 0
    return np.asarray(np.rint(density * OD_UNITS).astype(np.int64).astype(np.uint16))


def _padded(field: NDArray[_Integer]) -> NDArray[_Integer]:
    return np.ascontiguousarray(np.pad(field, ((0, 0), (0, _PAD), (0, _PAD)), mode="wrap"))


def _periodic(field: NDArray[_Integer], period: int, x0: int, y0: int, width: int, height: int) -> NDArray[_Integer]:
    """Window of a padded field that repeats over the whole plane."""
    top, left = y0 % period, x0 % period
    if max(top + height, left + width) <= field.shape[1]:
        return field[:, top : top + height, left : left + width]
    rows, columns = (top + np.arange(height)) % period, (left + np.arange(width)) % period
    return field[:, rows[:, None], columns]
