"""Figures to pixels: small dye-density images that are placed by adding.

A sprite has two uint8 planes, cytoplasm and nuclear stain, in hundredths of a density. Colour comes with the placement,
so that one sprite serves many cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stride_monai.phantom.figures import Figure, Halo, Nucleus, Part
from stride_monai.phantom.outlines import FloatArray, Outline
from stride_monai.phantom.stain import PLANE_UNITS
from stride_monai.phantom.textures import textures, window

__all__ = ["ORIENTATIONS", "Sprite", "half_side", "half_size", "rasterise", "turned"]

ORIENTATIONS = 8
"""Quarter turns, with and without a mirror."""

_Slices: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Sprite:
    """Two planes ``[2, size, size]`` uint8 (cytoplasm, nuclear); the figure's centre is the middle of the square."""

    planes: NDArray[np.uint8]

    @property
    def size(self) -> int:
        return int(self.planes.shape[1])

    def oriented(self, orientation: int) -> NDArray[np.uint8]:
        """The planes turned by ``orientation % 4`` quarters, mirrored first from 4 on. A view."""
        planes = self.planes[:, :, ::-1] if orientation >= 4 else self.planes
        return np.rot90(planes, orientation % 4, axes=(1, 2))


def half_size(figure: Figure, mpp: float, blur_um: float) -> int:
    """Half the side in px of the sprite that :func:`rasterise` will draw, known without drawing."""
    return half_side(figure.reach_um, figure.defocus_um, mpp, blur_um)


def half_side(reach_um: float, defocus_um: float, mpp: float, blur_um: float) -> int:
    """As :func:`half_size`, of a figure of which only the reach and the defocus are known."""
    return int(np.ceil((reach_um + 1.5 + 3 * np.hypot(blur_um, defocus_um)) / mpp)) + 1


