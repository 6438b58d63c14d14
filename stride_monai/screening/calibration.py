"""The pictures that the detector is quantized on: tiles of some of the slides, chosen without their labels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, RegionError, SlideError
from stride_monai.runtimes.networks import quantize_detector
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput, open_input
from stride_monai.screening.screener import Screener
from stride_monai.slides import find_foreground

__all__ = ["SLIDES", "TILES", "apart", "quantize", "tiles_of"]

SLIDES, TILES = 8, 192
"""At most so many slides and tiles."""
_SHARE = 8  # one of so many slides
_log = logging.getLogger(__name__)


def apart(slides: Sequence[SlideInput]) -> tuple[list[SlideInput], list[SlideInput]]:
    """The slides to quantize on, and the others, which judge: by the hash of their ids, so the same every time."""
    count = min(SLIDES, len(slides) // _SHARE)
    mixed = sorted(slides, key=lambda item: hashlib.sha256(item.slide_id.encode()).hexdigest())
    chosen = {item.slide_id for item in mixed[:count]}
    return mixed[:count], [item for item in slides if item.slide_id not in chosen]


def tiles_of(
    screener: Screener, slides: Sequence[SlideInput], on_slide: Callable[[int], None] = lambda done: None
) -> NDArray[np.uint8]:
    """As many tiles ``[n, 3, H, W]``, RGB 0-255, of each slide, from all over its deposit.

    Args:
        slides: one that cannot be read is left out, which is logged.
        on_slide: called with the number of slides done.

    Raises:
        ConfigError: no slide can be read.
    """
    tiles: list[NDArray[np.uint8]] = []
    for done, item in enumerate(slides, start=1):
        try:
            tiles += _of_slide(screener, item, TILES // len(slides))
        except SlideError as error:
            _log.warning("%s is not quantized on: %s", item.slide_id, error)
            continue
        on_slide(done)
    if not tiles:
        raise ConfigError("there is no slide to quantize on that can be read", "give more slides")
    return np.stack(tiles)


def _of_slide(screener: Screener, item: SlideInput, count: int) -> list[NDArray[np.uint8]]:
    finder = screener.finder
    assert finder is not None
    with open_input(item, screener.config) as slide:
        foreground = find_foreground(slide)
        places = [tile for tile in finder.inferer.grid(slide) if foreground.touches(tile.box)]
        tiles = []
        for k in _spread(len(places), count):
            try:
                tiles.append(slide.read(places[k].box, finder.inferer.tile_mpp).transpose(2, 0, 1))
            except RegionError:
                continue
    return tiles


def _spread(of: int, count: int) -> list[int]:
    """At most ``count`` of the numbers below ``of``, evenly."""
    return sorted({int(k) for k in np.linspace(0, of - 1, min(of, count))}) if of else []


def quantize(
    config: ScreeningConfig,
    slides: Sequence[SlideInput],
    home: Path,
    on_slide: Callable[[int], None] = lambda done: None,
) -> None:
    """Quantize the detector that a configuration names on these slides; what was made of the same already stays.

    Args:
        home: of the networks in int8. on_slide: as of :func:`tiles_of`.

    Raises:
        ConfigError: a network of another kind, or of other slides, lies there; or the detector cannot be quantized.
    """
    screener = Screener(config)
    assert screener.models.detector is not None
    quantize_detector(screener.models.detector, tiles_of(screener, slides, on_slide), home)
