"""A trial's record as it was printed and read by a machine: rows that can be read, and rows that a person must see.

The table is text with tabs between the cells: sample, group, diagnosis of the first and second review, the system's
result alone, gold standard, two experts and their arbitration, as in Extended Data Table 1 of the paper. Such text has
faults: letters of another alphabet that look like Latin ones, rows that ran together, letters that were misread. A
letter is put right where it can be no other one; whatever else does not read as it should is flagged, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stride_monai.bethesda import LABELS
from stride_monai.data.tables import table_text
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.readers.diagnosis import Diagnosis, parse_diagnosis
from stride_monai.evaluation.readers.reads import PanelCase, Read

__all__ = ["SYSTEM", "Flagged", "Record", "RecordRow", "mended", "parse_record", "reads_of_record", "rows_table"]

SYSTEM = "AI"
"""Reader of the system's own result, in the arm ``AI only``."""

_ALIKE = str.maketrans(
    "АВСЕНІЈКМОРЅТХУавсеіјорѕху" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "ABCEHIJKMOPSTXYabceijopsxy" + "ABEZHIKMNOPTYXo",
)
"""Cyrillic and Greek letters and the Latin ones that look the same."""
_COLUMNS = ("case", "group", "first", "second", "system", "label", "expert_1", "expert_2", "arbitration")
_HEADINGS: tuple[tuple[str, str], ...] = (
    # A heading holds this -> the column. The first that fits counts, each once.
    ("first", "first"),
    ("second", "second"),
    ("only", "system"),
    ("pathologist1", "expert_1"),
    ("pathologist2", "expert_2"),
    ("arbitration", "arbitration"),
    ("goldstandard", "label"),
    ("group", "group"),
    ("number", "case"),
    ("sample", "case"),
)
_OPTIONAL = frozenset({"arbitration"})
_NUMBER = re.compile(r"\d+")
_GROUP = re.compile(r"[A-Z]")


class RecordRow(NamedTuple):
    """A row that reads as it should.

    Attributes:
        line: of the text, from 1. cells: as they stand. group: one letter. system: what the system said alone.
        notes: what was put right, or left out.
    """

    line: int
    cells: tuple[str, ...]
    case: str
    group: str
    first: Diagnosis
    second: Diagnosis
    system: Diagnosis
    panel: PanelCase
    notes: tuple[str, ...]


class Flagged(NamedTuple):
    """A row that a person must see: its ``line``, its ``cells`` as they stand, and what is wrong."""

    line: int
    cells: tuple[str, ...]
    problems: tuple[str, ...]


class Record(NamedTuple):
    """A trial's record: ``rows`` that read as they should, and the ``flagged`` others, in the order of the text."""

    rows: tuple[RecordRow, ...]
    flagged: tuple[Flagged, ...]


def mended(text: str) -> str:
    """A cell with Latin letters in the place of those that look the same, without accents."""
    plain = unicodedata.normalize("NFD", text.translate(_ALIKE))
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))


def parse_record(text: str, name: str = "the text") -> Record:
    """Find the table in a text and read its rows.

    Raises:
        ManifestError: there is no such table.
    """
    lines = text.splitlines()
    start, columns = _heading(lines, name)
    rows: list[RecordRow] = []
    flagged: list[Flagged] = []
    line_of: dict[str, int] = {}
    for line, content in enumerate(lines[start:], start=start + 1):
        cells = tuple(cell.strip() for cell in content.split("\t"))
        if len(cells) < 2:
            break  # the table ends where a line is no row
        row = _row(line, cells, columns)
        if isinstance(row, RecordRow) and row.case in line_of:
            row = Flagged(line, cells, (f"sample '{row.case}' stands in line {line_of[row.case]} too",))
        if isinstance(row, Flagged):
            flagged.append(row)
        else:
            line_of[row.case] = line
            rows.append(row)
    return Record(tuple(rows), tuple(flagged))


def _heading(lines: Sequence[str], name: str) -> tuple[int, list[str]]:
    """Place of the first row, and the columns; the heading may stand on two lines."""
    for place in range(len(lines)):
        for height in (1, 2):
            parts = [line.split("\t") for line in lines[place : place + height]]
            width = max(len(part) for part in parts)
            words = ["".join(part[k] for part in parts if k < len(part)) for k in range(width)]
            columns = [_column(word) for word in words]
            if set(columns) == {*_COLUMNS} and len(columns) == len(_COLUMNS):
                return place + height, columns
    raise ManifestError(
        f"{name} holds no record of a trial",
        "give text with tabs between the cells and the columns sample number, group, first-stage review, second-stage "
        "review, AI only result, gold standard, pathologist 1, pathologist 2, arbitration",
    )


def _column(heading: str) -> str:
    plain = "".join(c for c in mended(heading).lower() if c.isalnum())
    return next((column for part, column in _HEADINGS if part in plain), "")


