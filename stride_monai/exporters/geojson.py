"""``overlay.geojson.gz``: the cells as objects that QuPath (0.4 and later) imports by drag and drop.

Coordinates are level-0 pixels of the slide's content. QuPath crops a slide to the bounds that OpenSlide states, so its
origin is the content's corner as well and no offset is added.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stride_monai import geojson
from stride_monai.bethesda import CELL_CLASSES, CELL_COLORS
from stride_monai.errors import OutputError
from stride_monai.exporters.header import header_of
from stride_monai.files import write_bytes
from stride_monai.findings import Cell, Described, Findings, Screened
from stride_monai.geojson import Classification, Feature, Geometry, compressed

__all__ = ["FILE_NAME", "collection_text", "write"]

FILE_NAME = "overlay.geojson.gz"

_DECIMALS = 6
_NAMESPACE = uuid.UUID("6f1d1d4e-6a0f-5c83-9d56-0d7f1c6b4a10")  # ours, fixed: makes object ids reproducible


def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write ``folder/overlay.geojson.gz``; the same findings give the same bytes."""
    path = folder / FILE_NAME
    write_bytes(path, compressed(collection_text(screened.findings)))
    return path


def collection_text(findings: Findings) -> str:
    """The GeoJSON FeatureCollection as text, one feature per line in order of rank."""
    offset = findings.slide.bounds_offset
    places = {"coordinates": "level-0 px of the content", "bounds_offset": None if offset is None else list(offset)}
    return geojson.collection_text(_features(findings), {"stride_monai": {**header_of(findings), **places}})


def _features(findings: Findings) -> Iterator[Feature]:
    # Ids follow the slide and what read it: importing the same file twice lets QuPath see the duplicates.
    made_by = json.dumps(
        [findings.slide.slide_id, findings.provenance.config_hash, sorted(findings.provenance.weights.items())]
    )
    namespace = uuid.uuid5(_NAMESPACE, made_by)
    classifications = {name: Classification((name,), CELL_COLORS[name]) for name in CELL_CLASSES}
    for cell in findings.cells:
        _require_finite(cell, findings.slide.name)
        yield Feature(
            geometry=Geometry.box(cell.box),
            feature_id=str(uuid.uuid5(namespace, str(cell.rank))),
            object_type="detection",
            name=f"{cell.rank} {cell.cell_class}",
            classification=classifications[cell.cell_class],
            measurements=_measurements(cell),
            metadata=_words(cell, findings.described),
        )


def _words(cell: Cell, described: Described) -> Mapping[str, str]:
    """What QuPath shows of an object as text, by name; nothing where cells were not described."""
    if not described.made:
        return {}
    named = {True: "Descriptions", False: "Descriptions against the class"}
    words = {
        name: "; ".join(f"{text.text} ({text.similarity:.2f})" for text in cell.descriptions if text.fits_class is fits)
        for fits, name in named.items()
    }
    words = {name: text for name, text in words.items() if text}
    return words or {"Descriptions": f"none above {described.threshold or 0:.2f}"}


def _measurements(cell: Cell) -> dict[str, float]:
    named: dict[str, float] = {"Rank": cell.rank, "Detector score": cell.score}
    if cell.rerank_score is not None:
        named["Rerank score"] = cell.rerank_score
    named |= {"Attention": cell.attention, "CAM": cell.cam}
    named |= {f"p {name}": p for name, p in zip(CELL_CLASSES, cell.probabilities, strict=True)}
    return {name: round(value, _DECIMALS) for name, value in named.items()}


def _require_finite(cell: Cell, file_name: str) -> None:
    numbers = (*cell.box, *cell.probabilities, cell.score, cell.attention, cell.cam, cell.rerank_score or 0.0)
    if not math.isfinite(sum(numbers)):
        raise OutputError(f"cell {cell.rank} of {file_name} holds a non-finite value", "check the weights")
