"""Where annotations are kept: every action for ever, in one SQLite file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from stride_monai.annotations.actions import Action, utc_now
from stride_monai.annotations.database import STORE_NAME, as_ours, connect, transaction
from stride_monai.annotations.errors import AnnotationError, ConflictError
from stride_monai.annotations.folding import Fold
from stride_monai.annotations.overlaps import SAME_CELL, overlaps
from stride_monai.annotations.proposals import Proposal, cells_from_findings, model_version_of, proposed_cell_id
from stride_monai.annotations.state import CellState, SlideState
from stride_monai.findings import Findings
from stride_monai.units import Box

__all__ = ["AnnotationStore", "CellKey"]

_COLUMNS = tuple(part.name for part in dataclasses.fields(Action))
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERT = f"INSERT INTO actions ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_JSON = ("before", "after")
_OF_THE_STORE = {"when", "sequence"}  # fields that a client leaves open
_KEPT = 32  # folded slides in memory


class CellKey(NamedTuple):
    """A cell of a store."""

    slide_id: str
    cell_id: str


class AnnotationStore:
    """Append-only actions of all readers of a set of slides, and what stands after them.

    Threads and processes may use the same file, and threads the same store, at once. An action that
    :meth:`append` has returned is on the disk.

    Args:
        path: the SQLite file, or the folder that holds (or will hold) ``annotations.sqlite``. A local disk: network
            shares cannot keep its log.
        create: make it where there is none.

    Raises:
        AnnotationError: there is none and it is not to be made; it is another program's, or of a later version.
        OutputError: it cannot be opened or made.
    """

    def __init__(self, path: Path | str, create: bool = True) -> None:
        path = Path(path)
        self.path = path / STORE_NAME if path.is_dir() else path
        self._opened = _Opened(self.path, create)

    def append(self, action: Action) -> Action:
        """Keep one action; see :meth:`append_all`."""
        return self.append_all([action])[0]

    def append_all(self, actions: Sequence[Action]) -> list[Action]:
        """Keep actions, all or none; they are on the disk when this returns.

        An action whose uuid is known already is not kept a second time: what was kept is returned. So a client that
        got no answer may send it again.

        Returns:
            The actions as kept, with ``sequence``, and with ``when`` where the client gave none.

        Raises:
            ConflictError: an action does not start from what stands; nothing is kept.
            AnnotationError: its uuid belongs to another action.
            OutputError: the disk is full, or the store is busy for a minute.
        """
        with self._writing() as opened:
            return [self._kept(opened, action) for action in actions]

    def _kept(self, opened: _Opened, action: Action) -> Action:
        row = opened.connection.execute(f"SELECT {_NAMES} FROM actions WHERE uuid = ?", (action.uuid,)).fetchone()
        if row is not None:
            return _same(_action(row), action)
        folded = opened.fold(action.slide_id)
        folded.check(action)
        action = dataclasses.replace(action, when=action.when or utc_now(), sequence=0)
        cursor = opened.connection.execute(_INSERT, _row(action))
        action = dataclasses.replace(action, sequence=cursor.lastrowid or 0)
        folded.apply(action)
        return action

    def actions(self, slide_id: str | None = None, since: int = 0) -> list[Action]:
        """The actions in the order in which they were kept.

        Args:
            slide_id: of one slide; None for all.
            since: only those whose sequence is greater.
        """
        with self._reading() as opened:
            return opened.actions(slide_id, since)

    def state(self, slide_id: str) -> SlideState:
        """What stands of a slide: :func:`~stride_monai.annotations.fold` over its actions. Unknown slides are empty."""
        with self._reading() as opened:
            return opened.fold(slide_id).state()

    def cell(self, slide_id: str, cell_id: str) -> CellState:
        """What stands of one cell, at a fraction of the cost of :meth:`state`; without a box where there is none."""
        with self._reading() as opened:
            return opened.fold(slide_id).cell(cell_id)

    def slide_ids(self) -> list[str]:
        """Slides with proposed cells or actions, in the order in which they came."""
        with self._reading() as opened:
            rows = opened.connection.execute(
                "SELECT slide_id FROM slides GROUP BY slide_id ORDER BY min(sequence)"
            ).fetchall()
            rows += opened.connection.execute(
                "SELECT slide_id FROM actions GROUP BY slide_id ORDER BY min(sequence)"
            ).fetchall()
            return list(dict.fromkeys(slide_id for (slide_id,) in rows))

    def propose(self, findings: Findings, count: int | None = None) -> list[Proposal]:
        """Take in the cells of a screened slide for review.

        A cell that a model finds again (intersection over union at least 0.5 with a known cell) keeps its id, so that
        nobody reads it anew. Giving the same findings again changes nothing.

        Args:
            count: at most so many cells, by rank.

        Returns:
            The proposals by rank, with the ids that the store knows them by.

        Raises:
            ConflictError: the slide's file is not the one that its annotations were made on.
        """
        slide, version = findings.slide, model_version_of(findings)
        return self.propose_cells(
            slide.slide_id, cells_from_findings(findings, count), version, slide.fingerprint or ""
        )

    def propose_cells(
        self, slide_id: str, cells: Sequence[Proposal], model_version: str, fingerprint: str = ""
    ) -> list[Proposal]:
        """:meth:`propose` for cells that come without findings; their ids are made here."""
        with self._writing() as opened:
            folded = opened.fold(slide_id)
            if fingerprint and folded.fingerprint and fingerprint != folded.fingerprint:
                raise ConflictError(
                    f"the file of slide '{slide_id}' is not the one that its annotations were made on",
                    "bring the file back, or screen the new one under another slide id",
                    folded.fingerprint,
                )
            known = opened.proposals(slide_id, model_version)
            opened.connection.execute(
                "INSERT OR IGNORE INTO slides (slide_id, fingerprint, model_version) VALUES (?, ?, ?)",
                (slide_id, fingerprint, model_version),
            )
            ids = _found_again(folded.base_boxes(), [cell.box for cell in cells])
            named = [
                dataclasses.replace(cell, cell_id=cell_id, model_version=model_version)
                for cell, cell_id in zip(cells, ids, strict=True)
            ]
            fresh = [cell for cell in named if cell.cell_id not in known]
            opened.connection.executemany(
                "INSERT OR IGNORE INTO proposals (slide_id, model_version, cell_id, body) VALUES (?, ?, ?, ?)",
                [(slide_id, model_version, cell.cell_id, json.dumps(cell.to_dict())) for cell in fresh],
            )
            return named

    def assign(
        self, who: str, cells: Sequence[CellKey], count: int, readers: int = 1, minutes: float = 30.0
    ) -> list[CellKey]:
        """Give a reader cells to read that nobody else reads.

        A cell that is given is kept for the reader for some minutes, or until it is read or released.

        Args:
            cells: to choose from, the first ones first.
            count: at most so many.
            readers: how many may read a cell: 1, or 2 where a double read is asked for.
            minutes: that they are kept; asking again for the same cells renews them.

        Returns:
            Of ``cells`` those that the reader has not read, and that fewer than ``readers`` others have read or hold.
        """
        now, given = time.time(), list[CellKey]()
        with self._writing() as opened:
            opened.connection.execute("DELETE FROM leases WHERE until <= ?", (now,))
            held = opened.connection.execute("SELECT slide_id, cell_id, who FROM leases").fetchall()
            holders: dict[CellKey, set[str]] = {}
            for slide_id, cell_id, holder in held:
                holders.setdefault(CellKey(slide_id, cell_id), set()).add(holder)
            folds: dict[str, Fold] = {}
            for key in dict.fromkeys(CellKey(*key) for key in cells):
                if len(given) == count:
                    break
                folded = folds.get(key.slide_id) or folds.setdefault(key.slide_id, opened.fold(key.slide_id))
                read_by = folded.readers(key.cell_id)
                others = (read_by | holders.get(key, set())) - {who}
                if folded.has(key.cell_id) and who not in read_by and len(others) < readers:
                    given.append(key)
            opened.connection.executemany(
                "INSERT OR REPLACE INTO leases (slide_id, cell_id, who, until) VALUES (?, ?, ?, ?)",
                [(*key, who, now + 60 * minutes) for key in given],
            )
        return given

    def held(self, who: str) -> list[CellKey]:
        """Cells that a reader was given and that are still kept for the reader."""
        with self._reading() as opened:
            rows = opened.connection.execute(
                "SELECT slide_id, cell_id FROM leases WHERE who = ? AND until > ?", (who, time.time())
            )
            return [CellKey(*row) for row in rows]

    def release(self, who: str) -> None:
        """Give back all cells that are kept for a reader."""
        with self._writing() as opened:
            opened.connection.execute("DELETE FROM leases WHERE who = ?", (who,))

    def close(self) -> None:
        """Close the file; the store cannot be used any more."""
        with self._opened.lock:
            self._opened.connection.close()

    def __enter__(self) -> AnnotationStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Opened]:
        with self._session(write=True) as opened:
            yield opened

    @contextlib.contextmanager
    def _reading(self) -> Iterator[_Opened]:
        with self._session(write=False) as opened:
            yield opened

    @contextlib.contextmanager
    def _session(self, write: bool) -> Iterator[_Opened]:
        if self._opened.process != os.getpid():  # a forked child must not touch its parent's connection, or its lock
            _OF_PARENTS.append(self._opened)
            self._opened = _Opened(self.path, create=False)
        opened = self._opened
        with opened.lock, as_ours(self.path):
            try:
                with transaction(opened.connection, write):
                    yield opened
            except BaseException:
                opened.folds.clear()  # they may hold what was rolled back
                raise


_OF_PARENTS: list[Any] = []  # never closed: that would disturb the parent


class _Opened:
    """A process's connection, one thread at a time, and the slides that it has folded."""

    def __init__(self, path: Path, create: bool) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection = connect(path, create)
        self.folds: OrderedDict[str, tuple[Fold, int]] = OrderedDict()

    def fold(self, slide_id: str) -> Fold:
        """The slide's fold, brought up to what is in the file."""
        folded, proposed = self.folds.pop(slide_id) if slide_id in self.folds else (Fold(slide_id), 0)
        rows = self.connection.execute(
            "SELECT sequence, body FROM proposals WHERE slide_id = ? AND sequence > ? ORDER BY sequence",
            (slide_id, proposed),
        ).fetchall()
        for _, body in rows:
            folded.propose(Proposal.from_dict(json.loads(body)))
        proposed = rows[-1][0] if rows else proposed
        if not folded.fingerprint:
            known = self.connection.execute(
                "SELECT fingerprint FROM slides WHERE slide_id = ? AND fingerprint != '' ORDER BY sequence", (slide_id,)
            ).fetchone()
            folded.fingerprint = known[0] if known else ""
        for action in self.actions(slide_id, folded.sequence):
            folded.apply(action)
        self.folds[slide_id] = folded, proposed
        while len(self.folds) > _KEPT:
            self.folds.popitem(last=False)
        return folded

    def actions(self, slide_id: str | None, since: int) -> list[Action]:
        """See :meth:`AnnotationStore.actions`."""
        where, values = ("", (since,)) if slide_id is None else (" AND slide_id = ?", (since, slide_id))
        rows = self.connection.execute(
            f"SELECT {_NAMES} FROM actions WHERE sequence > ?{where} ORDER BY sequence",
            values,
        )
        return [_action(row) for row in rows]

    def proposals(self, slide_id: str, model_version: str) -> set[str]:
        """Ids of the cells that a model proposed already."""
        rows = self.connection.execute(
            "SELECT cell_id FROM proposals WHERE slide_id = ? AND model_version = ?", (slide_id, model_version)
        )
        return {cell_id for (cell_id,) in rows}


