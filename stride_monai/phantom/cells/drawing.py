"""Cytoplasm, nuclei and threads onto the dye-density planes of one figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from stride_monai.phantom.cells.figures import Crease, Halo, Nucleus, Part
from stride_monai.phantom.cells.outlines import FloatArray, Outline
from stride_monai.phantom.cells.strands import Strand
from stride_monai.phantom.cells.textures import textures, window

__all__ = ["ACCENT", "CYTOPLASM", "NUCLEAR", "Canvas", "draw_part"]

CYTOPLASM, NUCLEAR, ACCENT = range(3)
"""Planes of a sprite."""

_Slices: TypeAlias = tuple[slice, slice]


class Canvas:
    """Float planes ``[3, size, size]`` over the square that holds a figure, in um around its centre."""

    def __init__(self, half: int, mpp: float, rng: np.random.Generator) -> None:
        self.half, self.mpp, self.rng = half, mpp, rng
        self.planes = np.zeros((3, 2 * half, 2 * half), np.float32)
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


def _common(window: _Slices, outer: _Slices) -> tuple[_Slices, _Slices]:
    """The part of a window that lies in another: as indices of the canvas, and as indices of the other."""
    rows, columns = (
        slice(max(w.start, o.start), max(min(w.stop, o.stop), w.start, o.start))
        for w, o in zip(window, outer, strict=True)
    )
    inner = slice(rows.start - outer[0].start, rows.stop - outer[0].start)
    return (rows, columns), (inner, slice(columns.start - outer[1].start, columns.stop - outer[1].start))


def draw_part(canvas: Canvas, part: Part) -> None:
    """Add one cell: its cytoplasm first, for nuclei displace some of it."""
    for strand in part.strands:
        _draw_strand(canvas, strand)
    if part.cell is not None:
        _draw_cytoplasm(canvas, part, part.cell)
    for nucleus in part.nuclei:
        _draw_nucleus(canvas, nucleus, part.cell is not None)
    for x, y, radius in part.granules:
        _draw_spot(canvas, x, y, radius, 0.8)


def _step(depth: FloatArray, width: float) -> FloatArray:
    """0 outside, 1 inside, smooth over ``width`` um."""
    t = np.clip(depth / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _bump(depth: FloatArray, at: float, width: float) -> FloatArray:
    """A ridge of height 1 along the curve ``depth == at``."""
    return np.asarray(np.exp(-(((depth - np.float32(at)) / np.float32(width)) ** 2)), np.float32)


def _draw_cytoplasm(canvas: Canvas, part: Part, cell: Outline) -> None:
    where = canvas.around(cell.x, cell.y, cell.reach + 1.0)
    x, y = canvas.grid(where)
    soft = max(part.softness, canvas.mpp)
    cloud = canvas.texture("cloud", where)
    # The rim is a curled or thicker edge in some places and none in others.
    rim = np.float32(part.edge / max(part.density, 0.05)) * np.clip(0.5 + canvas.texture("cloud", where), 0, 1.8)

    def sheet(depth: FloatArray) -> FloatArray:
        border = rim * _bump(depth, 0.5 * soft + 0.25, 0.3 + 0.4 * soft)
        return np.asarray(_step(depth, soft) * (1 + border), np.float32)

    # Borders are frayed at a scale finer than the outline's vertices.
    depth = cell.depth(x, y) + np.float32(part.fray) * canvas.texture("granular", where)
    amount = sheet(depth)
    amount *= 1 + np.float32(part.texture) * (
        0.75 * cloud + 0.3 * canvas.texture("patchy", where) + 0.3 * canvas.texture("fine", where)
    )
    # From the thin periphery to the thick middle, the more gradually the paler the cell.
    middle = np.clip(depth / np.float32(0.75 * cell.reach) + 0.10 * cloud, 0, 1)
    if part.bulge > 0:
        amount *= 1 - np.float32(part.bulge) * (1 - middle) ** 1.5
    if part.grain > 0:
        # Dark grains on an even ground. The coarser ones take haematoxylin, whatever the colour of the cell.
        grain = np.float32(part.grain)
        amount *= 1 + grain * (
            np.float32(0.5) * np.maximum(canvas.texture("fine", where), 0)
            + np.float32(0.35) * np.maximum(canvas.texture("granular", where), 0)
        )
        blue = np.float32(0.5 * part.density) * grain * canvas.texture("dots", where)
        canvas.planes[NUCLEAR][where] += blue * _step(depth - np.float32(0.5), soft)
    if part.wrinkles > 0:
        amount *= 1 + np.float32(part.wrinkles) * canvas.texture("ridges", where)
    for crease in part.creases:
        _crease(canvas, amount, crease, where)
    if cell.fold is not None:
        amount = _folded(amount, cell, x, y, sheet)
    np.maximum(amount, 0, out=amount)
    for halo in part.vacuoles:
        _clear(canvas, amount, halo, x, y, where, part.density)
    amount *= np.float32(part.density)
    if part.accent > 0:
        inner = middle + np.float32(0.25) * canvas.texture("cloud", where) - np.float32(part.accent_from)
        share = np.float32(part.accent) * _step(inner, 0.55)
        canvas.planes[ACCENT][where] += amount * share
        amount *= 1 - share
    canvas.planes[CYTOPLASM][where] += amount


def _crease(canvas: Canvas, amount: FloatArray, crease: Crease, where: _Slices) -> None:
    """Thicken or thin what lies along a crease."""
    near, inner = _common(canvas.around(crease.x, crease.y, crease.length + 1.0), where)
    x, y = canvas.grid(near)
    cos, sin = np.float32(np.cos(crease.angle)), np.float32(np.sin(crease.angle))
    u, v = x - np.float32(crease.x), y - np.float32(crease.y)
    along = u * cos + v * sin
    across = np.asarray(v * cos - u * sin - np.float32(crease.bend) * along * along, np.float32)
    fading = np.clip(1 - (along / np.float32(crease.length)) ** 2, 0, 1)
    if crease.pleat:
        # Its width shrinks to nothing at both ends, so that a pleat is a sickle and not a bar.
        width = np.asarray(np.float32(crease.width) * fading + np.float32(0.15), np.float32)
        profile = _step(across, 0.4) * _step(width - across, 0.4 + 0.35 * crease.width) * (fading > 0)
        profile *= 1 + 0.5 * _bump(across, 0.35, 0.35)
    else:
        profile = np.exp(-((across / np.float32(crease.width)) ** 2)) * np.sqrt(fading)
    amount[inner] *= 1 + np.float32(crease.strength) * profile


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
    # The flap is thinner than the body, and its crest catches more stain.
    crest = np.float32(0.35) * _bump(beyond, -0.5, 0.5)
    return np.asarray((amount * (1 + crest) + 0.85 * mirrored) * kept, np.float32)


def _clear(
    canvas: Canvas, amount: FloatArray, halo: Halo, x: FloatArray, y: FloatArray, where: _Slices, density: float
) -> None:
    """Thin the cytoplasm inside a halo or vacuole and thicken it just outside."""
    depth = halo.outline.depth(x, y)
    hole = _step(depth, halo.sharpness)
    # Wisps of cytoplasm stay inside.
    wisps = np.clip(0.25 + 0.4 * canvas.texture("patchy", where) + 0.2 * canvas.texture("granular", where), 0, 1)
    cleared = np.float32(halo.clearing) * hole * (1 - np.float32(0.7) * wisps)
    present = np.clip(amount * np.float32(2.0), 0, 1)
    amount *= 1 - np.clip(cleared, 0, 1)
    if halo.rim > 0:
        uneven = np.clip(0.8 + 0.45 * canvas.texture("cloud", where), 0.1, 1.7)
        rim = _bump(depth, -1.0, 1.1) + 0.7 * _bump(depth, -3.5, 3.5)
        amount += np.float32(halo.rim / max(density, 0.1)) * rim * present * uneven


def _draw_nucleus(canvas: Canvas, nucleus: Nucleus, covered: bool) -> None:
    outline = nucleus.outline
    where = canvas.around(outline.x, outline.y, outline.reach + 1.0)
    x, y = canvas.grid(where)
    depth = outline.depth(x, y)
    body = _step(depth, max(nucleus.softness, canvas.mpp))
    if covered:
        canvas.planes[CYTOPLASM][where] *= 1 - 0.35 * body
        canvas.planes[ACCENT][where] *= 1 - 0.35 * body
    if nucleus.coarse:
        # Dark clumps on an even ground: holes would look like vacuoles.
        clumps = np.maximum(canvas.texture("coarse", where), -0.9)
        grain = 0.9 * clumps + 0.7 * np.maximum(clumps - 0.9, 0) + 0.3 * canvas.texture("fine", where)
    else:
        granular = canvas.texture("granular", where)
        grain = 0.6 * granular + 0.6 * np.maximum(granular - 1.0, 0) + 0.35 * canvas.texture("fine", where)
    pattern = 1 + np.float32(nucleus.chromatin) * (grain + 0.35 * canvas.texture("patchy", where))
    middle = np.clip(depth / np.float32(max(outline.reach, 0.5)), 0, 1)
    pattern *= 1 - np.float32(nucleus.clearing) * middle
    pattern += np.float32(nucleus.membrane) * _bump(depth, 0.4, 0.4)
    for crease in nucleus.creases:
        _crease(canvas, pattern, crease, where)
    np.maximum(pattern, 0.15, out=pattern)
    # Whatever its chromatin, the nucleus is on the whole as dark as the figure states, and its texts say.
    pattern *= body.sum() / np.maximum((pattern * body).sum(), np.float32(1e-6))
    for spot_x, spot_y, radius in nucleus.nucleoli:
        # The chromatin has withdrawn from around a nucleolus, which stands out by that.
        pattern *= 1 - np.float32(0.7) * _step(radius + np.float32(0.8) - np.hypot(x - spot_x, y - spot_y), 1.0)
    canvas.planes[NUCLEAR][where] += np.float32(nucleus.density) * body * pattern
    for spot_x, spot_y, radius in nucleus.nucleoli:
        _draw_spot(canvas, spot_x, spot_y, radius, 1.0)


def _draw_spot(canvas: Canvas, x: float, y: float, radius: float, density: float) -> None:
    where = canvas.around(x, y, radius + 1.0)
    grid_x, grid_y = canvas.grid(where)
    depth = np.float32(radius) - np.hypot(grid_x - np.float32(x), grid_y - np.float32(y))
    canvas.planes[NUCLEAR][where] += np.float32(density) * _step(depth, max(0.4, canvas.mpp))


def _draw_strand(canvas: Canvas, strand: Strand) -> None:
    """One thread: the union of its pieces, so that joints are not darker."""
    whole = canvas.around(strand.x, strand.y, strand.reach + 0.5)
    depth = np.full((whole[0].stop - whole[0].start, whole[1].stop - whole[1].start), -9.0, np.float32)
    for piece in range(len(strand.points) - 1):
        (ax, ay), (bx, by) = strand.points[piece : piece + 2]
        reach = max(abs(ax - bx), abs(ay - by)) / 2 + float(strand.widths[piece : piece + 2].max()) + 1.0
        where, inner = _common(canvas.around((ax + bx) / 2, (ay + by) / 2, reach), whole)
        np.maximum(depth[inner], strand.depth(piece, *canvas.grid(where)), out=depth[inner])
    body = _step(depth, max(0.45, canvas.mpp))
    widest = np.float32(max(float(strand.widths.max()), 0.2))
    body *= 1 - np.float32(strand.hollow) * np.clip(depth / widest, 0, 1)
    body *= np.maximum(1 + 0.2 * canvas.texture("patchy", whole), 0.2)
    canvas.planes[NUCLEAR if strand.nuclear else CYTOPLASM][whole] += np.float32(strand.density) * body
