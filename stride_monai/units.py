"""The box, and what its numbers count: its type says which unit they have.

Coordinates between rooms and in every artifact are level-0 pixels of the slide's content: x right, y down, boxes as
``x0, y0, x1, y1`` (half-open, so the width is ``x1 - x0``). Plain ``Box`` is such a box. Lengths with physical meaning
are micrometres and have names that end in ``um``; ``mpp`` is always um per pixel.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

from typing_extensions import TypeVar

__all__ = ["Box", "Level0Px", "StoredPx", "TilePx", "Um"]


class Level0Px:
    """Unit of a box: level-0 pixels of the slide's content."""


class StoredPx:
    """Unit of a box: pixels of a picture as its file stores it, which may be turned or mirrored."""


class TilePx:
    """Unit of a box: pixels of a tile, a crop or an overview, counted from its corner."""


class Um:
    """Unit of a box: micrometres from the corner of the slide's content."""


U = TypeVar("U", Level0Px, StoredPx, TilePx, Um, default=Level0Px)


class Box(NamedTuple, Generic[U]):
    """An axis-aligned box, half-open: ``x0 <= x < x1`` and ``y0 <= y < y1``.

    The unit is part of the type alone, and at run time all are one class: ``Box`` is ``Box[Level0Px]``, and the others
    are written out.
    """

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
    def around(cls, x: float, y: float, side: float) -> Box[U]:
        """The square box of ``side`` px centred on ``(x, y)``."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)

    def intersection(self, other: Box[U]) -> Box[U]:
        """The common part; its width or height is 0 where there is none."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def union(self, other: Box[U]) -> Box[U]:
        """The smallest box that holds both."""
        return Box(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

    def holds(self, other: Box[U]) -> bool:
        """Whether no part of the other box is outside."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and self.x1 >= other.x1 and self.y1 >= other.y1

    def on_tile(self: Box[Level0Px], tile: Box[Level0Px], scale: float) -> Box[TilePx]:
        """Where the box is in a picture of ``tile`` with ``scale`` of its own pixels per level-0 pixel."""
        x0, y0, x1, y1 = self
        return Box((x0 - tile.x0) * scale, (y0 - tile.y0) * scale, (x1 - tile.x0) * scale, (y1 - tile.y0) * scale)

    def in_um(self: Box[Level0Px], mpp: float) -> Box[Um]:
        """The box in um, of a slide of ``mpp`` um/px at level 0."""
        return Box(self.x0 * mpp, self.y0 * mpp, self.x1 * mpp, self.y1 * mpp)
