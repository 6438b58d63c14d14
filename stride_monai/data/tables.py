"""Rows of a CSV or JSON table with the place each came from, and one error for all that is wrong with them.

The one reader of tables: whatever a spreadsheet, a statistics package or a person writes as a list is read the same way
wherever a list is taken.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.errors import ManifestError
from stride_monai.spreadsheet import as_typed, harmless

__all__ = [
    "LIST_SUFFIXES",
    "MARKS",
    "NOT_KNOWN",
    "Row",
    "first_of",
    "json_content",
    "named_rows",
    "number",
    "numbered_lines",
    "plain_heading",
    "read_rows",
    "read_table",
    "read_text",
    "refuse",
    "table_text",
]

LIST_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".json"})
"""Of files that are lists of slides, not slides."""

NOT_KNOWN = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null", "none", "unknown", "-", "--", "?"})
"""What people and programs write (in any case) where they do not know something."""

_SHOWN = 10
_DELIMITERS = ("\t", ";", ",")
_SAMPLE = 30  # lines that are looked at to find the delimiter
_SEP_LINE = re.compile(r'\s*"?sep=(.)"?[\s;,]*', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, the longer ones first, and the encodings that they stand for."""

csv.field_size_limit(64 * 2**20)  # an outline of some thousand corners is longer than the 128 KiB that are the default


class Row(NamedTuple):
    """One row: where it stands (``line 3``, ``entry 2 of 'training'``) and its cells as stripped text.

    Attributes:
        decimal_comma: the table separates its cells by semicolons, so ``1,234`` is a little more than one.
    """

    place: str
    cells: Mapping[str, str]
    decimal_comma: bool = False

    def get(self, name: str) -> str:
        """The cell of a column, empty where the table has no such column."""
        return self.cells.get(name, "")

    def number(self, name: str, called: str = "", advice: str = "") -> float:
        """The cell of a column as a finite number.

        Raises:
            ManifestError: it is none; says what it is called, by default as the column.
        """
        try:
            return number(self.get(name), self.decimal_comma)
        except ValueError as error:
            raise ManifestError(f"invalid {called or name} '{self.get(name)}'", advice) from error


def refuse(problems: Sequence[str], file_name: str, advice: str = "correct the listed lines") -> None:
    """Refuse a table for all that is wrong with it, so that a user can mend it at once.

    Raises:
        ManifestError: there is a problem; names the first ten and the number of the others.
    """
    if problems:
        raise ManifestError(f"{file_name}: {first_of(problems)}", advice)


def first_of(problems: Sequence[object]) -> str:
    """The first ten of many problems, and the number of the others."""
    more = len(problems) - _SHOWN
    return "; ".join(map(str, problems[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")


def read_text(path: Path) -> str:
    """A text file's content, in UTF-8 unless a byte-order mark says another encoding.

    Raises:
        ManifestError: missing, or not of that encoding, naming the first line that is not.
    """
    try:
        content = path.read_bytes()
        encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8-sig")
        text = content.decode(encoding)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.absolute()} does not exist", "check its name and folder") from error
    except IsADirectoryError as error:
        raise ManifestError(f"{path.absolute()} is a folder, not a text file", "name the file") from error
    except NotADirectoryError as error:
        raise ManifestError(f"{path.parent.absolute()} is a file, not a folder", "name the folder") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path.absolute()} cannot be read as text: line {line} is not {encoding.removesuffix('-sig').upper()}",
            "save it as UTF-8, or name its encoding where that can be given",
        ) from error
    except OSError as error:
        raise ManifestError(f"{path.absolute()} cannot be read as text ({error})", "save it as UTF-8") from error
    if "\0" in text:
        raise ManifestError(f"{path.absolute()} cannot be read as text: it holds zero bytes", "save it as UTF-8")
    return text


