"""The strategies of :mod:`stride_monai.active_learning` as MONAI Label's: which cells a reader is given next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.seeing import Seeing
from lib.server.access import current_user
from lib.workbench import Workbench
from stride_monai.active_learning import Candidates, Read, propose
from stride_monai.annotations import CellKey, CellState
from stride_monai.errors import ConfigError
from stride_monai.units import Box

_FIELD_UM = 112.0
"""Side of the region that a viewer is to show round a cell."""
_MOST = 1024
_TEXTS = {
    "top_k_review": "The model's top cells of slides that nobody has looked at",
    "uncertainty": "Cells of which the model is unsure, or on which it and its moving average disagree",
    "diversity": "Cells unlike those that were read",
    "random": "Cells drawn by lot",
}


class ReviewStrategy(Strategy):
    """One strategy. Two readers are never given the same cell, unless a double read is asked for."""

    def __init__(self, name: str, bench: Workbench, seeing: Seeing) -> None:
        super().__init__(_TEXTS.get(name, name))
        self.strategy, self.bench, self.seeing = name, bench, seeing

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Args:
            request: ``count`` cells (1), ``double_read``, ``seed``, ``annotator`` where nobody signs in.

        Returns:
            ``id`` and ``bbox`` of the first cell's surroundings, ``cells``; empty where there are none left. Slides
            that nobody has screened come first, without cells: screen them.
        """
        who, count = current_user(self.bench.place, request), _count(request.get("count", 1))
        self.bench.take_up()
        results = self.bench.place.results
        fresh = [one for one in datastore.list_images() if not (results / one / "findings.json").exists()]
        if fresh:
            return {"id": fresh[0], "bbox": [0, 0, 0, 0], "cells": [], "todo": "screen"}
        cells = self._given(who, count, request)
        if not cells:
            return {}
        slide_id, first = cells[0]
        return {
            "id": slide_id,
            "bbox": _around(first),
            "cells": [_plain(cell, slide) for slide, cell in cells],
        }

    def _given(self, who: str, count: int, request: Mapping[str, Any]) -> list[tuple[str, CellState]]:
        double = bool(request.get("double_read", self.bench.place.double_read))
        here = set(self.bench.slides.ids())
        cells = {
            (slide_id, cell.cell_id): cell
            for slide_id in self.bench.store.slide_ids()
            if slide_id in here
            for cell in self.bench.store.state(slide_id).present
            if cell.proposed is not None and cell.proposed.probabilities
        }
        if not cells:
            return []
        candidates = self._as_seen(_candidates(cells))
        reads = [
            Read(slide_id, cell_id, reader) for (slide_id, cell_id), cell in cells.items() for reader in cell.reads
        ]
        # More than are wanted: others may hold some, which the store alone knows for certain.
        seed = _seed(request.get("seed", 0))
        rows = propose(self.strategy, candidates, len(cells), seed, reader=who, reads=reads, double_read=double)
        wanted = [CellKey(*candidates.keys[row]) for row in rows]
        given = self.bench.store.assign(who, wanted, count, readers=2 if double else 1)
        return [(key.slide_id, cells[key.slide_id, key.cell_id]) for key in given]

    def _as_seen(self, candidates: Candidates) -> Candidates:
        """With what the strategy needs beside the findings."""
        if self.strategy == "diversity":
            return candidates.seen_by(features=self.seeing.by_network(candidates).features)
        teacher = self.seeing.by_teacher(candidates) if self.strategy == "uncertainty" else None
        if teacher is None:
            return candidates
        said = self.seeing.by_network(candidates).probabilities  # findings may be another network's
        return replace(candidates, probabilities=said, teacher=teacher.probabilities)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ConfigError(f"count is {value!r:.40}", f"give 1 to {_MOST}")
    return value


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise ConfigError(f"seed is {value!r:.40}", "give a whole number from 0")
    return value


def _candidates(cells: Mapping[tuple[str, str], CellState]) -> Candidates:
    proposed = [cell.proposed for cell in cells.values() if cell.proposed is not None]
    return Candidates(
        slide_ids=[slide_id for slide_id, _ in cells],
        cell_ids=[cell_id for _, cell_id in cells],
        ranks=np.array([one.rank for one in proposed], dtype=np.intp),
        scores=np.array([one.score for one in proposed]),
        boxes=np.array([cell.box for cell in cells.values()], dtype=np.float64),
        probabilities=np.array([one.probabilities for one in proposed], dtype=np.float64),
    )


def _around(cell: CellState) -> list[int]:
    assert cell.box is not None
    (x, y), side = cell.box.center, max(_FIELD_UM / 0.25, cell.box.width, cell.box.height)
    box = Box[Any].around(x, y, side)
    return [max(0, round(box.x0)), max(0, round(box.y0)), round(box.width), round(box.height)]


def _plain(cell: CellState, slide_id: str) -> dict[str, Any]:
    assert cell.box is not None
    shown = cell.proposed.cell_class if cell.proposed else ""
    return {"slide_id": slide_id, "cell_id": cell.cell_id, "box": list(cell.box), "label": shown}
