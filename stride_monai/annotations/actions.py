"""The action: one thing that a reader did to one slide, as it is kept for ever.

Every action sets one value (the label that a reader gives a cell, the box of a cell, the call of a slide ...) from
``before`` to ``after``. What stands is a fold over the actions (:mod:`stride_monai.annotations.state`).
"""

from __future__ import annotations

import dataclasses
import math
import re
import uuid as uuid_module
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from stride_monai.annotations.errors import AnnotationError
from stride_monai.bethesda import ABNORMAL, CELL_CLASSES, DESCRIPTION_VOCABULARY, LABELS, NEGATIVE, cell_class_of
from stride_monai.names import readable, why_no_folder_name
from stride_monai.units import Box

__all__ = [
    "ADEQUACY",
    "CANNOT_TELL",
    "CELL_LABELS",
    "NOT_A_LESION",
    "SLIDE_CALLS",
    "Action",
    "Kind",
    "Value",
    "added_cell_id",
    "meaning",
    "new_uuid",
    "utc_now",
]

Value = Any
"""JSON types: what an action sets. Which, is said by its kind (:class:`Kind`)."""

NOT_A_LESION = "not_a_lesion"
"""Read of a cell that is a false positive of the model: an artefact, debris, a cell of no interest."""
CANNOT_TELL = "cannot_tell"
"""Read of a cell, or call of a slide, that the reader cannot decide."""

CELL_LABELS: tuple[str, ...] = (*dict.fromkeys((*CELL_CLASSES, *LABELS)), ABNORMAL, NOT_A_LESION, CANNOT_TELL)
"""What a cell may be read as: cell classes, Bethesda labels, a lesion of no known class, and the two above."""
SLIDE_CALLS: tuple[str, ...] = (*LABELS, CANNOT_TELL)
"""What a slide may be called."""
ADEQUACY: tuple[str, ...] = ("satisfactory", "unsatisfactory")
"""Whether a slide can be judged at all (Bethesda)."""

MAX_TEXT = 2_000
"""Longest typed description, in characters."""
_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")
_CELL_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_SECONDS = 86_400.0


class Kind(StrEnum):
    """What an action sets, and what ``before`` and ``after`` are. None: nothing was, or is, said.

    Of one reader (others have values of their own): LABEL, DESCRIPTIONS, CALL, ADEQUACY. Of all readers together: the
    boxes, REGION, ARBITRATION.
    """

    LABEL = "label"
    """Class of a cell by this reader: one of :data:`CELL_LABELS`."""
    DESCRIPTIONS = "descriptions"
    """``{"chosen": [texts of the vocabulary], "typed": "free text"}``."""
    BOX_ADDED = "box_added"
    """A cell that the model missed: None -> ``[x0, y0, x1, y1]`` in level-0 px; its id is :func:`added_cell_id`."""
    BOX_MOVED = "box_moved"
    """Box -> box."""
    BOX_REMOVED = "box_removed"
    """Box -> None: drawn by mistake, or a duplicate. A false positive is read as :data:`NOT_A_LESION` instead."""
    REGION = "region"
    """A rectangle, level-0 px, in which every lesion is marked; the cell id is the region's own id."""
    CALL = "call"
    """Class of the slide by this reader: one of :data:`SLIDE_CALLS`."""
    ADEQUACY = "adequacy"
    """One of :data:`ADEQUACY`."""
    ARBITRATION = "arbitration"
    """The label of a cell, or without a cell id the call of the slide, that stands where readers differ."""
    UNDO = "undo"
    """``after`` is the uuid of the reader's last action on this slide that stands; ``before`` is None."""
    REDO = "redo"
    """``after`` is the uuid of the action that the reader undid last; ``before`` is None."""


