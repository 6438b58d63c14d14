"""A detector over a whole slide: tiles in, ranked boxes of the K most suspicious cells out."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, RegionError
from stride_monai.ground import Ground
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.cpu import one_thread
from stride_monai.inferers.nms import BoxStream, suppress
from stride_monai.inferers.tile_quality import TileQuality, measure_tile
from stride_monai.networks.detection.detector import TileDetections, TileDetector, detect
from stride_monai.slides import Slide, Tile, TileGrid
from stride_monai.slides.foreground import Foreground, find_foreground
from stride_monai.slides.streaming import done_ahead
from stride_monai.units import Box, TilePx

__all__ = ["Detections", "SlideDetectionInferer", "TileDetectionInferer"]

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]

_CUT_MARGIN = 2.0
"""Tile px: a box that comes this near to an inner border of its tile is taken to be cut by it. So what is whole in some
tile, whatever the grid's origin, is no larger than the overlap less twice this: 60 px where tiles overlap by 64."""
_CANDIDATES = 100_000
"""Boxes held before suppression (about 5 MB). A slide with more loses the least probable ones. That changes no decision
between whole boxes, which look at better boxes only; so the top K is exact unless more than 100,000 - K boxes better
than the K-th are duplicates."""

_LEAST_READERS = 2
_AHEAD = 4  # tiles that each reading thread may be ahead of the network
_WAIT = "wait"  # the stage of waiting for them, until it is divided


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found on a slide.

    Attributes:
        boxes: [n, 4] float64, x0, y0, x1, y1 in level-0 px, best first; n <= K.
        scores: [n] float64, 0-1.
        tiles_read: tiles given to the detector.
        tiles_skipped: tiles not read since they hold no foreground.
        unreadable: tiles that could not be decoded; nothing is known of them.
        candidates: boxes found before duplicates were removed.
        focus: median sharpness of the tiles read; 0 where none was.
        stain: median optical density of the stained pixels of the tiles read in red, green and blue, or None.
        estimated_cells: nuclei in the tiles read, what two tiles share counted once.
        foreground: the deposit, with what of it was out of focus or could not be decoded.
        seconds: by stage: ``foreground``, ``read`` and ``quality`` (waiting for the threads that do both, divided as
            they divide their time), ``detect``, ``rank``.
    """

    boxes: Floats
    scores: Floats
    tiles_read: int
    tiles_skipped: int
    unreadable: int
    candidates: int
    focus: float
    estimated_cells: int
    foreground: Foreground
    seconds: Mapping[str, float]
    stain: tuple[float, float, float] | None = None


class _Looked(NamedTuple):
    """A tile as a reading thread hands it over.

    Attributes:
        pictures: its pixels, of each focal plane that is looked at; none where it cannot be decoded.
        quality: what was measured of it, of all planes merged.
        seconds: that reading and measuring took.
    """

    tile: Tile
    pictures: Sequence[Pixels]
    quality: TileQuality | None
    seconds: tuple[float, float]


class SlideDetectionInferer:
    """Run a tile detector over the foreground of a slide and keep the ``top_k`` best cells.

    The result depends neither on ``batch_size`` nor on ``workers`` or the threads of torch. A detector that sees each
    cell alike in every tile gives the same cells, up to 4 tile px smaller than the overlap (60 px of 64), wherever the
    tile grid starts (see :mod:`stride_monai.inferers.nms`);
    a real network sees a cell's surroundings, and then the weak boxes depend on it.

    Where a slide has several focal planes to be looked at (:attr:`~stride_monai.slides.Slide.planes`), cells are sought
    on each; boxes of one cell on two planes are one, as those of two tiles are. What is measured of the slide is
    measured on the planes merged.

    Args:
        tile_px, tile_mpp, overlap_px: the tile grid (METHOD section 3).
        top_k: cells to keep.
        min_score: least probability.
        max_per_tile: most boxes of one tile.
        nms_iou: from this intersection over union on two boxes are one cell.
        batch_size: tiles per forward on a GPU.
        workers: threads that read tiles and measure their quality; None for as many as torch has, two at least.
        origin: where the grid starts, level-0 px.
    """

    def __init__(
        self,
        tile_px: int = 512,
        tile_mpp: float = 1.0,
        overlap_px: int = 64,
        top_k: int = 1024,
        min_score: float = 0.001,
        max_per_tile: int = 500,
        nms_iou: float = 0.5,
        batch_size: int = 16,
        workers: int | None = None,
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.tile_px, self.tile_mpp, self.overlap_px = tile_px, tile_mpp, overlap_px
        self.top_k, self.min_score, self.max_per_tile, self.nms_iou = top_k, min_score, max_per_tile, nms_iou
        self.batch_size, self.origin = batch_size, origin
        self.workers = workers or max(_LEAST_READERS, torch.get_num_threads())

    def __call__(
        self,
        slide: Slide,
        network: TileDetector,
        progress: Progress | None = None,
        region: Box | None = None,
        out_of_focus: float = 0.0,
    ) -> Detections:
        """Detect on one slide, or on a part of it.

        Args:
            network: the detector, on the device it is to run on.
            progress: called with (tiles done, tiles in all).
            region: the part, level-0 px; None for all of it. Of the slide's tiles those are read that show some of it,
                and cells are given whose center lies in it. So away from its border they are those of the whole slide.
            out_of_focus: fine detail below which a tile counts as out of focus; it is read all the same.

        Raises:
            ConfigError: the region is empty, non-finite or not within the slide.
        """
        if region is not None:
            _check_region(region, slide)
        clock = Clock()
        foreground = find_foreground(slide)
        clock.lap("foreground")
        grid = [tile for tile in self.grid(slide) if region is None or tile.box.intersection(region).area > 0]
        tiles = [tile for tile in grid if foreground.touches(tile.box)]
        stream, measured, places = BoxStream(_CANDIDATES), list[TileQuality](), list[tuple[Box, Ground]]()
        seconds = (0.0, 0.0)
        with closing(self._looked(slide, tiles, clock)) as looked, closing(self._found(network, looked)) as found:
            for done, (look, detected) in enumerate(found, start=1):
                seconds = (seconds[0] + look.seconds[0], seconds[1] + look.seconds[1])
                kind = Ground.UNREADABLE
                if look.quality is not None:
                    measured.append(look.quality)
                    kind = Ground.OUT_OF_FOCUS if look.quality.blurred(out_of_focus) else Ground.READ
                for pixels, one in zip(look.pictures, detected, strict=True):
                    stream.push(*_placed(one, look.tile.box, pixels.shape[1], slide, foreground))
                places.append((_placed_core(self.core(look.tile.box, slide), look.tile.box, self.tile_px), kind))
                clock.lap("detect")
                if progress is not None:
                    progress(done, len(tiles))
        clock.divide(_WAIT, {"read": seconds[0], "quality": seconds[1]})
        boxes, scores, cut = stream.result()
        best = suppress(boxes, scores, cut, self.nms_iou)
        if region is not None:  # after suppression: a cell beside the region may be the better half of one in it
            best = best[_centered_in(region, boxes[best])]
        best = best[: self.top_k]
        clock.lap("rank")
        return Detections(
            boxes=boxes[best],
            scores=scores[best],
            tiles_read=len(measured),
            tiles_skipped=len(grid) - len(tiles),
            unreadable=len(tiles) - len(measured),
            candidates=len(scores) + stream.dropped,
            focus=statistics.median(tile.sharpness for tile in measured) if measured else 0.0,
            estimated_cells=sum(tile.nuclei for tile in measured),
            foreground=(foreground if region is None else foreground.within(region)).marked(places),
            seconds=clock.seconds,
            stain=_median_stain([tile.stain for tile in measured]),
        )

    def settings(self) -> dict[str, Any]:
        """All that decides the result beside slide and weights, as plain numbers."""
        names = ("tile_px", "tile_mpp", "overlap_px", "top_k", "min_score", "max_per_tile", "nms_iou")
        return {**{name: getattr(self, name) for name in names}, "origin": list(self.origin)}

    def grid(self, slide: Slide) -> TileGrid:
        """The tiles of a slide."""
        return TileGrid(
            slide.width,
            slide.height,
            slide.mpp,
            tile_mpp=self.tile_mpp,
            tile_px=self.tile_px,
            overlap_px=self.overlap_px,
            origin=self.origin,
        )

    def _looked(self, slide: Slide, tiles: Sequence[Tile], clock: Clock) -> Generator[_Looked, None, None]:
        """The tiles, read and measured by threads ahead of the network."""
        with (
            ThreadPoolExecutor(self.workers, thread_name_prefix="tiles") as pool,
            closing(done_ahead(pool, partial(self._look, slide), tiles, _AHEAD * self.workers)) as looked,
        ):
            while True:
                clock.lap("detect")
                look = next(looked, None)
                clock.lap(_WAIT)
                if look is None:
                    return
                yield look

    def _look(self, slide: Slide, tile: Tile) -> _Looked:
        start = time.perf_counter()
        try:
            pixels = slide.read(tile.box, self.tile_mpp)
            pictures = [plane.read(tile.box, self.tile_mpp) for plane in slide.planes] or [pixels]
        except RegionError:
            return _Looked(tile, (), None, (time.perf_counter() - start, 0.0))
        read = time.perf_counter()
        quality = measure_tile(pixels, self.tile_mpp, self.core(tile.box, slide))
        return _Looked(tile, pictures, quality, (read - start, time.perf_counter() - read))

    def _found(
        self, network: TileDetector, looked: Iterator[_Looked]
    ) -> Generator[tuple[_Looked, list[TileDetections]], None, None]:
        """Each tile with the detections of each of its pictures, in order."""
        if not _on_cpu(network):
            while batch := list(islice(looked, self.batch_size)):
                found = self._on_device(network, [pixels for look in batch for pixels in look.pictures])
                yield from ((look, list(islice(found, len(look.pictures)))) for look in batch)
            return

        def each(look: _Looked) -> tuple[_Looked, list[TileDetections]]:
            # One by one: what is found on a tile depends on no other.
            return look, [self._forward(network, pixels[None])[0] for pixels in look.pictures]

        with (
            one_thread() as threads,
            ThreadPoolExecutor(threads, thread_name_prefix="forwards") as pool,
            closing(done_ahead(pool, each, looked, 2 * threads)) as done,
        ):
            yield from done

    def _on_device(self, network: TileDetector, tiles: Sequence[Pixels]) -> Iterator[TileDetections]:
        for start in range(0, len(tiles), self.batch_size):
            some = tiles[start : start + self.batch_size]
            # Filled up to a full batch: a GPU library picks its kernels, and with them the rounding, by its size.
            stack = np.zeros((self.batch_size, *some[0].shape), np.uint8)
            stack[: len(some)] = some
            yield from self._forward(network, stack)[: len(some)]

    def _forward(self, network: TileDetector, tiles: Pixels) -> list[TileDetections]:
        """Detections of tiles [B, H, W, 3]."""
        image = torch.from_numpy(tiles).permute(0, 3, 1, 2).to(_device(network))
        return detect(network, image, self.min_score, self.max_per_tile, self.nms_iou)

    def core(self, tile: Box, slide: Slide) -> Box[TilePx]:
        """The part of a tile that is its own: half of each overlap; all of it at the slide's border."""
        half, full = self.overlap_px / 2, float(self.tile_px)
        return Box(
            0.0 if tile.x0 <= 0 else half,
            0.0 if tile.y0 <= 0 else half,
            full if tile.x1 >= slide.width else full - half,
            full if tile.y1 >= slide.height else full - half,
        )


