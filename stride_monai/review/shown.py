"""What a reader may see of a slide: the one place that hides.

In blind mode nothing of the model leaves the server: no class, probability, score, description or call, and the cells
come in an order that says nothing of their ranks. Whether blind or not, a reader sees what others said of a cell only
after having read it, so that a second read is one; who arbitrates sees the reads that differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stride_monai.annotations import CellState, Read, ReviewState, SlideState
from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.findings import Findings

__all__ = ["Viewer", "cell_shown", "cells_shown", "disagreements_shown", "model_shown", "slide_shown"]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks.

    Attributes:
        arbiter: settles where readers differ.
        blind: sees nothing of the model.
    """

    name: str
    arbiter: bool = False
    blind: bool = False


def cells_shown(state: SlideState, viewer: Viewer) -> list[dict[str, Any]]:
    """The cells of a slide in the order of the gallery: by rank, then those that readers drew."""
    cells = state.present
    if viewer.blind:
        cells = sorted(cells, key=lambda cell: (cell.proposed is None, _shuffled(cell.cell_id)))
    return [cell_shown(cell, viewer) for cell in cells]


def _shuffled(cell_id: str) -> bytes:
    """Sorts cells in an order that has nothing to do with them."""
    return hashlib.sha256(f"blind {cell_id}".encode()).digest()


def cell_shown(cell: CellState, viewer: Viewer) -> dict[str, Any]:
    """One cell.

    Returns:
        JSON types: ``id``; ``box`` (level-0 px; None where it was removed); ``drawn`` by a reader; ``mine``, the
        viewer's own read or None; ``others``, reads by name as far as the viewer may see them; ``label`` and ``state``
        as the viewer may know them; ``arbitrated``; ``model``, None in blind mode and for drawn cells.
    """
    own = cell.reads.get(viewer.name)
    open_to_all = own is not None and own.label is not None
    settles = viewer.arbiter and cell.state in {ReviewState.DISAGREED, ReviewState.ARBITRATED}
    others = {who: _read(read) for who, read in cell.reads.items() if who != viewer.name and read.label}
    seen = open_to_all or settles
    return {
        "id": cell.cell_id,
        "box": None if cell.box is None else list(cell.box),
        "drawn": cell.proposed is None,
        "drawn_by_me": cell.added_by == viewer.name,
        "mine": None if own is None else _read(own),
        "others": others if seen else {},
        "label": cell.label if seen else None,
        "state": cell.state.value if seen else ReviewState.UNREVIEWED.value,
        "arbitrated": cell.arbitrated if seen else None,
        "model": None if viewer.blind or cell.proposed is None else _model(cell),
    }


def _read(read: Read) -> dict[str, Any]:
    return {"label": read.label, "chosen": list(read.descriptions), "typed": read.typed}


def _model(cell: CellState) -> dict[str, Any]:
    proposed = cell.proposed
    assert proposed is not None
    return {
        "rank": proposed.rank,
        "class": proposed.cell_class,
        "score": proposed.score,
        "probabilities": dict(zip(CELL_CLASSES, proposed.probabilities, strict=False)),
        "descriptions": list(proposed.descriptions),
    }


def slide_shown(state: SlideState, viewer: Viewer) -> dict[str, Any]:
    """What stands of the slide as a whole: calls, adequacy, what can be undone, the viewer's time."""
    name = viewer.name
    settles = viewer.arbiter and state.call_state in {ReviewState.DISAGREED, ReviewState.ARBITRATED}
    seen = name in state.calls or settles
    return {
        "sequence": state.sequence,
        "call": state.calls.get(name),
        "adequacy": state.adequacy.get(name),
        "other_calls": {who: call for who, call in state.calls.items() if who != name} if seen else {},
        "call_state": state.call_state.value if seen else ReviewState.UNREVIEWED.value,
        "arbitrated_call": state.arbitrated_call if seen else None,
        "undoable": state.undoable.get(name),
        "redoable": state.redoable.get(name),
        "seconds": state.seconds.get(name, 0.0),
    }


def model_shown(findings: Findings, viewer: Viewer) -> dict[str, Any] | None:
    """What the model says of the slide; None in blind mode."""
    if viewer.blind:
        return None
    shares = findings.slide_probabilities
    return {
        "class": findings.slide_class,
        "call": findings.call,
        "score": findings.score,
        "probabilities": None if shares is None else dict(zip(SLIDE_CLASSES, shares, strict=True)),
        "adequate": findings.quality.adequate,
        "status": findings.status.value,
        "reason": findings.reason,
    }


def disagreements_shown(states: Mapping[str, SlideState], viewer: Viewer) -> list[dict[str, Any]]:
    """Where readers differ and nobody has settled it: to the arbiter all, to others what they read themselves."""
    found: list[dict[str, Any]] = []
    for slide_id, state in states.items():
        for cell in state.disagreements:
            shown = cell_shown(cell, viewer)
            if shown["state"] == ReviewState.DISAGREED.value:
                found.append({"slide_id": slide_id, "cell": shown})
        slide = slide_shown(state, viewer)
        if slide["call_state"] == ReviewState.DISAGREED.value:
            found.append({"slide_id": slide_id, "cell": None, "slide": slide})
    return found
