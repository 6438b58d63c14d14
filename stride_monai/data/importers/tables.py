"""Numbers, ids and tables of data sets, each row with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.texts import text_of
from stride_monai.data.tables import NOT_KNOWN, Row, number, numbered_lines
from stride_monai.errors import ManifestError

__all__ = ["csv_rows", "to_id", "to_number"]


def to_number(value: object, name: str, decimal_comma: bool = False) -> float:
    """A finite number.

    Args:
        decimal_comma: ``1,234`` is a little more than one; else it is no number, since it may be a thousand.

    Raises:
        ManifestError: it is none; names the column.
    """
    text = str(value)
    try:
        return number("" if isinstance(value, bool) else text, decimal_comma)
    except ValueError:
        infinite = text.lower().lstrip("+-") in {"nan", "inf", "infinity"}
        raise ManifestError(f"non-finite {name} {text}" if infinite else f"invalid {name} '{text}'") from None


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
    if text.lower() in NOT_KNOWN:
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
    names = {alias.lower() for aliases in columns.values() for alias in aliases}
    delimiter, reader = numbered_lines(text_of(path, encoding), path.name, names)
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
            rows.append(Row(place, cells, delimiter == ";"))
    return rows


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
