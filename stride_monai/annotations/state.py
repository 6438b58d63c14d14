"""What stands of one slide after all actions: every reader's reads, and what they add up to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stride_monai.annotations.actions import CANNOT_TELL, meaning
from stride_monai.annotations.proposals import Proposal
from stride_monai.bethesda import slide_class_of
from stride_monai.units import Box

__all__ = ["CellState", "Read", "ReviewState", "SlideState", "agreed"]


class ReviewState(StrEnum):
    """How far the review of a cell, or of a slide's call, has come."""

    UNREVIEWED = "unreviewed"
    REVIEWED = "reviewed"
    """Read by one reader, or by several who agree."""
    DISAGREED = "disagreed"
    ARBITRATED = "arbitrated"


@dataclass(frozen=True, slots=True)
class Read:
    """What one reader says of one cell.

    Attributes:
        label: one of :data:`~stride_monai.annotations.CELL_LABELS`; None where the reader has only described it.
        descriptions: chosen from the vocabulary.
        typed: free text; empty without.
        blind: whether the model's scores and calls were hidden when the label was given.
        model_version: of the model whose cells were shown then.
        when: the label was given, UTC; empty without a label.
    """

    label: str | None
    descriptions: tuple[str, ...] = ()
    typed: str = ""
    blind: bool = False
    model_version: str = ""
    when: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        raw = {name: getattr(self, name) for name in _READ}
        return {**raw, "descriptions": list(self.descriptions)}


_READ = tuple(part.name for part in dataclasses.fields(Read))


def agreed(labels: list[str]) -> str | None:
    """The label that all give; where labels differ and mean one thing, that (:func:`meaning`); None else.

    ``["ASC-H", "HSIL"]`` are both ``ASC-H/HSIL``; ``["NILM", "not_a_lesion"]`` both NILM.
    """
    if len(set(labels)) == 1:
        return labels[0]
    meanings = {meaning(label) for label in labels}
    return meanings.pop() if len(meanings) == 1 else None


def _review_state(labels: list[str], one: str | None, arbitrated: str | None) -> ReviewState:
    if arbitrated is not None:
        return ReviewState.ARBITRATED
    if not labels:
        return ReviewState.UNREVIEWED
    return ReviewState.DISAGREED if one is None else ReviewState.REVIEWED


@dataclass(frozen=True, slots=True)
class CellState:
    """One cell of a slide.

    Attributes:
        cell_id: unique in the slide.
        box: level-0 px; None where the cell was removed.
        proposed: by the model that proposed it last; None for a cell that readers alone found.
        added_by: the reader who drew it; None for a proposed cell.
        reads: by reader, in the order of their first word.
        arbitrated: the label that was settled where readers differed.
    """

    cell_id: str
    box: Box | None
    proposed: Proposal | None = None
    added_by: str | None = None
    reads: Mapping[str, Read] = field(default_factory=dict)
    arbitrated: str | None = None

    @property
    def labels(self) -> list[str]:
        """Those that readers give."""
        return [read.label for read in self.reads.values() if read.label is not None]

    @property
    def label(self) -> str | None:
        """What stands: the arbitrated label, else the one that the readers agree on (:func:`agreed`), else None."""
        return self.arbitrated if self.arbitrated is not None else agreed(self.labels)

    @property
    def state(self) -> ReviewState:
        """Whether it is read, and whether its readers agree."""
        return _review_state(self.labels, agreed(self.labels), self.arbitrated)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``label`` and ``state``."""
        raw = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        return {
            **raw,
            "box": None if self.box is None else list(self.box),
            "proposed": None if self.proposed is None else self.proposed.to_dict(),
            "reads": {who: read.to_dict() for who, read in self.reads.items()},
            "label": self.label,
            "state": self.state.value,
        }


@dataclass(frozen=True, slots=True)
class SlideState:
    """One slide.

    Attributes:
        fingerprint: of its file; empty where nobody said.
        sequence: of the last action that it takes in; 0 without one.
        cells: by id; proposed ones by rank, then those that readers added. Removed ones are among them.
        regions: by id, level-0 px: every lesion in there is marked.
        calls: by reader, one of :data:`~stride_monai.annotations.SLIDE_CALLS`.
        adequacy: by reader, one of :data:`~stride_monai.annotations.ADEQUACY`.
        arbitrated_call: settled where readers differed.
        seconds: by reader, summed over all actions, undone ones included.
        undoable: by reader the uuid of the action that an undo must name; absent where there is nothing to undo.
        redoable: likewise for redo.
    """

    slide_id: str
    fingerprint: str = ""
    sequence: int = 0
    cells: Mapping[str, CellState] = field(default_factory=dict)
    regions: Mapping[str, Box] = field(default_factory=dict)
    calls: Mapping[str, str] = field(default_factory=dict)
    adequacy: Mapping[str, str] = field(default_factory=dict)
    arbitrated_call: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    undoable: Mapping[str, str] = field(default_factory=dict)
    redoable: Mapping[str, str] = field(default_factory=dict)

    @property
    def call(self) -> str | None:
        """The arbitrated call, else the one that the readers agree on, else None."""
        return self.arbitrated_call if self.arbitrated_call is not None else agreed_call(list(self.calls.values()))

    @property
    def call_state(self) -> ReviewState:
        """Whether the slide is called, and whether its readers agree."""
        calls = list(self.calls.values())
        return _review_state(calls, agreed_call(calls), self.arbitrated_call)

    @property
    def satisfactory(self) -> bool | None:
        """What the readers say of adequacy; False where one says no; None where nobody says."""
        return all(said == "satisfactory" for said in self.adequacy.values()) if self.adequacy else None

    @property
    def present(self) -> list[CellState]:
        """The cells that were not removed."""
        return [cell for cell in self.cells.values() if cell.box is not None]

    @property
    def disagreements(self) -> list[CellState]:
        """The cells on which readers differ and nobody has settled it."""
        return [cell for cell in self.present if cell.state == ReviewState.DISAGREED]

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``call``, ``call_state`` and ``satisfactory``."""
        raw = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        return {
            **raw,
            "cells": [cell.to_dict() for cell in self.cells.values()],
            "regions": {name: list(box) for name, box in self.regions.items()},
            "call": self.call,
            "call_state": self.call_state.value,
            "satisfactory": self.satisfactory,
        }


def agreed_call(calls: list[str]) -> str | None:
    """The call that all give; where calls differ and are one slide class (HSIL, SCC), that; None else."""
    if len(set(calls)) == 1:
        return calls[0]
    classes = {call if call == CANNOT_TELL else slide_class_of(call) for call in calls}
    return classes.pop() if len(classes) == 1 else None
