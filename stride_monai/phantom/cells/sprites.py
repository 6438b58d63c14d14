"""Figures to pixels: small dye-density images that are placed by adding.

A sprite has three uint8 planes, cytoplasm, nuclear stain and the accent of two-tone cytoplasm, in hundredths of a
density. Colour comes with the placement, so that one sprite serves many cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stride_monai.phantom.cells.drawing import Canvas, draw_part
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.stain import PLANE_UNITS

__all__ = ["ORIENTATIONS", "half_size", "rasterize", "turned"]

ORIENTATIONS = 8
"""Quarter turns, with and without a mirror."""


def half_size(reach_um: float, defocus_um: float, mpp: float, blur_um: float) -> int:
    """Half the side in px of the sprite that :func:`rasterize` draws of a figure, known without drawing."""
    return int(np.ceil((reach_um + 1.5 + 3 * np.hypot(blur_um, defocus_um)) / mpp)) + 1


def turned(points: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Points ``[n, 2]`` (x, y) about the figure's centre, turned as :meth:`Stamp.oriented` turns its pixels."""
    x, y = points[:, 0], points[:, 1]
    if orientation >= 4:
        x = -x
    for _ in range(orientation % 4):
        x, y = y, -x
    return np.stack([x, y], axis=1)


def _drawn(plane: NDArray[np.float32], room: int) -> tuple[slice, slice]:
    """The rectangle of a plane that is not zero, and ``room`` px about it; an empty one where all is."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return slice(0), slice(0)
    return (
        slice(max(int(rows[0]) - room, 0), int(rows[-1]) + room + 1),
        slice(max(int(columns[0]) - room, 0), int(columns[-1]) + room + 1),
    )


def rasterize(figure: Figure, mpp: float, blur_um: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a figure.

    Args:
        mpp: um/px of the sprite.
        blur_um: standard deviation of the optics' point spread; the figure's own defocus is added to it.

    Returns:
        ``[3, size, size]``: cytoplasm, nuclear, accent; the figure's centre is the middle.
    """
    blur = float(np.hypot(blur_um, figure.defocus_um))
    canvas = Canvas(half_size(figure.reach_um, figure.defocus_um, mpp, blur_um), mpp, rng)
    for part in figure.parts:
        draw_part(canvas, part)
    if blur / mpp > 0.3:
        for plane in canvas.planes:
            drawn = plane[_drawn(plane, int(np.ceil(3 * blur / mpp)) + 1)]
            if drawn.size:
                gaussian_filter(drawn, blur / mpp, output=drawn, mode="constant", truncate=3.0)
    return np.clip(np.rint(canvas.planes * PLANE_UNITS), 0, 255).astype(np.uint8)
