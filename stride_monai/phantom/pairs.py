"""Bags of cells in twos, as drawn and with one property changed, to train descriptions with.

The cells of a cohort leave a reader free to say what usually goes together. Of two cells that differ in one property it
has to say that property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.errors import BagError, ConfigError
from stride_monai.files import config_hash
from stride_monai.phantom.centres import ANY, SITES
from stride_monai.phantom.cohorts.bags import check_crops
from stride_monai.phantom.cohorts.cohort import DRAWING
from stride_monai.phantom.counterfactual import PROPERTIES, Counterfactual, counterfactual
from stride_monai.phantom.render import DENSITY_13_MM
from stride_monai.units import Box

__all__ = ["draw_pairs", "make_pairs"]

_SEEDS_OF_A_PROPERTY = 10_000
_EVERY_CENTRE = tuple(name for site in SITES for name in (ANY, site))


def make_pairs(
    folder: Path,
    number: int,
    *,
    names: Sequence[str] = tuple(PROPERTIES),
    centres: Sequence[str] = _EVERY_CENTRE,
    seed: int = 0,
    crop_px: int = 224,
    crop_mpp: float = 0.5,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Write ``<property>.bag.arrow`` with pairs of cells (:func:`stride_monai.phantom.counterfactual`) and their texts.

    The two cells of a pair follow each other. A box is that of the crop, whose pixels stand for those of a slide. A bag
    that is there and was made from the same arguments is kept.

    Args:
        folder: where the bags go.
        number: of pairs of each property, at most 10,000.
        names: of the properties.
        centres: laboratories, in turn.
        seed: of the first pair; properties are 10,000 seeds apart.
        crop_px, crop_mpp: side in px and um/px of the crops.
        progress: told each property that is done.

    Returns:
        The bags.

    Raises:
        ConfigError: there is no such property or centre, no pair is asked for, or crops have no size.
        OutputError: a bag cannot be written.
    """
    check_crops(2, crop_px, crop_mpp)
    if not 1 <= number <= _SEEDS_OF_A_PROPERTY or not centres:
        raise ConfigError(f"{number} pairs at {len(centres)} centres", f"ask for 1 to {_SEEDS_OF_A_PROPERTY} pairs")
    settings = {"number": number, "centres": list(centres), "seed": seed, "drawing": DRAWING}
    written = []
    for name in names:
        path = Path(folder) / f"{name}{BAG_SUFFIX}"
        header = BagHeader(
            name, crop_mpp, crop_mpp, crop_px, 2 * number, config_hash=config_hash({"name": name, **settings})
        )
        if not _is_made(path, header):
            drawn = draw_pairs(name, number, centres, seed, crop_px, crop_mpp)
            cells = [cell for pair in drawn for cell in _cells(pair, crop_px)]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bag(path, header, cells)
        written.append(path)
        progress(name)
    return written


def draw_pairs(
    name: str, number: int, centres: Sequence[str], seed: int, crop_px: int, crop_mpp: float
) -> Iterator[Counterfactual]:
    """The pairs of one property, one by one; arguments as of :func:`make_pairs`."""
    first = seed + _SEEDS_OF_A_PROPERTY * list(PROPERTIES).index(name) if name in PROPERTIES else seed
    for i in range(number):
        yield counterfactual(
            name,
            seed=first + i,
            centre=centres[i % len(centres)],
            crop_px=crop_px,
            crop_mpp=crop_mpp,
            density_per_mm2=DENSITY_13_MM,
            compressed=True,
        )


def _cells(pair: Counterfactual, crop_px: int) -> list[BagCell]:
    whole: Box = Box(0.0, 0.0, float(crop_px), float(crop_px))
    crops = (pair.original, pair.changed)
    return [
        BagCell(1.0, whole, encode_crop(crop), truth.cell_class, truth.descriptions)
        for crop, truth in zip(crops, pair.truths, strict=True)
    ]


def _is_made(path: Path, header: BagHeader) -> bool:
    try:
        there = BagFile(path).header
    except BagError:  # absent or damaged: made anew
        return False
    return (there.config_hash, there.crop_px, there.crop_mpp) == (header.config_hash, header.crop_px, header.crop_mpp)
