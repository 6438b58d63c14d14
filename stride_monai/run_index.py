"""The index of one run: ``summary.csv`` for people and spreadsheets, ``run.json`` for machines. ``summary.parquet``
is the same with types, and is written where Arrow may be imported.

``run.json`` is the one file that holds full paths; ``summary.csv`` and everything in a slide's folder know a slide by
its id and its file name. While a run goes on, :mod:`stride_monai.runs.ledger` keeps them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.files import write_bytes
from stride_monai.findings import DISCLAIMER, SCHEMA_VERSION, Findings, SlideStatus
from stride_monai.names import printable
from stride_monai.spreadsheet import harmless

__all__ = [
    "ERRORS_NAME",
    "INDEX_NAMES",
    "LOG_NAME",
    "PARQUET_MARK",
    "PARQUET_NAME",
    "RUN_NAME",
    "SUMMARY_COLUMNS",
    "SUMMARY_NAME",
    "Outcome",
    "area_mm2",
    "line_of",
    "plain_reason",
    "summary_bytes",
    "without_folders",
    "write_run",
    "write_summary",
]

SUMMARY_NAME = "summary.csv"
RUN_NAME = "run.json"
LOG_NAME = "outcomes.jsonl"
PARQUET_NAME = "summary.parquet"
PARQUET_MARK = "stride_monai.summary"
"""Key of the metadata by which the table is known to be ours."""
INDEX_NAMES: tuple[str, ...] = (SUMMARY_NAME, RUN_NAME, LOG_NAME, PARQUET_NAME)
ERRORS_NAME = "errors"


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
        screened_at: when it was screened, ISO 8601, UTC, to a second; where it was not screened again, in the run that
            did. Empty where that is not known. Goes to ``run.json`` only: a slide's own files hold no times.
        area_mm2: of the picture, in mm2; None where it is not known. Goes to ``run.json`` only.
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
    screened_at: str = ""
    area_mm2: float | None = None

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
            file_name=findings.slide.file_name or Path(path).name,
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
            area_mm2=area_mm2(findings.slide.width, findings.slide.height, findings.slide.mpp),
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Outcome:
        """One slide of ``run.json``, read.

        Raises:
            TypeError, KeyError, ValueError: it is none.
        """
        return cls(**{**raw, "status": SlideStatus(raw["status"])})


def area_mm2(width: int | None, height: int | None, mpp: float) -> float | None:
    """Of a picture of so many level-0 px, in mm2 to three decimals; None where its size is not known."""
    return None if width is None or height is None else round(width * height * mpp**2 / 1e6, 3)


SUMMARY_COLUMNS: tuple[str, ...] = tuple(
    item.name for item in dataclasses.fields(Outcome) if item.name not in {"path", "stages", "screened_at", "area_mm2"}
)
"""Columns of ``summary.csv``, in order."""


def write_summary(folder: Path, outcomes: Iterable[Outcome]) -> Path:
    """Write ``folder/summary.csv``, one row per slide in the order given; unknown values are empty.

    Text that a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        OutputError: the folder cannot be written to.
    """
    path = folder / SUMMARY_NAME
    write_bytes(path, summary_bytes(folder, outcomes))
    return path


def write_run(folder: Path, info: Mapping[str, Any], outcomes: Sequence[Outcome], name: str = RUN_NAME) -> Path:
    """Write ``folder/run.json``: what the run was (``info``) and how each slide ended, with full paths.

    Args:
        info: JSON types; anything else, such as a path, is written as its text.

    Raises:
        OutputError: the folder cannot be written to.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    content = {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "disclaimer": DISCLAIMER,
        "run": dict(info),
        "counts": {status.value: counts[status] for status in SlideStatus},
    }
    text = json.dumps(content, indent=1, sort_keys=True, default=str).removesuffix("\n}")
    slides = "[\n  " + ",\n  ".join(map(line_of, outcomes)) + "\n ]" if outcomes else "[]"
    path = folder / name
    write_bytes(path, f'{text},\n "slides": {slides}\n}}\n'.encode())
    return path


# Many times the speed of asdict and dumps: an index has tens of thousands of lines.
_RECORDED = tuple(sorted(item.name for item in dataclasses.fields(Outcome)))
_encode = json.JSONEncoder(default=str).encode


def line_of(outcome: Outcome) -> str:
    """One slide of ``run.json``; a line, so that the file can also be searched as text."""
    return _encode({name: getattr(outcome, name) for name in _RECORDED})


def summary_bytes(folder: Path, outcomes: Iterable[Outcome]) -> bytes:
    """What :func:`write_summary` writes."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    writer.writerows(_row(outcome, folder) for outcome in outcomes)
    return stream.getvalue().encode("utf-8", "backslashreplace")


def _row(outcome: Outcome, folder: Path) -> tuple[object, ...]:
    """In the order of the columns; None is an empty cell."""
    return (
        harmless(outcome.slide_id),
        harmless(outcome.file_name),
        outcome.status,
        harmless(plain_reason(outcome, folder)),
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


def plain_reason(outcome: Outcome, folder: Path) -> str:
    """Why a slide is not ``ok``: one line, without folders of the slide or of the results."""
    return outcome.reason and without_folders(" ".join(outcome.reason.split()), Path(outcome.path), folder)


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