def _row(line: int, cells: tuple[str, ...], columns: Sequence[str]) -> RecordRow | Flagged:
    if len(cells) != len(columns):
        return Flagged(line, cells, (f"{len(cells)} cells under {len(columns)} columns",))
    problems: list[str] = []
    notes: list[str] = []
    found: dict[str, str] = {}
    said: dict[str, Diagnosis | None] = {}
    for column, cell in zip(columns, cells, strict=True):
        plain = found[column] = mended(cell)
        if plain != cell:
            notes.append(f"{column}: '{cell}' read as '{plain}'")
        try:
            if column == "case":
                _check(_NUMBER, plain, "is no number")
            elif column == "group":
                found[column] = plain.upper()
                _check(_GROUP, plain.upper(), "is no single letter")
            else:
                said[column] = _diagnosis(plain, column)
        except ManifestError as error:
            (notes if column in _OPTIONAL else problems).append(f"{column}: {error.what}")
            said[column] = None
    if problems:
        return Flagged(line, cells, (*problems, *notes))
    label, first, second, system = (said[name] for name in ("label", "first", "second", "system"))
    assert label is not None, "none is missing without a problem"
    assert first is not None
    assert second is not None
    assert system is not None
    panel = PanelCase(found["case"], label, (said["expert_1"], said["expert_2"]), said.get("arbitration"))
    return RecordRow(
        line, cells, found["case"], found["group"], first, second, system, panel, (*notes, *_remarks(panel))
    )


def _check(pattern: re.Pattern[str], text: str, wrong: str) -> None:
    if not pattern.fullmatch(text):
        raise ManifestError(f"'{text}' {wrong}")


def _diagnosis(text: str, column: str) -> Diagnosis | None:
    if not text:
        if column in _OPTIONAL:
            return None
        raise ManifestError("nothing stands there")
    try:
        return parse_diagnosis(text)
    except ManifestError as error:
        known = [word for word in text.split() if word in LABELS]
        merged = len(known) > 1 and len(known) == len(text.split())
        raise ManifestError(f"'{text}' is two cells in one" if merged else error.what) from None


def _remarks(panel: PanelCase) -> list[str]:
    """What is odd about a panel's labels; they are kept as they are."""
    agreed = len({*panel.experts}) == 1
    remarks = []
    if panel.arbitration is None and not agreed:
        remarks.append("the experts disagree and no arbitration can be read")
    if panel.arbitration is not None and agreed:
        remarks.append("the experts agree and there is an arbitration")
    if panel.arbitration is not None and panel.arbitration != panel.label:
        remarks.append("the gold standard is not the arbitration")
    if agreed and panel.label not in panel.experts:
        remarks.append("the gold standard is not what both experts say")
    return remarks


def reads_of_record(record: Record, arms: Mapping[str, str] | None = None) -> list[Read]:
    """The reads of a record: each case's first and second review, and the system's own result.

    The record does not name readers, so a read's reader is its group.

    Args:
        arms: ``1``, ``2`` (a stage) or ``A1`` (a group's stage) -> the arm of these reads. What is not named is in the
            arm ``stage 1`` or ``stage 2``: the record does not say which was aided.

    Raises:
        ConfigError: an arm is given for a stage or group that the record does not have.
    """
    arms = {key.strip().upper(): name.strip() for key, name in (arms or {}).items()}
    stages = {f"{group}{stage}" for group in ("", *(row.group for row in record.rows)) for stage in ("1", "2")}
    if strange := sorted({*arms} - stages):
        raise ConfigError(f"no stage '{strange[0]}' in the record", f"choose from {', '.join(sorted(stages))}")
    reads = []
    for row in record.rows:
        for stage, said in (("1", row.first), ("2", row.second)):
            arm = arms.get(f"{row.group}{stage}") or arms.get(stage) or f"stage {stage}"
            reads.append(Read(f"group {row.group}", row.case, arm, stage, said))
        reads.append(Read(SYSTEM, row.case, f"{SYSTEM} only", "", row.system))
    return reads


def rows_table(record: Record) -> bytes:
    """All rows as CSV, in the order of the text: line, whether flagged, what was noted, and the cells as they stand."""
    rows = [(row.line, "read", row.notes, row.cells) for row in record.rows]
    rows += [(row.line, "flagged", row.problems, row.cells) for row in record.flagged]
    width = max((len(cells) for *_, cells in rows), default=len(_COLUMNS))
    header = ["line", "status", "notes", *(f"cell_{k + 1}" for k in range(width))]
    filled = (
        [str(line), status, "; ".join(notes), *cells, *[""] * (width - len(cells))]
        for line, status, notes, cells in sorted(rows)
    )
    return table_text(header, filled)