class TileDetectionInferer:
    """A detector over a batch of loose tiles, as evaluators of MONAI call it.

    Args:
        min_score, max_per_tile, nms_iou: as in :meth:`~stride_monai.networks.TileDetector.detect`.
    """

    def __init__(self, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5) -> None:
        self.min_score, self.max_per_tile, self.nms_iou = min_score, max_per_tile, nms_iou

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module) -> list[TileDetections]:
        """Detections of each tile of ``inputs`` [B, 3, H, W]."""
        detector: Any = getattr(network, "module", network)  # inside DistributedDataParallel
        return detect(detector, inputs, self.min_score, self.max_per_tile, self.nms_iou)


def _placed_core(core: Box[TilePx], tile: Box, tile_px: int) -> Box:
    """A tile's own part in level-0 px."""
    scale = tile.width / tile_px
    x0, y0, x1, y1 = (side * scale for side in core)
    return Box(tile.x0 + x0, tile.y0 + y0, tile.x0 + x1, tile.y0 + y1)


def _median_stain(stains: Sequence[tuple[float, float, float] | None]) -> tuple[float, float, float] | None:
    known = [stain for stain in stains if stain is not None]
    if not known:
        return None
    red, green, blue = (statistics.median(channel) for channel in zip(*known, strict=True))
    return red, green, blue


