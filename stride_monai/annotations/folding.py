"""From actions to what stands: the one place that knows what an action does, and when it can not be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from stride_monai.annotations.actions import Action, Kind, Value
from stride_monai.annotations.errors import ConflictError
from stride_monai.annotations.proposals import Proposal
from stride_monai.annotations.state import CellState, Read, SlideState, agreed, agreed_call
from stride_monai.units import Box

__all__ = ["Fold", "fold"]

Field = tuple[str, str | None, str]
_AGAIN = "load the slide again and repeat it if it is still meant"
_NEEDS_A_CELL = {Kind.LABEL, Kind.DESCRIPTIONS, Kind.BOX_MOVED, Kind.BOX_REMOVED, Kind.ARBITRATION}


def fold(slide_id: str, actions: Iterable[Action], proposals: Iterable[Proposal] = ()) -> SlideState:
    """What stands after the actions of one slide, in their order.

    A pure function: the same actions give the same state. Actions of a store are never in conflict.

    Args:
        actions: of this slide.
        proposals: of this slide, in the order in which they were made.

    Raises:
        ConflictError: an action does not follow from those before it.
    """
    folded = Fold(slide_id)
    for proposal in proposals:
        folded.propose(proposal)
    for action in actions:
        folded.check(action)
        folded.apply(action)
    return folded.state()


class Fold:
    """A fold that can go on: an action more costs no more than that action.

    Every value is kept under its field (whose, of which cell, which) with the action that set it. Undo and redo set
    the value of the action that they name back and forth; each reader has a stack of both.
    """

    def __init__(self, slide_id: str) -> None:
        self.slide_id = slide_id
        self.fingerprint = ""
        self.sequence = 0
        self.proposals: dict[str, list[Proposal]] = {}
        self._values: dict[Field, tuple[Value, Action | None]] = {}
        self._earlier: dict[str, tuple[Value, Action | None]] = {}  # what an action replaced, by its uuid
        self._done: defaultdict[str, list[Action]] = defaultdict(list)
        self._undone: defaultdict[str, list[Action]] = defaultdict(list)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._added_by: dict[str, str] = {}
        self._readers: defaultdict[str, dict[str, None]] = defaultdict(dict)  # by cell, who ever read it, in order

    def propose(self, proposal: Proposal) -> None:
        """Take in a proposed cell; the box of a cell is that of its first proposal until a reader moves it."""
        earlier = self.proposals.setdefault(proposal.cell_id, [])
        earlier.append(proposal)
        if len(earlier) == 1 and not is_added(proposal.cell_id):
            self._values["", proposal.cell_id, "box"] = (list(proposal.box), None)

    def check(self, action: Action) -> None:
        """Raises:
        ConflictError: the action does not start from what stands.
        """
        if action.fingerprint and self.fingerprint and action.fingerprint != self.fingerprint:
            raise ConflictError(
                f"the file of slide '{self.slide_id}' is not the one that its annotations were made on",
                "bring the file back, or annotate the new one under another slide id",
                self.fingerprint,
            )
        if action.kind in {Kind.UNDO, Kind.REDO}:
            self._check_step(action)
            return
        self._check_follows(action.field, action.before, action.who)
        if action.kind in _NEEDS_A_CELL and action.cell_id is not None:
            self._check_present(action.cell_id)
        self._check_change(action, action.after)

    def _check_step(self, action: Action) -> None:
        stack = self._stack(action)
        last = stack[-1] if stack else None
        if last is None or last.uuid != action.after:
            current = last.uuid if last else None
            raise ConflictError(
                f"'{action.who}' cannot {action.kind} that action on '{self.slide_id}' now", _AGAIN, current
            )
        before, after = (last.after, last.before) if action.kind == Kind.UNDO else (last.before, last.after)
        self._check_follows(last.field, before, action.who)
        if last.field[2] != "box" and last.cell_id is not None and last.kind != Kind.REGION:
            self._check_present(last.cell_id)
        self._check_change(last, after, action.who)

    def _check_follows(self, place: Field, before: Value, who: str) -> None:
        current = self._value(place)
        if current != before:
            what = f"{place[2]} of {'cell ' + place[1] if place[1] else 'the slide'} on '{self.slide_id}'"
            raise ConflictError(f"the {what} is no longer what '{who}' saw", _AGAIN, current)

    def _check_present(self, cell_id: str) -> None:
        if self._value(("", cell_id, "box")) is None:
            raise ConflictError(f"slide '{self.slide_id}' has no cell {cell_id}, or it was removed", _AGAIN)

    def _check_change(self, action: Action, after: Value, who: str = "") -> None:
        """What would be lost, or would have no ground, is refused, whether by an action or by undo and redo."""
        who = who or action.who
        if action.field[2] == "box" and after is None:
            others = [reader for reader in self._labels(action.cell_id) if reader != who]
            if others:
                what = f"cell {action.cell_id} of '{self.slide_id}' was read by {', '.join(others)} and stays"
                raise ConflictError(what, "read it as not_a_lesion instead", self._value(action.field))
        if action.kind == Kind.ARBITRATION and after is not None and self._value(action.field) is None:
            labels = list(self._labels(action.cell_id).values())
            one = agreed(labels) if action.cell_id else agreed_call(labels)
            if len(labels) < 2 or one is not None:
                raise ConflictError(f"readers do not differ there on '{self.slide_id}'", _AGAIN, one)

    def apply(self, action: Action) -> None:
        """Take in an action that :meth:`check` has let pass."""
        self.sequence = max(self.sequence, action.sequence)
        self.fingerprint = self.fingerprint or action.fingerprint
        self._seconds[action.who] += action.seconds
        if action.kind == Kind.UNDO:
            last = self._done[action.who].pop()
            self._values[last.field] = self._earlier[last.uuid]
            self._undone[action.who].append(last)
            return
        if action.kind == Kind.REDO:
            action = self._undone[action.who].pop()
        else:
            self._undone[action.who].clear()
        self._earlier[action.uuid] = self._values.get(action.field, (None, None))
        self._values[action.field] = (action.after, action)
        self._done[action.who].append(action)
        if action.cell_id is not None and action.field[0]:
            self._readers[action.cell_id].setdefault(action.who)
        if action.kind == Kind.BOX_ADDED and action.cell_id is not None:
            self._added_by[action.cell_id] = action.who

    def base_boxes(self) -> dict[str, Box]:
        """Boxes by which a cell that a model proposes again is known; removed proposals are among them."""
        boxes = {cell_id: known[0].box for cell_id, known in self.proposals.items() if not is_added(cell_id)}
        return boxes | {str(cell_id): Box(*value) for _, cell_id, value in self._standing("box")}

    def readers(self, cell_id: str) -> set[str]:
        """Who gives this cell a label."""
        return set(self._labels(cell_id))

    def has(self, cell_id: str) -> bool:
        """Whether the slide has this cell, and nobody removed it."""
        return self._value(("", cell_id, "box")) is not None

    def state(self) -> SlideState:
        """What stands now."""
        ids = [*sorted(self.proposals, key=lambda cell_id: self.proposals[cell_id][-1].rank), *self._added_by]
        return SlideState(
            self.slide_id,
            self.fingerprint,
            self.sequence,
            {cell_id: self.cell(cell_id) for cell_id in dict.fromkeys(ids)},
            {str(region_id): Box(*value) for _, region_id, value in self._standing("region")},
            {who: value for who, _, value in self._standing("call")},
            {who: value for who, _, value in self._standing("adequacy")},
            self._value(("", None, "arbitration")),
            dict(self._seconds),
            {who: stack[-1].uuid for who, stack in self._done.items() if stack},
            {who: stack[-1].uuid for who, stack in self._undone.items() if stack},
        )

    def _standing(self, wanted: str) -> list[tuple[str, str | None, Value]]:
        """The values of one name that are not None: whose, of which cell, what."""
        values = self._values.items()
        return [
            (who, place, value) for (who, place, name), (value, _) in values if name == wanted and value is not None
        ]

    def cell(self, cell_id: str) -> CellState:
        """One cell as it stands; without a box where there is none of this id."""
        box, known = self._value(("", cell_id, "box")), self.proposals.get(cell_id)
        reads = {who: self._read(who, cell_id) for who in self._readers.get(cell_id, ())}
        return CellState(
            cell_id,
            None if box is None else Box(*box),
            known[-1] if known else None,
            self._added_by.get(cell_id),
            {who: read for who, read in reads.items() if read is not None},
            self._value(("", cell_id, "arbitration")),
        )

    def _read(self, who: str, cell_id: str) -> Read | None:
        label, source = self._values.get((who, cell_id, "label"), (None, None))
        words = self._value((who, cell_id, "descriptions"))
        if label is None and words is None:
            return None
        chosen, typed = (tuple(words["chosen"]), words["typed"]) if words else ((), "")
        if label is None or source is None:
            return Read(None, chosen, typed)
        return Read(label, chosen, typed, source.blind, source.model_version, source.when)

    def _labels(self, cell_id: str | None) -> dict[str, str]:
        """By reader: labels of a cell, or calls of the slide."""
        if cell_id is None:
            readers, name = {who for who, place, _ in self._values if place is None and who}, "call"
        else:
            readers, name = set(self._readers.get(cell_id, ())), "label"
        values = {who: self._value((who, cell_id, name)) for who in sorted(readers)}
        return {who: value for who, value in values.items() if value is not None}

    def _value(self, place: Field) -> Value:
        return self._values.get(place, (None, None))[0]

    def _stack(self, action: Action) -> list[Action]:
        return (self._done if action.kind == Kind.UNDO else self._undone)[action.who]


def is_added(cell_id: str) -> bool:
    """Whether a reader drew the cell, as its id says."""
    return cell_id.startswith("a")
