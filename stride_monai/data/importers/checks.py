"""Whether what was read can be true: images that open, boxes inside them, ids that occur once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stride_monai.data.importers.geometry import box_text
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import PLAIN_SUFFIXES
from stride_monai.data.importers.records import Source, SourceCell, SourceImage, SourceRegion
from stride_monai.errors import ConfigError, SlideError
from stride_monai.slides import open_slide
from stride_monai.slides.readers.registry import AUTO
from stride_monai.units import Box

__all__ = ["KnownImage", "boxed_cells", "known_images", "whole_regions"]

_ROUNDING_PX = 2.0  # a box may be so far over the border by rounding
_SMALL_PX = 8  # in images of such a side a cell can be a pixel
_THREADS = 4


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that opens.

    Attributes:
        width, height: level-0 px.
        mpp: um/px.
        stated: um/px for the manifest; None where the file itself states it.
    """

    source: SourceImage
    width: int
    height: int
    mpp: float
    stated: float | None

    @property
    def box(self) -> Box:
        return Box(0, 0, self.width, self.height)


def known_images(
    source: Source, mpp: float | None, default_mpp: float | None, problems: ProblemLog
) -> list[KnownImage]:
    """The images that exist and can be decoded; the others become problems.

    Args:
        mpp: um/px that the user gives for all; wins over what a data set says of an image, and that over
            ``default_mpp``. Only slides may state their own.

    Raises:
        ConfigError: um/px of a plain picture is not known from anywhere.
    """
    images = list(_of_one_name(source.images, problems))
    scales = [mpp or image.mpp or default_mpp for image in images]
    unknown = [i.path.name for i, scale in zip(images, scales, strict=True) if scale is None and _plain(i.path)]
    if unknown:
        raise ConfigError(
            f"um/px of {len(unknown)} images is not known, e.g. of {unknown[0]}", "state it with --mpp, e.g. --mpp 0.25"
        )
    cells = Counter(cell.slide_id for cell in source.cells)
    known: list[KnownImage] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for image, result in zip(images, pool.map(_opened, images, scales), strict=True):
            wrong = result if isinstance(result, str) else _wrong_size(image, result)
            if wrong:
                lost = f"; its {cells[image.slide_id]} cells are lost" if cells[image.slide_id] else ""
                problems.add(image.place, "image", f"{wrong}{lost}", image.slide_id)
            elif isinstance(result, KnownImage):
                known.append(result)
    return known


def _plain(path: Path) -> bool:
    return path.suffix.lower() in PLAIN_SUFFIXES


def _of_one_name(images: Sequence[SourceImage], problems: ProblemLog) -> Iterator[SourceImage]:
    first: dict[str, SourceImage] = {}
    for image in images:
        other = first.setdefault(image.slide_id, image)
        if other is image:
            yield image
        else:
            what = f"image '{image.slide_id}' is named by {other.place} too"
            problems.add(image.place, "duplicate", what, image.slide_id)


def _opened(image: SourceImage, mpp: float | None) -> KnownImage | str:
    """The image, or what is wrong with it."""
    path = image.path
    if not path.is_file():
        return f"the image {path.name} does not exist"
    try:
        with open_slide(path, mpp=mpp, reader="image" if _plain(path) else AUTO) as slide:
            return KnownImage(image, slide.width, slide.height, slide.mpp, mpp)
    except SlideError as error:
        return f"the image {path.name} cannot be read ({error})"


def _wrong_size(image: SourceImage, known: KnownImage) -> str:
    if image.size is None or (round(image.size[0]), round(image.size[1])) == (known.width, known.height):
        return ""
    stated = f"{image.size[0]:g}x{image.size[1]:g}"
    return f"the image {image.path.name} is {known.width}x{known.height} px, the data set says {stated}"


def boxed_cells(
    source: Source, images: Mapping[str, KnownImage], point_um: float | None, problems: ProblemLog
) -> list[tuple[SourceCell, Box]]:
    """The cells of known images that can be true, each with its box; the others become problems.

    Args:
        point_um: side of the box around a point.

    Raises:
        ConfigError: there are points and ``point_um`` is None.
    """
    good: list[tuple[SourceCell, Box]] = []
    ids: dict[tuple[str, str], SourceCell] = {}
    places: dict[tuple[str, Box], SourceCell] = {}
    named = {image.slide_id for image in source.images}
    for cell in source.cells:
        image = images.get(cell.slide_id)
        if image is None:
            if cell.slide_id not in named:
                problems.add(cell.place, "image", f"there is no image '{cell.slide_id}'", cell.slide_id)
            continue
        box = _box(cell, image, point_um)
        wrong = _wrong_box(cell, box, image)
        twin = places.get((cell.slide_id, box))
        if not wrong and twin is not None and twin.label == cell.label:
            problems.note(cell.place, "duplicate", f"the same cell as {twin.place}: it is imported once")
            continue
        wrong = wrong or _wrong_twin(cell, ids, twin)
        if wrong:
            problems.add(cell.place, *wrong, cell.slide_id)
            continue
        if cell.cell_id:
            ids[cell.slide_id, cell.cell_id] = cell
        places[cell.slide_id, box] = cell
        good.append((cell, box))
    return good


