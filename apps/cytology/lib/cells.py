"""The cells that a task found, and the files that viewers read them from."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.exchange.asap import asap_xml
from lib.exchange.dsa import dsa_json
from stride_monai.bethesda import CELL_CLASSES, CELL_COLORS
from stride_monai.geojson import Classification, Feature, Geometry, collection_text
from stride_monai.units import Box

GREY = (120, 120, 120)


@dataclass(frozen=True)
class FoundCell:
    """One cell.

    Attributes:
        box: level-0 px.
        label: cell class; ``abnormal_unspecified`` where nothing classified it.
        score: of the detector, 0-1; None for a cell that was given.
        cell_id: as the annotations know it; empty where they do not.
    """

    box: Box
    label: str
    score: float | None = None
    probabilities: tuple[float, ...] = ()
    descriptions: tuple[str, ...] = ()
    cell_id: str = ""

    def feature(self) -> Feature:
        """As QuPath reads it; the metadata say what was shown, so that a corrected file tells what was changed."""
        named = {f"p {name}": value for name, value in zip(CELL_CLASSES, self.probabilities, strict=False)}
        metadata = {"Shown": self.label, **({"Cell": self.cell_id} if self.cell_id else {})}
        if self.descriptions:
            metadata["Descriptions"] = "; ".join(self.descriptions)
        return Feature(
            Geometry.box(self.box),
            name=self.label,
            classification=Classification((self.label,), color_of(self.label)),
            measurements={**({} if self.score is None else {"Detector score": self.score}), **named},
            metadata=metadata,
        )


@dataclass(frozen=True)
class Found:
    """What a task found on an image.

    Attributes:
        facts: of the slide as a whole, where the task judges it.
    """

    model: str
    description: str
    cells: Sequence[FoundCell]
    seconds: float
    region: Box | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What viewers of MONAI Label expect, ``annotations`` with elements by label; and ``cells``, all there is."""
        by_label: dict[str, list[Any]] = {}
        for cell in self.cells:
            x0, y0, x1, y1 = _outward(cell.box)
            by_label.setdefault(cell.label, []).append([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        location, size = _place(self.region)
        annotation = {
            "location": location,
            "size": size,
            "elements": [{"label": label, "contours": contours} for label, contours in by_label.items()],
            "labels": {label: list(color_of(label)) for label in by_label},
        }
        times = {"pre": 0.0, "infer": round(self.seconds, 2), "post": 0.0, "total": round(self.seconds, 2)}
        return {
            "name": f"stride-monai {self.model}",
            "description": self.description,
            "model": self.model,
            "location": location,
            "size": size,
            "annotations": [{"annotation": annotation, "latencies": times}],
            "latencies": {**times, "tsum": times["total"]},
            "cells": [_plain(cell) for cell in self.cells],
            **self.facts,
        }

    def file(self, kind: str) -> str:
        """Write a temporary file, ``geojson``, ``asap`` or ``dsa``; the server removes it when it is sent."""
        text = {"geojson": self._geojson, "asap": self._asap, "dsa": self._dsa}[kind]()
        handle, name = tempfile.mkstemp(suffix={"geojson": ".geojson", "asap": ".xml", "dsa": ".json"}[kind])
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode())
        return name

    def _geojson(self) -> str:
        return collection_text((cell.feature() for cell in self.cells), {"stride_monai": {"model": self.model}})

    def _asap(self) -> str:
        return asap_xml([cell.feature() for cell in self.cells], self.to_json())

    def _dsa(self) -> str:
        said = self.to_json()
        about = {name: said[name] for name in ("model", "location", "size", "latencies")}
        about |= {"desc": self.description, "count": len(self.cells)}
        return dsa_json([cell.feature() for cell in self.cells], said["name"], json.dumps(about))


def color_of(label: str) -> tuple[int, int, int]:
    return CELL_COLORS.get(label, GREY)


def _plain(cell: FoundCell) -> dict[str, Any]:
    return {
        "box": list(cell.box),
        "label": cell.label,
        "score": cell.score,
        "probabilities": dict(zip(CELL_CLASSES, cell.probabilities, strict=False)),
        "descriptions": list(cell.descriptions),
        "cell_id": cell.cell_id,
    }


def _outward(box: Box) -> tuple[int, int, int, int]:
    """Whole pixels that hold the box: what viewers of MONAI Label take."""
    return math.floor(box.x0), math.floor(box.y0), math.ceil(box.x1), math.ceil(box.y1)


def _place(region: Box | None) -> tuple[list[int], list[int]]:
    if region is None:
        return [0, 0], [0, 0]
    x0, y0, x1, y1 = _outward(region)
    return [x0, y0], [x1 - x0, y1 - y0]
