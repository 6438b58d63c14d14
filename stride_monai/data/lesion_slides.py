"""Whole slides with their marked lesions: what a slide-wide evaluation of a detector goes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stride_monai.data.cells import read_cells
from stride_monai.data.datalists import slides
from stride_monai.data.manifest import read_manifest
from stride_monai.errors import ManifestError

__all__ = ["lesion_slides"]


def lesion_slides(dataset_dir: Path | str, split: str | None = None) -> list[dict[str, Any]]:
    """The slides of a split with their positive cells, all positive classes merged into one.

    Args:
        dataset_dir: cohort folder.
        split: ``train``, ``validation`` or ``test``; None for all.

    Returns:
        Dictionaries with ``image`` (path), ``mpp`` (um/px that the manifest states, or None), ``slide_id``,
        ``slide_class`` and ``boxes``, a list of (x0, y0, x1, y1) in level-0 px.

    Raises:
        ManifestError: broken tables, no slide in the split, or a slide without a class.
    """
    folder = Path(dataset_dir)
    classes = {record.slide_id: record.slide_class for record in read_manifest(folder / "manifest.csv")}
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for cell in read_cells(folder / "cells.csv"):
        if cell.positive:
            boxes.setdefault(cell.slide_id, []).append(tuple(cell.box))
    items = slides(folder, split)
    for item in items:
        if classes[item["slide_id"]] is None:
            raise ManifestError(f"slide '{item['slide_id']}' has no slide_class", "label every slide that evaluates")
    return [
        {**item, "slide_class": classes[item["slide_id"]], "boxes": boxes.get(item["slide_id"], [])} for item in items
    ]
