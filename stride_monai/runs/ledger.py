"""The ledger of a run over slides: a log while it goes on, ``summary.csv`` and ``run.json`` when it has ended.

Each slide is added to the log at once, a line that is on the disk before the next slide begins: none is lost, however
the run ends. Where the log stands, a run goes on or was cut off, and the log is what is true. The index lags behind it
by a fifth of the slides at most; it is never written for each slide, so that what a run writes grows with the number of
its slides and not with the square of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from stride_monai import __version__
from stride_monai.errors import OutputError
from stride_monai.files import free_name, sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER, SCHEMA_VERSION
from stride_monai.ownership import read_json, refuse_foreign
from stride_monai.run_index import (
    INDEX_NAMES,
    LOG_NAME,
    PARQUET_MARK,
    PARQUET_NAME,
    RUN_NAME,
    SUMMARY_COLUMNS,
    SUMMARY_NAME,
    Outcome,
    line_of,
    summary_bytes,
    write_run,
)
from stride_monai.runs.claims import HeldFolder

__all__ = ["Ledger", "read_log"]

_NOTE = "stride-monai: slides of a run that goes on or was cut off, one per line as in run.json"
_TAIL = 64 << 10
_LOG_BEGINS = f'{{"log": "{_NOTE}"'


def read_log(folder: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """What is known of a run that goes on or was cut off: what it is (``run`` of ``run.json``), and its slides so far.

    A line that the machine did not finish is left out; of a slide that ended twice, how it ended last.

    Raises:
        OSError: there is no log.
    """
    info: dict[str, Any] = {}
    outcomes: dict[tuple[str, str], Outcome] = {}
    with (folder / LOG_NAME).open(encoding="utf-8", errors="replace") as log:
        for line in log:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                raw = json.loads(line)
                if "run" in raw:
                    info |= raw["run"]
                else:
                    outcome = Outcome.from_dict(raw)
                    outcomes[outcome.slide_id, outcome.path] = outcome
    return info, list(outcomes.values())


class Ledger:
    """The ledger of a run, kept as long as the block lasts.

    Args:
        folder: of the results.
        info: what the run is, for ``run.json``.
        note: told what the user must know, a sentence each.

    Raises:
        OutputError: something that no run wrote has a name of the index; at the end, that cannot be written, under
            another name neither.
    """

    def __init__(self, folder: HeldFolder, info: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.info, self._known = dict(info), dict[tuple[str, str], Outcome]()
        self._held, self._folder, self._note = folder, folder.path, note
        self._torn, self._due = False, 1
        self._times: dict[str, str] = {}

    def __enter__(self) -> Ledger:
        _foreign(self._folder)
        self._times = _times(self._folder)
        if _own(self._folder, LOG_NAME):
            self._times |= _times_before(self._folder / LOG_NAME)
            self._take_up()
            self._times |= _times(self._folder)
        return self

    @property
    def outcomes(self) -> list[Outcome]:
        """How each slide ended, in the order in which they first did."""
        return list(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def write(self) -> None:
        """Bring the index up to what the log has; trouble with that ends no run."""
        self._due = len(self) + len(self) // 4 + 1
        with contextlib.suppress(OutputError):
            _write_index(self._folder, self.info, self.outcomes, finished=False)

    def _take_up(self) -> None:
        """Make the index of a run that was cut off from its log: it stays, if this one ends before its first slide."""
        self._set_aside()
        with contextlib.suppress(OutputError, OSError):
            info, outcomes = read_log(self._folder)
            if outcomes:
                self._write(info, outcomes, finished=False)
            (self._folder / LOG_NAME).unlink()

    def add(self, outcome: Outcome, info: Mapping[str, Any]) -> None:
        """Note how a slide ended, and what has become known of the run.

        The first one takes over from the run before: networks that cannot be loaded cost that no index. A table that
        somebody has edited since it was written is kept under another name. Later trouble with log or index ends no
        run: the one has what the other lacks.

        A slide that ends once more has its last outcome.

        Raises:
            OutputError: the folder is gone; for the first slide, nothing can be written.
        """
        self._held.check()
        at = self._times.get(outcome.slide_id, "") if outcome.resumed else _now()
        outcome = replace(outcome, screened_at=outcome.screened_at or at)
        new = {name: info[name] for name in info if self.info.get(name) != info[name]}
        self.info |= new
        line, log = line_of(outcome), self._folder / LOG_NAME
        if not self._known:
            self._set_aside()
            head = {"schema_version": SCHEMA_VERSION, "package_version": __version__, "disclaimer": DISCLAIMER}
            facts = {"log": _NOTE, **head, "run": self.info, "screened_at": self._times}
            write_bytes(log, f"{_json(facts)}\n{line}\n".encode())
        else:
            text = "\n" * self._torn + (f"{_json({'run': new})}\n" if new else "") + f"{line}\n"
            self._torn = True
            with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                self._torn = False
                os.fsync(stream.fileno())
        self._known[outcome.slide_id, outcome.path] = outcome
        if len(self) >= self._due:
            self.write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish(finished=True)
        elif self._known:
            with contextlib.suppress(OutputError):  # whatever ended it is what is said
                self._held.check()
                self._finish(finished=False)

    def _finish(self, finished: bool) -> None:
        self._write(self.info, self.outcomes, finished)
        with contextlib.suppress(OSError):
            (self._folder / LOG_NAME).unlink(missing_ok=True)

    def _write(self, info: Mapping[str, Any], outcomes: Sequence[Outcome], finished: bool) -> None:
        for text in _write_index(self._folder, info, outcomes, finished, elsewhere=True):
            self._note(text)

    def _set_aside(self) -> None:
        """Keep what somebody has edited since it was written under another name.

        Raises:
            OutputError: something that no run wrote has a name of the index, or nothing can be written.
        """
        folder, foreign = self._folder, _foreign(self._folder)
        run = read_json(folder / RUN_NAME)
        killed = (folder / LOG_NAME).exists()
        wanted = run["run"].get("summary_sha256") if RUN_NAME not in foreign and isinstance(run, dict) else None
        try:
            summary = folder / SUMMARY_NAME
            if wanted and not killed and SUMMARY_NAME not in foreign and summary.exists():
                foreign += [SUMMARY_NAME] * (sha256_of(summary) != wanted)
            for name in foreign:  # a run was here: it is ours, and was edited or damaged
                kept = free_name(folder / name)
                (folder / name).rename(kept)
                self._note(f"{folder / name} was changed since it was written: it is kept as {kept.name}")
        except OSError as error:
            raise OutputError(f"cannot write to {folder} ({error.strerror})", "choose another --out") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _times(folder: Path) -> dict[str, str]:
    """When the slides of the index that is there were screened; what it does not say is left out."""
    raw = read_json(folder / RUN_NAME) if _own(folder, RUN_NAME) else None
    slides = raw["slides"] if isinstance(raw, dict) and isinstance(raw["slides"], list) else []
    known = [one for one in slides if isinstance(one, dict) and isinstance(one.get("slide_id"), str)]
    return {one["slide_id"]: at for one in known if isinstance(at := one.get("screened_at"), str) and at}


def _times_before(log: Path) -> dict[str, str]:
    """When the slides of the runs before one that was cut off were screened, as its log has it."""
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        log.open(encoding="utf-8", errors="replace") as lines,
    ):
        times = json.loads(next(lines, "{}")).get("screened_at") or {}
        return {str(slide_id): str(at) for slide_id, at in times.items()}
    return {}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, default=str)


def _foreign(folder: Path) -> list[str]:
    """Names of the index that hold what no run wrote, or what was changed beyond recognition.

    Raises:
        OutputError: and no run has been here before.
    """
    foreign = [name for name in INDEX_NAMES if os.path.lexists(folder / name) and not _own(folder, name)]
    if not any(_own(folder, name) for name in INDEX_NAMES):
        refuse_foreign(folder, foreign, lambda _: False)
    return foreign


def _own(folder: Path, name: str) -> bool:
    """Whether a file of the index was written by a run, whichever."""
    path = folder / name
    if path.is_symlink() or not path.is_file():
        return False
    if name == SUMMARY_NAME:
        return _first_line(path) == ",".join(SUMMARY_COLUMNS)
    if name == PARQUET_NAME:
        return _ends_as_ours(path)
    if name == LOG_NAME:
        return _first_line(path).startswith(_LOG_BEGINS)
    raw = read_json(path)
    return isinstance(raw, dict) and raw.get("disclaimer") == DISCLAIMER and {"run", "slides", "counts"} <= set(raw)


def _ends_as_ours(path: Path) -> bool:
    """Whether a Parquet file has our mark: its metadata stand at its end."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            tail = stream.read()
    except OSError:
        return False
    return tail.endswith(b"PAR1") and PARQUET_MARK.encode() in tail


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.readline(4096).decode("utf-8-sig", "replace").rstrip("\r\n")
    except OSError:
        return ""


def _write_index(
    folder: Path, info: Mapping[str, Any], outcomes: Sequence[Outcome], finished: bool, elsewhere: bool = False
) -> list[str]:
    """Write ``summary.csv`` and ``run.json``; with ``elsewhere`` under other names where those cannot be written.

    Returns:
        What the user must know, a sentence each.

    Raises:
        OutputError: they cannot be written.
    """
    notes: list[str] = []

    def written(name: str, write: Callable[[str], object]) -> bool:
        try:
            write(name)
        except OutputError as error:
            if not elsewhere:
                raise
            other = free_name(folder / name).name
            try:
                write(other)
            except OutputError:
                raise error from None  # the disk is full, or the like: the other name says nothing to anybody
            notes.append(f"{error.what}: what belongs there is in {other}")
            return False
        return True

    summary = summary_bytes(folder, outcomes)
    there = written(SUMMARY_NAME, lambda name: write_bytes(folder / name, summary))
    sha256 = hashlib.sha256(summary).hexdigest() if there else None
    facts = {**info, "finished": finished, "summary_sha256": sha256}
    written(RUN_NAME, lambda name: write_run(folder, facts, outcomes, name))
    return notes
