"""Pyramidal tiled JPEG BigTIFF in Aperio's layout, written in one pass over the tiles of level 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from stride_monai.artifacts import replacing
from stride_monai.phantom.background import GLASS_PERIOD
from stride_monai.phantom.painter import Scene

__all__ = ["write_slide"]

TILE = 512
STEP = 4
_THUMBNAIL = 768
_SMALLEST = 768

Progress = Callable[[int, int], None]


@dataclass
class _Level:
    """A reduced level that fills up while the finer one is written.

    Attributes:
        strip: the row of tiles under construction, ``[TILE, padded width, 3]``.
        filled: rows of the strip that hold pixels.
    """

    width: int
    height: int
    quality: int
    tiles: list[bytes]
    strip: NDArray[np.uint8]
    filled: int = 0

    @classmethod
    def of(cls, width: int, height: int, quality: int) -> _Level:
        padded = -(-width // TILE) * TILE
        return cls(width, height, quality, [], np.full((TILE, padded, 3), 255, np.uint8))

    def append(self, rows: NDArray[np.uint8], below: list[_Level]) -> None:
        """Add rows ``[h, width, 3]`` of this level; encodes a strip when it is full and reduces it further."""
        rows = rows[:, : self.width]
        while len(rows):
            part = rows[: TILE - self.filled]
            self.strip[self.filled : self.filled + len(part), : self.width] = part
            # The edge is repeated so that JPEG does not ring at the border.
            self.strip[self.filled : self.filled + len(part), self.width :] = part[:, -1:]
            self.filled += len(part)
            rows = rows[len(part) :]
            if self.filled == TILE:
                self.flush(below)

    def flush(self, below: list[_Level]) -> None:
        """Encode what the strip holds."""
        if self.filled == 0:
            return
        self.strip[self.filled :] = self.strip[self.filled - 1]
        for left in range(0, self.strip.shape[1], TILE):
            self.tiles.append(_encode(self.strip[:, left : left + TILE], self.quality))
        if below:
            below[0].append(_reduced(self.strip)[: -(-self.filled // STEP)], below[1:])
        self.filled = 0


def _encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels), level=quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
        )
    )


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over ``STEP`` x ``STEP`` blocks; sides are multiples of it."""
    rows = pixels[0::STEP].astype(np.uint16)
    for i in range(1, STEP):
        rows += pixels[i::STEP]
    total = rows[:, 0::STEP].copy()
    for i in range(1, STEP):
        total += rows[:, i::STEP]
    return ((total + STEP * STEP // 2) // (STEP * STEP)).astype(np.uint8)


class _Pyramid:
    """Tiles of level 0 in file order, feeding the reduced levels on the way."""

    def __init__(self, scene: Scene, progress: Progress | None) -> None:
        self.scene, self.progress = scene, progress
        self.quality = scene.plan.centre.jpeg_quality
        self.levels: list[_Level] = []
        width, height = scene.width, scene.height
        while max(width, height) > _SMALLEST and len(self.levels) < 3:
            width, height = max(width // STEP, 1), max(height // STEP, 1)
            self.levels.append(_Level.of(width, height, self.quality))
        self._glass: dict[tuple[int, int], tuple[bytes, NDArray[np.uint8]]] = {}

    def encoded_tiles(self) -> Iterator[bytes]:
        """JPEG bytes of every level-0 tile, row by row; the reduced levels are complete before the last row leaves."""
        rows = -(-self.scene.height // TILE)
        for row in range(rows):
            tiles = self._row(row)
            if row + 1 == rows:
                for i, level in enumerate(self.levels):
                    level.flush(self.levels[i + 1 :])
            yield from tiles
            if self.progress is not None:
                self.progress(row + 1, rows)

    def _row(self, row: int) -> list[bytes]:
        columns, side = -(-self.scene.width // TILE), TILE // STEP
        small = np.empty((side, columns * side, 3), np.uint8)
        tiles = []
        for column in range(columns):
            encoded, small[:, column * side : (column + 1) * side] = self._tile(column * TILE, row * TILE)
            tiles.append(encoded)
        if self.levels:
            self.levels[0].append(small[: self.levels[0].height - row * side], self.levels[1:])
        return tiles

    def _tile(self, x: int, y: int) -> tuple[bytes, NDArray[np.uint8]]:
        phase = (x % GLASS_PERIOD, y % GLASS_PERIOD)
        glass = self.scene.is_glass(x, y, TILE, TILE)
        if glass and phase in self._glass:
            return self._glass[phase]
        pixels = self.scene.paint(x, y, TILE, TILE)
        made = _encode(pixels, self.quality), _reduced(pixels)
        if glass:
            self._glass[phase] = made
        return made


def _description(scene: Scene) -> str:
    """Aperio's ImageDescription: what readers take um/px and objective power from."""
    objective = 40 if scene.plan.mpp < 0.36 else 20
    return (
        f"Aperio Image Library (stride-monai phantom, synthetic)\r\n{scene.width}x{scene.height} "
        f"[0,0 {scene.width}x{scene.height}] ({TILE}x{TILE}) JPEG/RGB Q={scene.plan.centre.jpeg_quality}"
        f"|AppMag = {objective}|MPP = {scene.plan.mpp:.4f}"
    )


def write_slide(path: Path, scene: Scene, progress: Progress | None = None) -> None:
    """Render a scene into a pyramidal TIFF; complete or absent.

    Levels are 1, 4, 16 and 64 as far as the slide is large enough. Level 0 is written tile by tile; the reduced levels
    are kept as JPEG bytes, so that memory does not grow with the slide beyond about 1/16 of the file.

    Args:
        progress: called with (rows of tiles done, rows in all).

    Raises:
        OutputError: the folder cannot be written to or the disk is full.
    """
    pyramid = _Pyramid(scene, progress)
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as tiff:
        common = {
            "dtype": np.uint8,
            "photometric": "ycbcr",
            "subsampling": (2, 2),
            "compression": "jpeg",
            "tile": (TILE, TILE),
            "metadata": None,
        }
        tiff.write(
            pyramid.encoded_tiles(),
            shape=(scene.height, scene.width, 3),
            description=_description(scene),
            software=False,
            resolution=(1e4 / scene.plan.mpp, 1e4 / scene.plan.mpp),
            resolutionunit="CENTIMETER",
            **common,
        )
        if pyramid.levels:
            _write_thumbnail(tiff, pyramid.levels[-1])
        for level in pyramid.levels:
            tiff.write(
                iter(level.tiles),
                shape=(level.height, level.width, 3),
                description=_description(scene),
                software=False,
                **common,
            )


def _write_thumbnail(tiff: tifffile.TiffWriter, level: _Level) -> None:
    """The untiled second page that Aperio readers expect, made from the coarsest level."""
    columns = -(-level.width // TILE)
    decoded = [imagecodecs.jpeg8_decode(tile) for tile in level.tiles]
    rows = [np.concatenate(decoded[i : i + columns], axis=1) for i in range(0, len(decoded), columns)]
    picture = np.concatenate(rows)[: level.height, : level.width]
    step = -(-max(picture.shape) // _THUMBNAIL)
    tiff.write(
        np.ascontiguousarray(picture[::step, ::step]),
        photometric="rgb",
        compression="jpeg",
        software=False,
        metadata=None,
        description="Aperio thumbnail",
    )
