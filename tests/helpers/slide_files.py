"""Small slide files for tests: pyramidal TIFFs and painted cytology scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

Image = npt.NDArray[np.uint8]


def write_pyramid(
    path: Path,
    array: Image,
    mpp: float | None = 0.25,
    downsamples: Sequence[float] = (1, 2, 4),
    compression: str | None = "jpeg",
    tile: int | None = 256,
    subifds: bool = False,
    **options: Any,
) -> Path:
    """Write ``array`` (uint8 [h, w] or [h, w, 3]) as a tiled (or, with ``tile=None``, striped) pyramid.

    Args:
        mpp: um/px in the resolution tags; None leaves them out.
        downsamples: of the levels; they need not be whole numbers.
        subifds: lower levels as SubIFDs, as OME-TIFF has them.
        options: further arguments of ``TiffWriter.write``.
    """
    layout: dict[str, Any] = {"photometric": "rgb" if array.ndim == 3 else "minisblack", "compression": compression}
    if tile is not None:
        layout["tile"] = (tile, tile)
    if compression == "jpeg":
        layout["compressionargs"] = {"level": 90}
    layout |= options
    with tifffile.TiffWriter(path, bigtiff=False, ome=False) as writer:
        for number, downsample in enumerate(downsamples):
            extra: dict[str, Any] = {}
            if mpp is not None:
                extra = {"resolution": (1e4 / (mpp * downsample),) * 2, "resolutionunit": "CENTIMETER"}
            if subifds and number == 0:
                extra["subifds"] = len(downsamples) - 1
            pixels = array if number == 0 else shrink(array, downsample)
            writer.write(pixels, subfiletype=int(number > 0), metadata=None, **layout, **extra)
    return path


def shrink(array: Image, downsample: float) -> Image:
    """Area mean. By a whole number: blocks of pixels, the last ones filled up at the border, as scanners do it; else by
    the exact overlap of pixels."""
    whole = int(downsample)
    if whole == downsample:
        margins = [(0, -n % whole) for n in array.shape[:2]] + [(0, 0)] * (array.ndim - 2)
        padded = np.pad(array, margins, mode="edge")
        height, width = (n // whole for n in padded.shape[:2])
        blocks = padded.reshape(height, whole, width, whole, *array.shape[2:]).mean(axis=(1, 3), dtype=np.float32)
        return np.asarray(blocks + 0.5, np.uint8)
    height, width = (max(1, round(n / downsample)) for n in array.shape[:2])
    rows, columns = area_weights(array.shape[0], height), area_weights(array.shape[1], width)
    tall = np.tensordot(rows, array.astype(float), axes=(1, 0))
    return np.asarray(np.moveaxis(np.tensordot(columns, tall, axes=(1, 1)), 0, 1) + 0.5, np.uint8)


def area_weights(size: int, count: int, start: float = 0.0, end: float | None = None) -> npt.NDArray[np.float64]:
    """Matrix [count, size]: the share of each of ``size`` pixels in the mean over each of ``count`` equal intervals."""
    edges = np.linspace(start, size if end is None else end, count + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return np.asarray(overlap / (high - low))


def textured(height: int, width: int, seed: int = 0) -> Image:
    """A smooth colourful picture without repetitions, so that every misplacement shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    channels = []
    for _ in range(3):
        value = np.zeros((height, width))
        for _ in range(6):
            fx, fy, phase = [*rng.uniform(-0.06, 0.06, 2).tolist(), rng.uniform(0, 6.28)]
            value += np.sin(fx * x + fy * y + phase)
        channels.append(value)
    picture = np.stack(channels, axis=-1)
    return np.asarray(127 + 18 * picture, np.uint8)


class Scene:
    """A cytology slide painted at ``mpp`` um/px (no finer than 1, it is only scenery); all lengths and places in um."""

    def __init__(
        self,
        width: float,
        height: float,
        mpp: float = 1.0,
        glass: tuple[int, int, int] = (240, 239, 235),
        seed: int = 1,
    ) -> None:
        self.mpp = mpp
        self.rng = np.random.default_rng(seed)
        self.pixels = np.empty((round(height / mpp), round(width / mpp), 3), np.float32)
        self.pixels[:] = glass

    def _paint(self, x: float, y: float, radius: float, color: tuple[int, int, int], inner: float = 0.0) -> None:
        """A disc, or a ring from radius ``inner`` outwards, that lets light through as its colour over white does."""
        cx, cy, r = x / self.mpp, y / self.mpp, radius / self.mpp
        y0, x0 = max(0, int(cy - r) - 1), max(0, int(cx - r) - 1)
        window = self.pixels[y0 : int(cy + r) + 2, x0 : int(cx + r) + 2]
        ys, xs = np.mgrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]
        distance = np.hypot(xs + 0.5 - cx, ys + 0.5 - cy)
        cover = np.clip(r - distance + 0.5, 0, 1) * np.clip(distance - inner / self.mpp + 0.5, 0, 1)
        window *= 1 - cover[..., None] * (1 - np.array(color) / 255)

    def cell(self, x: float, y: float, radius: float = 22.0, nucleus: float = 4.0, pink: bool = False) -> None:
        self._paint(x, y, radius, (235, 195, 205) if pink else (200, 222, 225))
        self._paint(x, y, nucleus, (110, 90, 150))

    def small_dark_cell(self, x: float, y: float) -> None:
        """A lone high-grade cell: 15 um, mostly nucleus."""
        self._paint(x, y, 7.5, (190, 205, 220))
        self._paint(x, y, 5.0, (90, 70, 130))

    def deposit(self, x: float, y: float, radius: float, per_mm2: float) -> None:
        for _ in range(int(per_mm2 * np.pi * (radius / 1000) ** 2)):
            angle, r = self.rng.uniform(0, 2 * np.pi), radius * np.sqrt(self.rng.uniform())
            self.cell(
                x + r * np.cos(angle), y + r * np.sin(angle), self.rng.uniform(15, 28), pink=self.rng.uniform() < 0.4
            )

    def stroke(self, x0: float, y0: float, x1: float, y1: float, width: float, color: tuple[int, int, int]) -> None:
        left, right = (round((x + d) / self.mpp) for x, d in ((min(x0, x1), -width), (max(x0, x1), width)))
        top, bottom = (round((y + d) / self.mpp) for y, d in ((min(y0, y1), -width), (max(y0, y1), width)))
        left, top = max(left, 0), max(top, 0)
        window = self.pixels[top:bottom, left:right]
        ys, xs = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        ys, xs = ys * self.mpp, xs * self.mpp
        length = np.hypot(x1 - x0, y1 - y0)
        along = np.clip(((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / length**2, 0, 1)
        inside = np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0)) < width / 2
        window[inside] *= np.array(color) / 255

    def bubble(self, x: float, y: float, radius: float) -> None:
        self._paint(x, y, radius + 25, (70, 70, 75), inner=radius)

    def light(self, across: float) -> None:
        """Illumination that falls by the share ``across`` from left to right."""
        self.pixels *= np.linspace(1, 1 - across, self.pixels.shape[1], dtype=np.float32)[None, :, None]

    def write(self, path: Path, noise: float = 2.0, downsamples: Sequence[float] = (1, 4)) -> Path:
        noisy = self.pixels + noise * self.rng.standard_normal(self.pixels.shape, np.float32)
        image = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
        return write_pyramid(path, image, self.mpp, downsamples)