def read_table(
    path: Path,
    known: Sequence[str],
    aliases: Mapping[str, str],
    may_be_unknown: Collection[str] = (),
    others: bool = False,
) -> tuple[set[str], list[Row]]:
    """The known columns that a table has, and its rows with cells by their names.

    Args:
        path: CSV (comma, semicolon or tab) or, by its suffix, JSON (a list of objects, or an object of such lists) or
            Parquet.
        known: names of columns. Case, spaces, hyphens and underscores of a heading do not matter. Columns that nobody
            knows are left out, but one that looks like a misspelt known column is refused: an ignored ``slide_clas``
            would silently drop every label.
        aliases: other name of a column -> its name.
        may_be_unknown: columns whose cells :data:`NOT_KNOWN` are empty; a patient is never called ``nan``.
        others: keep the columns that nobody knows, under their headings.

    Raises:
        ManifestError: missing, not text, without a heading, a row with more cells than the heading, a misspelt column,
            or two columns of one name or meaning.
    """
    header, rows = read_rows(path, {*known, *aliases})
    return named_rows(header, rows, path.name, known, aliases, may_be_unknown, others)


def read_rows(path: Path, names: Collection[str] = ()) -> tuple[list[str], list[Row]]:
    """The headings of a table as they are written, and its rows with cells by them; by its suffix as for
    :func:`read_table`.

    Args:
        names: headings that are expected, in lower case with ``_`` for spaces.

    Raises:
        ManifestError: missing, not of its kind, or a row has more cells than the heading.
    """
    kind = path.suffix.lower()
    if kind == ".json":
        return _read_json(path)
    return _read_parquet(path) if kind == ".parquet" else _read_csv(path, names)


def named_rows(
    header: Sequence[str],
    rows: Iterable[Row],
    file_name: str,
    known: Sequence[str],
    aliases: Mapping[str, str],
    may_be_unknown: Collection[str] = (),
    others: bool = False,
) -> tuple[set[str], list[Row]]:
    """What :func:`read_table` makes of rows by their headings; arguments and errors as there."""
    columns = _columns(header, known, aliases, file_name)
    if others:
        columns = {**{raw: raw for raw in header if raw.strip() and raw not in columns}, **columns}
    problems: list[str] = []
    named = [_renamed(row, columns, file_name, may_be_unknown, problems) for row in rows]
    refuse(problems, file_name, "correct the listed entries")
    return set(columns.values()), named


