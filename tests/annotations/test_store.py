"""The store of annotations: what is kept, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from findings_samples import make_findings

from stride_monai.annotations import (
    Action,
    AnnotationStore,
    CellKey,
    ConflictError,
    Kind,
    ReviewState,
    added_cell_id,
    fold,
    new_uuid,
)


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return AnnotationStore(tmp_path)


def label(who: str, cell: str, after: str | None, before: str | None = None) -> Action:
    return Action(who, "sample", Kind.LABEL, cell, before, after)


def test_a_proposed_cell_is_read_twice_settled_and_undone(store: AnnotationStore) -> None:
    cell = store.propose(make_findings(3))[0].cell_id
    first = store.append(label("ana", cell, "LSIL"))
    assert first.sequence == 1
    assert first.when.endswith("+00:00")
    assert store.state("sample").cells[cell].state == ReviewState.REVIEWED
    store.append(label("bo", cell, "ASC-US"))
    assert [one.cell_id for one in store.state("sample").disagreements] == [cell]
    settled = store.append(Action("chief", "sample", Kind.ARBITRATION, cell, None, "LSIL"))
    state = store.state("sample")
    assert (state.cells[cell].label, state.cells[cell].state) == ("LSIL", ReviewState.ARBITRATED)
    store.append(Action("chief", "sample", Kind.UNDO, after=settled.uuid))
    state = store.state("sample")
    assert state.cells[cell].state == ReviewState.DISAGREED
    assert state.redoable == {"chief": settled.uuid}


def test_the_same_action_sent_again_is_kept_once(store: AnnotationStore) -> None:
    cell = store.propose(make_findings(1))[0].cell_id
    sent = label("ana", cell, "LSIL")
    assert store.append(sent) == store.append(sent)
    assert len(store.actions()) == 1


def test_a_stale_action_is_refused_and_says_what_stands(store: AnnotationStore) -> None:
    cell = store.propose(make_findings(1))[0].cell_id
    store.append(label("ana", cell, "LSIL"))
    with pytest.raises(ConflictError) as caught:
        store.append(label("ana", cell, "AGC"))
    assert caught.value.current == "LSIL"
    assert len(store.actions()) == 1


def test_a_missed_cell_is_drawn_moved_and_found_again_by_a_model(store: AnnotationStore) -> None:
    uuid = new_uuid()
    cell = added_cell_id(uuid)
    store.append(Action("ana", "sample", Kind.BOX_ADDED, cell, None, [10, 20, 50, 60], uuid))
    store.append(Action("ana", "sample", Kind.BOX_MOVED, cell, [10, 20, 50, 60], [12, 20, 52, 60]))
    findings = make_findings(1)
    (one,) = findings.cells
    again = dataclasses.replace(one, box=one.box._replace(x0=13, y0=20, x1=53, y1=61))
    (proposed,) = store.propose(dataclasses.replace(findings, cells=(again,)))
    assert proposed.cell_id == cell
    state = store.state("sample")
    assert list(state.cells) == [cell]
    assert state.cells[cell].box == (12, 20, 52, 60)
    assert state.cells[cell].added_by == "ana"


def test_two_readers_are_given_the_same_cell_only_for_a_double_read(store: AnnotationStore) -> None:
    keys = [CellKey("sample", cell.cell_id) for cell in store.propose(make_findings(4))]
    mine, theirs = store.assign("ana", keys, 2), store.assign("bo", keys, 4)
    assert (mine, theirs) == (keys[:2], keys[2:])
    assert store.assign("cy", keys, 4) == []
    assert store.assign("cy", keys, 4, readers=2) == keys
    store.append(label("ana", keys[0].cell_id, "LSIL"))
    store.release("ana")
    assert store.assign("dee", keys, 4) == []  # read, or held by others
    store.release("cy")
    assert store.assign("dee", keys, 4) == [keys[1]]


def test_the_state_is_the_fold_of_the_actions_and_another_process_sees_it(
    store: AnnotationStore, tmp_path: Path
) -> None:
    cells = store.propose(make_findings(2))
    store.append(label("ana", cells[0].cell_id, "LSIL"))
    store.append(Action("ana", "sample", Kind.CALL, after="HSIL", seconds=2.5))
    assert fold("sample", store.actions("sample"), cells) == store.state("sample")
    assert AnnotationStore(tmp_path).state("sample") == store.state("sample")
    assert store.state("sample").seconds == {"ana": 2.5}