def _device(network: TileDetector) -> torch.device:
    parameters: Iterator[torch.Tensor] = iter(getattr(network, "parameters", tuple)())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _on_cpu(network: TileDetector) -> bool:
    return _device(network).type == "cpu"


def _placed(
    found: TileDetections, tile: Box, width_px: int, slide: Slide, foreground: Foreground
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Boxes in level-0 px clipped to tile and slide, scores, and whether an inner border of the tile cuts each box.

    Only boxes with their centre on the foreground: what else a tile happens to show depends on where the grid starts.
    """
    scale = tile.width / width_px
    boxes = found.boxes.double().cpu().numpy() * scale + (tile.x0, tile.y0, tile.x0, tile.y0)
    scores = found.scores.double().cpu().numpy()
    margin = _CUT_MARGIN * scale
    cut = (
        ((boxes[:, 0] < tile.x0 + margin) & (tile.x0 > 0))
        | ((boxes[:, 1] < tile.y0 + margin) & (tile.y0 > 0))
        | ((boxes[:, 2] > tile.x1 - margin) & (tile.x1 < slide.width))
        | ((boxes[:, 3] > tile.y1 - margin) & (tile.y1 < slide.height))
    )
    low = (max(tile.x0, 0.0), max(tile.y0, 0.0)) * 2
    high = (min(tile.x1, float(slide.width)), min(tile.y1, float(slide.height))) * 2
    boxes = np.clip(boxes, low, high)
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & foreground.on(x, y)
    return boxes[valid], scores[valid], cut[valid]


def _check_region(region: Box, slide: Slide) -> None:
    whole = Box(0, 0, slide.width, slide.height)
    name = f"the region {', '.join(f'{side:g}' for side in region)} of slide '{slide.facts.slide_id}'"
    if not all(math.isfinite(side) for side in region):
        what = f"{name} is non-finite"
    elif region.width <= 0 or region.height <= 0:
        what = f"{name} is empty"
    elif region.intersection(whole) != region:
        what = f"{name} is not within its {slide.width} x {slide.height} px"
    else:
        return
    raise ConfigError(what, "give x0, y0, x1, y1 in level-0 px, x0 < x1 and y0 < y1")


def _centered_in(region: Box, boxes: Floats) -> NDArray[np.bool_]:
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    inside: NDArray[np.bool_] = (x >= region.x0) & (x < region.x1) & (y >= region.y0) & (y < region.y1)
    return inside
