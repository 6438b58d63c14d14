"""Tile grids: the slide cut into overlapping squares of a fixed physical size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stride_monai.units import Box

__all__ = ["Tile", "TileGrid"]

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its number in reading order and its box in level-0 px, which may reach beyond the slide."""

    index: int
    box: Box


@dataclass(frozen=True)
class TileGrid:
    """Square tiles that cover a slide, row by row; neighbours share ``overlap_px``.

    Every square up to ``overlap_px`` wide inside the slide lies wholly in at least one tile, whatever the origin: a
    cell no larger than the overlap is seen whole at least once. (Detection takes a border to cut what comes within 2 px
    of it, so there it is 4 px less.)

    Args:
        width, height: of the slide, level-0 px.
        slide_mpp: um/px at level 0.
        tile_mpp: um/px at which tiles are read.
        tile_px, overlap_px: side of a tile and width shared with a neighbour, in tile pixels.
        origin: a corner of the grid, level-0 px; any value, it only shifts where the borders fall.
    """

    width: int
    height: int
    slide_mpp: float
    tile_mpp: float = 1.0
    tile_px: int = 512
    overlap_px: int = 64
    origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px < self.tile_px:
            raise ValueError(f"the overlap ({self.overlap_px} px) must be from 0 to below the tile ({self.tile_px} px)")
        if self.width < 1 or self.height < 1 or self.slide_mpp <= 0 or self.tile_mpp <= 0:
            raise ValueError("a grid needs a slide of at least one pixel and positive um/px")

    @property
    def side(self) -> float:
        """Side of a tile, level-0 px."""
        return self.tile_px * self.tile_mpp / self.slide_mpp

    @property
    def step(self) -> float:
        """Distance from one tile to the next, level-0 px."""
        return (self.tile_px - self.overlap_px) * self.tile_mpp / self.slide_mpp

    @property
    def columns(self) -> int:
        return len(self._steps(self.width, self.origin[0]))

    @property
    def rows(self) -> int:
        return len(self._steps(self.height, self.origin[1]))

    def _steps(self, length: int, origin: float) -> range:
        """Numbers of the steps from the origin: the last that starts at or before 0, to the first that ends at or after
        the slide does."""
        first = math.floor(-origin / self.step + _EPSILON)
        last = math.ceil((length - origin - self.side) / self.step - _EPSILON)
        return range(first, max(first, last) + 1)

    def __len__(self) -> int:
        return self.columns * self.rows

    def __iter__(self) -> Iterator[Tile]:
        index = 0
        for row in self._steps(self.height, self.origin[1]):
            for column in self._steps(self.width, self.origin[0]):
                x, y = self.origin[0] + column * self.step, self.origin[1] + row * self.step
                yield Tile(index, Box(x, y, x + self.side, y + self.side))
                index += 1
