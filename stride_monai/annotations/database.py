"""The SQLite file of a store: its tables, and a connection that loses nothing that it has acknowledged."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stride_monai.annotations.errors import AnnotationError
from stride_monai.errors import OutputError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "STORE_NAME", "as_ours", "connect", "transaction"]

STORE_NAME = "annotations.sqlite"
"""Name of the store in a folder."""
APPLICATION_ID = 0x53544D41  # "STMA": says in the file's header whose it is
SCHEMA_VERSION = 1
_BUSY_SECONDS = 60.0  # that a writer waits for others

_TABLES = """
CREATE TABLE actions (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, who TEXT NOT NULL, "when" TEXT NOT NULL,
  slide_id TEXT NOT NULL, fingerprint TEXT NOT NULL, cell_id TEXT, kind TEXT NOT NULL,
  "before" TEXT NOT NULL, "after" TEXT NOT NULL, model_version TEXT NOT NULL, blind INTEGER NOT NULL,
  seconds REAL NOT NULL
);
CREATE INDEX actions_by_slide ON actions (slide_id, sequence);
CREATE TABLE slides (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, slide_id TEXT NOT NULL, fingerprint TEXT NOT NULL,
  model_version TEXT NOT NULL, UNIQUE (slide_id, model_version)
);
CREATE TABLE proposals (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, slide_id TEXT NOT NULL, model_version TEXT NOT NULL,
  cell_id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (slide_id, model_version, cell_id)
);
CREATE TABLE leases (
  slide_id TEXT NOT NULL, cell_id TEXT NOT NULL, who TEXT NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (slide_id, cell_id, who)
) WITHOUT ROWID;
"""
_FOR_EVER = """
CREATE TRIGGER {table}_stay_{event} BEFORE {event} ON {table}
BEGIN SELECT RAISE(ABORT, 'annotations are never changed or removed'); END;
"""


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """Open the store's file, or make it.

    In WAL mode with ``synchronous=FULL`` a transaction is on the disk when its commit returns, so neither a killed
    process nor a lost machine takes it back.

    Raises:
        AnnotationError: there is none and ``create`` is False; or it is somebody else's file, or of a later version.
        OutputError: it cannot be made or opened, or its disk cannot keep a log (network shares).
    """
    if not create and not path.is_file():
        raise AnnotationError(f"there are no annotations at {path}", f"name the file {STORE_NAME}, or its folder")
    with as_ours(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists() or path.stat().st_size == 0
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _check_ours(connection, path, fresh)
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0].lower() != "wal":
                raise OutputError(f"{path} is on a disk that keeps no write-ahead log", "put it on a local disk")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
            _make_tables(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_ours(connection: sqlite3.Connection, path: Path, fresh: bool) -> None:
    """Before anything is written to a file that may be somebody else's."""
    with transaction(connection, write=False):  # one state of the file: another process may be making it
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if not fresh and owner != APPLICATION_ID and tables:
        raise AnnotationError(f"{path} is another program's database", "name another file for the annotations")


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):  # two processes may come at once: the second finds the tables made
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise AnnotationError(f"{path} was written by a later version", "update stride-monai")
        if version == SCHEMA_VERSION:
            return
        tables = [part for part in _TABLES.split(";") if part.strip()]
        triggers = [
            _FOR_EVER.format(table=table, event=event)
            for table in ("actions", "slides", "proposals")
            for event in ("UPDATE", "DELETE")
        ]
        for statement in (*tables, *triggers):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, write: bool = True) -> Iterator[None]:
    """A transaction that is committed when the block ends, and undone as a whole on an error.

    Args:
        write: nobody else writes meanwhile; without, the block reads one state of the store.
    """
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def as_ours(path: Path) -> Iterator[None]:
    """SQLite's errors, and the system's, as the package's own."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OutputError(
                f"the disk of {path} is full", "make room on it and try again; nothing that was saved is lost"
            ) from error
        if isinstance(error, sqlite3.OperationalError):
            raise OutputError(f"cannot use {path} ({error})", "check the disk and the permissions") from error
        raise AnnotationError(f"{path} cannot be read as annotations ({error})", "name another file") from error
    except OSError as error:
        raise OutputError(f"cannot use {path} ({error.strerror})", "check the disk and the permissions") from error
