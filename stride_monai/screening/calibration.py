"""The pictures that networks are quantized on: tiles and cells of some of the slides, chosen without their labels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, RegionError, SlideError
from stride_monai.inferers.cpu import CPU_BATCH
from stride_monai.networks.alignment.views import CellViews
from stride_monai.runtimes.networks import quantize_screening
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput, open_input
from stride_monai.screening.screener import Screener
from stride_monai.slides import find_foreground

__all__ = ["CROPS", "SLIDES", "TILES", "Calibration", "apart", "calibration_of", "quantize"]

SLIDES, TILES, CROPS = 8, 192, 768
"""At most so many slides, tiles and cells."""
_SHARE = 8  # one of so many slides
_log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """Pictures ``[n, 3, H, W]``, RGB 0-255."""

    tiles: NDArray[np.uint8]
    crops: NDArray[np.uint8]


def apart(slides: Sequence[SlideInput]) -> tuple[list[SlideInput], list[SlideInput]]:
    """The slides to quantize on, and the others, which judge: by the hash of their ids, so the same every time."""
    count = min(SLIDES, len(slides) // _SHARE)
    mixed = sorted(slides, key=lambda item: hashlib.sha256(item.slide_id.encode()).hexdigest())
    chosen = {item.slide_id for item in mixed[:count]}
    return mixed[:count], [item for item in slides if item.slide_id not in chosen]


def calibration_of(
    screener: Screener, slides: Sequence[SlideInput], on_slide: Callable[[int], None] = lambda done: None
) -> Calibration:
    """As many tiles of each slide, from all over its deposit, and as many of its cells, from the first to the K-th.

    Args:
        slides: one that cannot be read is left out, which is logged.
        on_slide: called with the number of slides done.

    Raises:
        ConfigError: no slide can be read.
    """
    tiles: list[NDArray[np.uint8]] = []
    crops: list[NDArray[np.uint8]] = []
    for done, item in enumerate(slides, start=1):
        try:
            of_tiles, of_crops = _of_slide(screener, item, TILES // len(slides), CROPS // len(slides))
        except SlideError as error:
            _log.warning("%s is not quantized on: %s", item.slide_id, error)
            continue
        tiles += of_tiles
        crops += of_crops
        on_slide(done)
    if not tiles or not crops:
        raise ConfigError("there is no slide to quantize on that can be read", "give more slides")
    return Calibration(np.stack(tiles), np.stack(crops))


def _of_slide(
    screener: Screener, item: SlideInput, tiles: int, crops: int
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    finder = screener.finder
    assert finder is not None
    with open_input(item, screener.config) as slide:
        foreground = find_foreground(slide)
        places = [tile for tile in finder.inferer.grid(slide) if foreground.touches(tile.box)]
        pictures = []
        for k in _spread(len(places), tiles):
            try:
                pictures.append(slide.read(places[k].box, finder.inferer.tile_mpp).transpose(2, 0, 1))
            except RegionError:
                continue
        bag = finder.find(slide, slide_id=item.slide_id)
        cells = bag.images[: int(bag.mask.sum())].numpy()
    return pictures, [cells[k] for k in _spread(len(cells), crops)]


def _spread(of: int, count: int) -> list[int]:
    """At most ``count`` of the numbers below ``of``, evenly."""
    return sorted({int(k) for k in np.linspace(0, of - 1, min(of, count))}) if of else []


def quantize(
    config: ScreeningConfig,
    slides: Sequence[SlideInput],
    home: Path,
    on_slide: Callable[[int], None] = lambda done: None,
) -> None:
    """Quantize the networks that a configuration names on these slides; what was made of the same already stays.

    Args:
        home: of the networks. on_slide: as of :func:`calibration_of`.

    Raises:
        ConfigError: networks of another kind, or of other slides, lie there; or the networks cannot be quantized.
    """
    screener = Screener(config)
    models, pictures = screener.models, calibration_of(screener, slides, on_slide)
    assert models.detector is not None
    views = CellViews(models.classifier.encoder, models.explainer.levels)
    quantize_screening(models.detector, pictures.tiles, views, CPU_BATCH, pictures.crops, home)
