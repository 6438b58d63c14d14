"""Pictures of the HTML report and what is drawn on them: the overview with its marks, the crops with their scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from stride_monai.bethesda import CELL_CLASSES, CELL_COLORS
from stride_monai.findings import GALLERY_SIZE, Cell, Findings, Pictures
from stride_monai.ground import Ground
from stride_monai.units import Box

__all__ = ["MARKED_CELLS", "Crop", "GroundMap", "Mark", "Overview", "Tag", "crop_of", "ground_of", "overview_of", "rgb"]

MARKED_CELLS = 1024
"""Cells marked on the overview at most; more would hide the slide."""

_BAR_LENGTHS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_DIGIT_WIDTH = 0.62  # of the font's size
_SMALLEST_MARK = 0.012  # of the overview's longer side: a cell of a whole slide would be less than a pixel


class Crop(NamedTuple):
    """A cell's picture as a data URI, with the overlay drawn on it; lengths in crop px."""

    uri: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    bar_px: float
    bar_label: str


class Mark(NamedTuple):
    """One cell on the overview; lengths in the overview's own units (level-0 px)."""

    rank: int
    color: str
    label: str
    x: float
    y: float
    width: float
    height: float
    round: bool


class Tag(NamedTuple):
    """The rank of a marked cell, written beside its mark: middle of the text on its base line, overview units."""

    rank: int
    x: float
    y: float


class Overview(NamedTuple):
    """The whole slide; ``uri`` is empty where there is no picture."""

    uri: str
    width: int
    height: int
    shown: tuple[Mark, ...]
    others: tuple[Mark, ...]
    tags: tuple[Tag, ...]
    unmarked: int
    font: float
    bar_percent: float
    bar_label: str


class GroundMap(NamedTuple):
    """What was read and what not: its picture, empty where there is none, and name, color and area of each kind."""

    uri: str
    legend: tuple[tuple[str, str, str], ...]


def ground_of(findings: Findings, pictures: Pictures) -> GroundMap | None:
    """None where it is not known what was read."""
    areas = findings.quality.areas_mm2
    if areas is None:
        return None
    known = [(kind, areas.get(kind.name.lower(), 0.0)) for kind in Ground]
    legend = tuple(
        (kind.words, "rgb({}, {}, {})".format(*kind.color[:3]), f"{area:,.2f} mm²") for kind, area in known if area > 0
    )
    png = base64.b64encode(pictures.ground).decode("ascii")
    return GroundMap(f"data:image/png;base64,{png}" if png else "", legend)


def crop_of(cell: Cell, mpp: float, pictures: Pictures) -> Crop | None:
    content = pictures.crops.get(cell.rank, b"")
    size = _size_of(content)
    if size is None:
        return None
    width, height = size
    # Crops are centred on their box, so the box needs no coordinates of the crop.
    box_width, box_height = (side * mpp / pictures.crop_mpp for side in (cell.box.width, cell.box.height))
    bar_um = _bar_um(width * pictures.crop_mpp / 3)
    return Crop(
        uri=_data_uri(content),
        width=width,
        height=height,
        box=((width - box_width) / 2, (height - box_height) / 2, box_width, box_height),
        bar_px=bar_um / pictures.crop_mpp,
        bar_label=f"{bar_um} µm",
    )


def overview_of(findings: Findings, pictures: Pictures) -> Overview | None:
    """The whole slide with its cells marked; None where the slide's size is not known."""
    slide, cells = findings.slide, findings.cells[:MARKED_CELLS]
    if slide.width is None or slide.height is None:
        return None
    smallest = _SMALLEST_MARK * max(slide.width, slide.height)
    marks = tuple(_mark(cell, smallest) for cell in cells)
    font = round(1.8 * smallest, 1)
    bar_um = _bar_um(slide.width * slide.mpp / 4)
    return Overview(
        uri=_data_uri(pictures.overview) if _size_of(pictures.overview) else "",
        width=slide.width,
        height=slide.height,
        shown=marks[:GALLERY_SIZE],
        others=marks[GALLERY_SIZE:],
        tags=_tags(marks[:GALLERY_SIZE], font),
        unmarked=len(findings.cells) - len(marks),
        font=font,
        bar_percent=round(100 * bar_um / (slide.width * slide.mpp), 3),
        bar_label=f"{bar_um} µm" if bar_um < 1000 else f"{bar_um // 1000} mm",
    )


def _mark(cell: Cell, smallest: float) -> Mark:
    x, y = cell.box.center
    small = max(cell.box.width, cell.box.height) < smallest
    width, height = (smallest, smallest) if small else (cell.box.width, cell.box.height)
    probability = cell.probabilities[CELL_CLASSES.index(cell.cell_class)]
    return Mark(
        rank=cell.rank,
        color=rgb(cell.cell_class),
        label=f"Cell {cell.rank}: {cell.cell_class}, probability {probability:.3f}, detector score {cell.score:.3f}",
        x=round(x - width / 2, 1),
        y=round(y - height / 2, 1),
        width=round(width, 1),
        height=round(height, 1),
        round=small,
    )


def _tags(marks: Sequence[Mark], font: float) -> tuple[Tag, ...]:
    """Ranks beside their marks, the best first; one that finds no free side is left to the mark's tooltip."""
    tags: list[Tag] = []
    taken: list[Box] = []
    for mark in marks:
        width, height = _DIGIT_WIDTH * font * len(str(mark.rank)), 0.8 * font
        x, y = mark.x + mark.width / 2, mark.y + mark.height / 2
        aside, above = (mark.width + width) / 2 + 0.15 * font, (mark.height + height) / 2 + 0.1 * font
        for dx, dy in ((aside, 0.0), (-aside, 0.0), (0.0, -above), (0.0, above)):
            place = Box(x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2)
            if not any(place.intersection(other).area > 0 for other in taken):
                taken.append(place)
                tags.append(Tag(mark.rank, round(x + dx, 1), round(place.y1 - 0.05 * font, 1)))
                break
    return tuple(tags)


def rgb(cell_class: str) -> str:
    return "rgb({}, {}, {})".format(*CELL_COLORS[cell_class])


def _bar_um(at_most: float) -> int:
    fitting = [length for length in _BAR_LENGTHS_UM if length <= at_most]
    return fitting[-1] if fitting else 1


def _size_of(jpeg: bytes) -> tuple[int, int] | None:
    """Width and height from the picture's header; None where it is missing or no picture."""
    if not jpeg:
        return None
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            return image.size
    except (UnidentifiedImageError, OSError):
        return None


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
