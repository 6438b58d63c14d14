"""Where the detector's tiles lie on one slide: around its lesions, and where there is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from stride_monai.bethesda import NEGATIVE, UNLABELED
from stride_monai.data.cells import CellRecord, Polygon
from stride_monai.data.hashing import digest, unit_interval
from stride_monai.data.manifest import SlideRecord
from stride_monai.slides import Slide
from stride_monai.slides.foreground import find_foreground
from stride_monai.units import Box

__all__ = ["SlideTiles", "of_one_size"]

_log = logging.getLogger(__name__)
_WHOLE = 1 - 1e-9  # of a cell that is cut by rounding only
_TRIES = 200


class SlideTiles:
    """Tiles and places of one slide, equal for equal seeds.

    Args:
        record: the slide in the manifest.
        slide: open; only its size and, for negatives, its foreground are read.
        cells: the marked cells of the slide.
        regions: annotated regions, level-0 px; none where the whole slide is annotated. Tiles stay inside one of them.
        seed: moves the tiles.
    """

    def __init__(
        self, record: SlideRecord, slide: Slide, cells: Sequence[CellRecord], regions: Sequence[Box], seed: int
    ) -> None:
        self._record, self._slide, self._cells, self._seed = record, slide, cells, seed
        self._confined = bool(regions)
        self._fields = [region.intersection(slide.box) for region in regions] if regions else [slide.box]

    def positive(self, tile_px: int, tile_mpp: float, min_visible: float) -> list[dict[str, Any]]:
        """Tiles around the positive cells, as :func:`stride_monai.data.detection_tiles` returns them."""
        waiting = [cell for cell in self._cells if cell.positive]
        side = tile_px * tile_mpp / self._slide.mpp
        items: list[dict[str, Any]] = []
        for field in self._fields:
            inside = [cell for cell in waiting if not self._confined or _holds(field, *cell.box.center)]
            waiting = [cell for cell in waiting if self._confined and not _holds(field, *cell.box.center)]
            for tile in self._covering(inside, field, side):
                items.append(self._item(tile, field, inside, tile_px, min_visible))
        if waiting:
            _log.warning(
                "slide %s: %d positive cells lie outside its annotated regions and are not used",
                self._record.slide_id,
                len(waiting),
            )
        return items

    def negative(self, count: int, tile_px: int, tile_mpp: float) -> list[dict[str, Any]]:
        """So many tiles on the deposit that show no lesion; fewer where there is no room for them."""
        side = tile_px * tile_mpp / self._slide.mpp
        certain = self._record.slide_class == NEGATIVE
        marked = [cell.box for cell in self._cells if cell.positive or (cell.label == UNLABELED and not certain)]
        items: list[dict[str, Any]] = []
        for field, x, y in self._places(_TRIES * count):
            tile = _within(Box.around(x, y, side), field)
            shown = tile.intersection(field)
            if not any(shown.intersection(box).area for box in marked):
                items.append(self._item(tile, field, [], tile_px, 0.0))
                if len(items) == count:
                    break
        self._say_if_fewer(len(items), count)
        return items

    def deposit_points(self, count: int) -> list[tuple[float, float]]:
        """So many points on the deposit, level-0 px; fewer where it is hardly there."""
        points = [(x, y) for _, x, y in islice(self._places(_TRIES * count), count)]
        self._say_if_fewer(len(points), count)
        return points

    def _covering(self, cells: Sequence[CellRecord], field: Box, side: float) -> list[Box]:
        """Tiles of ``side`` level-0 px such that every cell lies wholly in one, as far as it fits into one at all."""
        chosen: list[Box] = []
        for cell in sorted(cells, key=lambda cell: digest(self._seed, cell.slide_id, cell.cell_id)):
            box = cell.box
            if any(tile.intersection(box).area >= box.area for tile in chosen):
                continue
            jitter = [unit_interval(self._seed, cell.slide_id, cell.cell_id, axis) for axis in ("x", "y")]
            x0, y0 = _shifted(box.x0, box.x1, side, jitter[0]), _shifted(box.y0, box.y1, side, jitter[1])
            chosen.append(_within(Box(x0, y0, x0 + side, y0 + side), field))
        return chosen

    def _places(self, tries: int) -> Iterator[tuple[Box, float, float]]:
        """Points on the deposit, each with the field that it is drawn from, uniform over all fields."""
        foreground = find_foreground(self._slide)
        total = sum(field.area for field in self._fields)
        slide_id, seed = self._record.slide_id, self._seed
        for attempt in range(tries):
            share = unit_interval(seed, slide_id, attempt, "region") * total if len(self._fields) > 1 else 0.0
            for field in self._fields:
                share -= field.area
                if share < 0:
                    break
            x = field.x0 + unit_interval(seed, slide_id, attempt, "x") * field.width
            y = field.y0 + unit_interval(seed, slide_id, attempt, "y") * field.height
            if foreground.touches(Box.around(x, y, 1.0)):
                yield field, x, y

    def _say_if_fewer(self, found: int, wanted: int) -> None:
        if found < wanted:
            _log.warning(
                "slide %s: %d of %d places on the deposit without a lesion found", self._record.slide_id, found, wanted
            )

    def _item(
        self, tile: Box, field: Box, positives: Sequence[CellRecord], tile_px: int, min_visible: float
    ) -> dict[str, Any]:
        scale = tile_px / tile.width
        shown = tile.intersection(field) if self._confined else tile
        boxes, visible = [], []
        for cell in positives:
            seen = shown.intersection(cell.box)
            share = min(seen.area / cell.box.area, 1.0)
            if share > 0 and share >= min_visible:
                visible.append(1.0 if share > _WHOLE else share)
                boxes.append(list(seen.on_tile(tile, scale)))
        return {
            "image": str(self._record.path),
            "mpp": self._slide.mpp,
            "box": tuple(tile),
            "boxes": boxes,
            "visible": visible,
            "limits": None if shown.area > _WHOLE * tile.area else tuple(shown),
            "slide_id": self._record.slide_id,
            **({} if self._record.source is None else {"source": self._record.source}),
        }


def of_one_size(cells: Sequence[CellRecord], side: float) -> list[CellRecord]:
    """The cells in squares of ``side`` level-0 px about their nuclei, or about the middles of their boxes."""
    sized = []
    for cell in cells:
        box = Box.around(*(_hull(cell.nucleus) if cell.nucleus else cell.box).center, side)
        sized.append(replace(cell, x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1))
    return sized


def _hull(polygon: Polygon) -> Box:
    xs, ys = zip(*polygon, strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


def _holds(field: Box, x: float, y: float) -> bool:
    return field.x0 <= x < field.x1 and field.y0 <= y < field.y1


def _shifted(low: float, high: float, side: float, share: float) -> float:
    """Start of an interval of length ``side`` that holds ``low``-``high``; in the middle of it where it is too long."""
    slack = side - (high - low)
    return low - slack * (share if slack > 0 else 0.5)


def _within(box: Box, field: Box) -> Box:
    """The box moved into the field; at the field's corner where the field is smaller than the box."""
    x0 = min(max(box.x0, field.x0), max(field.x1 - box.width, field.x0))
    y0 = min(max(box.y0, field.y0), max(field.y1 - box.height, field.y0))
    return Box(x0, y0, x0 + box.width, y0 + box.height)
