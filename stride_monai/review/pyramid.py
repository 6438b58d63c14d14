"""Deep-zoom geometry: which part of a slide a tile shows.

Levels are counted as in Deep Zoom: at the highest one a tile's pixel is a level-0 pixel, and each level below halves
both sides (rounded up). Only levels from :attr:`Pyramid.min_level`, where the slide fits one tile, are served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stride_monai.errors import SlideError
from stride_monai.units import Box

__all__ = ["TILE_PX", "Pyramid", "TileOutsideError"]

TILE_PX = 512
"""Side of a tile. Twice the usual: a quarter of the requests, and still decoded in a few milliseconds."""


class TileOutsideError(SlideError):
    """There is no such tile."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The tiles of a slide of ``width`` x ``height`` level-0 px."""

    width: int
    height: int
    tile_px: int = TILE_PX

    @property
    def max_level(self) -> int:
        """Level of full resolution."""
        return math.ceil(math.log2(max(self.width, self.height))) if max(self.width, self.height) > 1 else 0

    @property
    def min_level(self) -> int:
        """The finest level at which the whole slide is one tile."""
        sides = max(self.width, self.height)
        return next(
            level for level in range(self.max_level, -1, -1) if math.ceil(sides / self.scale(level)) <= self.tile_px
        )

    def scale(self, level: int) -> int:
        """Level-0 px per pixel of a tile."""
        return 1 << (self.max_level - level)

    def box(self, level: int, column: int, row: int) -> Box:
        """What a tile shows, level-0 px; its sides are whole multiples of :meth:`scale`.

        Raises:
            TileOutsideError: there is no such tile.
        """
        if not self.min_level <= level <= self.max_level:
            raise TileOutsideError(f"there is no zoom level {level}", f"ask for {self.min_level} to {self.max_level}")
        scale = self.scale(level)
        columns, rows = (math.ceil(side / scale) for side in (self.width, self.height))  # pixels of the level
        left, top = column * self.tile_px, row * self.tile_px
        if not (0 <= left < columns and 0 <= top < rows):
            raise TileOutsideError(f"there is no tile {column}, {row} at level {level}")
        right, bottom = min(left + self.tile_px, columns), min(top + self.tile_px, rows)
        return Box(*(float(side * scale) for side in (left, top, right, bottom)))

    def to_dict(self) -> dict[str, int]:
        """What a viewer needs to ask for tiles."""
        return {
            "width": self.width,
            "height": self.height,
            "tile_px": self.tile_px,
            "min_level": self.min_level,
            "max_level": self.max_level,
        }
