"""``classify``: the classes of given cells."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.cells import FoundCell
from lib.infers.finding import FindingTask
from lib.requests import Image, Params
from lib.workbench import Workbench
from stride_monai.errors import ConfigError, SlideError
from stride_monai.screening import CellInput
from stride_monai.slides import open_slide
from stride_monai.units import Box

POINT_UM = 22.8
"""Side of the box that is drawn round a cell that was given as a point."""
MOST = 10_000


class Classify(FindingTask):
    """Cells come as ``cells`` in the parameters, points or boxes in level-0 px; without, those under review."""

    name = "classify"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench, InferType.CLASSIFICATION, "Classify given cells")

    def cells(self, image: Image, params: Params) -> tuple[list[FoundCell], dict[str, Any]]:
        given, ids = self._given(image, params)
        if not given:
            raise ConfigError(f"there are no cells to classify on {image.name}", 'give "cells": [[x, y], ...]')
        if len(given) > MOST:
            raise ConfigError(f"{len(given)} cells were given", f"give at most {MOST} at a time")
        mpp = params.mpp or self.bench.place.mpp
        with open_slide(image.path, mpp=mpp) as slide:
            side = POINT_UM / slide.mpp
        inputs = [CellInput(image.path, image.name, box.center, mpp) for box in given]
        with self.bench.busy:
            said = self.bench.classifier()(inputs)
        failed = next((one.error for one in said if one.error), "")
        if failed:
            raise SlideError(f"a cell cannot be classified: {failed}")
        found = []
        for box, cell_id, one in zip(given, ids, said, strict=True):
            drawn = box if box.width > 0 and box.height > 0 else Box.around(*box.center, side)
            assert one.cell_class is not None
            found.append(FoundCell(drawn, one.cell_class, None, one.probabilities, cell_id=cell_id))
        return found, {"prediction": _summary(found)}

    def _given(self, image: Image, params: Params) -> tuple[list[Box], list[str]]:
        if params.cells or image.image_id is None:
            return list(params.cells), [""] * len(params.cells)
        known = self.bench.store.state(image.image_id).present
        inside = [cell for cell in known if cell.box and (params.region is None or params.region.holds(cell.box))]
        return [cell.box for cell in inside if cell.box], [cell.cell_id for cell in inside]


def _summary(found: list[FoundCell]) -> list[dict[str, Any]]:
    """The class of a single cell, as viewers of classifications read it; nothing for several."""
    if len(found) != 1:
        return []
    return [{"label": found[0].label, "score": max(found[0].probabilities)}]
