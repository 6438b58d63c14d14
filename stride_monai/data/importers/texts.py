"""Text, tables, JSON, YAML and XML of data sets: in the encoding that a file itself shows, else in that which is said.

A byte-order mark is evidence, and so are the zero bytes of UTF-16; an XML file declares its encoding. What contradicts
itself is refused: a wrong guess makes other labels and other names. Files of other tools are told by what they hold:
their boxes must not be taken for those of a format that is read.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.tables import NOT_KNOWN, Row, number, numbered_lines
from stride_monai.errors import ManifestError

__all__ = [
    *("DEFAULT_ENCODING", "decoded", "load_json", "load_xml", "load_yaml", "parsed_json", "text_of"),
    *("csv_rows", "json_of", "to_id", "to_number", "tool_of", "xml_of"),
]

DEFAULT_ENCODING = "utf-8-sig"
"""Encoding where neither the file nor the user says one: UTF-8, with or without byte-order mark."""

_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"'>]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030"}  # what programs that declare them write
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')
_XML = {  # root -> which tool it is of
    "annotation": "Pascal VOC: import it as voc",
    "annotations": "CVAT's own XML (or Aperio's): export it as Pascal VOC or COCO",
    "asap_annotations": "ASAP's XML: open it in QuPath, and export GeoJSON",
}


def text_of(path: Path, encoding: str = DEFAULT_ENCODING) -> str:
    """A file's text.

    Raises:
        ManifestError: missing, or not of its encoding, naming the first line that is not.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path.name} does not exist", "check its name and folder") from None
    except OSError as error:
        raise ManifestError(f"{path.name} cannot be read ({error.strerror or error})", "check it") from error
    return decoded(content, path.name, encoding)


def decoded(content: bytes, name: str, encoding: str = DEFAULT_ENCODING) -> str:
    """The text of bytes.

    A byte-order mark or the zero bytes of UTF-16 win over everything; what an XML file declares wins over the default,
    and over ``encoding`` where it declares UTF-8 and is.

    Raises:
        ManifestError: as in :func:`text_of`; also where an XML file declares an encoding that its bytes contradict.
    """
    shown = _shown(content)
    declared = _DECLARED.match(content[:400])
    if shown:
        encoding = shown
    elif declared:
        encoding = _declared(declared[1].decode("ascii", "replace").strip(), content, name, encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{name} cannot be read as text: line {line} is not {encoding.removesuffix('-sig').upper()}",
            "save it as UTF-8, or name its encoding with --encoding, e.g. --encoding gbk",
        ) from error
    except LookupError as error:
        raise ManifestError(f"{name} cannot be read as text ({error})", "name a known encoding, e.g. gbk") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ManifestError(f"{name} cannot be read as text: line {line} holds a zero", "save it as UTF-8")
    return text


def _shown(content: bytes) -> str:
    """The encoding that the first bytes show; empty where they show none."""
    shown = json.detect_encoding(content) if any(content[:4]) else "utf-8"
    return "" if shown == "utf-8" else shown


def _declared(declared: str, content: bytes, name: str, asked: str) -> str:
    """The encoding of an XML file that declares one and shows none."""
    try:
        known = codecs.lookup(declared).name
    except LookupError:
        if asked != DEFAULT_ENCODING:
            return asked
        raise ManifestError(
            f"{name} line 1 declares the encoding '{declared}', which is unknown", "name its encoding with --encoding"
        ) from None
    utf8 = _is_utf8(content)
    wide = known.startswith(("utf-16", "utf-32"))  # it would have shown: what declares it only is of another one
    if utf8 and (known == "utf-8" or (wide and asked == DEFAULT_ENCODING)):
        return "utf-8"
    if asked != DEFAULT_ENCODING:
        return asked
    if utf8 and not content.isascii() and known != "ascii":
        raise ManifestError(
            f"{name} line 1 declares {declared}, but its bytes are UTF-8",
            "correct the declaration, or say which is right, e.g. --encoding utf-8",
        )
    return "utf-8" if wide else _SUPERSETS.get(known, known)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def load_json(path: Path, encoding: str = DEFAULT_ENCODING) -> Any:
    """Content of a JSON file.

    Raises:
        ManifestError: missing, of another encoding, no JSON, or an object with a key twice, naming the line.
    """
    return parsed_json(text_of(path, encoding), path.name)


