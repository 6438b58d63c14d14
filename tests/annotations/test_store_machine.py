"""The store against a model that keeps whole copies of what stands, over random histories of three readers."""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import hypothesis.strategies as st
from findings_samples import make_findings
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stride_monai.annotations import (
    Action,
    AnnotationStore,
    ConflictError,
    Kind,
    added_cell_id,
    fold,
    meaning,
    new_uuid,
)

READERS = st.sampled_from(["ana", "bo", "cy"])
LABELS = st.sampled_from([None, "NILM", "LSIL", "HSIL", "not_a_lesion", "cannot_tell"])
CALLS = st.sampled_from([None, "NILM", "HSIL"])
WORDS = st.sampled_from([None, {"chosen": ["normal cell"], "typed": ""}, {"chosen": [], "typed": "核大"}])
BOXES = st.integers(0, 5).map(lambda at: [10.0 * at, 0.0, 10.0 * at + 8, 8.0])
INDEX = st.integers(0, 9)


class Histories(RuleBasedStateMachine):
    """What a step should do is worked out on plain dictionaries; what it did is read back from the file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = AnnotationStore(self.folder.name)
        proposed = self.store.propose(make_findings(2))
        self.proposed = proposed
        self.values: dict[Any, Any] = {("", cell.cell_id, "box"): list(cell.box) for cell in proposed}
        self.cells = [cell.cell_id for cell in proposed]
        self.done: dict[str, list[Action]] = {"ana": [], "bo": [], "cy": []}
        self.undone: dict[str, list[Action]] = copy.deepcopy(self.done)
        self.kept: list[Action] = []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def labels_of(self, cell_id: str | None, name: str) -> dict[str, str]:
        found = {who: self.values.get((who, cell_id, name)) for who in self.done}
        return {who: label for who, label in found.items() if label is not None}

    def allowed(self, who: str, place: Any, before: Any, after: Any, kind: Kind) -> bool:
        """The rules in words of docs/annotations.md."""
        if self.values.get(place) != before:
            return False
        _, cell_id, name = place
        if cell_id and name != "box" and self.values.get(("", cell_id, "box")) is None:
            return False
        if name == "box" and after is None and set(self.labels_of(cell_id, "label")) - {who}:
            return False
        if kind == Kind.ARBITRATION and before is None and after is not None:
            labels = self.labels_of(cell_id, "label" if cell_id else "call").values()
            return len({meaning(label) for label in labels}) > 1
        return True

    def attempt(self, action: Action) -> None:
        who, stack, other = action.who, self.done[action.who], self.undone[action.who]
        if action.kind in {Kind.UNDO, Kind.REDO}:
            stack, other = (stack, other) if action.kind == Kind.UNDO else (other, stack)
            last = stack[-1] if stack else None
            back = action.kind == Kind.UNDO
            fine = last is not None and last.uuid == action.after
            if fine and last is not None:
                before, after = (last.after, last.before) if back else (last.before, last.after)
                fine = self.allowed(who, last.field, before, after, last.kind)
                place = last.field
        else:
            last, place, after = action, action.field, action.after
            fine = self.allowed(who, place, action.before, after, action.kind)
        try:
            kept = self.store.append(action)
        except ConflictError:
            assert not fine
            return
        assert fine
        self.kept.append(kept)
        self.values[place] = after
        if action.kind in {Kind.UNDO, Kind.REDO}:
            stack.pop()
        else:
            other.clear()
            other = stack
        other.append(last)

    def seen(self, who: str, place: Any, stale: bool, guess: Any) -> Any:
        return guess if stale else self.values.get(place)

    @rule(who=READERS, index=INDEX, after=LABELS, stale=st.booleans(), guess=LABELS)
    def label(self, who: str, index: int, after: str | None, stale: bool, guess: str | None) -> None:
        cell = self.cells[index % len(self.cells)]
        before = self.seen(who, (who, cell, "label"), stale, guess)
        self.attempt(Action(who, "sample", Kind.LABEL, cell, before, after))

    @rule(who=READERS, index=INDEX, after=WORDS)
    def describe(self, who: str, index: int, after: Any) -> None:
        cell = self.cells[index % len(self.cells)]
        before = self.values.get((who, cell, "descriptions"))
        self.attempt(Action(who, "sample", Kind.DESCRIPTIONS, cell, before, after))

    @rule(who=READERS, box=BOXES)
    def draw(self, who: str, box: list[float]) -> None:
        uuid = new_uuid()
        self.cells.append(added_cell_id(uuid))
        self.attempt(Action(who, "sample", Kind.BOX_ADDED, added_cell_id(uuid), None, box, uuid))

    @rule(who=READERS, index=INDEX, box=BOXES, stale=st.booleans(), guess=BOXES)
    def move(self, who: str, index: int, box: list[float], stale: bool, guess: list[float]) -> None:
        cell = self.cells[index % len(self.cells)]
        before = self.seen(who, ("", cell, "box"), stale, guess) or guess
        self.attempt(Action(who, "sample", Kind.BOX_MOVED, cell, before, box))

    @rule(who=READERS, index=INDEX, guess=BOXES)
    def remove(self, who: str, index: int, guess: list[float]) -> None:
        cell = self.cells[index % len(self.cells)]
        self.attempt(Action(who, "sample", Kind.BOX_REMOVED, cell, self.values.get(("", cell, "box")) or guess))

    @rule(who=READERS, after=CALLS, settle=st.booleans())
    def call(self, who: str, after: str | None, settle: bool) -> None:
        kind, owner = (Kind.ARBITRATION, "") if settle else (Kind.CALL, who)
        before = self.values.get((owner, None, kind.value))
        self.attempt(Action(who, "sample", kind, None, before, after))

    @rule(who=READERS, index=INDEX, after=LABELS)
    def settle(self, who: str, index: int, after: str | None) -> None:
        cell = self.cells[index % len(self.cells)]
        before = self.values.get(("", cell, "arbitration"))
        self.attempt(Action(who, "sample", Kind.ARBITRATION, cell, before, after))

    @rule(who=READERS, back=st.booleans())
    def step(self, who: str, back: bool) -> None:
        stack = (self.done if back else self.undone)[who]
        target = stack[-1].uuid if stack else new_uuid()
        self.attempt(Action(who, "sample", Kind.UNDO if back else Kind.REDO, after=target))

    @precondition(lambda self: self.kept)
    @rule(index=INDEX)
    def send_again(self, index: int) -> None:
        sent = self.kept[index % len(self.kept)]
        assert self.store.append(sent) == sent

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = AnnotationStore(self.folder.name)

    @rule()
    def screen_again(self) -> None:
        assert self.store.propose(make_findings(2)) is not None

    @invariant()
    def stands_as_in_the_model(self) -> None:
        state = self.store.state("sample")
        assert self.store.actions() == self.kept
        assert fold("sample", self.kept, self.proposed) == state
        for cell_id, cell in state.cells.items():
            assert (None if cell.box is None else list(cell.box)) == self.values.get(("", cell_id, "box"))
            assert {who: read.label for who, read in cell.reads.items() if read.label} == self.labels_of(
                cell_id, "label"
            )
            assert cell.arbitrated == self.values.get(("", cell_id, "arbitration"))
        assert dict(state.calls) == self.labels_of(None, "call")
        assert state.undoable == {who: stack[-1].uuid for who, stack in self.done.items() if stack}
        assert state.redoable == {who: stack[-1].uuid for who, stack in self.undone.items() if stack}


Histories.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase
