"""Rows of a CSV or JSON table with the place each came from, and one error for all that is wrong with them."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.errors import ManifestError

__all__ = ["Problems", "Row", "number", "read_csv", "read_json", "read_text", "table_text", "to_columns"]

_SHOWN = 10


class Row(NamedTuple):
    """One row: where it stands (``line 3``, ``entry 2 of 'training'``) and its cells as stripped text."""

    place: str
    cells: Mapping[str, str]

    def get(self, name: str) -> str:
        """The cell of a column, empty where the table has no such column."""
        return self.cells.get(name, "")


class Problems:
    """Collects what is wrong with a table, so that a user can mend all of it at once."""

    def __init__(self, file_name: str, advice: str) -> None:
        self._file_name = file_name
        self._advice = advice
        self._found: list[str] = []

    def add(self, place: str, what: str) -> None:
        self._found.append(f"{place}: {what}")

    def raise_if_any(self) -> None:
        """Raises:
        ManifestError: naming the first ten problems and the number of the others.
        """
        if self._found:
            more = len(self._found) - _SHOWN
            listed = "; ".join(self._found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise ManifestError(f"{self._file_name}: {listed}", self._advice)


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """A text file's content; a byte-order mark is passed over.

    Raises:
        ManifestError: missing, or not of that encoding, naming the first line that is not.
    """
    try:
        content = path.read_bytes()
        return content.decode(encoding)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.name} does not exist", "make it, or check the folder") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path.name} cannot be read as text: line {line} is not {encoding.removesuffix('-sig').upper()}",
            "save it as UTF-8, or name its encoding where that can be given",
        ) from error
    except (OSError, LookupError) as error:
        raise ManifestError(f"{path.name} cannot be read as text ({error})", "save it as UTF-8") from error


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Header and rows of a CSV file (comma, semicolon or tab); empty lines are passed over.

    Raises:
        ManifestError: missing, not text, empty, or a row with more cells than the header.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[Row] = []
    problems = Problems(path.name, "correct the listed lines")
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if not header:
                header = [value.strip() for value in values]
            elif len(values) > len(header):
                problems.add(f"line {reader.line_num}", f"{len(values)} cells under {len(header)} columns")
            else:
                cells = {name: value.strip() for name, value in zip(header, values, strict=False)}
                rows.append(Row(f"line {reader.line_num}", cells))
    except csv.Error as error:
        advice = "save it as plain CSV; is a quotation mark not closed?"
        raise ManifestError(f"{path.name} line {reader.line_num}: {error}", advice) from error
    if not header:
        raise ManifestError(f"{path.name} is empty", "give it a header line with the column names")
    problems.raise_if_any()
    return header, rows


def read_json(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of a JSON list of objects, or of an object of such lists (decathlon style).

    In the second form the name of a list (``training`` ...) becomes the ``split`` of its entries, and members that are
    not lists of objects (name, modality ...) are passed over; a plain string in a list is an entry with that ``path``.

    Raises:
        ManifestError: missing, not JSON, or of another form.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path.name} line {error.lineno} is not JSON ({error.msg})", "correct it") from error
    lists: dict[str, list[Any]] = {}
    if isinstance(content, list):
        lists[""] = content
    elif isinstance(content, dict):
        lists = {name: items for name, items in content.items() if isinstance(items, list) and _are_entries(items)}
    if not lists:
        raise ManifestError(f"{path.name} holds no list of slides", "use a JSON list of objects, or lists by split")
    problems = Problems(path.name, "correct the listed entries")
    rows: list[Row] = []
    for name, items in lists.items():
        for number_, item in enumerate(items, start=1):
            place = f"entry {number_}" + (f" of '{name}'" if name else "")
            entry = {"path": item} if isinstance(item, str) else item
            if not isinstance(entry, dict):
                problems.add(place, "is no object")
                continue
            cells = {"split": name} | entry if name else entry
            rows.append(Row(place, {key: _cell(value) for key, value in cells.items()}))
    problems.raise_if_any()
    return list(dict.fromkeys(key for row in rows for key in row.cells)), rows


def _are_entries(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, str | dict) for item in items)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def to_columns(
    header: Iterable[str], rows: Iterable[Row], known: Sequence[str], aliases: Mapping[str, str], file_name: str
) -> tuple[set[str], list[Row]]:
    """The known columns there are, and the rows with the columns under those names.

    Case, spaces and hyphens in a column's name do not matter; aliases are followed.

    Columns that the table's reader does not know are left out, but one that looks like a misspelt known column is
    refused: an ignored ``slide_clas`` would silently drop every label.

    Raises:
        ManifestError: a misspelt column, or two columns of one meaning.
    """
    names: dict[str, str] = {}
    for raw in header:
        plain = "_".join(raw.lower().replace("-", " ").split())
        name = aliases.get(plain, plain)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if near:
                raise ManifestError(f"{file_name}: column '{raw}' is unknown", f"did you mean '{near[0]}'?")
            continue
        names[raw] = name
    return set(names.values()), [_renamed(row, names, file_name) for row in rows]


def _renamed(row: Row, names: Mapping[str, str], file_name: str) -> Row:
    cells: dict[str, str] = {}
    for raw, text in row.cells.items():
        name = names.get(raw)
        if name is None:
            continue
        if cells.get(name) and text:
            raise ManifestError(f"{file_name} {row.place}: '{raw}' gives {name} a second time", "keep one column")
        cells[name] = cells.get(name) or text
    return Row(row.place, cells)


def number(text: str) -> float:
    """A finite number.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file's content in UTF-8 with ``\\n`` line ends, the same on every machine."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue().encode()
