"""The index of one run: ``summary.csv`` for people and spreadsheets, ``run.json`` for machines.

``run.json`` is the one file that holds full paths; ``summary.csv`` and everything in a slide's folder know a slide by
its id and its file name.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.files import write_bytes
from stride_monai.findings import DISCLAIMER, SCHEMA_VERSION, Findings, SlideStatus

__all__ = ["ERRORS_NAME", "RUN_NAME", "SUMMARY_COLUMNS", "SUMMARY_NAME", "Outcome", "write_run", "write_summary"]

SUMMARY_NAME = "summary.csv"
RUN_NAME = "run.json"
ERRORS_NAME = "errors"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one slide of a run ended.

    Attributes:
        slide_id: file stem; names the slide's folder in the run folder.
        file_name: without its folder.
        reason: why, where the status is not ``ok``; one line.
        seconds: wall time of this slide in this run.
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


def write_summary(folder: Path, outcomes: Iterable[Outcome]) -> Path:
    """Write ``folder/summary.csv``, one row per slide in the order given; unknown values are empty.

    Raises:
        OutputError: the folder cannot be written to.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    for outcome in outcomes:
        writer.writerow([_text(outcome, name) for name in SUMMARY_COLUMNS])
    path = folder / SUMMARY_NAME
    write_bytes(path, stream.getvalue().encode())
    return path


def write_run(folder: Path, info: Mapping[str, Any], outcomes: Sequence[Outcome]) -> Path:
    """Write ``folder/run.json``: what the run was (``info``) and how each slide ended, with full paths.

    Args:
        info: JSON types; anything else, such as a path, is written as its text.

    Raises:
        OutputError: the folder cannot be written to.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "disclaimer": DISCLAIMER,
        "run": dict(info),
        "counts": {status.value: sum(outcome.status == status for outcome in outcomes) for status in SlideStatus},
        "slides": [_record(outcome) for outcome in outcomes],
    }
    path = folder / RUN_NAME
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True, default=str) + "\n").encode())
    return path


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        **dataclasses.asdict(outcome),
        "seconds": round(outcome.seconds, 3),
        "stages": {name: round(seconds, 3) for name, seconds in outcome.stages.items()},
    }


def _text(outcome: Outcome, name: str) -> str:
    value = getattr(outcome, name)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if name == "seconds" else f"{round(value, 6):g}"
    if name == "reason":
        return _without_path(" ".join(value.split()), outcome)
    return str(value)


def _without_path(reason: str, outcome: Outcome) -> str:
    # Reasons may come from a library's exception, which likes to name the whole path.
    return reason.replace(outcome.path, outcome.file_name) if outcome.path else reason
