"""The index of one run: ``summary.csv`` for people and spreadsheets, ``run.json`` for machines.

``run.json`` is the one file that holds full paths; ``summary.csv`` and everything in a slide's folder know a slide by
its id and its file name. While a run goes on, each outcome is first added to a log, so that none is lost however the
run ends, and the index is made anew from time to time: it never costs more than a small share of the run.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.errors import OutputError
from stride_monai.files import free_name, sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER, SCHEMA_VERSION, Findings, SlideStatus
from stride_monai.names import printable
from stride_monai.ownership import read_json, refuse_foreign
from stride_monai.spreadsheet import harmless

__all__ = [
    "ERRORS_NAME",
    "INDEX_NAMES",
    "LOG_NAME",
    "RUN_NAME",
    "SUMMARY_COLUMNS",
    "SUMMARY_NAME",
    "Outcome",
    "RunIndex",
    "without_folders",
    "write_run",
    "write_summary",
]

SUMMARY_NAME = "summary.csv"
RUN_NAME = "run.json"
LOG_NAME = "outcomes.jsonl"
INDEX_NAMES = (SUMMARY_NAME, RUN_NAME, LOG_NAME)
ERRORS_NAME = "errors"
_LOG_HEAD = "stride-monai: slides of a run that is going on or was cut off, one per line as in run.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one slide of a run ended.

    Attributes:
        slide_id: file stem; names the slide's folder in the run folder.
        file_name: without its folder.
        reason: why, where the status is not ``ok``; one line.
        seconds: wall time of this slide in this run, to a millisecond.
        score: summed probability of the positive classes; None like the next two where there is nothing to decide from.
        slide_class: the most probable slide class.
        call: ``positive`` or ``negative`` at the operating point.
        cells: cells listed; None where the slide was not screened.
        mpp: um/px at level 0 that was used; None where the slide could not be opened.
        mpp_source: ``given``, ``metadata`` or ``objective``; None likewise.
        unreadable_regions: tiles or crops that could not be decoded; None where the slide was not screened.
        resumed: the slide was done in an earlier run with the same settings and was not screened again.
        path: full path of the slide file; goes to ``run.json`` only.
        stages: seconds by stage of the work; goes to ``run.json`` only.
    """

    slide_id: str
    file_name: str
    status: SlideStatus
    reason: str = ""
    seconds: float = 0.0
    score: float | None = None
    slide_class: str | None = None
    call: str | None = None
    cells: int | None = None
    mpp: float | None = None
    mpp_source: str | None = None
    unreadable_regions: int | None = None
    resumed: bool = False
    path: str = ""
    stages: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("slide_id", "file_name", "reason", "path"):  # the bytes of a name go where text is expected
            object.__setattr__(self, name, printable(getattr(self, name)))
        object.__setattr__(self, "seconds", round(self.seconds, 3))
        object.__setattr__(self, "stages", {name: round(self.stages[name], 3) for name in sorted(self.stages)})

    @classmethod
    def of(
        cls,
        findings: Findings,
        *,
        seconds: float = 0.0,
        path: Path | str = "",
        stages: Mapping[str, float] | None = None,
        resumed: bool = False,
    ) -> Outcome:
        """The outcome of a slide that has findings (status ``ok`` or ``unsatisfactory``)."""
        return cls(
            slide_id=findings.slide.slide_id,
            file_name=findings.slide.file_name,
            status=findings.status,
            reason=findings.reason,
            seconds=seconds,
            score=findings.score,
            slide_class=findings.slide_class,
            call=findings.call,
            cells=len(findings.cells),
            mpp=findings.slide.mpp,
            mpp_source=findings.slide.mpp_source,
            unreadable_regions=findings.quality.unreadable_regions,
            resumed=resumed,
            path=str(path),
            stages=dict(stages or {}),
        )


SUMMARY_COLUMNS: tuple[str, ...] = tuple(
    item.name for item in dataclasses.fields(Outcome) if item.name not in {"path", "stages"}
)
"""Columns of ``summary.csv``, in order."""

_SHARE = 20.0  # the run goes on for so many times what an index took before the next one is made


