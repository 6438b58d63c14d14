"""What a slide reader is: the small interface behind which every file format stands.

A site adds a format (SDPC, TMAP ...) by publishing a class that satisfies :class:`Reader` under the entry point group
``stride_monai.readers``; nothing in this package changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from stride_monai.errors import SlideError

__all__ = [
    "MERGED",
    "SHARPEST",
    "UNION",
    "PictureChoice",
    "Pixels",
    "Reader",
    "ReaderClass",
    "StatedFacts",
    "UnknownFormatError",
]

SHARPEST, UNION = MERGED = "sharpest", "union"
"""In the place of a plane's number."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""uint8 image, ``[height, width, 3]``, RGB."""


class UnknownFormatError(SlideError):
    """The file is of no format that this reader knows; another reader may well open it."""


@dataclass(frozen=True, slots=True)
class PictureChoice:
    """Which picture of a file that holds several is read.

    Attributes:
        image: its number, from 1; None for the largest.
        plane: number, from 1, of a focal plane, channel or time point; None for the first; one of :data:`MERGED`
            for all focal planes, which no reader is asked for (:mod:`stride_monai.slides.readers.sharpest`).
    """

    image: int | None = None
    plane: int | str | None = None

    @property
    def first(self) -> bool:
        """Whether a file of one picture has what is chosen."""
        return self.image in (None, 1) and self.plane in (None, 1)


@dataclass(frozen=True, slots=True)
class StatedFacts:
    """What the file states about itself, unchecked. Typed facts only: free text of a vendor cannot pass.

    Attributes:
        mpp_x, mpp_y: um/px at level 0, None where the file states none.
        objective: magnification of the objective, None likewise.
    """

    mpp_x: float | None = None
    mpp_y: float | None = None
    objective: float | None = None


@runtime_checkable
class Reader(Protocol):
    """One open slide file. Label and macro images are never part of it.

    The picture is upright: an orientation that the file states is applied
    (:func:`~stride_monai.slides.orientation.upright_reader`). A reader that enlarges the canvas says by an attribute
    ``origin`` where on it (x, y, level-0 px) the file's picture begins. One that had to choose (a picture of several,
    say) says what it chose in an attribute ``notes``, a tuple of short texts, and, if these were focal planes, how many
    there are in an attribute ``focal_planes``. One whose pixels are always new memory, of which it keeps no hold, says
    so by an attribute ``fresh``, true, which saves a copy. One that gives the stored picture says by
    an attribute ``orientation`` (:class:`~stride_monai.slides.orientation.Orientation`) how it is turned upright.

    Attributes:
        name: of the reader, as ``--reader`` takes it.
        format: of the file, in one word.
        level_sizes: (width, height) of every level in its own pixels, finest first.
        bounds: (x, y, width, height) of the scanned content in level-0 px of the whole canvas.
        stated: what the file states about itself.
    """

    name: str
    format: str
    level_sizes: tuple[tuple[int, int], ...]
    bounds: tuple[int, int, int, int]
    stated: StatedFacts

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """The region at ``(x, y)`` of a level, in that level's own pixels, wholly inside the level.

        Must be safe to call from several threads.

        Returns:
            uint8 ``[height, width, 3]`` RGB, white where the scanner recorded nothing. Nobody writes to it: it may be
            read-only, or a view of what the reader keeps.

        Raises:
            RegionError: the region cannot be decoded. The rest of the slide stays readable.
        """

    def close(self) -> None:
        """Release the file. Reading afterwards is an error; closing twice is none."""


class ReaderClass(Protocol):
    """How a reader is opened: its class, called with the path.

    Raises:
        UnknownFormatError: not a file for this reader.
        SlideError: a file for this reader, but damaged or of an unsupported kind.
        MissingExtraError: the library behind the reader is not installed.
    """

    def __call__(self, path: Path) -> Reader: ...
