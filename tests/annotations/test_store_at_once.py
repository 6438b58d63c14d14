"""Eight annotators at once, and processes that are killed: nothing that was acknowledged is lost."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from findings_samples import make_findings

from stride_monai.annotations import Action, AnnotationStore, CellKey, ConflictError, Kind, fold, folding

ANNOTATORS = 8
FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None
pytestmark = pytest.mark.skipif(FORK is None, reason="no fork here")


def work(store: AnnotationStore, who: str, cells: list[str]) -> int:
    """Reads every cell, and moves one box as all others do, again where they were faster; how often it moved."""
    moved = 0
    for cell in cells:
        store.append(Action(who, "sample", Kind.LABEL, cell, None, "LSIL"))
        box = store.state("sample").cells[cells[0]].box
        assert box is not None
        try:
            store.append(
                Action(who, "sample", Kind.BOX_MOVED, cells[0], list(box), [box.x0, box.y0, box.x1 + 1, box.y1])
            )
            moved += 1
        except ConflictError:
            continue
    return moved


def assert_all_there(store: AnnotationStore, cells: list[str], moved: int, width: float) -> None:
    state, actions = store.state("sample"), store.actions("sample")
    kinds = Counter(action.kind for action in actions)
    assert kinds == {Kind.LABEL: ANNOTATORS * len(cells), Kind.BOX_MOVED: moved}
    assert all(len(state.cells[cell].reads) == ANNOTATORS for cell in cells)
    box = state.cells[cells[0]].box
    assert box is not None
    assert box.width == width + moved  # every move started from the one before
    assert [action.sequence for action in actions] == sorted({action.sequence for action in actions})
    assert fold("sample", actions, [cell.proposed for cell in state.cells.values() if cell.proposed]) == state


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "a store each"])
def test_eight_threads_lose_nothing(tmp_path: Path, shared: bool) -> None:
    store = AnnotationStore(tmp_path)
    proposed = store.propose(make_findings(6))
    cells = [cell.cell_id for cell in proposed]
    with ThreadPoolExecutor(ANNOTATORS) as pool:
        stores = [store if shared else AnnotationStore(tmp_path) for _ in range(ANNOTATORS)]
        moved = sum(pool.map(lambda n: work(stores[n], f"reader {n}", cells), range(ANNOTATORS)))
    assert_all_there(store, cells, moved, proposed[0].box.width)


def _process(store: AnnotationStore, who: str, cells: list[str], pipe: Connection) -> None:
    pipe.send(work(store, who, cells))


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    proposed = store.propose(make_findings(6))
    cells = [cell.cell_id for cell in proposed]
    moved, workers = 0, []
    for number in range(ANNOTATORS):
        mine, theirs = FORK.Pipe()
        worker = FORK.Process(target=_process, args=(store, f"reader {number}", cells, theirs))
        worker.start()
        workers.append((worker, mine))
    for worker, pipe in workers:
        assert pipe.poll(60)
        moved += pipe.recv()
        worker.join(60)
        assert worker.exitcode == 0
    assert_all_there(store, cells, moved, proposed[0].box.width)


def _opener(folder: Path) -> None:
    AnnotationStore(folder).close()


def test_eight_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    for turn in range(5):
        folder = tmp_path / str(turn)
        folder.mkdir()
        workers = [FORK.Process(target=_opener, args=(folder,)) for _ in range(ANNOTATORS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * ANNOTATORS


def test_eight_readers_who_ask_at_once_are_given_different_cells(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    keys = [CellKey("sample", cell.cell_id) for cell in store.propose(make_findings(40))]
    with ThreadPoolExecutor(ANNOTATORS) as pool:
        given = list(pool.map(lambda n: AnnotationStore(tmp_path).assign(f"reader {n}", keys, 5), range(ANNOTATORS)))
    assert sorted(key for some in given for key in some) == sorted(keys)


def _writer(folder: Path, cell: str, pipe: Connection) -> None:
    store, before = AnnotationStore(folder), AnnotationStore(folder).state("sample").cells[cell].label
    for after in ("LSIL", "AGC") * 10_000:
        action = Action("ana", "sample", Kind.LABEL, cell, before, after)
        pipe.send(action.uuid)
        store.append(action)
        pipe.send("kept")
        before = after


@pytest.mark.parametrize("after", [1, 2, 3, 4, 7, 10, 15])
def test_a_writer_that_is_killed_loses_nothing_acknowledged(tmp_path: Path, after: int) -> None:
    """Killed after so many messages: odd, an action is under way; even, one was just acknowledged."""
    store = AnnotationStore(tmp_path)
    cell = store.propose(make_findings(1))[0].cell_id
    for _ in range(3):
        mine, theirs = FORK.Pipe()
        worker = FORK.Process(target=_writer, args=(tmp_path, cell, theirs))
        worker.start()
        theirs.close()
        got = [mine.recv() for _ in range(after)]
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(60)
        try:
            while True:
                got.append(mine.recv())
        except EOFError:
            pass
        acknowledged = [uuid for uuid, told in itertools.pairwise(got) if told == "kept"]
        kept = {action.uuid for action in store.actions()}
        assert set(acknowledged) <= kept
        assert fold("sample", store.actions(), [store.state("sample").cells[cell].proposed]) == store.state("sample")
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _dies_before_commit(folder: Path, cell: str) -> None:
    folding.Fold.apply = lambda fold, action: os.kill(os.getpid(), signal.SIGKILL)
    AnnotationStore(folder).append(Action("ana", "sample", Kind.LABEL, cell, None, "LSIL"))


def test_an_action_that_was_not_finished_is_not_there_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    cell = store.propose(make_findings(1))[0].cell_id
    worker = FORK.Process(target=_dies_before_commit, args=(tmp_path, cell))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert store.actions() == []
    assert store.append(Action("bo", "sample", Kind.LABEL, cell, None, "AGC")).sequence == 1


def test_what_is_kept_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    cell = store.propose(make_findings(1))[0].cell_id
    store.append(Action("ana", "sample", Kind.LABEL, cell, None, "LSIL"))
    with sqlite3.connect(store.path) as connection:
        for table in ("actions", "slides", "proposals"):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET slide_id = 'x'"):
                with pytest.raises(sqlite3.IntegrityError, match="never"):
                    connection.execute(statement)
        durable = store._opened.connection.execute("PRAGMA synchronous").fetchone()
    assert durable == (2,)  # FULL
