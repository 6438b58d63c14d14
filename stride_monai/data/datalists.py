"""The lists that bundles train on: plain dictionaries, made from a cohort folder by one function per task.

A cohort folder holds ``manifest.csv``, ``cells.csv`` and the slides. Every function can stand in a bundle's JSON, e.g.
``"$stride_monai.data.datalists.cell_crops(@dataset_dir, 'train')"``. The same folder and seed give the same list on
every machine.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE, SLIDE_CLASSES
from stride_monai.data.bag import BAG_SUFFIX, BagFile
from stride_monai.data.cells import CellRecord, read_cells
from stride_monai.data.hashing import digest, unit_interval
from stride_monai.data.manifest import SlideRecord, parse_split, read_manifest
from stride_monai.data.splits import refuse_straddling
from stride_monai.errors import BagError, ManifestError
from stride_monai.slides import Slide, open_slide
from stride_monai.slides.foreground import find_foreground
from stride_monai.units import Box

__all__ = ["bags", "cell_crops", "class_counts", "detection_tiles", "slides"]

_log = logging.getLogger(__name__)
_WHOLE = 1 - 1e-9  # of a cell that is cut by rounding only
_TRIES = 200


def slides(dataset_dir: Path | str, split: str | None = None) -> list[dict[str, Any]]:
    """The slides of a split, or all of them.

    Returns:
        Dictionaries with ``image`` (path), ``mpp`` (um/px that the manifest states, or None), ``slide_id``.

    Raises:
        ManifestError: no manifest, a broken one, or no slide in the split.
    """
    return [
        {"image": str(record.path), "mpp": record.mpp, "slide_id": record.slide_id}
        for record in _records(Path(dataset_dir), split)
    ]


def detection_tiles(
    dataset_dir: Path | str,
    split: str,
    tile_px: int = 512,
    tile_mpp: float = 1.0,
    negatives_per_positive: float = 0.5,
    seed: int = 0,
    min_visible: float = 0.3,
) -> list[dict[str, Any]]:
    """Tiles for the lesion-cell detector, all positive classes merged into one.

    Tiles are laid around the positive cells, each shifted at random, until every positive cell of the split lies wholly
    in one. To them come random tiles on the deposit of slides labelled NILM; never of other slides, whose lesions may
    only not be annotated.

    Args:
        dataset_dir: cohort folder.
        split: ``train``, ``validation`` or ``test``.
        tile_px: side of a tile in its own px.
        tile_mpp: um/px of the tiles.
        negatives_per_positive: number of tiles of negative slides for each tile with positive cells.
        seed: moves the tiles.
        min_visible: a cell of which the tile shows a smaller share is left out, 0-1. Training leaves out slivers; an
            evaluation takes 0, so that no detection of a sliver counts as a mistake.

    Returns:
        Dictionaries with ``image`` (slide path), ``mpp`` (um/px of the slide), ``box`` (tile in level-0 px), ``boxes``
        (positive cells in tile px, clipped to the tile), ``visible`` (the share of each of them that the tile shows,
        1 for one that no border cuts), ``slide_id``.

    Raises:
        ManifestError: broken tables, no slide in the split, or no positive cell on them.
        SlideError: a slide cannot be opened.
    """
    records, cells = _cohort(Path(dataset_dir), split)
    tiles: list[dict[str, Any]] = []
    for record in records:
        positives = [cell for cell in cells[record.slide_id] if cell.positive]
        if positives:
            with open_slide(record.path, mpp=record.mpp) as slide:
                side = tile_px * tile_mpp / slide.mpp
                for box in _covering(positives, slide, side, seed):
                    tiles.append(_tile_item(record, slide, box, positives, tile_px, min_visible))
    if not tiles:
        raise ManifestError(f"split '{split}' has no positive cell", "the detector learns from labelled positive cells")
    wanted = round(negatives_per_positive * len(tiles))
    for record, count in _shared_out(records, wanted, split):
        with open_slide(record.path, mpp=record.mpp) as slide:
            side = tile_px * tile_mpp / slide.mpp
            for x, y in _deposit_points(slide, record.slide_id, count, seed):
                tiles.append(
                    _tile_item(record, slide, _within(Box.around(x, y, side), slide), [], tile_px, min_visible)
                )
    return tiles


def cell_crops(dataset_dir: Path | str, split: str, random_negatives: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Labelled cells for the cell classifier: every annotation, and optionally random crops of negative slides.

    Args:
        dataset_dir: cohort folder.
        split: ``train``, ``validation`` or ``test``.
        random_negatives: number of NILM crops at random on the deposit of slides labelled NILM, over the whole split.
        seed: moves the random crops.

    Returns:
        Dictionaries with ``image`` (slide path), ``mpp`` (um/px that the manifest states, or None), ``centre`` (x, y in
        level-0 px), ``label`` (index into CELL_CLASSES), ``slide_id``, ``cell_id``.

    Raises:
        ManifestError: broken tables, no slide in the split, or no cell on them.
        SlideError: a slide cannot be opened.
    """
    records, cells = _cohort(Path(dataset_dir), split)
    items = [
        _crop_item(record, cell.box.centre, CELL_CLASSES.index(cell.cell_class), cell.cell_id)
        for record in records
        for cell in cells[record.slide_id]
    ]
    for record, count in _shared_out(records, random_negatives, split):
        with open_slide(record.path, mpp=record.mpp) as slide:
            points = _deposit_points(slide, record.slide_id, count, seed)
        negative = CELL_CLASSES.index(NEGATIVE)
        items += [_crop_item(record, point, negative, f"random-{place}") for place, point in enumerate(points)]
    if not items:
        raise ManifestError(f"split '{split}' has no labelled cell", "fill cells.csv, or choose another split")
    _log.info("cells of split %s: %s", split, class_counts(items))
    return items