_OF_A_CELL = {Kind.LABEL, Kind.DESCRIPTIONS, Kind.BOX_ADDED, Kind.BOX_MOVED, Kind.BOX_REMOVED, Kind.REGION}
_OF_THE_SLIDE = {Kind.CALL, Kind.ADEQUACY}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that one reader did.

    Attributes:
        who: name of the reader.
        slide_id: of the slide.
        kind: what is set.
        cell_id: of the cell (or region); None where the action is about the slide.
        before: what the reader saw there; the store refuses the action if it is no longer so.
        after: what stands now.
        uuid: made by the client; the same action sent again is the same action, and is kept once.
        fingerprint: of the slide's file (:func:`stride_monai.files.fingerprint`); empty where it is not known.
        model_version: of the model whose cells were shown; empty where none were.
        blind: whether the model's scores, classes and calls were hidden.
        seconds: that the reader spent on it, 0 where nobody measured.
        when: UTC in ISO 8601, ``2026-11-29T02:30:00.123456+00:00``; empty until the store sets it.
        sequence: number in the store, from 1; 0 until it is there.

    Raises:
        AnnotationError: a value is not of the form that its kind asks for.
    """

    who: str
    slide_id: str
    kind: Kind
    cell_id: str | None = None
    before: Value = None
    after: Value = None
    uuid: str = dataclasses.field(default_factory=lambda: new_uuid())
    fingerprint: str = ""
    model_version: str = ""
    blind: bool = False
    seconds: float = 0.0
    when: str = ""
    sequence: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _kind(self.kind))
        object.__setattr__(self, "uuid", _uuid(self.uuid))
        _check_texts(self)
        _check_place(self)
        _check_numbers(self)
        if self.kind in {Kind.UNDO, Kind.REDO}:
            _refuse(self.before is not None, f"{self.kind} has a 'before'")
            object.__setattr__(self, "after", _uuid(self.after))
            return
        for name in ("before", "after"):
            object.__setattr__(self, name, _value(self.kind, self.cell_id, getattr(self, name)))
        _check_change(self)

    @property
    def field(self) -> tuple[str, str | None, str]:
        """Which value it sets: whose (empty: everybody's), of which cell (None: the slide), and of which name."""
        owner = self.who if self.kind in {Kind.LABEL, Kind.DESCRIPTIONS, Kind.CALL, Kind.ADEQUACY} else ""
        return owner, self.cell_id, "box" if self.kind.startswith("box") else self.kind.value

    def to_dict(self) -> dict[str, Any]:
        """JSON types, all fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Action:
        """Inverse of :meth:`to_dict`.

        Raises:
            AnnotationError: it is no action; names that nobody knows are refused.
        """
        try:
            return cls(**raw)
        except TypeError as error:
            raise AnnotationError(f"not an action ({error})", "see docs/annotations.md") from error


def new_uuid() -> str:
    """A new random uuid as text."""
    return str(uuid_module.uuid4())


def utc_now() -> str:
    """The time in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def added_cell_id(uuid: str) -> str:
    """Id of the cell that an action of this uuid adds: no two clients make the same, a retry makes it again."""
    return f"a{_uuid(uuid).replace('-', '')}"


def meaning(label: str) -> str:
    """What a read teaches: a cell class, or ``abnormal_unspecified``, or :data:`CANNOT_TELL`.

    Readers agree where these are equal: ASC-H and HSIL cells are one cell class, NILM and "not a lesion" both negative.
    """
    if label == NOT_A_LESION:
        return NEGATIVE
    return label if label in {ABNORMAL, CANNOT_TELL} else cell_class_of(label)


def _refuse(wrong: bool, what: str, advice: str = "see docs/annotations.md") -> None:
    if wrong:
        raise AnnotationError(what, advice)


def _kind(value: Any) -> Kind:
    try:
        return Kind(value)
    except ValueError as error:
        raise AnnotationError(f"unknown kind of action {value!r:.80}", f"use one of {', '.join(Kind)}") from error


def _uuid(value: Any) -> str:
    try:
        return str(uuid_module.UUID(value))
    except (TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(f"{value!r:.80} is no uuid", "make one, e.g. with uuid.uuid4()") from error


def _check_texts(action: Action) -> None:
    name, slide_id = action.who, action.slide_id
    known = isinstance(name, str) and _NAME.fullmatch(name) and readable(name) == name
    _refuse(not known, f"{name!r:.80} is no name of a reader", "use 1 to 64 characters, no control characters")
    wrong = not isinstance(slide_id, str) or bool(why_no_folder_name(slide_id))
    _refuse(wrong, f"{slide_id!r:.80} is no slide id", "use the id as screening wrote it")
    for part in ("fingerprint", "model_version", "when"):
        text = getattr(action, part)
        wrong = not isinstance(text, str) or len(text) > 256 or readable(text) != text
        _refuse(wrong, f"{part} is no plain text of at most 256 characters")


def _check_place(action: Action) -> None:
    cell_id = action.cell_id
    if cell_id is not None:
        _refuse(not isinstance(cell_id, str) or not _CELL_ID.fullmatch(cell_id), f"{cell_id!r:.80} is no cell id")
    _refuse(cell_id is None and action.kind in _OF_A_CELL, f"{action.kind} names no cell")
    _refuse(cell_id is not None and action.kind in _OF_THE_SLIDE, f"{action.kind} is about a slide, but names a cell")


def _check_numbers(action: Action) -> None:
    seconds = action.seconds
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= _MAX_SECONDS
    _refuse(not number, f"seconds is {seconds!r:.80}", f"give 0 to {_MAX_SECONDS:.0f}")
    _refuse(not isinstance(action.blind, bool), f"blind is {action.blind!r:.80}, not true or false")
    _refuse(not isinstance(action.sequence, int) or action.sequence < 0, "sequence is no number from 0")
    if action.when:
        try:
            utc = datetime.fromisoformat(action.when).utcoffset() == timedelta(0)
        except ValueError:
            utc = False
        _refuse(not utc, f"{action.when!r:.80} is no time in UTC", "write it as 2026-11-29T02:30:00+00:00")


def _check_change(action: Action) -> None:
    kind, before, after = action.kind, action.before, action.after
    if kind == Kind.BOX_ADDED:
        _refuse(before is not None or after is None, "a box that is added has an 'after' and no 'before'")
        own = action.cell_id == added_cell_id(action.uuid)
        _refuse(not own, "a cell that is added must be named after its action", "see added_cell_id")
    elif kind == Kind.BOX_MOVED:
        _refuse(before is None or after is None, "a box that is moved has a 'before' and an 'after'")
    elif kind == Kind.BOX_REMOVED:
        _refuse(before is None or after is not None, "a box that is removed has a 'before' and no 'after'")


def _value(kind: Kind, cell_id: str | None, value: Value) -> Value:
    if value is None:
        return None
    if kind in {Kind.BOX_ADDED, Kind.BOX_MOVED, Kind.BOX_REMOVED, Kind.REGION}:
        return _box(value)
    if kind == Kind.DESCRIPTIONS:
        return _descriptions(value)
    choices = {Kind.LABEL: CELL_LABELS, Kind.CALL: SLIDE_CALLS, Kind.ADEQUACY: ADEQUACY}
    known = choices.get(kind, SLIDE_CALLS if cell_id is None else CELL_LABELS)
    _refuse(value not in known, f"{value!r:.80} is no {kind}", f"use one of {', '.join(known)}")
    return value


def _box(value: Value) -> list[float]:
    try:
        box = Box(*(float(side) for side in value))
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"{value!r:.80} is no box", "give [x0, y0, x1, y1] in level-0 px") from error
    wrong = not all(math.isfinite(side) and abs(side) < 1e9 for side in box) or box.x0 >= box.x1 or box.y0 >= box.y1
    _refuse(wrong, f"box {list(box)} is empty or non-finite", "use x0 < x1 and y0 < y1 in level-0 px")
    return list(box)


def _descriptions(value: Value) -> dict[str, Any] | None:
    form = isinstance(value, Mapping) and set(value) <= {"chosen", "typed"}
    _refuse(not form, f"{value!r:.80} are no descriptions", 'give {"chosen": [texts], "typed": "free text"}')
    chosen, typed = value.get("chosen", []), value.get("typed", "")
    known = isinstance(chosen, list | tuple) and all(text in DESCRIPTION_VOCABULARY for text in chosen)
    _refuse(not known, "a chosen description is not of the vocabulary", "put free text into 'typed'")
    _refuse(not isinstance(typed, str) or len(typed) > MAX_TEXT, f"'typed' is no text of {MAX_TEXT} characters at most")
    ordered, words = [text for text in DESCRIPTION_VOCABULARY if text in chosen], readable(" ".join(typed.split()))
    return {"chosen": ordered, "typed": words} if ordered or words else None
