"""Pyramidal tiled JPEG BigTIFF in Aperio's or Leica's layout, written in one pass over the tiles of level 0."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from stride_monai.errors import OutputError
from stride_monai.files import replacing
from stride_monai.phantom.files.slide_files import (
    Layout,
    aperio_description,
    label_picture,
    leica_description,
    macro_picture,
)
from stride_monai.phantom.painting.background import GLASS_PERIOD
from stride_monai.phantom.painting.painter import Scene

__all__ = ["TILE", "Progress", "Pyramid", "check_disk", "encode_jpeg", "estimated_bytes", "free_bytes", "write_slide"]

TILE = 512
STEP = 4
_THUMBNAIL = 768
_SMALLEST = 768

Progress = Callable[[int, int], None]


class _Level:
    """A reduced level that fills up while the finer one is written.

    Attributes:
        strip: the row of tiles under construction, ``[TILE, padded width, 3]``.
        filled: rows of the strip that hold pixels.
    """

    def __init__(self, width: int, height: int, quality: int, subsampling: str) -> None:
        self.width, self.height, self.quality, self.subsampling = width, height, quality, subsampling
        self.tiles: list[bytes] = []
        self.strip = np.full((TILE, -(-width // TILE) * TILE, 3), 255, np.uint8)
        self.filled = 0

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
            self.tiles.append(encode_jpeg(self.strip[:, left : left + TILE], self.quality, self.subsampling))
        if below:
            below[0].append(_reduced(self.strip)[: -(-self.filled // STEP)], below[1:])
        self.filled = 0


def encode_jpeg(pixels: NDArray[np.uint8], quality: int, subsampling: str) -> bytes:
    """A JPEG stream in YCbCr; ``subsampling`` is ``420`` or ``422``."""
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels),
            level=quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling=subsampling,
        )
    )


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over ``STEP`` x ``STEP`` blocks; sides are multiples of it."""
    return np.asarray(Image.fromarray(pixels).reduce(STEP))


