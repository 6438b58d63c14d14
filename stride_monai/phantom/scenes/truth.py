"""What is known of a synthetic slide: every lesion cell, every hard negative, a sample of the normal cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import CELL_COLORS, NEGATIVE, cell_class_of, most_severe
from stride_monai.files import write_bytes
from stride_monai.units import Box

__all__ = ["SlideTruth", "TruthCell", "write_truth_geojson"]

Polygon = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TruthCell:
    """One cell, or one group that is judged as a whole (glandular groups, clumps).

    Attributes:
        cell_id: unique in its slide.
        kind: what was drawn, e.g. ``koilocyte``, ``reactive``.
        label: Bethesda label.
        descriptions: texts of :mod:`stride_monai.bethesda` that were drawn.
        x, y: centre, level-0 px.
        box: bounding box of the outlines, level-0 px.
        outlines: ``[n, 2]`` polygons (x, y) of the cells' borders, level-0 px.
        nuclei: polygons of the nuclei, level-0 px.
        hard: a benign look-alike.
        defocus_um: blur from lying out of focus.
        measures: the numbers that were drawn, see :func:`stride_monai.phantom.cells.measures.measures`.
        observed: the paper's texts that were drawn; they differ from ``descriptions`` for glandular groups, whose
            texts are merged for training.
    """

    cell_id: str
    kind: str
    label: str
    descriptions: tuple[str, ...]
    x: float
    y: float
    box: Box
    outlines: tuple[Polygon, ...]
    nuclei: tuple[Polygon, ...]
    hard: bool
    defocus_um: float
    measures: Mapping[str, float] = field(default_factory=dict)
    observed: tuple[str, ...] = ()

    @property
    def cell_class(self) -> str:
        """One of :data:`stride_monai.bethesda.CELL_CLASSES`."""
        return cell_class_of(self.label)

    @property
    def positive(self) -> bool:
        return self.label != NEGATIVE


@dataclass(frozen=True, slots=True)
class SlideTruth:
    """Truth of one slide or field.

    Attributes:
        width, height: level-0 px.
        mpp: um/px of level 0.
        centre: name of the centre preset.
        cells: all lesions and hard negatives, then a sample of normal cells.
        cells_drawn: number of epithelial cells placed, groups counted as one.
        parameters: what the slide was rendered from.
    """

    slide_id: str
    width: int
    height: int
    mpp: float
    centre: str
    cells: tuple[TruthCell, ...]
    cells_drawn: int
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The most severe label of its cells."""
        return most_severe([cell.label for cell in self.cells])

    @property
    def positives(self) -> tuple[TruthCell, ...]:
        return tuple(cell for cell in self.cells if cell.positive)


_FACTS = ("slide_id", "width", "height", "mpp", "centre", "label", "cells_drawn")


def _geometry(polygons: tuple[Polygon, ...]) -> dict[str, Any]:
    """Every third vertex, to a tenth of a px."""
    rings = [[[round(float(x), 1), round(float(y), 1)] for x, y in polygon[::3]] for polygon in polygons]
    closed = [[[*ring, ring[0]]] for ring in rings]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def _feature(cell: TruthCell) -> dict[str, Any]:
    feature: dict[str, Any] = {
        "type": "Feature",
        "id": cell.cell_id,
        "geometry": _geometry(cell.outlines),
        "properties": {
            "objectType": "annotation",
            "name": cell.kind,
            "classification": {"name": cell.cell_class, "color": list(CELL_COLORS[cell.cell_class])},
            "label": cell.label,
            "kind": cell.kind,
            "hard_negative": cell.hard,
            "descriptions": list(cell.descriptions),
            "observed": list(cell.observed),
            "measures": {name: round(value, 3) for name, value in cell.measures.items()},
            "centre": [round(cell.x, 1), round(cell.y, 1)],
            "box": [round(float(value), 1) for value in cell.box],
            "defocus_um": round(cell.defocus_um, 2),
        },
    }
    if cell.nuclei:
        feature["nucleusGeometry"] = _geometry(cell.nuclei)
    return feature


def write_truth_geojson(path: Path, truth: SlideTruth) -> None:
    """Write a GeoJSON FeatureCollection that QuPath opens over the slide; coordinates are level-0 px.

    The member ``slide`` holds the slide's own facts: size, um/px, centre, label and rendering parameters.
    """
    document = {
        "type": "FeatureCollection",
        "schema_version": "1.0",
        "note": "Synthetic slide: a software test, never evidence of clinical performance.",
        "slide": {**{name: getattr(truth, name) for name in _FACTS}, "parameters": dict(truth.parameters)},
        "features": [_feature(cell) for cell in truth.cells],
    }
    write_bytes(Path(path), (json.dumps(document, separators=(",", ":")) + "\n").encode())