def write_summary(folder: Path, outcomes: Iterable[Outcome]) -> Path:
    """Write ``folder/summary.csv``, one row per slide in the order given; unknown values are empty.

    Text that a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        OutputError: the folder cannot be written to.
    """
    path = folder / SUMMARY_NAME
    write_bytes(path, _summary(folder, outcomes))
    return path


def write_run(folder: Path, info: Mapping[str, Any], outcomes: Sequence[Outcome]) -> Path:
    """Write ``folder/run.json``: what the run was (``info``) and how each slide ended, with full paths.

    Args:
        info: JSON types; anything else, such as a path, is written as its text.

    Raises:
        OutputError: the folder cannot be written to.
    """
    path = folder / RUN_NAME
    write_bytes(path, _run(info, outcomes, [_line(outcome) for outcome in outcomes]))
    return path


def _run(info: Mapping[str, Any], outcomes: Iterable[Outcome], lines: Sequence[str]) -> bytes:
    counts = Counter(outcome.status for outcome in outcomes)
    content = {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "disclaimer": DISCLAIMER,
        "run": dict(info),
        "counts": {status.value: counts[status] for status in SlideStatus},
    }
    text = json.dumps(content, indent=1, sort_keys=True, default=str).removesuffix("\n}")
    slides = "[\n  " + ",\n  ".join(lines) + "\n ]" if lines else "[]"
    return f'{text},\n "slides": {slides}\n}}\n'.encode()


_RECORDED = tuple(sorted(item.name for item in dataclasses.fields(Outcome)))
_recorded = attrgetter(*_RECORDED)
_FORM = "{" + ", ".join(f'"{name}": %s' for name in _RECORDED) + "}"
_encode = json.JSONEncoder(default=str).encode
_text = json.encoder.encode_basestring_ascii
# An encoder is slow to start; with one for each slide it took most of the time of an index of 10,000.
_AS_JSON: Mapping[type, Callable[[Any], str]] = {
    str: _text,
    SlideStatus: lambda status: _text(status.value),
    float: lambda number: repr(number) if isfinite(number) else _encode(number),
    int: repr,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): lambda _: "null",
    dict: lambda stages: "{" + ", ".join([f"{_text(name)}: {seconds!r}" for name, seconds in stages.items()]) + "}",
}


def _line(outcome: Outcome) -> str:
    """One slide of ``run.json``; a line, so that the file can also be searched as text."""
    return _FORM % tuple([_AS_JSON.get(type(value), _encode)(value) for value in _recorded(outcome)])


