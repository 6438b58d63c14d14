"""Bags without slides: only the windows around the best cells of a plan are painted.

The cell code is the slide's: :class:`~stride_monai.phantom.painting.painter.Scene` paints the windows at the slide's
own um/px and :class:`~stride_monai.slides.Slide` cuts and resamples the crops. So a crop is the one that
:class:`~stride_monai.transforms.TopKCellPatches` would cut at the same box from the rendered slide, but for the slide's
JPEG compression, which is left out unless it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stride_monai.data.bags.bag import BagCell, BagHeader, decode_crop, encode_crop, write_bag
from stride_monai.errors import ConfigError
from stride_monai.phantom.cohorts.ranking import RankingModel, rank_cells
from stride_monai.phantom.files.slide_writer import encode_jpeg
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.slides import Slide
from stride_monai.slides.protocol import Pixels, StatedFacts
from stride_monai.units import Box

__all__ = ["BagSettings", "SceneReader", "check_crops", "cut_crops", "write_phantom_bag"]

_LARGEST_SHEET = 2048 * 2048


class SceneReader:
    """A scene as an open slide file (:class:`stride_monai.slides.Reader`) of one level.

    Args:
        compressed: through JPEG of the centre's quality, as a slide file is; in other blocks of 8 px than the file's.
    """

    name = "phantom"
    format = "plan"

    def __init__(self, scene: Scene, compressed: bool = False) -> None:
        self.scene, self.compressed = scene, compressed
        self.level_sizes: tuple[tuple[int, int], ...] = ((scene.width, scene.height),)
        self.bounds = (0, 0, scene.width, scene.height)
        self.stated = StatedFacts(scene.plan.mpp, scene.plan.mpp)
        self._sheet: tuple[int, ...] = (0, 0, 0, 0)
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def paint_sheet(self, sheet: Box) -> None:
        """Paint a rectangle of whole px, from which the reads inside it are served until the next one is painted."""
        self._sheet = tuple(map(int, sheet))
        x0, y0, x1, y1 = self._sheet
        self._pixels = self._paint(x0, y0, x1 - x0, y1 - y0)

    def _paint(self, x: int, y: int, width: int, height: int) -> Pixels:
        pixels = self.scene.paint(x, y, width, height)
        if self.compressed:
            pixels = decode_crop(encode_jpeg(pixels, self.scene.plan.centre.jpeg_quality, "420"))
        return pixels

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """As of the protocol."""
        x0, y0, x1, y1 = self._sheet
        if x0 <= x and y0 <= y and x + width <= x1 and y + height <= y1:
            return self._pixels[y - y0 : y - y0 + height, x - x0 : x - x0 + width]
        return self._paint(x, y, width, height)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class BagSettings:
    """What is in a bag.

    Attributes:
        top_k: cells, at most.
        crop_px: side of a crop.
        crop_mpp: um/px of the crops.
        ranking: how good the detector is that chose the cells.

    Raises:
        ConfigError: crops without size, or no cell asked for.
    """

    top_k: int = 256
    crop_px: int = 224
    crop_mpp: float = 0.5
    ranking: RankingModel = field(default_factory=RankingModel)

    def __post_init__(self) -> None:
        check_crops(self.top_k, self.crop_px, self.crop_mpp)


def write_phantom_bag(
    path: Path,
    plan: Plan,
    settings: BagSettings,
    *,
    slide_class: str | None = None,
    config_hash: str = "",
    compressed: bool = False,
) -> None:
    """Write the bag of a slide that is only planned; cell classes and descriptions are the truth.

    Args:
        path: ends in ``.bag.arrow``; what comes before it is the slide id.
        slide_class: as the manifest reports it.
        config_hash: goes into the header.
        compressed: cut the crops from pixels that went through the slide's JPEG.

    Raises:
        OutputError: the file cannot be written.
    """
    top_k, crop_px, crop_mpp = settings.top_k, settings.crop_px, settings.crop_mpp
    cells = rank_cells(plan, top_k, settings.ranking)
    crops = cut_crops(Scene(plan), [cell.box for cell in cells], crop_px, crop_mpp, compressed)
    slide_id = path.name.split(".")[0]
    header = BagHeader(slide_id, plan.mpp, crop_mpp, crop_px, top_k, slide_class=slide_class, config_hash=config_hash)
    rows = [
        BagCell(cell.score, cell.box, encode_crop(crop), cell.truth.cell_class, cell.truth.descriptions)
        for cell, crop in zip(cells, crops, strict=True)
    ]
    write_bag(path, header, rows)


def check_crops(top_k: int, crop_px: int, crop_mpp: float) -> None:
    """Raises:
    ConfigError: crops without size, or no cell asked for.
    """
    if top_k < 1 or not 8 <= crop_px <= 4096 or not 0.1 <= crop_mpp <= 10:
        what = f"bags of {top_k} crops of {crop_px} px at {crop_mpp:g} um/px cannot be made"
        raise ConfigError(what, "give a K of 1 or more, crops of 8 to 4096 px and 0.1-10 um/px")


def cut_crops(
    scene: Scene, boxes: Sequence[Box], crop_px: int, crop_mpp: float, compressed: bool = False
) -> list[Pixels]:
    """Crops ``[crop_px, crop_px, 3]`` uint8 RGB about the centres of boxes (level-0 px); white beyond the slide.

    ``compressed``: see :class:`SceneReader`.
    """
    reader = SceneReader(scene, compressed)
    slide = Slide(Path("plan"), reader)
    regions = [Box.around(*box.center, crop_px * crop_mpp / slide.mpp) for box in boxes]
    windows = [_window(region, slide.box) for region in regions]
    crops: dict[int, Pixels] = {}
    for sheet in _sheets(windows):
        reader.paint_sheet(sheet)
        for k, window in enumerate(windows):
            if k not in crops and sheet.holds(window):
                crops[k] = slide.read(regions[k], mpp=crop_mpp)
    return [crops[k] for k in range(len(boxes))]


def _window(region: Box, slide: Box) -> Box:
    """The pixels that a crop may need: interpolation looks one beyond its edges."""
    box = region.intersection(slide)
    return Box(math.floor(box.x0) - 1, math.floor(box.y0) - 1, math.ceil(box.x1) + 1, math.ceil(box.y1) + 1)


def _sheets(windows: Sequence[Box]) -> list[Box]:
    """Rectangles that cover the windows, joined where one costs no more paint than two: lesions lie in groups."""
    sheets: list[Box] = []
    for window in windows:
        grown, searching = window, True
        while searching:
            searching = False
            for k, sheet in enumerate(sheets):
                union = grown.union(sheet)
                if union.area <= min(grown.area + sheet.area, _LARGEST_SHEET):
                    grown, searching = union, True
                    del sheets[k]
                    break
        sheets.append(grown)
    return sheets
