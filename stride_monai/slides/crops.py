"""Crops around cells: a fixed field of view, whatever the cell's size and however small its picture."""

from __future__ import annotations

import math

import numpy as np

from stride_monai.errors import RegionError
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.readers.sharpest import energy
from stride_monai.slides.resample import resample
from stride_monai.slides.slide import Slide
from stride_monai.units import Box

__all__ = ["background_color", "crop_around", "in_focus", "middle_of"]

_RING = 20  # the ring's width is the picture's shorter side by this
_BRIGHTNESS = np.array([299, 587, 114], np.int64)  # of R, G, B


def crop_around(
    slide: Slide, x: float, y: float, crop_px: int, crop_mpp: float, own_background: bool = False
) -> Pixels:
    """The crop around a point: ``crop_px * crop_mpp`` um wide and high, never resized but by um/px.

    Args:
        x, y: level-0 px.
        crop_px: side of the crop in its own px.
        crop_mpp: um/px of the crop.
        own_background: beyond the slide's border the crop is as its own background (:func:`background_color` of what it
            shows of the slide), as the picture of a single cell needs it; else white, as a slide's glass is.

    Returns:
        uint8 ``[crop_px, crop_px, 3]`` RGB.

    Raises:
        RegionError: the region cannot be decoded; or nothing of the slide is in it, whose background it is to have.
    """
    box = Box.around(x, y, crop_px * crop_mpp / slide.mpp)
    if not own_background or slide.box.holds(box):
        return slide.read(box, mpp=crop_mpp)
    seen = slide.box.intersection(box)
    if not seen.area > 0:
        raise RegionError(f"{slide.facts.file_name}: nothing of it is in the crop around ({x:g}, {y:g})")
    # Filled at the slide's own um/px: resampled, the border is then as sharp as the rest and has no white rim.
    left, top, right, bottom = _whole(seen)
    part = slide.read(Box(left, top, right, bottom))
    x0, y0, x1, y1 = _whole(box)
    canvas = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
    canvas[:] = background_color(part)
    canvas[top - y0 : bottom - y0, left - x0 : right - x0] = part
    return resample(canvas, box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0, crop_px, crop_px)


def in_focus(slide: Slide, box: Box, mpp: float) -> Slide:
    """The focal plane on which a cell is sharpest, where the slide has :attr:`~stride_monai.slides.Slide.planes`; else
    the slide itself.

    It is the plane with the greatest sum of squared Laplacians of green in a square of the cell's size; of equal ones
    the first.

    Args:
        box: of the cell, level-0 px.
        mpp: um/px at which planes are compared.

    Raises:
        RegionError: the cell cannot be decoded on one of the planes.
    """
    if not slide.planes:
        return slide
    around = Box.around(*box.center, max(box.width, box.height, mpp / slide.mpp))
    return max(slide.planes, key=lambda plane: int(energy(plane.read(around, mpp)).sum()))


def _whole(box: Box) -> tuple[int, int, int, int]:
    """Edges of the whole pixels that a box touches."""
    return math.floor(box.x0 + 1e-6), math.floor(box.y0 + 1e-6), math.ceil(box.x1 - 1e-6), math.ceil(box.y1 - 1e-6)


def background_color(pixels: Pixels) -> Pixels:
    """What is likely around the cell of a picture, uint8 RGB ``[3]``: the median color of the border's brighter half.

    The border is a ring, a twentieth of the shorter side wide. Cells are darker than what they lie in, and a picture
    that is cut close to its cell shows little else: a quarter of the border is enough.

    Args:
        pixels: uint8 ``[H, W, 3]``, not empty.
    """
    height, width = pixels.shape[:2]
    ring = np.ones((height, width), np.bool_)
    side = max(1, min(height, width) // _RING)
    ring[side : height - side, side : width - side] = False
    border = pixels[ring]
    bright = border[np.argsort(border @ _BRIGHTNESS, kind="stable")[len(border) // 2 :]]
    return np.asarray(np.median(bright, axis=0) + 0.5, np.uint8)


def middle_of(slide: Slide, crop_px: int, crop_mpp: float) -> tuple[float, float]:
    """The point around which a crop shows the middle of a picture: x, y in level-0 px.

    It is within half a pixel of the middle, so chosen that the crop's edge falls on that of a pixel: a picture that has
    the crop's um/px keeps its pixels as they are.
    """
    side = crop_px * crop_mpp / slide.mpp
    return math.floor((slide.width - side) / 2) + side / 2, math.floor((slide.height - side) / 2) + side / 2
