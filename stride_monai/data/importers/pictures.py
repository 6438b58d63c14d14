"""Pictures of data sets: their sizes from the header, their pixels upright, whatever their orientation tag says."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from stride_monai.data.importers.reading import PLAIN_SUFFIXES
from stride_monai.errors import ManifestError, SlideError
from stride_monai.slides.orientation import TAG, Orientation, orientation_of
from stride_monai.slides.readers.image import ImageReader, own_limits
from stride_monai.slides.readers.registry import open_reader

__all__ = ["Header", "header", "upright_pixels"]


class Header(NamedTuple):
    """What a picture's header says.

    Attributes:
        width, height: as stored, px.
        orientation: how the stored picture becomes the upright one, which is what viewers and annotation tools show.
    """

    width: int
    height: int
    orientation: Orientation

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.width, self.height

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.orientation.size(self.width, self.height)


def header(path: Path) -> Header:
    """Size and orientation of a picture of any size; of a plain one no pixel is decoded.

    Raises:
        ManifestError: it does not exist, or is no picture or slide.
    """
    if not path.is_file():
        raise ManifestError(f"the image {path.name} does not exist", "add it, or give its folder with --images")
    try:
        return _plain_header(path) if path.suffix.lower() in PLAIN_SUFFIXES else _slide_header(path)
    except SlideError as error:
        raise ManifestError(f"the image {path.name} cannot be read ({error})", "copy it again") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, TypeError) as error:
        raise ManifestError(f"the image {path.name} cannot be read ({error})", "copy it again") from error


def _plain_header(path: Path) -> Header:
    with own_limits(), Image.open(path) as image:
        try:
            tag = image.getexif().get(TAG)
        except Exception:  # a damaged EXIF block raises anything; the readers take such a picture as upright too
            tag = None
        return Header(image.width, image.height, orientation_of(tag))


def _slide_header(path: Path) -> Header:
    """As the reader gives it, which knows the file's picture from its label and thumbnail."""
    reader = open_reader(path)
    try:
        orientation = getattr(reader, "turned_by", orientation_of(1))
        width, height = orientation.size(*reader.bounds[2:])
        return Header(width, height, orientation)
    finally:
        reader.close()


def upright_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """The upright picture, RGB ``[H, W, 3]``.

    Raises:
        ManifestError: it does not exist or cannot be decoded.
    """
    header(path)
    try:
        reader = ImageReader(path)
    except SlideError as error:
        raise ManifestError(f"the image {path.name} cannot be read ({error})", "copy it again") from error
    try:
        width, height = reader.level_sizes[0]
        return reader.read_level(0, 0, 0, width, height)
    finally:
        reader.close()
