"""A slide: any file format as one picture, addressed in level-0 pixels and read at any um/px."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from stride_monai.errors import RegionError, SlideError
from stride_monai.findings import LevelFacts, SlideFacts
from stride_monai.names import readable
from stride_monai.slides.orientation import whole_step
from stride_monai.slides.protocol import MERGED, UNION, PictureChoice, Pixels, Reader
from stride_monai.slides.readers.registry import AUTO, open_reader
from stride_monai.slides.readers.sharpest import SharpestPlanes, open_sharpest
from stride_monai.slides.resample import resample
from stride_monai.slides.spacing import choose_spacing
from stride_monai.slides.urls import is_url
from stride_monai.units import Box, Um

__all__ = ["Slide", "open_slide"]

WHITE = 255
UNREADABLE_GRAY = 128
"""Colour of undecodable places in an overview; tiles and crops are never painted but raise."""

_FINER_TOLERANCE = 1.02  # a level 2 % too coarse is taken all the same: the next finer one costs 4 to 16 times as much
_BLOCK_SIDE = 4096  # source pixels decoded at a time, whatever the size of the region: bounds the memory
_LARGEST_MM = 400.0  # twice the longest glass in use; a damaged size would be surveyed for hours
_HOPELESS = 1000  # blocks that cannot be decoded, and none that can: the rest of the slide is not tried
_LEAST_OF_OVERVIEW = 0.75
_UNION = "cells were sought on each plane, and each is shown on that on which it is sharpest"
_SMALLEST_BLOCK = 512  # source pixels; an undecodable block is not searched further for readable parts


class _Block(NamedTuple):
    """Part of a region: rows and columns of the output and the box they show."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def of(self, box: Box, width: int, height: int) -> Box:
        """What it shows of a box that is ``width`` x ``height`` px of output."""
        step_x, step_y = box.width / width, box.height / height
        right, bottom = self.left + self.width, self.top + self.height
        x0, x1 = box.x0 + self.left * step_x, box.x0 + right * step_x
        return Box(x0, box.y0 + self.top * step_y, x1, box.y0 + bottom * step_y)


def open_slide(
    path: Path | str,
    mpp: float | None = None,
    reader: str = AUTO,
    image: int | None = None,
    plane: int | str | None = None,
) -> Slide:
    """Open a slide or a field image.

    Args:
        path: of the file, or a URL (``https://``, ``s3://`` and others): a TIFF is then read in the parts that are
            asked for, of any other format a copy is fetched (:mod:`stride_monai.slides.remote`).
        mpp: um/px at level 0 if the file's own is missing or wrong; it wins over the file's.
        reader: ``auto``, or the name of one reader, which is then the only one tried.
        image: number, from 1, of the image in a file that holds several; None for the largest.
        plane: number, from 1, of the focal plane, channel or time point likewise; None for the first;
            ``sharpest`` for the sharpest focal plane at each pixel; ``union`` for that picture with all planes beside
            it (:attr:`Slide.planes`). What was not read stands in the slide's ``notes``.

    Raises:
        SlideError: there is no such file, or it cannot be opened.
        SpacingError: um/px is missing, anisotropic or implausible and ``mpp`` is not given.
        MissingExtraError: the reader asked for is not installed.
        ConfigError: there is no such reader.
    """
    choice = PictureChoice(image, plane)
    merged = plane in MERGED
    if is_url(path):
        if merged:
            raise SlideError("focal planes of a remote slide are not merged", "copy the file, and give its path")
        from stride_monai.slides.remote import open_remote

        opened, name = open_remote(str(path), reader, choice)
    else:
        opened, name = (open_sharpest if merged else open_reader)(Path(path), reader, choice), Path(path)
    try:
        return Slide(name, opened, mpp, opened.planes if plane == UNION and isinstance(opened, SharpestPlanes) else ())
    except BaseException:
        opened.close()
        raise


