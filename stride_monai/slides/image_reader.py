"""Plain images (PNG, JPEG, WebP, BMP, TIFF without tiles) as slides of one level."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from stride_monai.errors import SlideError
from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError

__all__ = ["MAX_PIXELS", "ImageReader"]

MAX_PIXELS = 1_000_000_000
"""Largest plain image that is opened: it is held in memory whole, at 3 bytes per pixel."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TILE_WIDTH_TAG = 322
_limit_lock = threading.Lock()


class ImageReader:
    """A field image held in memory (:class:`~stride_monai.slides.protocol.Reader`).

    Pixels are taken as stored: an orientation flag is not applied, so coordinates are those of the file.
    """

    name = "image"

    def __init__(self, path: Path) -> None:
        try:
            with _own_limit(), Image.open(path, formats=_FORMATS) as image:
                _check(path, image)
                self.format = str(image.format).lower()
                dpi = image.info.get("dpi")
                self._pixels: Pixels | None = _rgb(image)
        except UnidentifiedImageError as error:
            raise UnknownFormatError(f"{path.name}: not an image") from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise SlideError(f"{path.name}: the image is damaged ({error})") from error
        height, width = self._pixels.shape[:2]
        self._name = path.name
        self.level_sizes: tuple[tuple[int, int], ...] = ((width, height),)
        self.bounds = (0, 0, width, height)
        self.stated = StatedFacts(*_um_per_px(dpi))

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if self._pixels is None:
            raise SlideError(f"{self._name} is closed")
        return self._pixels[y : y + height, x : x + width].copy()

    def close(self) -> None:
        self._pixels = None


@contextmanager
def _own_limit() -> Iterator[None]:
    """Pillow's guard against decompression bombs is a module global: set it aside, our own check follows."""
    with _limit_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise SlideError(
            f"{path.name}: {image.width}x{image.height} px is too large for a plain image "
            f"(at most {MAX_PIXELS / 1e6:.0f} Mpx)",
            "convert it to a tiled pyramid, e.g. by 'vips tiffsave --tile --pyramid'",
        )
    if image.mode not in _EIGHT_BIT:
        raise SlideError(f"{path.name}: pixels of kind {image.mode} are not supported", "convert it to 8-bit RGB")
    if image.format == "TIFF" and _TILE_WIDTH_TAG in getattr(image, "tag_v2", {}):
        raise SlideError(f"{path.name}: a tiled TIFF is no plain image")


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB")).copy()


def _um_per_px(dpi: object) -> tuple[float | None, float | None]:
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None, None
    x, y = (25_400.0 / float(d) if float(d) > 0 else None for d in dpi)
    return x, y