def _box(cell: SourceCell, image: KnownImage, point_um: float | None) -> Box:
    if cell.box is not None:
        return cell.box
    if cell.point is None:
        return image.box
    if point_um is None:
        raise ConfigError("the data set marks cells by points", "give the side of their boxes in um with --point-um")
    return Box.around(*cell.point, point_um / image.mpp)


def _wrong_box(cell: SourceCell, box: Box, image: KnownImage) -> tuple[str, str] | None:
    """Kind and text of what is wrong with a box."""
    if not cell.label:
        return "label", "the cell has no label"
    if not all(map(math.isfinite, box)):
        return "number", f"box {box_text(box)} is non-finite"
    if box.width <= 0 or box.height <= 0:
        return "box", f"box {box_text(box)} is empty"
    size = f"{image.width}x{image.height} px"
    if box is not image.box and _in_first_pixel(cell, box) and image.box.area > _SMALL_PX**2:
        return "box", "all of it lies in the image's first pixel: are these shares of the image's sides, not pixels?"
    if cell.point is not None or cell.fixed:
        x, y = box.center
        if not (0 <= x <= image.width and 0 <= y <= image.height):
            return "box", f"the point ({x:g}, {y:g}) is outside the image of {size}"
        return None
    over = max(-box.x0, -box.y0, box.x1 - image.width, box.y1 - image.height)
    if over > _ROUNDING_PX:
        return "box", f"box {box_text(box)} is {over:g} px outside the image of {size}"
    return None


def _in_first_pixel(cell: SourceCell, box: Box) -> bool:
    x0, y0, x1, y1 = box if cell.point is None else (*cell.point, *cell.point)
    return min(x0, y0) >= -1 and max(x1, y1) <= 1  # -1: pixels may be counted from 1


def _wrong_twin(
    cell: SourceCell, ids: Mapping[tuple[str, str], SourceCell], twin: SourceCell | None
) -> tuple[str, str] | None:
    """Kind and text of what is wrong with a cell beside those before it; ``twin`` is the one in the same place."""
    namesake = ids.get((cell.slide_id, cell.cell_id)) if cell.cell_id else None
    if namesake is not None:
        return "duplicate", f"cell id '{cell.cell_id}' is that of {namesake.place} too"
    if twin is None:
        return None
    return "contradiction", f"'{cell.label}' here, '{twin.label}' at {twin.place}, in the same place"


def whole_regions(
    source: Source, images: Mapping[str, KnownImage], complete: bool, doubtful: set[str], problems: ProblemLog
) -> list[SourceRegion]:
    """Annotated regions that can be true: those of the data set, and whole images that were annotated completely.

    Args:
        complete: of images that say nothing of it themselves.
        doubtful: images, by id or stem, of which a cell was left out: nobody can say any more that all of it is
            marked. An empty name stands for every image.
    """
    own: dict[str, list[SourceRegion]] = defaultdict(list)
    for region in source.regions:
        image = images.get(region.slide_id)
        if image is None:
            continue
        inside = region.box.intersection(image.box) if all(map(math.isfinite, region.box)) else Box(0, 0, 0, 0)
        if inside.area < 0.5 * region.box.area or not inside.area:
            what = f"region {box_text(region.box)} is empty or outside the image of {image.width}x{image.height} px"
            problems.add(region.place, "region", what, region.slide_id)
        else:
            own[region.slide_id].append(SourceRegion(region.slide_id, inside, region.place))
    regions: list[SourceRegion] = []
    for slide_id, image in images.items():
        said = image.source.complete
        if doubtful & {"", slide_id, image.source.path.stem}:
            for region in own[slide_id]:
                problems.note(region.place, "region", "not used as annotated completely: a cell was left out")
        elif slide_id in own:
            regions += own[slide_id]
        elif complete if said is None else said:
            regions.append(SourceRegion(slide_id, image.box, image.source.place))
    return regions