def _row(action: Action) -> list[Any]:
    raw = {**action.to_dict(), "kind": action.kind.value, "sequence": None}
    return [json.dumps(raw[name]) if name in _JSON else raw[name] for name in _COLUMNS]


def _action(row: Sequence[Any]) -> Action:
    raw = dict(zip(_COLUMNS, row, strict=True))
    values = {name: json.loads(raw[name]) for name in _JSON}
    return Action(**{**raw, **values, "blind": bool(raw["blind"])})


def _same(kept: Action, sent: Action) -> Action:
    """The kept action, where the one that was sent is the same."""
    mine, theirs = (
        {name: value for name, value in action.to_dict().items() if name not in _OF_THE_STORE}
        for action in (kept, sent)
    )
    if mine != theirs:
        raise AnnotationError(f"uuid {sent.uuid} belongs to another action", "make a new uuid for every action")
    return kept


def _found_again(known: dict[str, Box], boxes: Sequence[Box]) -> list[str]:
    """For each box the id of the known cell that it fits best, else one of its own; no id is given twice."""
    ids, corners = list(known), np.array(list(known.values()), dtype=float)
    taken: set[str] = set()
    named: list[str] = []
    for box in boxes:
        overlap = overlaps(corners, box)
        best = int(overlap.argmax()) if overlap.size else -1
        again = best >= 0 and overlap[best] >= SAME_CELL and ids[best] not in taken
        cell_id = ids[best] if again else proposed_cell_id(box)
        taken.add(cell_id)
        named.append(cell_id)
    return named
