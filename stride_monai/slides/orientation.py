"""Upright pictures: the eight orientations of EXIF and TIFF, for pictures, sizes and boxes.

A camera that was held sideways stores its picture as the sensor saw it and adds an orientation tag. Viewers and
annotation tools show such a picture upright, so here level-0 coordinates are those of the upright picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stride_monai.slides.protocol import Pixels, Reader, StatedFacts
from stride_monai.units import Box, StoredPx

__all__ = ["TAG", "Orientation", "UprightReader", "orientation_of", "upright_reader", "whole_step"]

TAG = 274
"""Number of the orientation tag in TIFF and EXIF."""


_Value = TypeVar("_Value", bound=np.generic)
_Length = TypeVar("_Length", int, float)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture becomes the upright one: rows and columns change places, then it is mirrored.

    Attributes:
        tag: 1 to 8; 1 is upright as stored.
        swaps: rows and columns change places (tags 5 to 8), first of all.
        mirrors_x: left and right change places.
        mirrors_y: top and bottom change places.
    """

    tag: int
    swaps: bool
    mirrors_x: bool
    mirrors_y: bool

    @property
    def turned(self) -> bool:
        """Whether the stored picture is not the upright one."""
        return self.tag != 1

    def upright(self, stored: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """The upright picture ``[H, W, ...]`` of a stored one; a view of it, not a copy."""
        picture = stored.swapaxes(0, 1) if self.swaps else stored
        return picture[:: -1 if self.mirrors_y else 1, :: -1 if self.mirrors_x else 1]

    def size(self, width: _Length, height: _Length) -> tuple[_Length, _Length]:
        """(width, height) of the upright picture from that of the stored one, and the other way round."""
        return (height, width) if self.swaps else (width, height)

    def box_upright(self, box: Box[StoredPx], width: float, height: float) -> Box:
        """A box of the stored picture, which is ``width`` x ``height`` px, on the upright one."""
        x0, y0, x1, y1 = box
        return self._mirrored(Box(y0, x0, y1, x1) if self.swaps else Box(x0, y0, x1, y1), *self.size(width, height))

    def box_stored(self, box: Box, width: float, height: float) -> Box[StoredPx]:
        """A box of the upright picture on the stored one, which is ``width`` x ``height`` px."""
        x0, y0, x1, y1 = self._mirrored(box, *self.size(width, height))
        return Box(y0, x0, y1, x1) if self.swaps else Box(x0, y0, x1, y1)

    def _mirrored(self, box: Box, wide: float, high: float) -> Box:
        x0, y0, x1, y1 = box
        if self.mirrors_x:
            x0, x1 = wide - x1, wide - x0
        if self.mirrors_y:
            y0, y1 = high - y1, high - y0
        return Box(x0, y0, x1, y1)


def orientation_of(tag: object) -> Orientation:
    """The orientation that a tag names; a missing tag, or one that the standard does not know, means upright."""
    known = int(tag) if isinstance(tag, int) and 1 <= tag <= 8 else 1
    return Orientation(known, known >= 5, known in {2, 3, 6, 7}, known in {3, 4, 7, 8})


def upright_reader(reader: Reader, orientation: Orientation) -> Reader:
    """The reader as one of the upright picture; itself where nothing is to be done."""
    return UprightReader(reader, orientation) if orientation.turned else reader


class UprightReader:
    """A reader of a turned or mirrored file, as one of the upright picture (:class:`Reader`).

    A coarse level begins with a whole pixel at the stored picture's corner, and its last pixel may show less than a
    whole one. Mirrored, that one comes first and would shift the level. So the canvas is enlarged there by less than
    one pixel of the coarsest level; ``bounds`` leave that strip out and ``origin`` says where the picture begins.

    Attributes:
        origin: level-0 px (x, y) of the upright picture's corner on this canvas.
        turned_by: how the stored picture became the upright one.
        notes: that it is turned, and those of the reader itself.
    """

    def __init__(self, reader: Reader, orientation: Orientation) -> None:
        self._reader, self._orientation = reader, orientation
        self.turned_by = orientation
        self.name, self.format = reader.name, reader.format
        turned = f"turned upright (orientation {orientation.tag} of the file)"
        self.notes: tuple[str, ...] = (turned, *getattr(reader, "notes", ()))
        self.focal_planes: int = getattr(reader, "focal_planes", 1)
        stated = reader.stated
        mpp = (stated.mpp_y, stated.mpp_x) if orientation.swaps else (stated.mpp_x, stated.mpp_y)
        self.stated = StatedFacts(*mpp, stated.objective)
        sizes = [orientation.size(*size) for size in reader.level_sizes]
        steps = [whole_step(sizes[0], size) for size in sizes]
        widths = _canvas([width for width, _ in sizes], steps, orientation.mirrors_x)
        heights = _canvas([height for _, height in sizes], steps, orientation.mirrors_y)
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(zip(widths, heights, strict=True))
        self.origin = (widths[0] - sizes[0][0], heights[0] - sizes[0][1])
        x, y, width, height = reader.bounds
        x0, y0, x1, y1 = orientation.box_upright(Box(x, y, x + width, y + height), *reader.level_sizes[0])
        self.bounds = (round(x0) + self.origin[0], round(y0) + self.origin[1], round(x1 - x0), round(y1 - y0))

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        wide, high = self.level_sizes[level]
        # Where the box lies on a stored canvas of this size; what is beyond the file's own level has its last pixel.
        canvas = self._orientation.size(wide, high)
        edges = self._orientation.box_stored(Box(x, y, x + width, y + height), *canvas)
        x0, y0, x1, y1 = (round(edge) for edge in edges)
        stored_width, stored_height = self._reader.level_sizes[level]
        left, top = min(x0, stored_width - 1), min(y0, stored_height - 1)
        right, bottom = max(left + 1, min(x1, stored_width)), max(top + 1, min(y1, stored_height))
        pixels = self._reader.read_level(level, left, top, right - left, bottom - top)
        if (right - left, bottom - top) != (x1 - x0, y1 - y0):
            missing = (y1 - y0 - (bottom - top), x1 - x0 - (right - left))
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return np.ascontiguousarray(self._orientation.upright(pixels))

    def close(self) -> None:
        self._reader.close()


def whole_step(full: tuple[int, int], size: tuple[int, int]) -> int:
    """Level-0 px per pixel of a level, where that is a whole number; else 0.

    A level of an n-fold reduction has the level-0 size over n, rounded one way or the other.
    """
    (full_width, full_height), (width, height) = full, size
    ratios = full_width / width * full_width + full_height / height * full_height
    step = max(1, round(ratios / (full_width + full_height)))
    return step if abs(full_width / step - width) < 1 and abs(full_height / step - height) < 1 else 0


def _canvas(lengths: list[int], steps: list[int], mirrored: bool) -> list[int]:
    """Lengths of all levels such that the pixels of each begin at the canvas' corner after mirroring."""
    whole = math.lcm(*(step for step in steps if step))
    if not mirrored or whole > lengths[0]:
        return lengths
    canvas = -(-lengths[0] // whole) * whole
    return [canvas // step if step else length for step, length in zip(steps, lengths, strict=True)]
