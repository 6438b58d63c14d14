"""Files of data sets: tables with line numbers, and images by the names that tables give them."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from stride_monai.data._tables import Row, read_text
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ManifestError
from stride_monai.slides import is_slide_path

__all__ = [
    "PLAIN_SUFFIXES",
    "ImageIndex",
    "csv_rows",
    "files_in",
    "image_files",
    "image_ids",
    "load_json",
    "picture_size",
    "place_of",
    "split_in_path",
    "to_number",
]

PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
"""Pictures whose size Pillow reads from the header; anything else is opened as a slide."""


def to_number(text: object, name: str) -> float:
    """A finite number.

    Raises:
        ManifestError: it is none; names the column.
    """
    try:
        value = float(str(text))
    except ValueError:
        raise ManifestError(f"{name} '{text}' is no number") from None
    if not math.isfinite(value):
        raise ManifestError(f"{name} is {text}")
    return value


def csv_rows(
    path: Path, columns: Mapping[str, Sequence[str]], encoding: str, problems: ProblemLog, optional: Sequence[str] = ()
) -> list[Row]:
    """Rows of a table with a header; a row that cannot be told from its neighbours, or with more cells than the header,
    is a problem and left out.

    Args:
        columns: name of a column -> its names in files, tried in order; case does not matter.
        optional: columns that may be missing; their cells are then empty.

    Returns:
        Rows with the names of ``columns``; ``place`` is ``line n``.

    Raises:
        ManifestError: missing, of another encoding, or without a column that is needed.
    """
    text = read_text(path, encoding)
    first = text.split("\n", 1)[0]
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    reader = _numbered(lines, path.name)
    header = [name.strip().lower() for name in next(reader, ("", []))[1]]
    positions: dict[str, int] = {}
    for name, aliases in columns.items():
        found = [header.index(alias.lower()) for alias in aliases if alias.lower() in header]
        if found:
            positions[name] = found[0]
        elif name not in optional:
            raise ManifestError(
                f"{path.name} has no column {' or '.join(aliases)}", f"its columns are {', '.join(header) or 'none'}"
            )
    rows: list[Row] = []
    for place, values in reader:
        cells = {name: values[at].strip() if at < len(values) else "" for name, at in positions.items()}
        if len(values) > len(header):
            what = f"{len(values)} cells under {len(header)} columns"
            problems.add(Place(path.name, place), "row", what, Path(cells.get("image", "")).stem)
        elif any("\n" in value for value in values):
            problems.add(Place(path.name, place), "row", "a quotation mark joins these lines to one row")
        elif any(value.strip() for value in values):
            rows.append(Row(place, cells))
    return rows


def _numbered(reader: Any, file_name: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of a CSV reader, each with its line or lines."""
    first = 1
    try:
        for values in reader:
            yield (f"line {first}" if reader.line_num == first else f"lines {first}-{reader.line_num}"), values
            first = reader.line_num + 1
    except csv.Error as error:
        advice = "save it as plain CSV; is a quotation mark not closed?"
        raise ManifestError(f"{file_name} line {first}: {error}", advice) from error


def load_json(path: Path, encoding: str) -> Any:
    """Content of a JSON file.

    Raises:
        ManifestError: missing, of another encoding, or no JSON, naming the line.
    """
    try:
        return json.loads(read_text(path, encoding))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path.name} line {error.lineno} is not JSON ({error.msg})", "correct it") from error


