"""A plan to pixels, window by window; any window gives the same pixels whatever the windows around it."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from stride_monai.phantom.slide_plan import FIELDS, TEXTURE, Plan, stream
from stride_monai.phantom.sprites import Sprite, half_side, half_size, rasterise
from stride_monai.phantom.stain import OD_OFFSET, OD_UNITS, lookup_table, weighted
from stride_monai.units import Box

__all__ = ["NOISE_PERIOD", "Scene"]

NOISE_PERIOD = 512
_HAZE_PERIOD = 2048
_BIN = 1024
_SPRITE_CACHE_BYTES = 96 << 20
_SOFT_EDGE_UM = 60.0
_HAZE_UNIT = 64
_HAZE_DYES = np.array([0.25, 0.15, 0.5, 0.1, 0.05])


class Scene:
    """Paints windows of a plan.

    Args:
        plan: what to paint.

    Memory stays bounded: the bank of common sprites, a cache of the sprites that neighbouring windows share, and two
    periodic background fields.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.width, self.height = plan.region.width, plan.region.height
        self._table = lookup_table(plan.centre)
        self._noise = _noise_field(plan)
        self._haze = haze_field(plan.mpp)
        self._haze_weight = _haze_weights(plan)
        self._haze_shift = stream(plan.seed, FIELDS, 1).integers(_HAZE_PERIOD, size=2).tolist()
        self._bank: dict[int, Sprite] = {}
        self._recent: OrderedDict[int, Sprite] = OrderedDict()
        self._recent_bytes = 0
        blur = plan.centre.blur_um
        bank_half = np.array([half_size(figure, plan.mpp, blur) for figure in plan.bank], np.int32)
        unique = plan.unique
        self._x = np.concatenate([plan.common.x, np.array([cell.x for cell in unique], np.int32)])
        self._y = np.concatenate([plan.common.y, np.array([cell.y for cell in unique], np.int32)])
        unique_half = np.array([half_side(cell.reach_um, cell.defocus_um, plan.mpp, blur) for cell in unique], np.int32)
        self._half = np.concatenate([bank_half[plan.common.member], unique_half])
        self._bins = _binned(self._x, self._y, self._half, self.width)

    def paint(self, x0: int, y0: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels ``[height, width, 3]`` uint8 RGB of a window in level-0 px; windows may cross the border."""
        density = _periodic(self._noise, x0, y0, width, height).astype(np.uint16)
        self._add_haze(density, x0, y0)
        for index in self._cells_in(x0, y0, width, height):
            self._add_cell(density, int(index), x0, y0)
        for artefact in self.plan.artefacts:
            if artefact.box.intersection(Box(x0, y0, x0 + width, y0 + height)).area > 0:
                artefact.add(density, x0, y0)
        np.minimum(density, self._table.shape[1] - 1, out=density)
        pixels = np.empty((height, width, 3), np.uint8)
        for channel in range(3):
            pixels[:, :, channel] = self._table[channel][density[channel]]
        return pixels

    def is_glass(self, x0: int, y0: int, width: int, height: int) -> bool:
        """Whether a window shows nothing but clear glass (and sensor noise)."""
        if self._inside_share(x0, y0, width, height) != 0 or len(self._cells_in(x0, y0, width, height)):
            return False
        window = Box(x0, y0, x0 + width, y0 + height)
        return all(artefact.box.intersection(window).area == 0 for artefact in self.plan.artefacts)

    def _cells_in(self, x0: int, y0: int, width: int, height: int) -> NDArray[np.int64]:
        """Indices of the cells whose sprites touch a window."""
        order, starts, columns, rows = self._bins
        found = []
        for row in range(max(y0 // _BIN, 0), min((y0 + height - 1) // _BIN, rows - 1) + 1):
            first, last = max(x0 // _BIN, 0), min((x0 + width - 1) // _BIN, columns - 1)
            if first <= last:
                found.append(order[starts[row * columns + first] : starts[row * columns + last + 1]])
        if not found:
            return np.empty(0, np.int64)
        cells = np.unique(np.concatenate(found))
        return np.asarray(cells[self._touch(cells, x0, y0, width, height)])

    def _touch(self, cells: NDArray[np.int64], x0: int, y0: int, width: int, height: int) -> NDArray[np.bool_]:
        x, y, half = self._x[cells], self._y[cells], self._half[cells]
        touches = (x + half > x0) & (x - half < x0 + width) & (y + half > y0) & (y - half < y0 + height)
        return np.asarray(touches)

    def _add_cell(self, density: NDArray[np.uint16], index: int, x0: int, y0: int) -> None:
        common = self.plan.common
        if index < len(common.x):
            planes = self._bank_sprite(int(common.member[index])).oriented(int(common.orientation[index]))
            weights = common.weights[index]
        else:
            unique = self.plan.unique[index - len(common.x)]
            # A figure is often smaller than the room that was kept for it.
            self._half[index] = half_size(unique.figure, self.plan.mpp, self.plan.centre.blur_um)
            if not self._touch(np.array([index]), x0, y0, density.shape[2], density.shape[1])[0]:
                return
            planes = self._unique_sprite(index - len(common.x)).planes
            weights = unique.weights
        _, height, width = density.shape
        left, top = int(self._x[index] - self._half[index]) - x0, int(self._y[index] - self._half[index]) - y0
        size = planes.shape[1]
        rows, columns = slice(max(top, 0), min(top + size, height)), slice(max(left, 0), min(left + size, width))
        source = planes[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        for plane, weight in zip(source.astype(np.uint16), weights, strict=True):
            for channel in range(3):
                density[channel, rows, columns] += weighted(plane, weight[channel])

    def _bank_sprite(self, member: int) -> Sprite:
        if member not in self._bank:
            rng = stream(self.plan.seed, TEXTURE, 0, member)
            self._bank[member] = rasterise(self.plan.bank[member], self.plan.mpp, self.plan.centre.blur_um, rng)
        return self._bank[member]

    def _unique_sprite(self, number: int) -> Sprite:
        """A lesion or hard negative, kept until newer ones need the room; redrawn identically if needed again."""
        if number in self._recent:
            self._recent.move_to_end(number)
            return self._recent[number]
        rng = stream(self.plan.seed, TEXTURE, 1, number)
        sprite = rasterise(self.plan.unique[number].figure, self.plan.mpp, self.plan.centre.blur_um, rng)
        self._recent[number] = sprite
        self._recent_bytes += sprite.planes.nbytes
        while self._recent_bytes > _SPRITE_CACHE_BYTES and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popitem(last=False)[1].planes.nbytes
        return sprite

    def _inside_share(self, x0: int, y0: int, width: int, height: int) -> int:
        """2: wholly on the deposit's even film; 0: wholly off it; 1: on its soft edge."""
        radius = self.plan.region.radius
        if radius is None:
            return 2
        cx, cy = self.width / 2, self.height / 2
        far = np.hypot(max(abs(x0 - cx), abs(x0 + width - cx)), max(abs(y0 - cy), abs(y0 + height - cy)))
        near = np.hypot(max(x0 - cx, cx - x0 - width, 0), max(y0 - cy, cy - y0 - height, 0))
        soft = _SOFT_EDGE_UM / self.plan.mpp
        return 2 if far <= radius - soft else 0 if near >= radius + soft else 1

    def _add_haze(self, density: NDArray[np.uint16], x0: int, y0: int) -> None:
        """The thin film of mucus between the cells, over the deposit only."""
        _, height, width = density.shape
        share = self._inside_share(x0, y0, width, height)
        if share == 0:
            return
        haze = _periodic(self._haze, x0 + self._haze_shift[0], y0 + self._haze_shift[1], width, height)[0]
        if share == 1:
            x = np.arange(x0, x0 + width) + 0.5 - self.width / 2
            y = (np.arange(y0, y0 + height) + 0.5 - self.height / 2)[:, None]
            soft = _SOFT_EDGE_UM / self.plan.mpp
            assert self.plan.region.radius is not None
            cover = np.clip((self.plan.region.radius - np.hypot(x, y)) / soft * 0.5 + 0.5, 0, 1)
            haze = np.rint(haze * cover)
        plane = haze.astype(np.uint16)
        for channel in range(3):
            density[channel] += (plane * self._haze_weight[channel]) >> np.uint16(8)


def _noise_field(plan: Plan) -> NDArray[np.uint16]:
    """Sensor noise around clear glass, ``[3, P, P]``, slightly correlated as a camera's is."""
    rng = stream(plan.seed, FIELDS, 0)
    white = rng.standard_normal((4, NOISE_PERIOD, NOISE_PERIOD), np.float32)
    white += np.float32(0.45) * (np.roll(white, 1, axis=1) + np.roll(white, 1, axis=2))
    noise = np.float32(0.55) * white[:3] + np.float32(0.6) * white[3]
    sigma = plan.centre.noise / np.log(10) * OD_UNITS
    return np.asarray(np.clip(np.rint(noise / noise.std() * sigma) + OD_OFFSET, 0, 2 * OD_OFFSET), np.uint16)


def _haze_weights(plan: Plan) -> NDArray[np.uint16]:
    """Integer optical density (red, green, blue) per 256 units of the film."""
    density = (_HAZE_DYES * np.asarray(plan.centre.strength)) @ np.asarray(plan.centre.dye_od) * plan.centre.haze
    return np.asarray(np.clip(np.rint(density * OD_UNITS * 256 / _HAZE_UNIT), 0, 255), np.uint16)


@lru_cache(maxsize=4)
def haze_field(mpp: float) -> NDArray[np.uint8]:
    """Film between the cells ``[1, P, P]``: clouds, strands and a fine grain; the same for all slides of a um/px.

    Each slide takes it from another place.
    """
    rng = np.random.default_rng(20_241)
    frequency = np.fft.fftfreq(_HAZE_PERIOD)[:, None] ** 2 + np.fft.rfftfreq(_HAZE_PERIOD)[None, :] ** 2
    total = np.full((_HAZE_PERIOD, _HAZE_PERIOD), 1.2, np.float32)
    for grain_um, amount in ((30.0, 0.5), (6.0, 0.3), (0.8, 0.25)):
        white = rng.standard_normal(total.shape, np.float32)
        kernel = np.exp(-2 * (np.pi * grain_um / mpp) ** 2 * frequency).astype(np.float32)
        field = irfft2(rfft2(white) * kernel, total.shape)
        total += np.float32(amount) * field / field.std()
    field = np.asarray(np.clip(np.rint(total * _HAZE_UNIT), 0, 255)[None], np.uint8)
    field.setflags(write=False)
    return field


def _periodic(field: NDArray[np.generic], x0: int, y0: int, width: int, height: int) -> NDArray[np.generic]:
    """Window of a field that repeats over the whole plane."""
    period = field.shape[1]
    top, left = y0 % period, x0 % period
    if top + height <= period and left + width <= period:
        return field[:, top : top + height, left : left + width]
    rows, columns = (top + np.arange(height)) % period, (left + np.arange(width)) % period
    return field[:, rows[:, None], columns]


def _binned(
    x: NDArray[np.int32], y: NDArray[np.int32], half: NDArray[np.int32], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Cells by the bins of ``_BIN`` px that their sprites touch: (cells, start of each bin, columns, rows)."""
    rows = max(int((y + half).max(initial=0)) // _BIN + 1, 1)
    columns = max(int((x + half).max(initial=width)) // _BIN + 1, 1)
    first_column, last_column = np.maximum((x - half) // _BIN, 0), (x + half) // _BIN
    first_row, last_row = np.maximum((y - half) // _BIN, 0), (y + half) // _BIN
    cells, bins = [], []
    for dy in range(int((last_row - first_row).max(initial=-1)) + 1):
        for dx in range(int((last_column - first_column).max(initial=-1)) + 1):
            here = np.flatnonzero((first_row + dy <= last_row) & (first_column + dx <= last_column))
            cells.append(here)
            bins.append((first_row[here] + dy).astype(np.int64) * columns + first_column[here] + dx)
    cell = np.concatenate(cells) if cells else np.empty(0, np.int64)
    bin_of = np.concatenate(bins) if bins else np.empty(0, np.int64)
    order = np.argsort(bin_of, kind="stable")
    starts = np.searchsorted(bin_of[order], np.arange(rows * columns + 1))
    return cell[order], starts, columns, rows