class Pyramid:
    """Tiles of level 0 in file order, feeding the reduced levels on the way."""

    def __init__(self, scene: Scene, progress: Progress | None, subsampling: str = "420") -> None:
        self.scene, self.progress = scene, progress
        self.quality, self.subsampling = scene.plan.centre.jpeg_quality, subsampling
        self.levels: list[_Level] = []
        width, height = scene.width, scene.height
        while max(width, height) > _SMALLEST and len(self.levels) < 3:
            width, height = max(width // STEP, 1), max(height // STEP, 1)
            self.levels.append(_Level(width, height, self.quality, subsampling))
        self._glass: dict[tuple[int, int], tuple[bytes, NDArray[np.uint8]]] = {}

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, finest first."""
        return (self.scene.width, self.scene.height), *((level.width, level.height) for level in self.levels)

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

    def overview(self) -> NDArray[np.uint8]:
        """The coarsest level as a picture; a slide of one level is small enough to be painted once more."""
        if not self.levels:
            return self.scene.paint(0, 0, self.scene.width, self.scene.height)
        level = self.levels[-1]
        columns = -(-level.width // TILE)
        decoded = [imagecodecs.jpeg8_decode(tile) for tile in level.tiles]
        rows = [np.concatenate(decoded[i : i + columns], axis=1) for i in range(0, len(decoded), columns)]
        return np.concatenate(rows)[: level.height, : level.width]

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
        made = encode_jpeg(pixels, self.quality, self.subsampling), _reduced(pixels)
        if glass:
            self._glass[phase] = made
        return made


def write_slide(path: Path, scene: Scene, progress: Progress | None = None, *, patient_label: bool = True) -> None:
    """Render a scene into a pyramidal TIFF; complete or absent.

    Levels are 1, 4, 16 and 64 as far as the slide is large enough. Level 0 is written tile by tile; the reduced levels
    are kept as JPEG bytes, so that memory does not grow with the slide beyond about 1/16 of the file. The centre's
    scanner decides on the layout: ``aperio``, or ``leica``, where the scanned region lies off the canvas' origin.

    Args:
        progress: called with (rows of tiles done, rows in all).
        patient_label: plant :data:`~stride_monai.phantom.files.slide_files.CANARY` in the metadata, and on a label
            and a macro picture.

    Raises:
        OutputError: the folder cannot be written to or the disk is full.
    """
    pyramid, centre = Pyramid(scene, progress), scene.plan.centre
    layout = Layout(pyramid.sizes, TILE, scene.plan.mpp, centre.jpeg_quality, centre.origin_mm, patient_label)
    check_disk(path, scene)
    write = {"leica": _write_leica, "aperio": _write_aperio}[centre.scanner]
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as tiff:
        write(tiff, pyramid, layout, path.name.split(".")[0])


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that a folder is on, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_disk(path: Path, scene: Scene) -> None:
    """Refuse a slide that would not fit on the disk.

    Raises:
        OutputError: the free space is less than what the slide will probably need.
    """
    free, needed = free_bytes(path.parent), estimated_bytes(scene)
    if free < needed:
        raise OutputError(
            f"{path.name} needs about {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free",
            "make room, or choose another folder, a smaller deposit or a larger um/px",
        )


def estimated_bytes(scene: Scene) -> int:
    """Upper estimate of a slide's file size: what dense, noisy slides take, which is about twice the usual."""
    centre = scene.plan.centre
    per_pixel = 0.25 * (centre.jpeg_quality / 85) ** 2 * (1 + 25 * max(centre.noise - 0.012, 0))
    return int(scene.width * scene.height * per_pixel * 1.07) + (8 << 20)


def _write_pages(tiff: tifffile.TiffWriter, pyramid: Pyramid, descriptions: list[str | None]) -> Iterator[None]:
    """Write level 0 and then, whenever asked, the next reduced level."""
    # A list's iterator sees what is appended to the list after it was made.
    sources = [pyramid.encoded_tiles(), *(iter(level.tiles) for level in pyramid.levels)]
    for tiles, (width, height), description in zip(sources, pyramid.sizes, descriptions, strict=True):
        scale = pyramid.scene.plan.mpp * pyramid.scene.width / width
        tiff.write(
            tiles,
            shape=(height, width, 3),
            description=description,
            software=False,
            resolution=(1e4 / scale, 1e4 / scale),
            resolutionunit="CENTIMETER",
            dtype=np.uint8,
            photometric="ycbcr",
            subsampling=(2, 2),
            compression="jpeg",
            tile=(TILE, TILE),
            metadata=None,
        )
        yield


def _write_aperio(tiff: tifffile.TiffWriter, pyramid: Pyramid, layout: Layout, slide_id: str) -> None:
    description = aperio_description(layout)
    pages = _write_pages(tiff, pyramid, [description] * len(layout.sizes))
    next(pages)
    overview = pyramid.overview()
    # The second page is the thumbnail by its place, whatever its description says.
    step = -(-max(overview.shape) // _THUMBNAIL)
    _write_picture(tiff, overview[::step, ::step], description, subfiletype=0)
    for _ in pages:
        pass
    if layout.patient:
        label, macro = label_picture(slide_id), macro_picture(slide_id, overview, layout.mpp, layout.sizes[0][0])
        for name, picture, kind in (("label", label, 1), ("macro", macro, 9)):
            title = f"Aperio Image Library (stride-monai phantom)\r\n{name} {picture.shape[1]}x{picture.shape[0]}"
            _write_picture(tiff, picture, title, subfiletype=kind)


def _write_leica(tiff: tifffile.TiffWriter, pyramid: Pyramid, layout: Layout, slide_id: str) -> None:
    descriptions: list[str | None] = [leica_description(layout), *[None] * len(pyramid.levels)]
    for _ in _write_pages(tiff, pyramid, descriptions):
        pass
    if layout.patient:
        macro = macro_picture(slide_id, pyramid.overview(), layout.mpp, layout.sizes[0][0])
        _write_picture(tiff, np.rot90(macro, -1), None, subfiletype=0)


def _write_picture(
    tiff: tifffile.TiffWriter, picture: NDArray[np.uint8], description: str | None, subfiletype: int
) -> None:
    tiff.write(
        np.ascontiguousarray(picture),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 90},
        software=False,
        metadata=None,
        description=description,
        subfiletype=subfiletype,
    )