def turned(points: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Points ``[n, 2]`` (x, y) around the figure's centre, turned as :meth:`Sprite.oriented` turns its pixels."""
    x, y = points[:, 0], points[:, 1]
    if orientation >= 4:
        x = -x
    for _ in range(orientation % 4):
        x, y = y, -x
    return np.stack([x, y], axis=1)


class _Canvas:
    """Float planes over the square that holds a figure, in um around its centre."""

    def __init__(self, half: int, mpp: float, rng: np.random.Generator) -> None:
        self.half, self.mpp, self.rng = half, mpp, rng
        self.planes = np.zeros((2, 2 * half, 2 * half), np.float32)
        self.axis = ((np.arange(2 * half) - half + 0.5) * mpp).astype(np.float32)
        self.textures = textures(mpp)

    def around(self, x: float, y: float, reach: float) -> _Slices:
        """Index window of the square of half side ``reach`` um around a point."""
        size = 2 * self.half

        def span(centre: float) -> slice:
            first = int(np.floor((centre - reach) / self.mpp)) + self.half
            last = int(np.ceil((centre + reach) / self.mpp)) + self.half
            return slice(min(max(first, 0), size), min(max(last, 0), size))

        return span(y), span(x)

    def grid(self, where: _Slices) -> tuple[FloatArray, FloatArray]:
        """Coordinates x [1, w] and y [h, 1] of a window, um."""
        return self.axis[None, where[1]], self.axis[where[0], None]

    def texture(self, name: str, where: _Slices) -> FloatArray:
        """A random window of a texture, of the window's size."""
        height, width = where[0].stop - where[0].start, where[1].stop - where[1].start
        return window(self.textures[name], self.rng, height, width)


def rasterise(figure: Figure, mpp: float, blur_um: float, rng: np.random.Generator) -> Sprite:
    """Draw a figure.

    Args:
        mpp: um/px of the sprite.
        blur_um: standard deviation of the optics' point spread; the figure's own defocus is added to it.
    """
    blur = float(np.hypot(blur_um, figure.defocus_um))
    canvas = _Canvas(half_size(figure, mpp, blur_um), mpp, rng)
    for part in figure.parts:
        if part.cell is not None:
            _draw_cytoplasm(canvas, part, part.cell)
        for nucleus in part.nuclei:
            _draw_nucleus(canvas, nucleus, part.cell is not None)
        for x, y, radius in part.granules:
            _draw_spot(canvas, x, y, radius, 0.8)
    if blur / mpp > 0.3:
        for plane in canvas.planes:
            gaussian_filter(plane, blur / mpp, output=plane, mode="constant", truncate=3.0)
    return Sprite(np.clip(np.rint(canvas.planes * PLANE_UNITS), 0, 255).astype(np.uint8))


def _step(depth: FloatArray, width: float) -> FloatArray:
    """0 outside, 1 inside, smooth over ``width`` um."""
    t = np.clip(depth / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _bump(depth: FloatArray, at: float, width: float) -> FloatArray:
    """A ridge of height 1 along the curve ``depth == at``."""
    return np.asarray(np.exp(-(((depth - np.float32(at)) / np.float32(width)) ** 2)), np.float32)


def _draw_cytoplasm(canvas: _Canvas, part: Part, cell: Outline) -> None:
    where = canvas.around(cell.x, cell.y, cell.reach + 1.0)
    x, y = canvas.grid(where)
    soft = max(0.45, canvas.mpp)

    def sheet(depth: FloatArray) -> FloatArray:
        border = np.float32(part.edge) * _bump(depth, 0.5, 0.45)
        return _step(depth, soft) * (1 + border / np.float32(max(part.density, 0.05)))

    depth = cell.depth(x, y)
    amount = sheet(depth)
    amount *= 1 + np.float32(part.texture) * (
        0.35 * canvas.texture("patchy", where)
        + 0.5 * canvas.texture("cloud", where)
        + 0.4 * canvas.texture("granular", where)
        + 0.4 * canvas.texture("fine", where)
    )
    if part.bulge > 0:
        amount *= 1 - np.float32(part.bulge) * (0.5 - np.clip(depth / np.float32(cell.reach), 0, 1))
    if part.wrinkles > 0:
        amount *= 1 + np.float32(part.wrinkles) * canvas.texture("ridges", where)
    if cell.fold is not None:
        amount = _folded(amount, cell, x, y, sheet)
    np.maximum(amount, 0, out=amount)
    for halo in part.vacuoles:
        _clear(canvas, amount, halo, x, y, where, part.density)
    canvas.planes[0][where] += np.float32(part.density) * amount


def _folded(
    amount: FloatArray, cell: Outline, x: FloatArray, y: FloatArray, sheet: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Remove what lies beyond the fold and add its mirror image on this side."""
    assert cell.fold is not None
    cos, sin = np.float32(np.cos(cell.fold.angle)), np.float32(np.sin(cell.fold.angle))
    u, v = x - np.float32(cell.x), y - np.float32(cell.y)
    along = np.asarray(v * cos - u * sin, np.float32)
    beyond: FloatArray = u * cos + v * sin - np.float32(cell.fold.offset) + np.float32(cell.fold.bend) * along * along
    mirrored = sheet(cell.depth(x - 2 * beyond * cos, y - 2 * beyond * sin))
    kept = _step(-beyond, 0.6)
    return np.asarray((amount + mirrored) * kept, np.float32)


def _clear(
    canvas: _Canvas, amount: FloatArray, halo: Halo, x: FloatArray, y: FloatArray, where: _Slices, density: float
) -> None:
    """Thin the cytoplasm inside a halo or vacuole and thicken it just outside."""
    depth = halo.outline.depth(x, y)
    hole = _step(depth, halo.sharpness)
    fibrils = np.clip(0.5 + 0.5 * canvas.texture("patchy", where), 0, 1.6) * np.float32(0.35)
    cleared = np.float32(halo.clearing) * hole * (1 - fibrils)
    present = amount > 0.3
    amount *= 1 - np.clip(cleared, 0, 1)
    rim = _bump(depth, -1.0, 1.3) + 0.6 * _bump(depth, -3.0, 2.5)
    amount += np.float32(halo.rim / max(density, 0.1)) * rim * present


def _draw_nucleus(canvas: _Canvas, nucleus: Nucleus, covered: bool) -> None:
    outline = nucleus.outline
    where = canvas.around(outline.x, outline.y, outline.reach + 1.0)
    x, y = canvas.grid(where)
    depth = outline.depth(x, y)
    body = _step(depth, max(0.5, canvas.mpp))
    if covered:
        canvas.planes[0][where] *= 1 - 0.35 * body
    grain = canvas.texture("coarse" if nucleus.coarse else "granular", where)
    fine = canvas.texture("fine", where)
    pattern = 1 + np.float32(nucleus.chromatin) * (0.85 * grain + 0.5 * fine)
    if nucleus.wrinkled:
        pattern -= 0.3 * canvas.texture("ridges", where) * (depth > 0.8)
    middle = np.clip(depth / np.float32(max(outline.reach, 0.5)), 0, 1)
    pattern *= 1 - np.float32(nucleus.clearing) * middle
    pattern += np.float32(nucleus.membrane) * _bump(depth, 0.35, 0.45)
    canvas.planes[1][where] += np.float32(nucleus.density) * body * np.maximum(pattern, 0.1)
    for spot_x, spot_y, radius in nucleus.nucleoli:
        _draw_spot(canvas, spot_x, spot_y, radius, 0.5)


def _draw_spot(canvas: _Canvas, x: float, y: float, radius: float, density: float) -> None:
    where = canvas.around(x, y, radius + 1.0)
    grid_x, grid_y = canvas.grid(where)
    depth = np.float32(radius) - np.hypot(grid_x - np.float32(x), grid_y - np.float32(y))
    canvas.planes[1][where] += np.float32(density) * _step(depth, max(0.4, canvas.mpp))
