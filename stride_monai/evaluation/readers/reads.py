"""The tables of a reader study: the reads, one row each, and the panel's labels, one row a case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stride_monai.data.tables import NOT_KNOWN, Row, read_table, refuse, table_text
from stride_monai.errors import ManifestError
from stride_monai.evaluation.readers.diagnosis import Diagnosis, parse_diagnosis

__all__ = ["PanelCase", "Read", "panel_table", "read_panel", "read_reads", "reads_table"]

READ_COLUMNS = ("reader", "case", "arm", "stage", "diagnosis", "seconds", "score")
PANEL_COLUMNS = ("case", "label", "arbitration")
_CASE = {"slide_id": "case", "slide": "case", "case_id": "case", "sample": "case", "sample_number": "case"}
_READ_ALIASES = {**_CASE, "label": "diagnosis", "time": "seconds", "reader_id": "reader", "rating": "score"}
_PANEL_ALIASES = {**_CASE, "gold_standard": "label", "gold": "label", "truth": "label"}
_EXPERT = re.compile(r"(?:expert|pathologist|panel)[ _-]*(\w+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Read:
    """What one reader said of one case.

    Attributes:
        arm: how it was read: ``unaided``, ``aided``, ...
        stage: of the study, such as ``1``; empty where it has none.
        seconds: that the read took, above 0; None where it was not taken down.
        score: how sure the reader is of a lesion, higher is surer; None where the diagnosis alone ranks the case.
    """

    reader: str
    case: str
    arm: str
    stage: str
    diagnosis: Diagnosis
    seconds: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PanelCase:
    """What the panel says of a case.

    Attributes:
        label: the gold standard.
        experts: what each member said, in the order of the columns; None where one said nothing.
        arbitration: the label that settled a disagreement; None where there was none. It may be neither expert's.
    """

    case: str
    label: Diagnosis
    experts: tuple[Diagnosis | None, ...] = ()
    arbitration: Diagnosis | None = None


def read_reads(path: Path) -> list[Read]:
    """The reads of a table: CSV or JSON with the columns reader, case, arm, diagnosis and, where known, stage, seconds
    and score.

    Raises:
        ManifestError: naming every broken line: nothing where a value is needed, an unknown label, seconds that are not
            above 0, a score that is not finite, a case that a reader has read twice in one arm.
    """
    present, rows = read_table(path, READ_COLUMNS, _READ_ALIASES, ("stage", "seconds", "score"))
    _need(path, {"reader", "case", "arm", "diagnosis"} - present, READ_COLUMNS)
    problems: list[str] = []
    reads: list[Read] = []
    place_of: dict[tuple[str, str, str], str] = {}
    for row in rows:
        try:
            read = _read(row)
        except ManifestError as error:
            problems.append(f"{row.place}: {error}")
            continue
        key = (read.reader, read.case, read.arm)
        if key in place_of:
            problems.append(
                f"{row.place}: '{read.reader}' reads case '{read.case}' in arm '{read.arm}' a second time, after "
                f"{place_of[key]}"
            )
        place_of.setdefault(key, row.place)
        reads.append(read)
    refuse(problems, path.name)
    if not reads:
        raise ManifestError(f"{path.absolute()} holds no read", "give it one row for each read")
    return reads


def _read(row: Row) -> Read:
    for name in ("reader", "case", "arm", "diagnosis"):
        if not row.get(name):
            raise ManifestError(f"no {name}")
    seconds, score = (row.number(name) if row.get(name) else None for name in ("seconds", "score"))
    if seconds is not None and seconds <= 0:
        raise ManifestError(f"{seconds:g} seconds", "leave it empty where no time was taken")
    reader, case, arm, stage = (row.get(name) for name in ("reader", "case", "arm", "stage"))
    return Read(reader, case, arm, stage, parse_diagnosis(row.get("diagnosis")), seconds, score)


def read_panel(path: Path) -> list[PanelCase]:
    """The panel's labels: a table with the columns case and label and, where known, arbitration and the experts' own.

    An expert's column is called ``expert_1``, ``pathologist 2``, ... in any number; ``-`` and the like count as empty.

    Raises:
        ManifestError: naming every broken line: no label, an unknown one, a case that stands there twice.
    """
    present, rows = read_table(path, PANEL_COLUMNS, _PANEL_ALIASES, ("arbitration",), others=True)
    _need(path, {"case", "label"} - present, PANEL_COLUMNS)
    experts = [name for name in dict.fromkeys(name for row in rows for name in row.cells) if _EXPERT.fullmatch(name)]
    problems: list[str] = []
    cases: list[PanelCase] = []
    place_of: dict[str, str] = {}
    for row in rows:
        try:
            case = _panel_case(row, tuple(_may_be(row.get(name)) for name in experts))
        except ManifestError as error:
            problems.append(f"{row.place}: {error}")
            continue
        if case.case in place_of:
            problems.append(f"{row.place}: case '{case.case}' stands in {place_of[case.case]} too")
        place_of.setdefault(case.case, row.place)
        cases.append(case)
    refuse(problems, path.name)
    return cases


def _panel_case(row: Row, experts: tuple[Diagnosis | None, ...]) -> PanelCase:
    for name in ("case", "label"):
        if not row.get(name):
            raise ManifestError(f"no {name}")
    return PanelCase(row.get("case"), parse_diagnosis(row.get("label")), experts, _may_be(row.get("arbitration")))


def _may_be(text: str) -> Diagnosis | None:
    return None if not text or text.lower() in NOT_KNOWN else parse_diagnosis(text)


def _need(path: Path, missing: Iterable[str], columns: Sequence[str]) -> None:
    if named := sorted(missing):
        raise ManifestError(f"{path.absolute()} has no column {', '.join(named)}", f"columns are {', '.join(columns)}")


def reads_table(reads: Iterable[Read]) -> bytes:
    """The content of a table that :func:`read_reads` reads."""
    rows = (
        [
            r.reader,
            r.case,
            r.arm,
            r.stage,
            str(r.diagnosis),
            *("" if x is None else f"{x:g}" for x in (r.seconds, r.score)),
        ]
        for r in reads
    )
    return table_text(READ_COLUMNS, rows)


def panel_table(cases: Sequence[PanelCase]) -> bytes:
    """The content of a table that :func:`read_panel` reads."""
    experts = max((len(case.experts) for case in cases), default=0)
    header = ["case", "label", *(f"expert_{k + 1}" for k in range(experts)), "arbitration"]
    rows = (
        [
            c.case,
            str(c.label),
            *("" if e is None else str(e) for e in c.experts),
            "" if c.arbitration is None else str(c.arbitration),
        ]
        for c in cases
    )
    return table_text(header, rows)
