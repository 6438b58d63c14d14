"""A review: the slides, the store of what readers say, and the rules between them. No web framework here."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from stride_monai.annotations import (
    AccessError,
    Action,
    AnnotationStore,
    CellKey,
    ConflictError,
    Kind,
    ReviewState,
    SlideState,
    model_version_of,
)
from stride_monai.errors import StrideError
from stride_monai.findings import GALLERY_SIZE, Findings
from stride_monai.review.library import Library, SlideEntry
from stride_monai.review.pyramid import Pyramid
from stride_monai.review.shown import Viewer, cell_shown, cells_shown, disagreements_shown, model_shown, slide_shown
from stride_monai.units import Box

__all__ = ["Policy", "Review", "UnknownCellError"]

_OF_A_READ = {Kind.LABEL, Kind.DESCRIPTIONS}
_LEASE_MINUTES = 30.0


class UnknownCellError(StrideError):
    """No cell of this id was ever on the slide."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How cells are given to readers.

    Attributes:
        blind: nothing of the model is shown.
        readers: how many read a cell; None: whoever likes, as on one's own machine.
        cells: of each slide so many are shown, the first by rank.
    """

    blind: bool = False
    readers: int | None = None
    cells: int = GALLERY_SIZE


class Review:
    """What readers do to the slides of a library."""

    def __init__(self, library: Library, store: AnnotationStore, policy: Policy) -> None:
        self.library, self.store, self.policy = library, store, policy
        self._proposed: set[str] = set()
        self._overviews: dict[tuple[str, str, str], dict[str, Any]] = {}  # by viewer, slide and version
        self._sequence = 0  # of the last action that they take in
        self._lock = threading.Lock()

    def slides(self, viewer: Viewer) -> list[dict[str, Any]]:
        """All slides with how far the viewer is with each."""
        self._forget_changed()
        return [self._known(entry, viewer) for entry in self.library.refresh()]

    def _forget_changed(self) -> None:
        """Drop the overviews of slides to which something was done since; there may be thousands of others."""
        with self._lock:
            done = self.store.actions(since=self._sequence)
            self._sequence = max((action.sequence for action in done), default=self._sequence)
            changed = {action.slide_id for action in done}
            self._overviews = {key: known for key, known in self._overviews.items() if key[1] not in changed}

    def _known(self, entry: SlideEntry, viewer: Viewer) -> dict[str, Any]:
        key = (viewer.name, entry.slide_id, entry.version)
        known = self._overviews.get(key)
        if known is None:
            before = self._sequence
            known = self._overview(entry.slide_id, viewer)
            with self._lock:
                if before == self._sequence:  # nothing was forgotten meanwhile that this may lack
                    self._overviews[key] = known
        return known

    def _overview(self, slide_id: str, viewer: Viewer) -> dict[str, Any]:
        try:
            findings, state = self._loaded(slide_id)
        except StrideError as error:
            return {"slide_id": slide_id, "problem": error.what}
        cells = [cell_shown(cell, viewer) for cell in state.present]
        slide = slide_shown(state, viewer)
        return {
            "slide_id": slide_id,
            "problem": "",
            "cells": len(cells),
            "read": sum(1 for cell in cells if cell["mine"] and cell["mine"]["label"]),
            "disagreed": sum(1 for cell in cells if cell["state"] == ReviewState.DISAGREED.value),
            "call": slide["call"],
            "call_state": slide["call_state"],
            "seconds": slide["seconds"],
            "model": model_shown(findings, viewer),
        }

    def slide(self, slide_id: str, viewer: Viewer) -> dict[str, Any]:
        """All that the page needs to show a slide; the cells that nobody else reads are kept for the viewer.

        Raises:
            UnknownSlideError: there is no such slide.
            OutputError, ConflictError: its findings, or its annotations, are not usable.
        """
        findings, state = self._loaded(slide_id)
        facts = findings.slide
        width, height = facts.width or 0, facts.height or 0
        mine = self._kept_for(viewer, state)
        cells = cells_shown(state, viewer)
        for cell in cells:
            cell["taken"] = cell["id"] not in mine
        return {
            "slide_id": slide_id,
            "version": self.library.entry(slide_id).version,
            "mpp": facts.mpp,
            "pyramid": Pyramid(width, height).to_dict() if width and height else None,
            "objective": facts.objective,
            "cells": cells,
            "slide": slide_shown(state, viewer),
            "model": model_shown(findings, viewer),
        }

    def box_of(self, slide_id: str, cell_id: str) -> Box | None:
        """Where a cell lies, or where it was proposed; None where a reader drew it and it was removed since.

        Raises:
            UnknownCellError: there never was such a cell.
        """
        self._findings(slide_id)
        cell = self.store.cell(slide_id, cell_id)
        box = cell.box or (cell.proposed.box if cell.proposed else None)
        if box is None and cell.added_by is None:
            raise UnknownCellError(f"slide '{slide_id}' has no cell {cell_id}", "load the slide again")
        return box

    def act(self, slide_id: str, viewer: Viewer, asked: dict[str, Any]) -> dict[str, Any]:
        """Keep one action of the viewer; when this returns it is on the disk.

        Args:
            asked: ``uuid``, ``kind``, ``cell_id``, ``before``, ``after`` and ``seconds`` as the client sends them.

        Returns:
            The kept action's ``uuid``, ``sequence`` and ``when``; ``cells``, the touched one as it is now; ``slide``.

        Raises:
            AnnotationError: it is no action that makes sense.
            ConflictError: it does not start from what stands, or the cell is another reader's.
            AccessError: it is an admin's to do.
        """
        findings = self._findings(slide_id)
        action = Action(
            who=viewer.name,
            slide_id=slide_id,
            fingerprint=findings.slide.fingerprint or "",
            model_version=model_version_of(findings),
            blind=viewer.blind,
            **asked,
        )
        self._check_may(action, viewer, findings)
        kept = self.store.append(action)
        state = self.store.state(slide_id)
        touched = self._touched(kept)
        return {
            "uuid": kept.uuid,
            "sequence": kept.sequence,
            "when": kept.when,
            "cells": [cell_shown(cell, viewer) for cell in state.cells.values() if cell.cell_id == touched],
            "slide": slide_shown(state, viewer),
        }

    def disagreements(self, viewer: Viewer) -> list[dict[str, Any]]:
        """Where readers differ, on any slide."""
        known = {entry.slide_id for entry in self.library.refresh()}
        ids = [slide_id for slide_id in self.store.slide_ids() if slide_id in known]
        return disagreements_shown({slide_id: self.store.state(slide_id) for slide_id in ids}, viewer)

    def _loaded(self, slide_id: str) -> tuple[Findings, SlideState]:
        """Findings, and what stands."""
        return self._findings(slide_id), self.store.state(slide_id)

    def _findings(self, slide_id: str) -> Findings:
        """Of a slide; the model's cells are taken in when it is first looked at."""
        entry, findings = self.library.entry(slide_id), self.library.findings(slide_id)
        with self._lock:
            if entry.version not in self._proposed:
                self.store.propose(findings, self.policy.cells)
                self._proposed.add(entry.version)
        return findings

    def _kept_for(self, viewer: Viewer, state: SlideState) -> set[str]:
        """Ids of the cells that the viewer may read."""
        ids = [cell.cell_id for cell in state.present]
        if self.policy.readers is None or viewer.arbiter:
            return set(ids)
        read = {cell.cell_id for cell in state.present if viewer.name in cell.reads}
        keys = [CellKey(state.slide_id, cell_id) for cell_id in ids if cell_id not in read]
        given = self.store.assign(viewer.name, keys, len(keys), self.policy.readers, _LEASE_MINUTES)
        return read | {key.cell_id for key in given}

    def _check_may(self, action: Action, viewer: Viewer, findings: Findings) -> None:
        if action.kind == Kind.ARBITRATION and not viewer.arbiter:
            raise AccessError("only an admin may settle a disagreement", "ask one")
        if action.kind in {Kind.BOX_ADDED, Kind.BOX_MOVED}:
            box, facts = Box(*action.after), findings.slide
            whole = Box(0.0, 0.0, float(facts.width or 0), float(facts.height or 0))
            if not whole.intersection(box).area > 0:
                raise ConflictError("the box lies beside the slide", "draw it on the slide")
        if action.kind not in _OF_A_READ or self.policy.readers is None or viewer.arbiter or action.cell_id is None:
            return
        cell, key = self.store.cell(action.slide_id, action.cell_id), CellKey(action.slide_id, action.cell_id)
        own = cell.box is None or viewer.name in cell.reads or cell.added_by == viewer.name  # no box: append refuses it
        if own or key in self.store.held(viewer.name):
            return
        if not self.store.assign(viewer.name, [key], 1, self.policy.readers, _LEASE_MINUTES):
            raise ConflictError("another reader has this cell", "go on with the next one")

    def _touched(self, kept: Action) -> str | None:
        """The cell that an action changed; of undo and redo that of the action that it names."""
        if kept.kind not in {Kind.UNDO, Kind.REDO}:
            return kept.cell_id
        named = [action for action in self.store.actions(kept.slide_id) if action.uuid == kept.after]
        return named[0].cell_id if named else None
