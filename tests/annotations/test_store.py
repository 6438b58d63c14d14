"""The store of annotations: what is kept, what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from annotation_samples import full_disk
from findings_samples import make_findings

from stride_monai.annotations import (
    Action,
    AnnotationError,
    AnnotationStore,
    CellKey,
    ConflictError,
    Kind,
    ReviewState,
    added_cell_id,
    fold,
    new_uuid,
)
from stride_monai.errors import OutputError


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
    for cell in cells:
        assert store.cell("sample", cell.cell_id) == store.state("sample").cells[cell.cell_id]
    assert store.cell("sample", "c0").box is None
    assert store.state("sample").seconds == {"ana": 2.5}


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "annotations.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "RESULTS").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(block, {"findings": make_findings(2)})
    assert len(AnnotationStore("RESULTS", create=False).actions()) == 1


def test_every_kind_and_field_of_an_action_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "annotations.md").read_text(encoding="utf-8")
    for name in (*Kind, *(field.name for field in dataclasses.fields(Action)), *ReviewState):
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "smile"},
        {"who": ""},
        {"who": "a\0"},
        {"slide_id": "../x"},
        {"cell_id": "a/b"},
        {"cell_id": None},
        {"after": "Tumor"},
        {"after": ["LSIL"]},
        {"uuid": "1"},
        {"seconds": float("nan")},
        {"seconds": -1},
        {"seconds": True},
        {"blind": 1},
        {"when": "yesterday"},
        {"when": "2026-11-29T02:30:00+01:00"},
        {"model_version": "\ud800"},
        {"kind": "box_moved", "before": [0, 0, 1, 1], "after": [0, 0, 0, 1]},
        {"kind": "box_moved", "before": [0, 0, 1, 1], "after": [0, 0, float("inf"), 1]},
        {"kind": "box_added", "after": [0, 0, 1, 1]},
        {"kind": "descriptions", "after": {"chosen": ["x"]}},
        {"kind": "descriptions", "after": {"typed": "x" * 3000}},
        {"kind": "undo", "after": None},
        {"kind": "call", "after": "HSIL"},
        {"sequence": -1},
        {"smile": 1},
    ],
)
def test_what_is_no_action_is_refused_before_it_reaches_the_store(wrong: dict[str, object]) -> None:
    with pytest.raises(AnnotationError):
        Action.from_dict({"who": "ana", "slide_id": "s", "kind": "label", "cell_id": "c1", "after": "LSIL", **wrong})


def test_an_action_survives_json(store: AnnotationStore) -> None:
    words = {"chosen": ["normal cell"], "typed": " 核大\n two "}
    action = Action("Ana K.", "切片", Kind.DESCRIPTIONS, "c1", None, words, blind=True, seconds=1.5)
    assert Action.from_dict(json.loads(json.dumps(action.to_dict()))) == action
    assert action.after == {"chosen": ["normal cell"], "typed": "核大 two"}


def test_a_uuid_is_of_one_action_only(store: AnnotationStore) -> None:
    sent = store.append(Action("ana", "sample", Kind.CALL, after="HSIL"))
    with pytest.raises(AnnotationError, match="another action"):
        store.append(Action("ana", "sample", Kind.CALL, after="LSIL", uuid=sent.uuid))


def test_all_or_none(store: AnnotationStore) -> None:
    cells = store.propose(make_findings(2))
    good = label("ana", cells[0].cell_id, "LSIL")
    with pytest.raises(ConflictError):
        store.append_all([good, label("ana", cells[1].cell_id, "LSIL", before="AGC")])
    assert store.actions() == []
    assert store.state("sample").cells[cells[0].cell_id].reads == {}
    assert store.append(good).sequence == 1


def test_another_file_under_the_same_id_is_refused(store: AnnotationStore) -> None:
    findings = make_findings(1)
    store.propose(dataclasses.replace(findings, slide=dataclasses.replace(findings.slide, fingerprint="aa")))
    with pytest.raises(ConflictError, match="file of slide"):
        store.append(Action("ana", "sample", Kind.CALL, after="HSIL", fingerprint="bb"))
    with pytest.raises(ConflictError, match="file of slide"):
        store.propose(dataclasses.replace(findings, slide=dataclasses.replace(findings.slide, fingerprint="bb")))


def test_files_of_others_and_of_later_versions_are_left_alone(tmp_path: Path) -> None:
    other, later = tmp_path / "other.sqlite", tmp_path / "later.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = other.read_bytes()
    with pytest.raises(AnnotationError, match="another program"):
        AnnotationStore(other)
    assert other.read_bytes() == before
    AnnotationStore(later).close()
    with sqlite3.connect(later) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AnnotationError, match="later version"):
        AnnotationStore(later)


def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(store: AnnotationStore) -> None:
    cell = store.propose(make_findings(1))[0].cell_id
    store.append(label("ana", cell, "LSIL"))
    refused = label("bo", cell, "AGC")
    with full_disk(store, "sample", cell):
        kept = store.actions()
        with pytest.raises(OutputError, match="is full: make room on it"):
            store.append(refused)
        with pytest.raises(OutputError, match="is full"):
            store.append_all([refused, label("cy", cell, "NILM")])
        assert store.actions() == kept
        assert store.state("sample").cells[cell].label == "LSIL"
    first = store.append(refused)
    assert store.append(refused) == first
    assert store.actions() == [*kept, first] == AnnotationStore(store.path).actions()


def test_annotations_load_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, stride_monai.annotations as a;"
        f"a.AnnotationStore({str(tmp_path)!r}).state('s'); a.export_cohort, a.corrections, a.agreement, a.Users;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
