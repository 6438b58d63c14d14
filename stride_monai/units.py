"""Units that must not be mixed up, and the box that carries them.

Coordinates between rooms and in every artifact are level-0 pixels of the slide's content: x right, y down, boxes as
``x0, y0, x1, y1`` (half-open, so the width is ``x1 - x0``). Lengths with physical meaning are micrometres.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

__all__ = ["Box", "Microns", "MicronsPerPixel", "SlidePixels", "to_microns", "to_pixels"]

SlidePixels = NewType("SlidePixels", float)
"""A length or coordinate in level-0 pixels."""

Microns = NewType("Microns", float)
"""A physical length in um."""

MicronsPerPixel = NewType("MicronsPerPixel", float)
"""The side of one (square) pixel in um."""


def to_microns(length: float, mpp: MicronsPerPixel) -> Microns:
    """Length in um of ``length`` pixels of side ``mpp``."""
    return Microns(length * mpp)


def to_pixels(length: Microns, mpp: MicronsPerPixel) -> SlidePixels:
    """Length in pixels of side ``mpp`` of ``length`` um."""
    return SlidePixels(length / mpp)


class Box(NamedTuple):
    """An axis-aligned box in level-0 pixels, half-open: ``x0 <= x < x1`` and ``y0 <= y < y1``."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Box:
        """The square box of ``side`` px centred on ``(x, y)``."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)

    def intersection(self, other: Box) -> Box:
        """The common part; its width or height is 0 where there is none."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))
