"""Outputs of other systems: a small file says which of their columns is what, and their rows become ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stride_monai.data.tables import Row, first_of, json_content, plain_heading, read_rows, read_text
from stride_monai.errors import ConfigError, ManifestError, check_name

__all__ = ["NO_MAPPING", "Mapped", "mapped_rows", "read_mapping"]

_KEYS = ("name", "records", "columns", "slide_id_from", "score_scale", "calls", "labels")


@dataclass(frozen=True, slots=True)
class Mapped:
    """How the files of another system, or of another laboratory, are read.

    Attributes:
        name: of the system, for the report; empty for the file's own name.
        records: where in a JSON file the list of slides is, names joined by dots; empty for the whole file.
        columns: our column -> theirs (in JSON, names joined by dots); empty where theirs of that name is another thing.
        slide_id_from: regular expression; its first group, found in their slide id, is ours.
        score_scale: their score at full certainty, 100 for per cent; scores are divided by it.
        calls: their word for a call, in lower case -> ``positive``, ``negative`` or empty for none.
        labels: their word for a diagnosis, in lower case -> a Bethesda label.
    """

    name: str = ""
    records: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    slide_id_from: re.Pattern[str] | None = None
    score_scale: float = 1.0
    calls: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def slide_id(self, text: str) -> str:
        """Our slide id.

        Raises:
            ManifestError: the expression does not find one.
        """
        if self.slide_id_from is None:
            return text
        found = self.slide_id_from.search(text)
        if found is None or not found.group(1):
            what = f"slide_id_from '{self.slide_id_from.pattern}' finds nothing in '{text}'"
            raise ManifestError(what, "correct the mapping file")
        return found.group(1)


NO_MAPPING = Mapped()
"""Of files that have our columns."""


def read_mapping(path: Path | str | None) -> Mapped:
    """Read a mapping file: YAML or JSON with the fields of :class:`Mapped`; docs/evaluation.md has examples.

    Args:
        path: None for files that have our columns and words.

    Raises:
        ConfigError: not such a file, naming the field that is unknown or of the wrong kind.
    """
    if path is None:
        return NO_MAPPING
    path = Path(path)
    try:
        content = yaml.safe_load(read_text(path))  # JSON is YAML
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is neither YAML nor JSON ({_one_line(error)})", "correct it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} is no mapping file", f"give it fields of {', '.join(_KEYS)}")
    for key in content:
        check_name(f"field of {path.name}", str(key), _KEYS)
    try:
        return Mapped(
            name=str(content.get("name") or ""),
            records=str(content.get("records") or ""),
            columns=_texts(content, "columns"),
            slide_id_from=_expression(content.get("slide_id_from")),
            score_scale=_scale(content.get("score_scale", 1.0)),
            calls={key.lower(): _call(value) for key, value in _texts(content, "calls").items()},
            labels={key.lower(): value for key, value in _texts(content, "labels").items()},
        )
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}", "correct it") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _texts(content: Mapping[str, Any], name: str) -> dict[str, str]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no list of 'ours: theirs'")
    return {_text(key): _text(value) for key, value in found.items()}


def _text(value: Any) -> str:
    """As it is written in their file: YAML takes ``no`` and ``1`` for values of other kinds."""
    if isinstance(value, list | dict):
        raise ValueError(f"{value} is not one word")
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value).strip()


def _expression(text: Any) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        found = re.compile(str(text))
    except re.error as error:
        raise ValueError(f"slide_id_from '{text}' is no regular expression ({error})") from error
    if not found.groups:
        raise ValueError(f"slide_id_from '{text}' has no group ( ), which is the slide id")
    return found


def _scale(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"score_scale {value} is no number above 0")
    return float(value)


def _call(text: str) -> str:
    if text not in {"positive", "negative", ""}:
        raise ValueError(f"calls: '{text}' is neither positive nor negative nor empty")
    return text


def mapped_rows(path: Path, mapped: Mapped, known: tuple[str, ...]) -> tuple[list[str], list[Row]]:
    """Headings and rows of another system's file, their columns under our names.

    A column of theirs that has the name of one that is mapped gives way to it, also where it is mapped to nothing;
    all others stay.

    Args:
        known: our columns, which ``columns`` may name.

    Raises:
        ManifestError: the file cannot be read, or has no such column.
        ConfigError: ``columns`` names one that is not ours.
    """
    ours = {plain_heading(name): name for name in known}
    for name in mapped.columns:
        if plain_heading(name) not in ours:
            check_name("column in the mapping file", name, known)
    if path.suffix.lower() == ".json" and (mapped.records or any("." in theirs for theirs in mapped.columns.values())):
        header, rows = _nested(path, mapped.records)
    else:
        header, rows = read_rows(path, {plain_heading(name) for name in (*known, *mapped.columns.values())})
    if not mapped.columns:
        return header, rows
    theirs = {plain_heading(name): name for name in header}
    wanted = {our: name for our, name in mapped.columns.items() if name}
    lacking = [name for name in wanted.values() if plain_heading(name) not in theirs]
    if lacking:
        what = f"{path.name} has no column {', '.join(lacking)}"
        raise ManifestError(what, f"it has {first_of(header)}; correct the mapping file")
    renamed = {theirs[plain_heading(name)]: ours[plain_heading(our)] for our, name in wanted.items()}
    taken = {ours[plain_heading(our)] for our in mapped.columns}
    kept = [name for name in header if name in renamed or ours.get(plain_heading(name)) not in taken]
    rows = [row._replace(cells={renamed.get(n, n): row.get(n) for n in kept}) for row in rows]
    return [renamed.get(name, name) for name in kept], rows


def _nested(path: Path, records: str) -> tuple[list[str], list[Row]]:
    """Headings and rows of a JSON file whose list of slides is somewhere in it, and whose slides hold objects."""
    found = json_content(read_text(path), path.name)
    for name in filter(None, records.split(".")):
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, dict):  # slides by their ids
        found = [{"slide_id": key, **item} for key, item in found.items() if isinstance(item, dict)]
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found) or not found:
        where = f"'{records}' of {path.name}" if records else path.name
        raise ManifestError(f"{where} is no list of slides", "correct 'records' in the mapping file")
    rows = [Row(f"entry {number}", _flat(item)) for number, item in enumerate(found, 1)]
    return list(dict.fromkeys(key for row in rows for key in row.cells)), rows


def _flat(item: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    cells: dict[str, str] = {}
    for key, value in item.items():
        if isinstance(value, dict):
            cells |= _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            cells[f"{prefix}{key}"] = "" if value is None else str(value).strip()
    return cells
