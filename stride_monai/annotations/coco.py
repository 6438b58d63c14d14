"""Annotations as a COCO detection file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.annotations.records import cell_records, is_reviewed
from stride_monai.annotations.state import SlideState
from stride_monai.bethesda import ABNORMAL, CELL_CLASSES, LABELS, UNLABELED

__all__ = ["coco_text"]

CATEGORIES: tuple[str, ...] = (*dict.fromkeys((*LABELS, *CELL_CLASSES)), ABNORMAL, UNLABELED)
"""Names of the categories; their ids are their places from 1, the same in every file."""


def coco_text(states: Iterable[SlideState], paths: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]]) -> str:
    """The reviewed cells of slides (:func:`~stride_monai.annotations.cell_records`) as COCO, as text.

    Boxes are ``[x, y, width, height]`` in level-0 px; what COCO has no field for stands in ``attributes``.

    Args:
        paths: slide id -> its file, whose name alone is written.
        sizes: slide id -> width and height, level-0 px.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for state in states:
        if not is_reviewed(state):
            continue
        width, height = sizes[state.slide_id]
        image = {"id": len(images) + 1, "file_name": paths[state.slide_id].name, "width": width, "height": height}
        images.append({**image, "slide_id": state.slide_id})
        for cell in cell_records(state):
            x, y, side, rise = cell.x0, cell.y0, cell.x1 - cell.x0, cell.y1 - cell.y0
            attributes = {"cell_id": cell.cell_id, "raw_label": cell.raw_label, "descriptions": list(cell.descriptions)}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": CATEGORIES.index(cell.label) + 1,
                    "bbox": [x, y, side, rise],
                    "area": side * rise,
                    "iscrowd": 0,
                    "attributes": attributes,
                }
            )
    content = {
        "info": {"description": "cells reviewed with stride-monai", "version": __version__},
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)],
        "annotations": annotations,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