def other_columns(path: Path, known: Sequence[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of a CSV file that :func:`read_table` leaves out: heading -> cells, one for each of its rows."""
    header, rows = _read_csv(path, {*known, *aliases})
    ours = _columns(header, known, aliases, path.name)
    return {name: [row.get(name) for row in rows] for name in header if name not in ours}


def numbered_lines(
    text: str, file_name: str, names: Collection[str] = ()
) -> tuple[str, Iterator[tuple[str, list[str]]]]:
    """The delimiter of a CSV text, and its rows, each with its line or lines; a line ``sep=;`` is passed over.

    Args:
        names: headings that are expected, in lower case with ``_`` for spaces; they tell the delimiter best.

    Raises:
        ManifestError: while the rows are read: a quotation mark that is not closed, naming the line.
    """
    lines = text.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    stated = _SEP_LINE.fullmatch(first)
    delimiter = stated.group(1) if stated else _delimiter(lines, names)
    return delimiter, _numbered(text, file_name, delimiter, passes_first=bool(stated))


def _numbered(text: str, file_name: str, delimiter: str, passes_first: bool) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    first = 1
    try:
        for values in reader:
            place = f"line {first}" if reader.line_num == first else f"lines {first}-{reader.line_num}"
            first = reader.line_num + 1
            if passes_first and any(value.strip() for value in values):
                passes_first = False
                continue
            yield place, values
    except csv.Error as error:
        advice = "save it as plain CSV; is a quotation mark not closed?"
        raise ManifestError(f"{file_name} line {first}: {error}", advice) from error


def _delimiter(lines: Sequence[str], names: Collection[str]) -> str:
    """The delimiter by which most headings are expected ones, most rows are as wide as the heading, and the heading is
    widest; a comma last, since it is the one that texts hold too."""
    sample = [line for line in lines[: _SAMPLE * 2] if line.strip() and not line.startswith("#")][:_SAMPLE]

    def fit(delimiter: str) -> tuple[int, int, int]:
        try:
            rows = list(csv.reader(sample, delimiter=delimiter))
        except csv.Error:
            return (0, 0, 0)
        header = rows[0] if rows else []
        if len(header) < 2:
            return (0, 0, 0)
        hits = sum(plain_heading(value) in names for value in header)
        return hits, sum(len(row) == len(header) for row in rows[1:]), len(header)

    best = max(_DELIMITERS, key=fit)  # the first of equals
    return best if fit(best) > (0, 0, 0) else ","


def plain_heading(heading: str) -> str:
    """A heading in lower case, with ``_`` for spaces and hyphens."""
    return "_".join(heading.lower().replace("-", " ").replace("_", " ").split())


def _read_csv(path: Path, names: Collection[str]) -> tuple[list[str], list[Row]]:
    """Headings and rows of a CSV file; empty lines are passed over, and so are comments (#) before the headings."""
    text = read_text(path)
    delimiter, lines = numbered_lines(text, path.name, names)
    header: list[str] = []
    rows: list[Row] = []
    problems: list[str] = []
    for place, values in lines:
        cells = [as_typed(value.strip()) for value in values]
        while len(cells) > len(header) > 0 and not cells[-1]:
            cells.pop()  # a spreadsheet ends every row with delimiters
        if not any(cells):
            continue
        if not header:
            header = _header(cells, names)
        elif len(cells) > len(header):
            problems.append(f"{place}: {len(cells)} cells under {len(header)} columns")
        else:
            rows.append(Row(place, _by_heading(header, cells), delimiter == ";"))
    if not header:
        raise ManifestError(f"{path.absolute()} is empty", "give it a header line with the column names")
    refuse(problems, path.name)
    return header, rows


def _header(cells: list[str], names: Collection[str]) -> list[str]:
    """The headings; empty for a comment, which is no heading unless a column is named behind its ``#``."""
    if not cells[0].startswith("#"):
        return cells
    bare = [cells[0].lstrip("# "), *cells[1:]]
    return bare if any(plain_heading(cell) in names for cell in bare) else []


def _by_heading(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Cells by their headings; of two equal headings the first, since two known ones are refused anyway."""
    found: dict[str, str] = {}
    for heading, cell in zip(header, cells, strict=False):
        found.setdefault(heading, cell)
    return found


def _read_json(path: Path) -> tuple[list[str], list[Row]]:
    """Keys and rows of a JSON list of objects, or of an object of such lists (decathlon style).

    In the second form the name of a list (``training`` ...) becomes the ``split`` of its entries, and members that are
    not lists of objects (name, modality ...) are passed over; a plain string in a list is an entry with that ``path``.
    """
    content = json_content(read_text(path), path.name)
    lists: dict[str, list[Any]] = {}
    if isinstance(content, list):
        lists[""] = content
    elif isinstance(content, dict):
        lists = {
            name: items
            for name, items in content.items()
            if isinstance(items, list) and all(_is_text(item) or isinstance(item, dict) for item in items)
        }
    if not lists:
        raise ManifestError(
            f"{path.absolute()} holds no list of slides", "use a JSON list of objects, or lists by split"
        )
    problems: list[str] = []
    rows: list[Row] = []
    for name, items in lists.items():
        for number_, item in enumerate(items, start=1):
            place = f"entry {number_}" + (f" of '{name}'" if name else "")
            entry = {"path": item} if _is_text(item) else item
            if not isinstance(entry, dict):
                problems.append(f"{place}: is no object")
                continue
            cells = {"split": name} | entry if name else entry
            rows.append(Row(place, {key: _cell(value) for key, value in cells.items()}))
    refuse(problems, path.name, "correct the listed entries")
    return list(dict.fromkeys(key for row in rows for key in row.cells)), rows


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of a Parquet file; numbers are the texts that they would be in a CSV file."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.absolute()} does not exist", "check its name and folder") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise ManifestError(f"{path.absolute()} cannot be read as Parquet ({error})", "write it again") from error
    header = list(table.column_names)
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    return header, [
        Row(f"row {number_}", _by_heading(header, cells)) for number_, cells in enumerate(zip(*columns, strict=True), 1)
    ]


class _Number(str):
    """A number of a JSON file as it is written there: an id 007 or 1.50 keeps its form."""

    __slots__ = ()


_NESTED = "\0"  # begins a cell that was a list or an object; no text can hold it


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return _NESTED + ("a list" if isinstance(value, list) else "an object")
    return str(value).strip()


def json_content(text: str, file_name: str) -> Any:
    """Content of a JSON text: numbers are the texts that they are written as, and NaN is None.

    Raises:
        ManifestError: no JSON, naming the line, or an object that names one thing twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise ManifestError(f"{file_name}: '{key}' is given twice in one object", "keep one of them")
            content[key] = value
        return content

    try:
        return json.loads(
            text, object_pairs_hook=once, parse_float=_Number, parse_int=_Number, parse_constant=lambda _name: None
        )
    except json.JSONDecodeError as error:
        raise ManifestError(f"{file_name} line {error.lineno} is not JSON ({error.msg})", "correct it") from error
    except RecursionError as error:
        raise ManifestError(f"{file_name} is nested too deeply", "use a JSON list of objects") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Number)


def _columns(header: Sequence[str], known: Sequence[str], aliases: Mapping[str, str], file_name: str) -> dict[str, str]:
    """Heading -> known column."""
    columns: dict[str, str] = {}
    seen: dict[str, str] = {}
    for raw in header:
        plain = plain_heading(raw)
        name = aliases.get(plain, plain)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if near:
                raise ManifestError(f"{file_name}: column '{raw}' is unknown", f"did you mean '{near[0]}'?")
            continue
        if plain in seen:
            raise ManifestError(f"{file_name} has two columns '{raw}'", "keep one, or give the other another name")
        seen[plain] = columns[raw] = name
    return columns


def _renamed(
    row: Row, columns: Mapping[str, str], file_name: str, may_be_unknown: Collection[str], problems: list[str]
) -> Row:
    cells: dict[str, str] = {}
    for raw, text in row.cells.items():
        name = columns.get(raw)
        if name is None:
            continue
        if text.startswith(_NESTED):
            problems.append(f"{row.place}: {raw} is {text.removeprefix(_NESTED)}, not one value")
        if name in may_be_unknown and text.lower() in NOT_KNOWN:
            text = ""
        if name != "path":  # of one patient, spelt in two ways, there are not two; a file is found under both
            text = unicodedata.normalize("NFC", text)
        if cells.get(name) and text:
            raise ManifestError(f"{file_name} {row.place}: '{raw}' gives {name} a second time", "keep one column")
        cells[name] = cells.get(name) or text
    return Row(row.place, cells, row.decimal_comma)


def number(text: str, decimal_comma: bool = False) -> float:
    """A finite number, also one with a decimal comma.

    Args:
        decimal_comma: the comma is known to be a decimal one. Else ``1,234``, which may be 1234, is no number.

    Raises:
        ValueError: it is none; holds its text.
    """
    plain = text
    if _DECIMAL_COMMA.fullmatch(text) and (decimal_comma or not _THOUSANDS.fullmatch(text)):
        plain = text.replace(",", ".")
    try:
        value = math.nan if "_" in plain else float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file's content in UTF-8 with ``\\n`` line ends, the same on every machine.

    Text that a spreadsheet would take for a formula has an apostrophe before it; :func:`read_table` takes it away.

    Raises:
        ManifestError: a cell is the name of a file that is not UTF-8.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    try:
        return stream.getvalue().encode()
    except UnicodeEncodeError as error:
        row = error.object.rfind("\n", 0, error.start) + 1
        shown = error.object[row : error.end].encode("utf-8", "backslashreplace").decode()
        raise ManifestError(f"'{shown}...' is no UTF-8 and cannot be written in a table", "rename the file") from error