class Slide:
    """An open slide. Coordinates are level-0 px of its content: a scanner's empty margin is not part of it.

    ``read`` may be called from several threads. Use as a context manager, or call :meth:`close`.

    Args:
        planes: readers of the focal planes that are looked at one by one; closed with ``reader``, which merges them.

    Attributes:
        facts: what the file is and which reader opened it.
        mpp: um/px at level 0.
        width, height: of the content, level-0 px.
        notes: what the reader decided where the file leaves a choice, in words.
        planes: the focal planes, each a slide, where cells are to be sought on each; empty for one picture alone.
    """

    def __init__(self, path: Path, reader: Reader, mpp: float | None = None, planes: Sequence[Reader] = ()) -> None:
        self.planes: tuple[Slide, ...] = tuple(Slide(path, plane, mpp) for plane in planes)
        self._reader = reader
        self._scales = _level_scales(reader.level_sizes)
        self._closed = False
        x, y, width, height = reader.bounds
        origin: tuple[int, int] = getattr(reader, "origin", (0, 0))
        spacing = choose_spacing(path.name, reader.stated, mpp)
        self.mpp = spacing.mpp
        self.notes: tuple[str, ...] = (*getattr(reader, "notes", ()), *([_UNION] if planes else []))
        self.width, self.height = width, height
        _check_extent(path.name, width, height, spacing.mpp)
        self.facts = SlideFacts(
            slide_id=readable(path.stem),
            file_name=readable(path.name),
            width=width,
            height=height,
            mpp=spacing.mpp,
            mpp_source=spacing.source,
            mpp_in_file=spacing.in_file,
            objective=reader.stated.objective,
            reader=reader.name,
            format=reader.format,
            levels=tuple(
                LevelFacts(w, h, (sx + sy) / 2)
                for (w, h), (sx, sy) in zip(reader.level_sizes, self._scales, strict=True)
            ),
            bounds_offset=(x - origin[0], y - origin[1]),
        )

    @property
    def box(self) -> Box:
        """The whole content."""
        return Box(0.0, 0.0, float(self.width), float(self.height))

    @property
    def extent(self) -> Box[Um]:
        """The whole content in um."""
        return self.box.in_um(self.mpp)

    def level_for(self, mpp: float) -> int:
        """The coarsest level that is not coarser than ``mpp`` (by more than 2 %); level 0 where none is that fine."""
        wanted = mpp / self.mpp * _FINER_TOLERANCE
        fitting = [level for level, scale in enumerate(self._scales) if max(scale) <= wanted]
        return max(fitting, key=lambda level: max(self._scales[level]), default=0)

    def read(self, box: Box, mpp: float | None = None) -> Pixels:
        """A region at any um/px: from the nearest finer level, averaged over area; white beyond the border.

        Args:
            box: level-0 px, fractional and reaching beyond the slide as it may.
            mpp: um/px of the result; None for the slide's own.

        Returns:
            uint8 ``[H, W, 3]`` RGB with ``H = max(1, round(box.height * self.mpp / mpp))`` and W likewise. The box maps
            onto it exactly: its edges are the picture's edges. The array is the caller's, to be written to.

        Raises:
            RegionError: the region cannot be decoded.
        """
        mpp = self.mpp if mpp is None else mpp
        if not (box.width > 0 and box.height > 0 and mpp > 0):
            raise ValueError(f"a region needs a positive size and um/px, not {box} at {mpp}")
        width = max(1, round(box.width * self.mpp / mpp))
        height = max(1, round(box.height * self.mpp / mpp))
        level = self.level_for(mpp)
        out = np.empty((height, width, 3), np.uint8)
        for block in self._blocks(box, width, height, level):
            part = self._render(block.of(box, width, height), block.width, block.height, level)
            if part.shape == out.shape:
                return part
            out[block.place] = part
        return out

    def overview(self, max_side: int = 1600) -> tuple[Pixels, float]:
        """The whole slide, small.

        Args:
            max_side: longest side of the result in pixels at most, and three quarters of it at least; a smaller slide
                is not enlarged.

        Returns:
            uint8 ``[h, w, 3]`` RGB, undecodable places grey, and level-0 px per overview pixel.

        Raises:
            SlideError: no part of the slide can be decoded.
        """
        pixels, _, downsample = self.survey(self._overview_downsample(max_side) * self.mpp)
        return pixels, downsample

    def _overview_downsample(self, max_side: int) -> float:
        """Level-0 px per pixel of an overview. Within the sizes that will do it is one at which whole pixels of a
        stored level become one: the coarsest level is small, and any other ratio takes many times as long."""
        longest = max(self.width, self.height)
        wanted = max(1.0, longest / max_side)
        for scale in sorted(map(max, self._scales), reverse=True):
            whole = scale * math.ceil(wanted / scale - 1e-6)
            if longest / whole >= _LEAST_OF_OVERVIEW * max_side:
                return whole
            if scale <= wanted:
                break  # a finer level would hold many times the pixels
        return wanted

    def survey(self, mpp: float) -> tuple[Pixels, npt.NDArray[np.bool_], float]:
        """The whole slide at a coarse um/px, going round what cannot be decoded.

        Returns:
            uint8 ``[h, w, 3]``; bool ``[h, w]``, False where nothing could be decoded (grey there); level-0 px per
            pixel.

        Raises:
            SlideError: no part of the slide can be decoded.
        """
        downsample = mpp / self.mpp
        width = max(1, math.ceil(self.width / downsample - 1e-6))
        height = max(1, math.ceil(self.height / downsample - 1e-6))
        box = Box(0.0, 0.0, width * downsample, height * downsample)
        level = self.level_for(mpp)
        pixels = np.full((height, width, 3), UNREADABLE_GRAY, np.uint8)
        readable = np.zeros((height, width), np.bool_)
        waiting, why, failed = list(self._blocks(box, width, height, level)), "", 0
        smallest = max(1, int(_SMALLEST_BLOCK * max(self._scales[level]) / downsample))
        while waiting:
            block = waiting.pop()
            try:
                pixels[block.place] = self._render(block.of(box, width, height), block.width, block.height, level)
                readable[block.place] = True
            except RegionError as error:
                why = why or error.what.removeprefix(f"{self.facts.file_name}: ")
                failed += 1
                if failed > _HOPELESS and not readable.any():
                    break
                if max(block.width, block.height) > smallest:
                    waiting += _quarters(block)
        if not readable.any():
            what = f"no part of it can be decoded (the first that failed: {why})"
            raise SlideError(f"{self.facts.file_name}: {what}", "copy it again from the scanner")
        return pixels, readable, downsample

    def _blocks(self, box: Box, width: int, height: int, level: int) -> Iterator[_Block]:
        """The output in parts whose source is at most about 4096 px wide and high."""
        scale_x, scale_y = self._scales[level]
        step_x = max(1, int(_BLOCK_SIDE / (box.width / width / scale_x)))
        step_y = max(1, int(_BLOCK_SIDE / (box.height / height / scale_y)))
        for top in range(0, height, step_y):
            for left in range(0, width, step_x):
                yield _Block(top, left, min(step_y, height - top), min(step_x, width - left))

    def _render(self, box: Box, width: int, height: int, level: int) -> Pixels:
        """A box small enough for one decode, resampled to the size asked for."""
        scale_x, scale_y = self._scales[level]
        offset_x, offset_y, *_ = self._reader.bounds
        x0, x1 = (box.x0 + offset_x) / scale_x, (box.x1 + offset_x) / scale_x
        y0, y1 = (box.y0 + offset_y) / scale_y, (box.y1 + offset_y) / scale_y
        # Interpolation looks one pixel beyond the edges, averaging does not.
        margin_x, margin_y = int(x1 - x0 < width - 1e-6), int(y1 - y0 < height - 1e-6)
        left, right = math.floor(x0 + 1e-6) - margin_x, math.ceil(x1 - 1e-6) + margin_x
        top, bottom = math.floor(y0 + 1e-6) - margin_y, math.ceil(y1 - 1e-6) + margin_y
        source = self._source(level, left, top, max(right, left + 1), max(bottom, top + 1))
        own: bool = getattr(self._reader, "fresh", False)
        return resample(source, x0 - left, y0 - top, x1 - left, y1 - top, width, height, own)

    def _source(self, level: int, left: int, top: int, right: int, bottom: int) -> Pixels:
        """Level pixels of a rectangle that may reach beyond the content, which is white there."""
        scale_x, scale_y = self._scales[level]
        x, y, width, height = self._reader.bounds
        level_width, level_height = self._reader.level_sizes[level]
        # A level may be a pixel short of the content, or over it, by rounding: its last pixel stands for the remainder.
        end_x, end_y = math.ceil((x + width) / scale_x - 1e-6), math.ceil((y + height) / scale_y - 1e-6)
        x0, x1 = max(left, math.floor(x / scale_x)), min(right, end_x)
        y0, y1 = max(top, math.floor(y / scale_y)), min(bottom, end_y)
        if x0 >= x1 or y0 >= y1:
            return np.full((bottom - top, right - left, 3), WHITE, np.uint8)
        read_x, read_y = min(x0, level_width - 1), min(y0, level_height - 1)
        pixels = self._read_level(level, read_x, read_y, min(x1, level_width), min(y1, level_height))
        missing = (y1 - y0 - pixels.shape[0], x1 - x0 - pixels.shape[1])
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        if (x0, y0, x1, y1) == (left, top, right, bottom):
            return pixels
        canvas = np.full((bottom - top, right - left, 3), WHITE, np.uint8)
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = pixels
        return canvas

    def _read_level(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Pixels:
        if self._closed:
            raise SlideError(f"{self.facts.file_name} is closed")
        pixels = self._reader.read_level(level, x0, y0, x1 - x0, y1 - y0)
        if pixels.shape != (y1 - y0, x1 - x0, 3) or pixels.dtype != np.uint8:
            raise RegionError(
                f"{self.facts.file_name}: the reader '{self.facts.reader}' gave {pixels.dtype} {pixels.shape} "
                f"for a region of {x1 - x0}x{y1 - y0} px"
            )
        return pixels

    def close(self) -> None:
        """Close the file; no read may be under way."""
        self._closed = True
        self._reader.close()
        for plane in self.planes:
            plane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({self.facts.file_name!r}, {self.width}x{self.height}, {self.mpp:g} um/px, {self.facts.reader})"


def _check_extent(name: str, width: int, height: int, mpp: float) -> None:
    """Raises:
    SlideError: the picture is larger than any slide.
    """
    sides = width * mpp / 1000, height * mpp / 1000
    if max(sides) > _LARGEST_MM:
        size = f"{sides[0]:,.0f}x{sides[1]:,.0f} mm"
        raise SlideError(
            f"{name}: {width}x{height} px at {mpp:g} um/px are {size}, larger than any slide",
            "its size is damaged, copy it again from the scanner; or its um/px is wrong, give it by --mpp",
        )


def _quarters(block: _Block) -> list[_Block]:
    half_height, half_width = (block.height + 1) // 2, (block.width + 1) // 2
    parts = [
        _Block(block.top + dy, block.left + dx, min(half_height, block.height - dy), min(half_width, block.width - dx))
        for dy in (0, half_height)
        for dx in (0, half_width)
    ]
    return [part for part in parts if part.width > 0 and part.height > 0]


def _level_scales(sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[float, float], ...]:
    """Level-0 px per level px in x and y: a whole number where the sizes fit one, not their ratio, which would shift
    positions by up to a level pixel at the far border."""
    steps = [float(whole_step(sizes[0], size)) for size in sizes]
    ratios = [(sizes[0][0] / width, sizes[0][1] / height) for width, height in sizes]
    return tuple((step, step) if step else ratio for step, ratio in zip(steps, ratios, strict=True))