def files_in(source: Path, *patterns: str) -> list[Path]:
    """The file itself, or the files below a folder that match any of the patterns, sorted, hidden ones left out.

    Patterns are in lower case; that of the files does not matter.

    Raises:
        ManifestError: there is nothing at ``source``, or nothing that matches.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ManifestError(f"{source} does not exist", "check the path")
    kept = sorted(
        path
        for path in source.rglob("*")
        if any(fnmatchcase(path.name.lower(), pattern) for pattern in patterns)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    if not kept:
        raise ManifestError(f"{source.name} holds no {' or '.join(patterns)}", "check the folder")
    return kept


def image_files(folder: Path) -> list[Path]:
    """All images and slides below a folder, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if is_slide_path(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def image_ids(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """A slide id for every image: its stem, or the path from ``root`` where another image has the same stem."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_stem[path.stem.casefold()].append(path)
    ids: dict[Path, str] = {}
    for same in by_stem.values():
        for path in same:
            ids[path] = path.stem if len(same) == 1 else _long_id(path, root, same)
    return ids


def _long_id(path: Path, root: Path, same: Sequence[Path]) -> str:
    relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    folders = "--".join((*relative.parts[:-1], relative.stem))
    twins = sum(other.parent == path.parent and other.stem.casefold() == path.stem.casefold() for other in same)
    return folders if twins == 1 else f"{folders}{relative.suffix}"


def _plain(name: str) -> str:
    """A file name without regard to case, and to whether an accent is a character of its own, as on macOS."""
    return unicodedata.normalize("NFC", name).casefold()


def place_of(path: Path, source: Path, where: str = "") -> Place:
    """Where something stands in a data set: the path from its folder, since several files may have one name."""
    return Place(path.relative_to(source).as_posix() if source in path.parents else path.name, where)


class ImageIndex:
    """Images by the names that annotations give them.

    Args:
        folder: where they are, at any depth.
        skip: ends of stems (in lower case) of files that are no images in their own right, e.g. masks.
    """

    def __init__(self, folder: Path, skip: Sequence[str] = ()) -> None:
        self.folder = folder
        self.paths = [path for path in image_files(folder) if not path.stem.lower().endswith(tuple(skip))]
        self.ids = image_ids(self.paths, folder)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[_plain(path.name)].append(path)
            self._by_stem[_plain(path.stem)].append(path)

    def find(self, name: str, under: str = "") -> Path:
        """The image of a name as annotations write it: a relative path, a file name, or the stem of one.

        Args:
            under: a folder whose name must be on the path, where several images have the name.

        Returns:
            Its path; where there is none, the path at which it would be.

        Raises:
            ManifestError: several images have that name.
        """
        relative = name.replace("\\", "/").lstrip("/")
        exact = self.folder / relative
        if relative and exact.is_file():
            return exact
        base = _plain(relative.rsplit("/", 1)[-1])
        found = self._by_name.get(base) or self._by_stem.get(base) or []
        if not found and is_slide_path(Path(base)):  # the same image, saved in another format
            found = self._by_stem.get(base.rsplit(".", 1)[0], [])
        if len(found) > 1:
            closer = [path for path in found if _plain(path.as_posix()).endswith("/" + _plain(relative))]
            found = closer or [path for path in found if under and under in path.parts] or found
        if len(found) > 1:
            raise ManifestError(f"{len(found)} images are named '{name}'", "name each by its path, or rename them")
        return found[0] if found else exact

    def not_named(self, used: Iterable[Path]) -> list[str]:
        """A note on images that no annotation names, as a list that is empty where there is none."""
        others = sorted(set(self.paths) - set(used))
        if not others:
            return []
        return [f"{len(others)} images are named by no annotation and are not imported, e.g. {others[0].name}"]

    def id_of(self, path: Path) -> str:
        """Slide id of an image, also of one that does not exist."""
        return self.ids.get(path, path.stem)


def split_in_path(path: Path, root: Path) -> str | None:
    """The split that a folder on the path from ``root`` is named after, if any."""
    for part in path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ():
        try:
            return parse_split(part)
        except ManifestError:
            continue
    return None


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a plain picture.

    Raises:
        ManifestError: it does not exist or is no picture.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise ManifestError(
            f"the image {path.name} does not exist", "add it, or give its folder with --images"
        ) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ManifestError(f"the image {path.name} cannot be read ({error})", "copy it again") from error