def class_counts(items: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many items there are of each cell class, in class order."""
    counts = Counter(int(item["label"]) for item in items)
    return {name: counts[index] for index, name in enumerate(CELL_CLASSES)}


def bags(
    bag_dir: Path | str, manifest: Path | str, split: str | None = None, allow_missing: bool = False
) -> list[dict[str, Any]]:
    """The bags of a split with the labels of their slides.

    Args:
        bag_dir: folder that holds, at any depth, one ``<slide_id>.bag.arrow`` per slide.
        manifest: manifest file, or the cohort folder it is in.
        split: ``train``, ``validation`` or ``test``; None for all.
        allow_missing: leave out slides whose bag is absent or holds no cell, with a warning, instead of refusing.

    Returns:
        Dictionaries with ``bag`` (path), ``label`` (index into SLIDE_CLASSES), ``slide_id``.

    Raises:
        ManifestError: a slide of the split has no label, or there is no slide in the split.
        BagError: a bag is damaged; or absent or empty and that is not allowed.
    """
    records = _records(Path(manifest), split)
    unlabelled = [record.slide_id for record in records if record.slide_class is None]
    if unlabelled:
        raise ManifestError(f"slide '{unlabelled[0]}' has no slide_class", "label every slide that trains or evaluates")
    paths: dict[str, Path] = {}
    for path in sorted(Path(bag_dir).rglob(f"*{BAG_SUFFIX}")):
        slide_id = path.name.removesuffix(BAG_SUFFIX)
        if slide_id in paths:
            raise BagError(f"there are two bags of '{slide_id}' in {Path(bag_dir).name}", "keep one")
        paths[slide_id] = path
    unusable = [record.slide_id for record in records if not _has_cells(paths.get(record.slide_id))]
    if unusable and not allow_missing:
        raise BagError(
            f"{len(unusable)} of {len(records)} slides have no bag with cells, e.g. '{unusable[0]}'",
            "make the bags of these slides, or pass allow_missing=True to leave them out",
        )
    if unusable:
        _log.warning("%d slides without a bag or with an empty one are left out: %s", len(unusable), unusable)
    return [
        {
            "bag": str(paths[record.slide_id]),
            "label": SLIDE_CLASSES.index(record.slide_class or NEGATIVE),
            "slide_id": record.slide_id,
        }
        for record in records
        if record.slide_id not in set(unusable)
    ]


def _has_cells(path: Path | None) -> bool:
    return path is not None and len(BagFile(path)) > 0


def _records(manifest: Path, split: str | None) -> list[SlideRecord]:
    path = manifest / "manifest.csv" if manifest.is_dir() else manifest
    if not path.exists():
        raise ManifestError(
            f"there is no {path.name} in {path.parent.name}",
            "a cohort folder holds manifest.csv, cells.csv and the slides; render one, or write them for your slides",
        )
    records = read_manifest(path)
    refuse_straddling(records, path.name)
    chosen = [record for record in records if split is None or record.split == parse_split(split)]
    if not chosen:
        where = f" in split '{split}'" if split else ""
        raise ManifestError(f"{path.name} has no slide{where}", "check its column 'split'")
    return chosen


def _cohort(folder: Path, split: str) -> tuple[list[SlideRecord], dict[str, list[CellRecord]]]:
    """Slides of a split, and their cells by slide id."""
    everything = {record.slide_id: record for record in _records(folder, None)}
    chosen = _records(folder, split)
    cells: dict[str, list[CellRecord]] = {record.slide_id: [] for record in chosen}
    for cell in read_cells(folder / "cells.csv"):
        record = everything.get(cell.slide_id)
        if record is None:
            raise ManifestError(
                f"cells.csv names slide '{cell.slide_id}', manifest.csv does not", "correct one of them"
            )
        if cell.positive and record.slide_class == NEGATIVE:
            raise ManifestError(
                f"slide '{cell.slide_id}' is labelled {NEGATIVE}, its cell '{cell.cell_id}' is {cell.label}",
                "correct the slide's class or the cell's label",
            )
        if cell.slide_id in cells:
            cells[cell.slide_id].append(cell)
    return chosen, cells


def _shared_out(records: Sequence[SlideRecord], count: int, split: str) -> Iterator[tuple[SlideRecord, int]]:
    """The negative slides with their share of a number, as even as can be."""
    negatives = [record for record in records if record.slide_class == NEGATIVE]
    if count and not negatives:
        _log.warning("split %s has no slide labelled %s: the list has no random negatives", split, NEGATIVE)
    for place, record in enumerate(negatives):
        share = (place + 1) * count // len(negatives) - place * count // len(negatives)
        if share:
            yield record, share


def _covering(positives: Sequence[CellRecord], slide: Slide, side: float, seed: int) -> list[Box]:
    """Tiles of ``side`` level-0 px such that every cell lies wholly in one, as far as it fits into one at all."""
    chosen: list[Box] = []
    for cell in sorted(positives, key=lambda cell: digest(seed, cell.slide_id, cell.cell_id)):
        box = cell.box
        if any(tile.intersection(box).area >= box.area for tile in chosen):
            continue
        jitter = [unit_interval(seed, cell.slide_id, cell.cell_id, axis) for axis in ("x", "y")]
        x0 = _shifted(box.x0, box.x1, side, jitter[0])
        y0 = _shifted(box.y0, box.y1, side, jitter[1])
        chosen.append(_within(Box(x0, y0, x0 + side, y0 + side), slide))
    return chosen


def _shifted(low: float, high: float, side: float, share: float) -> float:
    """Start of an interval of length ``side`` that holds ``low``-``high``; in the middle of it where it is too long."""
    slack = side - (high - low)
    return low - slack * (share if slack > 0 else 0.5)


def _within(box: Box, slide: Slide) -> Box:
    """The box moved into the slide; at the slide's corner where the slide is smaller than the box."""
    x0 = min(max(box.x0, 0.0), max(slide.width - box.width, 0.0))
    y0 = min(max(box.y0, 0.0), max(slide.height - box.height, 0.0))
    return Box(x0, y0, x0 + box.width, y0 + box.height)


def _tile_item(
    record: SlideRecord, slide: Slide, tile: Box, positives: Sequence[CellRecord], tile_px: int, least: float
) -> dict[str, Any]:
    scale = tile_px / tile.width
    boxes, visible = [], []
    for cell in positives:
        seen = tile.intersection(cell.box)
        share = min(seen.area / cell.box.area, 1.0)
        if share > 0 and share >= least:
            visible.append(1.0 if share > _WHOLE else share)
            boxes.append(
                [
                    (seen.x0 - tile.x0) * scale,
                    (seen.y0 - tile.y0) * scale,
                    (seen.x1 - tile.x0) * scale,
                    (seen.y1 - tile.y0) * scale,
                ]
            )
    return {
        "image": str(record.path),
        "mpp": slide.mpp,
        "box": tuple(tile),
        "boxes": boxes,
        "visible": visible,
        "slide_id": record.slide_id,
    }


def _crop_item(record: SlideRecord, centre: tuple[float, float], label: int, cell_id: str) -> dict[str, Any]:
    return {
        "image": str(record.path),
        "mpp": record.mpp,
        "centre": centre,
        "label": label,
        "slide_id": record.slide_id,
        "cell_id": cell_id,
    }


def _deposit_points(slide: Slide, slide_id: str, count: int, seed: int) -> list[tuple[float, float]]:
    """Points on the deposit, level-0 px; fewer than asked for where the deposit is hardly there."""
    foreground = find_foreground(slide)
    points: list[tuple[float, float]] = []
    for attempt in range(_TRIES * count):
        x = unit_interval(seed, slide_id, attempt, "x") * slide.width
        y = unit_interval(seed, slide_id, attempt, "y") * slide.height
        if foreground.touches(Box.around(x, y, 1.0)):
            points.append((x, y))
            if len(points) == count:
                return points
    _log.warning("slide %s: %d of %d places on the deposit found", slide_id, len(points), count)
    return points
