"""From what the user typed to the cells: pictures, folders of them, and lists of pictures or of places on slides."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from stride_monai.data.manifest import located
from stride_monai.data.tables import LIST_SUFFIXES, Row, number, numbered_lines, read_table, read_text
from stride_monai.errors import ManifestError
from stride_monai.files import walk_files
from stride_monai.names import found, printable, readable
from stride_monai.screening.inputs import NOBODYS_FOLDERS, SPREADSHEETS, UNREADABLE_SUFFIXES
from stride_monai.slides import is_slide_path

__all__ = ["CARRIED", "CellInput", "CellInputs"]

_POINT, _SIZE, _CORNERS = ("x", "y"), ("width", "height"), ("x0", "y0", "x1", "y1")
CARRIED = (*_POINT, *_SIZE, *_CORNERS, "label")
"""Columns of a list that the table of results has too, where a list has them."""
_KNOWN = ("path", *CARRIED, "mpp")
_ALIASES = {"image": "path", "file": "path", "filename": "path", "file_name": "path", "slide": "path"}
_MAY_BE_UNKNOWN = (*_POINT, *_SIZE, *_CORNERS, "mpp")
_PLAIN_LIST = ".txt"


@dataclass(frozen=True, slots=True)
class CellInput:
    """One cell to classify.

    Attributes:
        path: of its picture, or of the slide that it is on.
        name: how the table calls that.
        center: x, y in level-0 px; None for the middle of the picture.
        mpp: um/px that its list states.
        carried: what its list says, as it stands there, by :data:`CARRIED`.
        problem: why it cannot even be tried; empty otherwise.
    """

    path: Path
    name: str
    center: tuple[float, float] | None = None
    mpp: float | None = None
    carried: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


class CellInputs:
    """The cells that files, folders (searched through) and lists name, in order.

    Lists are read when this is made, folders while one iterates: their pictures are never all in memory, nor are all
    their names. A picture that several arguments name is there once; each row of a list is one cell.

    Args:
        arguments: pictures, folders of pictures, lists (CSV, TSV, JSON; in a text file without headings each line is a
            path). A path in a list is relative to the list's folder.
        boxes: what x and y are where a list has width and height too: ``center``, or the left and upper ``corner``.
            Without, they are the point that the crop is laid around.

    Attributes:
        arguments: as they were named.
        columns: of :data:`CARRIED` those that a list has.
        sized: a list gives boxes as x, y, width and height.
        passed_over: suffix -> how many files of folders are no pictures by it; filled while one iterates.

    Raises:
        ManifestError: a list cannot be read, names no path, or has columns that contradict each other.
    """

    def __init__(self, arguments: Sequence[Path], boxes: str = "center") -> None:
        self.arguments = [found(argument) for argument in arguments]
        self._lists: dict[int, list[CellInput]] = {}
        present: set[str] = set()
        self.sized = False
        for at, argument in enumerate(self.arguments):
            if argument.suffix.lower() in LIST_SUFFIXES and argument.is_file():
                columns, self._lists[at] = _of_list(argument, boxes)
                present |= columns
                self.sized |= {"width", "height"} <= columns
        self.columns = tuple(name for name in CARRIED if name in present)
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[CellInput]:
        self.passed_over.clear()
        done: set[Path] = set()  # folders and pictures that were gone through
        for at, argument in enumerate(self.arguments):
            if at in self._lists:
                yield from self._lists[at]
                continue
            here = Path(os.path.abspath(argument))  # noqa: PTH100 - resolve() would follow a link that names a picture
            if not done.isdisjoint((here, *here.parents)):
                continue
            yield from self._of(argument, here, done)
            done.add(here)

    def _of(self, argument: Path, here: Path, done: AbstractSet[Path]) -> Iterator[CellInput]:
        name = readable(here.name)
        if argument.is_dir():
            yield from self._of_folder(argument, done)
        elif argument.suffix.lower() in SPREADSHEETS:
            yield CellInput(argument, name, problem=f"{name} is a spreadsheet, not a list: save it as CSV")
        else:
            yield CellInput(argument, name)

    def _of_folder(self, folder: Path, done: AbstractSet[Path]) -> Iterator[CellInput]:
        """Pictures below a folder, and folders in it that cannot be listed; by their path in it."""
        start = Path(os.path.abspath(folder))  # noqa: PTH100 - as above
        prefix = f"{readable(start.name)}/" if len(self.arguments) > 1 else ""
        broken: list[CellInput] = []

        def cannot_list(error: OSError) -> None:
            place = Path(os.fsdecode(error.filename)) if error.filename is not None else start
            name = prefix + _shown(place, start)
            why = f"the folder cannot be listed ({error.strerror}): check its permissions"
            broken.append(CellInput(place, name, problem=why))

        any_there, suffixes = False, Counter[str]()
        for path in walk_files(start, cannot_list):
            if any(part.lower() in NOBODYS_FOLDERS for part in path.relative_to(start).parts[:-1]):
                continue
            if not done.isdisjoint((path, *path.parents)):
                any_there = True
            elif is_slide_path(path) or path.suffix.lower() in UNREADABLE_SUFFIXES:
                any_there = True
                yield CellInput(path, prefix + _shown(path, start))
            else:
                suffixes[readable(path.suffix.lower()) or "nothing"] += 1
        yield from broken
        self.passed_over += suffixes
        if not any_there and not broken:
            most = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))[:5]
            ends = ", ".join(f"{suffix} ({count})" for suffix, count in most)
            what = "the folder holds no picture" + (f": its files end in {ends}" if ends else "")
            yield CellInput(folder, readable(start.name), problem=f"{what}: name a folder with pictures of cells")


def _shown(path: Path, folder: Path) -> str:
    return "/".join(readable(part) for part in path.relative_to(folder).parts) or readable(folder.name)


def _of_list(path: Path, boxes: str) -> tuple[set[str], list[CellInput]]:
    folder = path.resolve().parent
    if path.suffix.lower() == _PLAIN_LIST and not _has_headings(path):
        lines = (line.strip() for line in read_text(path).splitlines())
        rows = [Row(f"line {at}", {"path": line}) for at, line in enumerate(lines, 1) if line and line[0] != "#"]
        present = {"path"}
    else:
        present, rows = read_table(path, _KNOWN, _ALIASES, _MAY_BE_UNKNOWN)
        if rows or path.suffix.lower() != ".json":
            _check_columns(path, present)
    if not rows:
        raise ManifestError(f"{path.absolute()} lists no cell", "give it a line for each")
    return present, [_cell(row, folder, present, boxes) for row in rows]


def _has_headings(path: Path) -> bool:
    first = next((line for line in read_text(path).splitlines() if line.strip(" #")), "")
    _, lines = numbered_lines(first.replace('"', ""), path.name, {*_KNOWN, *_ALIASES})
    return any(
        cell.strip("# ").lower().replace(" ", "_") in {"path", *_ALIASES} for _, cells in lines for cell in cells
    )


def _check_columns(path: Path, present: set[str]) -> None:
    """Refuse a table that says too little or too much of where its cells are."""
    advice = (
        f"columns are path, x, y (the middle of a cell), of boxes width, height or {', '.join(_CORNERS)}; mpp, label"
    )
    if "path" not in present:
        raise ManifestError(
            f"{path.absolute()} has no column 'path'", f"its first line must name the columns: {advice}"
        )
    for group in (_POINT, _SIZE, _CORNERS):
        missing = [name for name in group if name not in present]
        if 0 < len(missing) < len(group):
            raise ManifestError(f"{path.absolute()} has no column {', '.join(missing)}", advice)
    if "width" in present and "x" not in present:
        raise ManifestError(f"{path.absolute()} has width and height and no x and y", advice)
    if "x" in present and "x0" in present:
        raise ManifestError(f"{path.absolute()} has x, y and {', '.join(_CORNERS)}", "leave out one of the two")


def _cell(row: Row, folder: Path, present: set[str], boxes: str) -> CellInput:
    carried = {name: printable(row.get(name)) for name in CARRIED if row.get(name)}
    text = row.get("path")
    if not text:
        return CellInput(folder, "", carried=carried, problem=f"{row.place} of its list names no path")
    path, name = located(folder, text), printable(text)
    try:
        mpp = row.number("mpp", "um/px", "give it in um/px, e.g. 0.25") if row.get("mpp") else None
        return CellInput(path, name, _center(row, present, boxes), mpp, carried)
    except ManifestError as error:
        return CellInput(path, name, carried=carried, problem=f"{row.place}: {error}")


def _center(row: Row, present: set[str], boxes: str) -> tuple[float, float] | None:
    """Raises:
    ManifestError: there is none though its table has the columns, or the box is empty.
    """
    if "x0" in present:
        x0, y0, x1, y1 = (_number(row, name) for name in _CORNERS)
        _check_box(x1 - x0, y1 - y0)
        return (x0 + x1) / 2, (y0 + y1) / 2
    if "x" not in present:
        return None
    x, y = (_number(row, name) for name in _POINT)
    if "width" not in present or not (row.get("width") or row.get("height")):
        return x, y
    width, height = (_number(row, name) for name in _SIZE)
    _check_box(width, height)
    return (x + width / 2, y + height / 2) if boxes == "corner" else (x, y)


def _check_box(width: float, height: float) -> None:
    if not (width > 0 and height > 0):
        raise ManifestError(f"the box is {width:g} px wide and {height:g} px high", "give boxes that are not empty")


def _number(row: Row, name: str) -> float:
    try:
        return number(row.get(name), row.decimal_comma)
    except ValueError as error:
        what = f"invalid {name} '{row.get(name)}'" if row.get(name) else f"no {name}"
        raise ManifestError(what, "give a number of px") from error
