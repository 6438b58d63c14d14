"""A plan to pixels, window by window; any window gives the same pixels whatever the windows around it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stride_monai.phantom.cells.sprites import half_size, rasterize
from stride_monai.phantom.painting.background import Background
from stride_monai.phantom.painting.focus import LEVELS_UM, defocus_levels
from stride_monai.phantom.painting.optics import sharpened, sharpening_margin
from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.stain import lookup_table, weighted
from stride_monai.units import Box

__all__ = ["Scene", "Stamp"]

_BIN = 1024
_STAMP_CACHE_BYTES = 160 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """A sprite ready to be placed: of every plane only the part that holds anything.

    Attributes:
        half: half the side of the whole square, px.
        parts: number of the plane, top, left and the part itself.
    """

    half: int
    parts: tuple[tuple[int, int, int, NDArray[np.uint8]], ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, _, _, part in self.parts)

    @classmethod
    def of(cls, planes: NDArray[np.uint8]) -> Stamp:
        parts = []
        for number, plane in enumerate(planes):
            rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
            if rows.size:
                top, left = int(rows[0]), int(columns[0])
                part = plane[top : rows[-1] + 1, left : columns[-1] + 1].copy()
                parts.append((number, top, left, part))
        return cls(planes.shape[1] // 2, tuple(parts))

    def defocused(self, level: int, mpp: float) -> Stamp:
        """Out of focus, and as much larger."""
        if level == 0:
            return self
        room = _room(level, mpp)
        blur = ImageFilter.GaussianBlur(LEVELS_UM[level] / mpp)
        return Stamp(
            self.half + room,
            tuple(
                (number, top, left, np.asarray(Image.fromarray(np.pad(part, room)).filter(blur)))
                for number, top, left, part in self.parts
            ),
        )

    def oriented(self, orientation: int) -> Stamp:
        """Turned by ``orientation % 4`` quarters, mirrored first from 4 on; views of the same memory."""
        if orientation == 0:
            return self
        size, parts = 2 * self.half, []
        for number, top, left, part in self.parts:
            if orientation >= 4:
                part, left = part[:, ::-1], size - left - part.shape[1]
            for _ in range(orientation % 4):
                top, left = size - left - part.shape[1], top
                part = np.rot90(part)
            parts.append((number, top, left, part))
        return Stamp(self.half, tuple(parts))


class Scene:
    """Paints windows of a plan.

    Args:
        z_um: height of the stage above the best focus: a plane of a z-stack.

    Memory stays bounded: the bank of common sprites, a cache of what neighbouring windows share, and periodic
    background fields.
    """

    def __init__(self, plan: Plan, z_um: float = 0.0) -> None:
        self.plan, self.z_um = plan, z_um
        self.width, self.height = plan.region.width, plan.region.height
        self._table = lookup_table(plan.centre)
        self._background = Background(plan)
        self._margin = sharpening_margin(plan.centre.sharpen)
        self._stamps: OrderedDict[tuple[int, int], Stamp] = OrderedDict()
        self._stamp_bytes = 0
        self._bank: dict[int, NDArray[np.uint8]] = {}
        blur, unique = plan.centre.blur_um, plan.unique
        self._levels = np.concatenate([defocus_levels(plan, z_um, unique=stock) for stock in (False, True)])
        bank_half, unique_half = (
            np.array([half_size(one.reach_um, one.defocus_um, plan.mpp, blur) for one in drawn], np.int32)
            for drawn in (plan.bank, unique)
        )
        self._x = np.concatenate([plan.common.x, np.array([cell.x for cell in unique], np.int32)])
        self._y = np.concatenate([plan.common.y, np.array([cell.y for cell in unique], np.int32)])

        room = np.array([_room(level, plan.mpp) for level in range(len(LEVELS_UM))], np.int32)
        self._half = np.concatenate([bank_half[plan.common.member], unique_half]) + room[self._levels]
        self._bins = _binned(self._x, self._y, self._half, self.width)

    def paint(self, x0: int, y0: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels ``[height, width, 3]`` uint8 RGB of a window in level-0 px; windows may cross the border."""
        margin = self._margin
        x0, y0, width, height = x0 - margin, y0 - margin, width + 2 * margin, height + 2 * margin
        density = self._background.window(x0, y0, width, height)
        for index in self._cells_in(x0, y0, width, height):
            self._add_cell(density, int(index), x0, y0)
        for artefact in self.plan.artefacts:
            if artefact.box.intersection(Box(x0, y0, x0 + width, y0 + height)).area > 0:
                artefact.add(density, x0, y0)
        pixels = np.empty((height - 2 * margin, width - 2 * margin, 3), np.uint8)
        for channel, amount in enumerate(self.plan.centre.sharpen):
            values = np.take(self._table[channel], density[channel], mode="clip")
            pixels[:, :, channel] = sharpened(values, amount, margin)
        return pixels

    def is_glass(self, x0: int, y0: int, width: int, height: int) -> bool:
        """Whether a window shows nothing but clear glass (and the scanner's noise and illumination)."""
        margin = self._margin
        x0, y0, width, height = x0 - margin, y0 - margin, width + 2 * margin, height + 2 * margin
        if self._background.cover(x0, y0, width, height) != 0 or len(self._cells_in(x0, y0, width, height)):
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
            stamp = self._stamp(0, int(common.member[index]), index).oriented(int(common.orientation[index]))
            weights = common.weights[index]
        else:
            number = index - len(common.x)
            figure = self.plan.unique[number].figure
            # It is often smaller than the room that was kept for it.
            half = half_size(figure.reach_um, figure.defocus_um, self.plan.mpp, self.plan.centre.blur_um)
            self._half[index] = half + _room(int(self._levels[index]), self.plan.mpp)
            if not self._touch(np.array([index]), x0, y0, density.shape[2], density.shape[1])[0]:
                return
            stamp = self._stamp(1, number, index)
            weights = self.plan.unique[number].weights
        _, height, width = density.shape
        left, top = int(self._x[index]) - stamp.half - x0, int(self._y[index]) - stamp.half - y0
        for plane, part_top, part_left, part in stamp.parts:
            row, column = top + part_top, left + part_left
            rows = slice(max(row, 0), min(row + part.shape[0], height))
            columns = slice(max(column, 0), min(column + part.shape[1], width))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            source = part[rows.start - row : rows.stop - row, columns.start - column : columns.stop - column]
            amount = source.astype(np.uint16)
            for channel in range(3):
                density[channel, rows, columns] += weighted(amount, weights[plane, channel])

    def _stamp(self, stock: int, number: int, index: int) -> Stamp:
        """The sprite of a bank member (stock 0) or unique cell (1) at the cell's focus, kept until newer ones need
        the room; redrawn identically if needed again.
        """
        level = int(self._levels[index])
        key = (2 * number + stock, level)
        if key in self._stamps:
            self._stamps.move_to_end(key)
            return self._stamps[key]
        stamp = Stamp.of(self._sprite(stock, number)).defocused(level, self.plan.mpp)
        self._stamps[key] = stamp
        self._stamp_bytes += stamp.nbytes
        while self._stamp_bytes > _STAMP_CACHE_BYTES and len(self._stamps) > 1:
            self._stamp_bytes -= self._stamps.popitem(last=False)[1].nbytes
        return stamp

    def _sprite(self, stock: int, number: int) -> NDArray[np.uint8]:
        """As :meth:`_stamp`, in focus; those of the bank are kept."""
        if stock == 0 and number in self._bank:
            return self._bank[number]
        plan = self.plan
        figure = plan.unique[number].figure if stock else plan.bank[number]
        sprite = rasterize(figure, plan.mpp, plan.centre.blur_um, stream(plan.seed, Draw.TEXTURE, stock, number))
        if stock == 0:
            self._bank[number] = sprite
        return sprite


def _room(level: int, mpp: float) -> int:
    """px that a sprite grows by on every side at a level of defocus."""
    return int(np.ceil(2.6 * LEVELS_UM[level] / mpp))


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
