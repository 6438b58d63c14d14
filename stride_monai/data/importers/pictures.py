"""Pictures of data sets: their sizes from the header, their pixels and labels upright, whatever their orientation tag
says.

Readers show every picture upright, and so do most annotation tools. Labels that were drawn on the picture as it is
stored are turned with it; which of the two it was, the data set shows by the size that it states, or the user says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.reading import PLAIN_SUFFIXES
from stride_monai.data.importers.records import Source, SourceCell, SourceImage
from stride_monai.errors import ConfigError, ManifestError, SlideError
from stride_monai.slides.orientation import TAG, Orientation, orientation_of
from stride_monai.slides.readers.image import ImageReader, own_limits
from stride_monai.slides.readers.registry import open_reader
from stride_monai.units import Box, StoredPx

__all__ = ["LABELS_ON", "Header", "header", "label_size", "labels_upright", "upright_pixels"]

LABELS_ON = ("upright", "stored")
_TURNABLE = PLAIN_SUFFIXES | {".tif", ".tiff"}
_THREADS = 4


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
    except (SlideError, OSError, SyntaxError, ValueError, EOFError, TypeError) as error:
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


def label_size(path: Path, labels_on: str) -> tuple[int, int]:
    """Width and height of the picture that labels were drawn on.

    Raises:
        ManifestError: it does not exist or is no picture.
    """
    facts = header(path)
    return facts.stored if labels_on == "stored" else facts.upright


def labels_upright(read: Source, labels_on: str) -> None:
    """Bring all labels onto the upright pictures, in place, and note how they were taken.

    Raises:
        ConfigError: the sizes that the data set states are those of upright pictures here and of stored ones there.
    """
    turned = {i.slide_id: facts for i, facts in _headers(read.images) if facts.orientation.turned}
    images = [image for image in read.images if image.slide_id in turned]
    shown = {image.slide_id: found for image in images if (found := _shown(image, turned[image.slide_id]))}
    if not labels_on:
        if len(set(shown.values())) > 1:
            one, other = (next(i for i in shown if shown[i] == side) for side in LABELS_ON)
            raise ConfigError(
                f"the data set states the size of the upright picture for '{one}', of the stored one for '{other}'",
                "say on which the labels were drawn, --labels-on upright or --labels-on stored",
            )
        labels_on = next(iter(shown.values()), "")
    if labels_on == "stored":
        for k, image in enumerate(read.images):
            if image.slide_id in turned and image.size:
                read.images[k] = replace(image, size=turned[image.slide_id].orientation.size(*image.size))
        read.cells[:] = [_upright_cell(c, turned[c.slide_id]) if c.slide_id in turned else c for c in read.cells]
        read.regions[:] = [
            r._replace(box=_box(r.box, turned[r.slide_id])) if r.slide_id in turned else r for r in read.regions
        ]
    drawn = {cell.slide_id for cell in read.cells if cell.box or cell.point} | {r.slide_id for r in read.regions}
    marked = [image for image in images if image.slide_id in drawn]
    if marked:
        read.notes.append(_note(marked, turned, labels_on, bool(shown)))


def _note(marked: list[SourceImage], turned: Mapping[str, Header], labels_on: str, shown: bool) -> str:
    first = marked[0]
    tag = turned[first.slide_id].orientation.tag
    what = f"{len(marked)} pictures have an orientation tag, e.g. {first.path.name} ({tag}), and are read upright; "
    why = ", as the sizes that the data set states show" if shown else ""
    if labels_on == "stored":
        return f"{what}their labels are taken as drawn on the picture as it is stored, and were turned with it{why}"
    advice = "" if shown or labels_on else " (say --labels-on stored if they were drawn on the picture as it is stored)"
    return f"{what}their labels are taken as drawn on the upright picture{why}{advice}"


def _headers(images: Iterable[SourceImage]) -> Iterable[tuple[SourceImage, Header]]:
    """Headers of the images that are pictures; what cannot be read is named later."""

    def found(image: SourceImage) -> Header | None:
        try:
            return header(image.path)
        except ManifestError:
            return None

    pictures = [image for image in images if image.path.suffix.lower() in _TURNABLE]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [(i, facts) for i, facts in zip(pictures, pool.map(found, pictures), strict=True) if facts]


def _shown(image: SourceImage, facts: Header) -> str:
    """Which picture's size the data set states; empty where it states none, or both have it."""
    if image.size is None or facts.stored == facts.upright:
        return ""
    stated = round(image.size[0]), round(image.size[1])
    return {facts.upright: "upright", facts.stored: "stored"}.get(stated, "")


def _upright_cell(cell: SourceCell, facts: Header) -> SourceCell:
    box = None if cell.box is None else _box(cell.box, facts)
    point = None if cell.point is None else _points((cell.point,), facts)[0]
    outline, nucleus = _points(cell.outline, facts), _points(cell.nucleus, facts)
    return replace(cell, box=box, point=point, outline=outline, nucleus=nucleus)


def _box(box: Box, facts: Header) -> Box:
    return facts.orientation.box_upright(cast("Box[StoredPx]", box), *facts.stored)


def _points(points: Polygon, facts: Header) -> Polygon:
    return tuple(facts.orientation.box_upright(Box(x, y, x, y), *facts.stored)[:2] for x, y in points)
