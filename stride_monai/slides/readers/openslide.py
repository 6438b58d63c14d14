"""Reading by OpenSlide, for its breadth of formats."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides.dicom_header import check_nesting, is_dicom
from stride_monai.slides.protocol import PictureChoice, Pixels, StatedFacts, UnknownFormatError
from stride_monai.slides.spacing import stated_number
from stride_monai.slides.tiff.layout import TiffLayout, read_layout
from stride_monai.slides.tiff.stated import positive_number

__all__ = ["OpenSlideReader"]


class OpenSlideReader:
    """A slide opened by OpenSlide (:class:`~stride_monai.slides.Reader`).

    One handle serves all threads. OpenSlide puts a handle into a permanent error state after one failed read, for all
    threads that share it; so a failed read is tried again on a handle of its own, which tells a damaged region from a
    read that merely met a spoilt handle, and the shared handle is renewed.

    A TIFF is looked into first (:mod:`stride_monai.slides.tiff.layout`). One that is damaged never reaches the library;
    one of which its drivers for Aperio and plain TIFFs would show something else is left to the reader ``tiff``.
    """

    name = "openslide"
    chooses = True

    def __init__(self, path: Path, choice: PictureChoice | None = None) -> None:
        self._path = path
        self._layout = read_layout(path, choice)
        if self._layout is None and choice is not None and not choice.first:
            raise UnknownFormatError(f"{path.name}: OpenSlide knows one picture per file")
        if self._layout is not None and self._layout.not_openslide:
            raise _another_picture(path, self._layout.not_openslide)
        if self._layout is None and is_dicom(path):
            check_nesting(path)
        self.notes = () if self._layout is None else self._layout.notes
        self._lock = threading.Lock()
        self._handle: Any = _open(path)
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(
            (int(w), int(h)) for w, h in self._handle.level_dimensions
        )
        self._downsamples = tuple(float(d) for d in self._handle.level_downsamples)
        properties: Mapping[str, str] = self._handle.properties
        self.format = str(properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"))
        self.bounds = _bounds(properties, self.level_sizes[0])
        self.stated = _stated(properties, self._layout)
        why = self._layout.disagrees(self.level_sizes) if self._layout is not None else ""
        if why and self.format in ("aperio", "generic-tiff"):
            self.close()
            raise _another_picture(path, why)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        # OpenSlide takes the corner in level-0 px and divides by its own downsample.
        downsample = self._downsamples[level]
        region = ((round(x * downsample), round(y * downsample)), level, (width, height))
        handle = self._handle
        if handle is None:
            raise SlideError(f"{self._path.name} is closed")
        if self._layout is not None and self._layout.lacks(level, x, y, width, height):
            raise RegionError(  # the library would paint it white
                f"{self._path.name}: region {width}x{height} at ({x}, {y}) of level {level} cannot be decoded "
                "(the file does not hold it)"
            )
        try:
            return _rgb(handle.read_region(*region))
        except openslide.OpenSlideError:
            return self._read_alone(handle, region)

    def _read_alone(self, spoilt: Any, region: tuple[Any, ...]) -> Pixels:
        """Read on a fresh handle; renew the shared one, which another thread may have done already."""
        with self._lock:
            fresh = _open(self._path)
            try:
                pixels = _rgb(fresh.read_region(*region))
            except openslide.OpenSlideError as error:
                fresh.close()
                if self._handle is spoilt:
                    # Not closed: other threads may be reading on it. It closes itself with its last user.
                    self._handle = _open(self._path)
                (x, y), level, (width, height) = region
                raise RegionError(
                    f"{self._path.name}: region {width}x{height} at level-0 px ({x}, {y}), level {level}, "
                    f"cannot be decoded ({error})"
                ) from error
            if self._handle is spoilt:
                self._handle = fresh
            else:
                fresh.close()
            return pixels

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


def _another_picture(path: Path, why: str) -> UnknownFormatError:
    return UnknownFormatError(f"{path.name}: OpenSlide would show another picture ({why})", "use --reader tiff")


def _stated(properties: Mapping[str, str], layout: TiffLayout | None) -> StatedFacts:
    known = StatedFacts() if layout is None else layout.stated
    return StatedFacts(
        mpp_x=positive_number(properties.get(openslide.PROPERTY_NAME_MPP_X)) or known.mpp_x,
        mpp_y=positive_number(properties.get(openslide.PROPERTY_NAME_MPP_Y)) or known.mpp_y,
        objective=positive_number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)) or known.objective,
    )


def _open(path: Path) -> Any:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise UnknownFormatError(f"{path.name}: not a format of OpenSlide") from error
    except openslide.OpenSlideError as error:
        why = str(error).removeprefix(f"Reading {path}: ").replace(str(path.parent), "")
        raise SlideError(f"{path.name}: OpenSlide cannot open it ({why})") from error


def _rgb(image: Any) -> Pixels:
    """RGB on white from OpenSlide's RGBA, which is transparent where nothing was scanned."""
    if image.getchannel("A").getextrema()[0] == 255:
        # Pillow drops the fourth channel much faster than a strided copy does.
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image)
    cover = rgba[..., 3:].astype(np.uint16)
    blended = (rgba[..., :3] * cover + 255 * (255 - cover) + 127) // 255
    return blended.astype(np.uint8)


def _bounds(properties: Mapping[str, str], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Content box, clipped to the canvas; the whole canvas where the file states none that makes sense."""
    x = int(stated_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_X)) or 0)
    y = int(stated_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y)) or 0)
    width = int(stated_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH)) or size[0] - x)
    height = int(stated_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT)) or size[1] - y)
    if x < 0 or y < 0 or width < 1 or height < 1 or x >= size[0] or y >= size[1]:
        return 0, 0, size[0], size[1]
    return x, y, min(width, size[0] - x), min(height, size[1] - y)