def _summary(folder: Path, outcomes: Iterable[Outcome]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    writer.writerows(_row(outcome, folder) for outcome in outcomes)
    return stream.getvalue().encode("utf-8", "backslashreplace")


def _row(outcome: Outcome, folder: Path) -> tuple[object, ...]:
    """In the order of the columns; None is an empty cell."""
    reason = outcome.reason and without_folders(" ".join(outcome.reason.split()), Path(outcome.path), folder)
    return (
        harmless(outcome.slide_id),
        harmless(outcome.file_name),
        outcome.status,
        harmless(reason),
        f"{outcome.seconds:.3f}",
        _number(outcome.score),
        outcome.slide_class,
        outcome.call,
        outcome.cells,
        _number(outcome.mpp),
        outcome.mpp_source,
        outcome.unreadable_regions,
        outcome.resumed,
    )


def _number(value: float | None) -> str | None:
    return None if value is None else f"{round(value, 6):g}"


def without_folders(text: str, *paths: Path) -> str:
    """A text without the folders of these paths and above: names of folders may be those of patients.

    Reasons may come from a library's exception, which likes to name the whole path.
    """
    for path in paths:
        for place in (path, path.absolute(), path.resolve()):
            if place.name and len(place.parts) > 1:
                text = text.replace(f"{place.parent}{os.sep}".replace(os.sep * 2, os.sep), "")
    return text


class RunIndex:
    """The index of a run that is going on.

    Args:
        folder: of the results; it must be there.
        info: as for :func:`write_run`, without ``finished``.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any]) -> None:
        self.folder, self.info = folder, dict(info)
        self.outcomes: list[Outcome] = []
        self._lines: list[str] = []
        self._summary_sha256: str | None = None
        self._due = 0.0

    @staticmethod
    def own(folder: Path, name: str) -> bool:
        """Whether a file of the index was written by a run, whichever."""
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return False
        if name == SUMMARY_NAME:
            return _first_line(path) == ",".join(SUMMARY_COLUMNS)
        if name == LOG_NAME:
            return _first_line(path) == _LOG_HEAD
        raw = read_json(path)
        return isinstance(raw, dict) and raw.get("disclaimer") == DISCLAIMER and {"run", "slides", "counts"} <= set(raw)

    def refuse_foreign(self) -> list[str]:
        """Names of the index that hold what no run wrote, or what was changed beyond recognition.

        Raises:
            OutputError: and no run has been here before.
        """
        foreign = [n for n in INDEX_NAMES if os.path.lexists(self.folder / n) and not self.own(self.folder, n)]
        if not any(self.own(self.folder, name) for name in INDEX_NAMES):
            refuse_foreign(self.folder, foreign, lambda _: False)
        return foreign

    def start(self) -> list[str]:
        """Take over from the run before.

        A table that somebody has edited since it was written is kept under another name.

        Returns:
            What the user must know, a sentence each.

        Raises:
            OutputError: something that no run wrote has a name of the index, or nothing can be written.
        """
        foreign = self.refuse_foreign()
        run = read_json(self.folder / RUN_NAME)
        killed = (self.folder / LOG_NAME).exists()
        wanted = run["run"].get("summary_sha256") if RUN_NAME not in foreign and isinstance(run, dict) else None
        notes: list[str] = []
        try:
            summary = self.folder / SUMMARY_NAME
            if wanted and not killed and SUMMARY_NAME not in foreign and summary.exists():
                foreign += [SUMMARY_NAME] * (sha256_of(summary) != wanted)
            for name in foreign:  # a run was here: it is ours, and was edited or damaged
                kept = free_name(self.folder / name)
                (self.folder / name).rename(kept)
                notes.append(f"{self.folder / name} was changed since it was written: it is kept as {kept.name}")
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder} ({error.strerror})", "choose another --out") from error
        self._begin()
        return notes

    def _begin(self) -> None:
        """Raises:
        OutputError: neither the log nor the index can be written.
        """
        try:
            with (self.folder / LOG_NAME).open("w", encoding="utf-8") as log:
                log.write(f"{_LOG_HEAD}\n")
        except OSError:  # it may be open elsewhere, as the index may
            self._write(finished=False)

    def add(self, outcome: Outcome) -> None:
        """Note how a slide ended: in the log at once, in the index when it is time.

        Trouble with the index ends no run: what is missing there stands in the log, and comes with the next one.
        """
        self.outcomes.append(outcome)
        self._lines.append(_line(outcome))
        with contextlib.suppress(OSError), (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"{self._lines[-1]}\n")
            log.flush()
            os.fsync(log.fileno())
        if time.monotonic() >= self._due:
            with contextlib.suppress(OutputError):
                self._write(finished=False)

    def finish(self, finished: bool) -> list[str]:
        """Make the index for the last time; the log is no longer needed then.

        Returns:
            What the user must know, a sentence each.

        Raises:
            OutputError: it cannot be written, under another name neither.
        """
        notes = []
        for name in (SUMMARY_NAME, RUN_NAME):
            try:
                self._write_one(name, finished)
            except OutputError as error:
                other = free_name(self.folder / name).name
                self._write_one(other, finished)
                notes.append(f"{error.what}: what belongs there is in {other}")
        with contextlib.suppress(OSError):
            (self.folder / LOG_NAME).unlink(missing_ok=True)
        return notes

    def _write(self, finished: bool) -> None:
        start = time.monotonic()
        try:
            for name in (SUMMARY_NAME, RUN_NAME):
                self._write_one(name, finished)
        finally:
            end = time.monotonic()
            self._due = end + _SHARE * (end - start)

    def _write_one(self, name: str, finished: bool) -> None:
        if name.endswith(".csv"):
            content = _summary(self.folder, self.outcomes)
            self._summary_sha256 = hashlib.sha256(content).hexdigest() if name == SUMMARY_NAME else None
        else:
            info = {**self.info, "finished": finished, "summary_sha256": self._summary_sha256}
            content = _run(info, self.outcomes, self._lines)
        write_bytes(self.folder / name, content)


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.readline(4096).decode("utf-8-sig", "replace").rstrip("\r\n")
    except OSError:
        return ""
