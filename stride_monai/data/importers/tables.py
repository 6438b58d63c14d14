"""Numbers, ids and tables of data sets, each row with its line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stride_monai.data._tables import Row
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.texts import text_of
from stride_monai.errors import ManifestError

__all__ = ["NOTHING", "csv_rows", "to_id", "to_number"]

NOTHING = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a"})
"""What programs write for a cell that is empty, in lower case; it is no name."""

_DELIMITERS = (",", ";", "\t", "|")


def to_number(value: object, name: str) -> float:
    """A finite number.

    Raises:
        ManifestError: it is none; names the column.
    """
    text = str(value)
    try:
        if isinstance(value, bool) or "_" in text:
            raise ValueError
        number = float(text)
    except ValueError:
        raise ManifestError(f"{name} '{text}' is no number") from None
    if not math.isfinite(number):
        raise ManifestError(f"{name} is {text}")
    return number


def to_id(value: object, name: str) -> str:
    """An id as text; whole numbers are the same however they are written (``7``, ``"7"``, ``7.0``); empty for none.

    Raises:
        ManifestError: it is no name or number, e.g. NaN, or a list; says of what.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ManifestError(f"{name} is {value!r}, no name or number")
    text = str(value).strip()
    if text.lower() in NOTHING:
        raise ManifestError(f"{name} is '{text}', which names nothing", "give it an id, or leave it empty")
    whole, point, rest = text.partition(".")
    return whole if point and whole.lstrip("-").isdecimal() and not rest.strip("0") else text


def csv_rows(
    path: Path, columns: Mapping[str, Sequence[str]], encoding: str, problems: ProblemLog, optional: Sequence[str] = ()
) -> list[Row]:
    """Rows of a table with a header; a row that cannot be told from its neighbours, with more cells than the header, or
    that says one thing in two ways, is a problem and left out.

    Args:
        columns: name of a column -> its names in files, tried in order; case does not matter.
        optional: columns that may be missing; their cells are then empty.

    Returns:
        Rows with the names of ``columns``; ``place`` is ``line n``.

    Raises:
        ManifestError: missing, of another encoding, without a column that is needed, or with a column twice.
    """
    skipped, delimiter, text = _opened(text_of(path, encoding))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    reader = _numbered(lines, path.name, skipped)
    header = [name.strip().lower() for name in next(reader, ("", []))[1]]
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise ManifestError(f"{path.name} has the column '{twice[0]}' twice", "keep one of them")
    positions: dict[str, list[int]] = {}
    for name, aliases in columns.items():
        found = [header.index(alias.lower()) for alias in aliases if alias.lower() in header]
        if found:
            positions[name] = found
        elif name not in optional:
            raise ManifestError(
                f"{path.name} has no column {' or '.join(aliases)}", f"its columns are {', '.join(header) or 'none'}"
            )
    rows: list[Row] = []
    for place, values in reader:
        cells, wrong = _cells(values, positions, header)
        if len(values) > len(header):
            wrong = f"{len(values)} cells under {len(header)} columns"
        elif any("\n" in value for value in values):
            wrong = "a quotation mark joins these lines to one row"
        if wrong:
            problems.add(Place(path.name, place), "row", wrong, Path(cells.get("image", "")).stem)
        elif any(value.strip() for value in values):
            rows.append(Row(place, cells))
    return rows


def _opened(text: str) -> tuple[int, str, str]:
    """Lines before the header, delimiter, and the text from the header on."""
    first = text.split("\n", 1)[0].strip()
    if first.lower().startswith("sep=") and len(first) <= 5:  # for Excel
        return 1, first[4:] or "\t", text.split("\n", 1)[1] if "\n" in text else ""
    return 0, max(_DELIMITERS, key=first.count) if any(mark in first for mark in _DELIMITERS) else ",", text


def _cells(values: Sequence[str], positions: Mapping[str, Sequence[int]], header: Sequence[str]) -> tuple[Any, str]:
    """Cells by name, and what contradicts itself among them."""
    cells: dict[str, str] = {}
    wrong = ""
    for name, places in positions.items():
        found = {at: values[at].strip() for at in places if at < len(values) and values[at].strip()}
        cells[name] = next(iter(found.values()), "")
        if len(set(found.values())) > 1:
            wrong = wrong or " but ".join(f"{header[at]} is '{text}'" for at, text in found.items())
    return cells, wrong


def _numbered(reader: Any, file_name: str, skipped: int) -> Iterator[tuple[str, list[str]]]:
    """Rows of a CSV reader, each with its line or lines."""
    first = 1
    try:
        for values in reader:
            start, end = first + skipped, reader.line_num + skipped
            yield (f"line {start}" if start == end else f"lines {start}-{end}"), values
            first = reader.line_num + 1
    except csv.Error as error:
        advice = "save it as plain CSV; is a quotation mark not closed?"
        raise ManifestError(f"{file_name} line {first + skipped}: {error}", advice) from error
