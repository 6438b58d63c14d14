"""Labelled crops of a cohort as bag files, written once, so that training never opens a slide again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.data.cells import read_cells
from stride_monai.data.datalists import cell_crops
from stride_monai.data.manifest import SPLITS, read_manifest
from stride_monai.errors import BagError, ManifestError
from stride_monai.files import config_hash
from stride_monai.slides import crop_around, open_slide
from stride_monai.units import Box

__all__ = ["write_labeled_bags"]

_log = logging.getLogger(__name__)
_BORDER = "own background"  # what a crop shows beyond its slide's border


def write_labeled_bags(
    dataset_dir: Path | str,
    output_dir: Path | str,
    crop_px: int = 224,
    crop_mpp: float = 0.5,
    random_negatives: int = 0,
    seed: int = 0,
    read_threads: int = 4,
) -> int:
    """Write ``<slide_id>.bag.arrow`` with the labelled crops of each slide of a cohort that has any.

    The cells are those of :func:`stride_monai.data.cell_crops` for every split. No detector has ranked them:
    each has score 1 and stands in the order of ``cells.csv``. A random negative has no box of its own, its box is that
    of its crop. A bag that is there and was made from the same cells and numbers is kept: an interrupted run goes on.

    Args:
        dataset_dir: cohort folder.
        output_dir: where the bags go.
        crop_px, crop_mpp: side of a crop in its own px, and its um/px.
        random_negatives: number of NILM crops at random on negative slides of the split ``train``.
        seed: moves the random crops.
        read_threads: threads that read a slide.

    Returns:
        The number of crops in all bags.

    Raises:
        ManifestError: broken tables, or no labelled cell in any split.
        SlideError, RegionError: a slide cannot be read. What was written before is complete.
        OutputError: the folder cannot be written to.
    """
    folder, out = Path(dataset_dir), Path(output_dir)
    records = {record.slide_id: record for record in read_manifest(folder / "manifest.csv")}
    there = {record.split for record in records.values()}
    items = [
        item
        for split in SPLITS
        if split in there
        for item in cell_crops(folder, split, random_negatives if split == "train" else 0, seed)
    ]
    if not items:
        raise ManifestError("no slide of the cohort is in a split", "fill the column 'split' of manifest.csv")
    marked = {(cell.slide_id, cell.cell_id): cell for cell in read_cells(folder / "cells.csv")}
    by_slide = sorted(items, key=lambda item: str(item["slide_id"]))  # stable: cells keep their order
    for slide_id, group in groupby(by_slide, key=lambda item: str(item["slide_id"])):
        cells = []
        for item in group:  # a random negative has neither box nor descriptions
            cell = marked.get((slide_id, item["cell_id"]))
            cells.append({**item, "box": cell and cell.box, "descriptions": cell.descriptions if cell else ()})
        made_from = [{key: value for key, value in cell.items() if key != "image"} for cell in cells]
        made_from_hash = config_hash({"cells": made_from, "crop_px": crop_px, "crop_mpp": crop_mpp, "border": _BORDER})
        path = out / f"{slide_id}{BAG_SUFFIX}"
        if _made_from(path) != made_from_hash:
            facts = {"slide_class": records[slide_id].slide_class, "config_hash": made_from_hash}
            _write(path, cells, crop_px, crop_mpp, facts, read_threads)
    _log.info("%d labelled crops in %s", len(items), out.name)
    return len(items)


def _made_from(path: Path) -> str | None:
    """What a bag says it was made from; None where there is no whole bag."""
    try:
        return BagFile(path).header.config_hash
    except BagError:
        return None


def _write(
    path: Path,
    cells: Sequence[Mapping[str, Any]],
    crop_px: int,
    crop_mpp: float,
    facts: Mapping[str, Any],
    read_threads: int,
) -> None:
    first = cells[0]
    with open_slide(first["image"], mpp=first["mpp"]) as slide, ThreadPoolExecutor(read_threads) as pool:
        side = crop_px * crop_mpp / slide.mpp  # of what a random negative is: it has no box of its own

        def crop(cell: Mapping[str, Any]) -> BagCell:
            x, y = cell["centre"]
            seen = Box.around(x, y, side)
            return BagCell(
                score=1.0,
                box=cell["box"] or seen,
                jpeg=encode_crop(crop_around(slide, x, y, crop_px, crop_mpp, own_background=True)),
                cell_class=CELL_CLASSES[cell["label"]],
                descriptions=cell["descriptions"],
                crop_center=(x, y),
            )

        rows = list(pool.map(crop, cells))
        header = BagHeader(first["slide_id"], slide.mpp, crop_mpp, crop_px, top_k=len(cells), **facts)
    write_bag(path, header, rows)
    _log.info("%s: %d labelled crops", header.slide_id, len(rows))