def parsed_json(text: str, name: str) -> Any:
    """Content of a JSON text (:func:`load_json`)."""
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique)
    except _TwiceError as error:
        where = f" line {_line_of_twin(text)}" if _line_of_twin(text) else ""
        raise ManifestError(f"{name}{where}: the key {error} occurs twice in one object", "keep one of them") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"{name} line {error.lineno} is not JSON ({error.msg})", "correct it") from error
    except (RecursionError, ValueError) as error:
        raise ManifestError(f"{name} is not JSON that can be read ({error})", "correct it") from error


class _TwiceError(Exception):
    """A key occurs twice in one JSON object: which of the values is meant, nobody knows."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(repr(next(name for name in names if names.count(name) > 1)))
    return found


def _line_of_twin(text: str) -> int:
    """The line of the first key that occurs a second time in its object; 0 where none is found."""
    open_: list[set[str]] = []
    last = ""
    for match in _JSON_TOKEN.finditer(text):
        token = match.group()
        if token in "{[":
            open_.append(set())
        elif token in "}]":
            open_.pop()
        elif token != ":":
            last = token
        elif last in open_[-1]:
            return text.count("\n", 0, match.start()) + 1
        else:
            open_[-1].add(last)
    return 0


class _PlainLoader(yaml.BaseLoader):  # type: ignore[misc]
    """Every scalar as it is written: YAML itself makes False of a class NO, and 202405 of 2024_05."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice", node.start_mark)
        return found


def load_yaml(path: Path, encoding: str = DEFAULT_ENCODING) -> Any:
    """Content of a YAML file; every scalar is the text that was written, an empty one is empty.

    Raises:
        ManifestError: missing, of another encoding, no YAML, or a mapping with a key twice, naming the line.
    """
    try:
        return yaml.load(text_of(path, encoding), Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ManifestError(
            f"{path.name}{where} is no YAML ({getattr(error, 'problem', None) or error})", "correct it"
        ) from error
    except (RecursionError, TypeError) as error:
        raise ManifestError(f"{path.name} is no YAML that can be read ({error})", "correct it") from error


def load_xml(path: Path, encoding: str = DEFAULT_ENCODING) -> tuple[str, ElementTree.Element]:
    """Text of an XML file and its root; names of elements in lower case and without their namespaces.

    Raises:
        ManifestError: missing, of another encoding than it declares, no XML, naming the line; or it declares entities.
    """
    text = text_of(path, encoding).removeprefix("\ufeff")
    if "<!ENTITY" in text:
        line = text.count("\n", 0, text.index("<!ENTITY")) + 1
        raise ManifestError(f"{path.name} line {line} declares an entity", "write out what it stands for")
    # The declared encoding no longer holds: the text is decoded. Lines stay where they are.
    plain = _DECLARATION.sub(lambda match: "\n" * match.group().count("\n"), text)
    try:
        root = ElementTree.fromstring(plain)
    except (ElementTree.ParseError, ValueError) as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else 1
        raise ManifestError(f"{path.name} line {line} is no XML ({error})", "correct it") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rsplit("}", 1)[-1].lower()
    return plain, root


def tool_of(paths: Iterable[Path]) -> str:
    """Which tool's annotations are among files, by the first JSON and XML file of them, and what to do; empty where
    none is known."""
    for suffix in (".json", ".xml"):
        path = next((path for path in paths if path.suffix.lower() == suffix), None)
        if path is None:
            continue
        try:
            said = json_of(load_json(path)) if suffix == ".json" else xml_of(load_xml(path)[1].tag)
        except ManifestError:
            continue
        if said:
            return f"{path.name} is {said}"
    return ""


def json_of(content: Any) -> str:
    """Which tool's JSON this is, and what to do; empty where it is not known."""
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and ("annotations" in first or "completions" in first) and "data" in first:
            return "Label Studio's own JSON: export it as COCO or YOLO"
        if isinstance(first, dict) and {"x", "y", "w", "h"} <= set(first):
            return "a list of Tianchi: import it as tianchi"
        return ""
    if not isinstance(content, dict):
        return ""
    if "shapes" in content and "imagePath" in content:
        return "LabelMe's JSON: convert it to COCO or Pascal VOC"
    if "_via_img_metadata" in content or any(isinstance(v, dict) and "regions" in v for v in content.values()):
        return "VIA's JSON: export it as COCO"
    if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
        return "a COCO file: import it as coco"
    if content.get("type") in {"Feature", "FeatureCollection"}:
        return "GeoJSON: name it .geojson, and import it as geojson"
    return ""


def xml_of(tag: str) -> str:
    """Which tool's XML has such a root, and what to do; empty where it is not known."""
    return _XML.get(tag, "")


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
