"""What is marked on slides: labelled cells with their boxes, one row per cell in ``cells.csv``, and annotated regions,
one per row in ``regions.csv``: where every lesion was marked.

Patient, centre and split of a cell are those of its slide in the manifest, never the cell's own: so no cell of a test
slide can end in training. Outside the annotated regions of a slide nothing is known: a place without a mark is
unlabelled there, not negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from stride_monai.bethesda import ABNORMAL, CELL_CLASSES, NEGATIVE, UNLABELED, cell_class_of, parse_label
from stride_monai.data.tables import Row, number, read_table, refuse, table_text
from stride_monai.errors import ManifestError
from stride_monai.files import write_bytes
from stride_monai.units import Box

__all__ = [
    *("COLUMNS", "WITHOUT_CLASS", "CellRecord", "Polygon", "cells_of", "read_cells", "read_regions", "write_cells"),
    "write_regions",
]

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in level-0 px; empty where there is no outline."""

COLUMNS: tuple[str, ...] = (
    *("slide_id", "cell_id", "x0", "y0", "x1", "y1", "label", "cell_class", "descriptions"),
    *("raw_label", "subtype", "lossy", "outline", "nucleus"),
)
_ALWAYS = 9  # columns that are written whether they are used or not
_ALIASES = {"slide": "slide_id", "description": "descriptions"}
_MAY_BE_UNKNOWN = ("cell_id", "descriptions", "raw_label", "subtype", "lossy", "outline", "nucleus")
_SEPARATOR = "|"
_REGIONS_NAME = "regions.csv"
_BOX_COLUMNS = ("slide_id", "x0", "y0", "x1", "y1")

WITHOUT_CLASS = frozenset({ABNORMAL, UNLABELED})
"""Labels of marked cells that belong to no cell class."""


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One labelled cell.

    Attributes:
        slide_id: the slide's id in the manifest.
        cell_id: unique within the slide.
        x0, y0, x1, y1: box in level-0 px.
        label: one of :data:`~stride_monai.bethesda.LABELS` or of :data:`~stride_monai.bethesda.CELL_CLASSES`, or of
            :data:`WITHOUT_CLASS`.
        descriptions: diagnostic descriptions; of the vocabulary or as a pathologist typed them.
        raw_label: label as the data set writes it; empty where it was written in this vocabulary.
        subtype: what the label does not say: an organism, or the kind of a benign cell.
        lossy: ``label`` says more or less than ``raw_label`` does.
        outline: border of the cell.
        nucleus: border of its nucleus.
    """

    slide_id: str
    cell_id: str
    x0: float
    y0: float
    x1: float
    y1: float
    label: str
    descriptions: tuple[str, ...] = ()
    raw_label: str = ""
    subtype: str = ""
    lossy: bool = False
    outline: Polygon = ()
    nucleus: Polygon = ()

    def __post_init__(self) -> None:
        if not all(abs(side) < float("inf") for side in self.box) or self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ManifestError(
                f"box {tuple(self.box)} is empty or non-finite", "use x0 < x1 and y0 < y1 in level-0 px"
            )
        if self.label not in WITHOUT_CLASS:
            cell_class_of(self.label)
        if any(_SEPARATOR in text for text in self.descriptions):
            raise ManifestError("a description holds '|'", "it separates descriptions; write it another way")

    @property
    def box(self) -> Box:
        """Box in level-0 px."""
        return Box(self.x0, self.y0, self.x1, self.y1)

    @property
    def cell_class(self) -> str | None:
        """One of :data:`~stride_monai.bethesda.CELL_CLASSES`; None for a label of :data:`WITHOUT_CLASS`."""
        return None if self.label in WITHOUT_CLASS else cell_class_of(self.label)

    @property
    def positive(self) -> bool:
        """Whether the cell is known to be of any class but NILM: what the detector must find."""
        return self.label == ABNORMAL or self.cell_class not in {None, NEGATIVE}


def read_cells(path: Path | str) -> list[CellRecord]:
    """Read a cell table.

    Args:
        path: CSV with the columns of :data:`COLUMNS`. Needed are the slide id, the box (level-0 px) and ``label`` or
            ``cell_class``; ``cell_id`` defaults to the number of the row within its slide, from 1; ``descriptions`` are
            joined by ``|``; an outline is ``x,y x,y ...``.

    Raises:
        ManifestError: naming every broken line: an empty box, an unknown label, a label that contradicts the cell
            class, a cell id that occurs twice in a slide; or naming a missing or misspelt column.
    """
    path = Path(path)
    present, rows = read_table(path, COLUMNS, _ALIASES, _MAY_BE_UNKNOWN)
    missing = [name for name in _BOX_COLUMNS if name not in present]
    if missing or not present & {"label", "cell_class"}:
        named = ", ".join(missing or ["label"])
        raise ManifestError(f"{path.absolute()} has no column {named}", f"columns are {', '.join(COLUMNS)}")
    problems: list[str] = []
    records: list[CellRecord] = []
    place_of: dict[tuple[str, str], str] = {}
    count_of: Counter[str] = Counter()
    for row in rows:
        slide_id = row.get("slide_id")
        count_of[slide_id] += 1
        try:
            record = _record(row, str(count_of[slide_id]))
        except ManifestError as error:
            problems.append(f"{row.place}: {error}")
            continue
        key = (record.slide_id, record.cell_id)
        if key in place_of:
            problems.append(f"{row.place}: cell id '{record.cell_id}' of '{slide_id}' is that of {place_of[key]} too")
        place_of.setdefault(key, row.place)
        records.append(record)
    refuse(problems, path.name)
    return records


def cells_of(folder: Path, slide_ids: Collection[str]) -> list[CellRecord]:
    """The cells of a cohort folder; none where it has no ``cells.csv``.

    Args:
        slide_ids: of its manifest.

    Raises:
        ManifestError: a broken table, or cells of slides that the manifest does not have.
    """
    if not (folder / "cells.csv").exists():
        return []
    cells = read_cells(folder / "cells.csv")
    strange = sorted({cell.slide_id for cell in cells} - set(slide_ids))
    if strange:
        raise ManifestError(
            f"cells.csv names {len(strange)} slides that manifest.csv does not have, e.g. '{strange[0]}'",
            "correct one of them",
        )
    return cells


def _record(row: Row, default_id: str) -> CellRecord:
    if not row.get("slide_id"):
        raise ManifestError("no slide id")
    box = Box(*(row.number(name) for name in ("x0", "y0", "x1", "y1")))
    return CellRecord(
        row.get("slide_id"),
        row.get("cell_id") or default_id,
        *box,
        label=_label(row),
        descriptions=tuple(text.strip() for text in row.get("descriptions").split(_SEPARATOR) if text.strip()),
        raw_label=row.get("raw_label"),
        subtype=row.get("subtype"),
        lossy=_truth(row, "lossy"),
        outline=_polygon(row, "outline"),
        nucleus=_polygon(row, "nucleus"),
    )


def _truth(row: Row, name: str) -> bool:
    text = row.get(name).lower()
    if text not in {"", "yes", "no"}:
        raise ManifestError(f"{name} is '{row.get(name)}'", "write yes, or leave it empty")
    return text == "yes"


def _polygon(row: Row, name: str) -> Polygon:
    try:
        corners = tuple((number(x), number(y)) for x, y in (pair.split(",") for pair in row.get(name).split()))
    except ValueError as error:
        raise ManifestError(f"{name} is no list of corners", "write it as x,y x,y ...") from error
    if 0 < len(corners) < 3:
        raise ManifestError(f"{name} has {len(corners)} corners", "give three or more, or none")
    return corners


def _label(row: Row) -> str:
    label, cell_class = row.get("label"), row.get("cell_class")
    if not label and not cell_class:
        raise ManifestError("no label")
    named = label or cell_class
    plain = named if named in CELL_CLASSES or named in WITHOUT_CLASS else parse_label(named)
    if cell_class and (plain in WITHOUT_CLASS or cell_class_of(plain) != cell_class_of(cell_class)):
        raise ManifestError(f"label '{label}' contradicts cell class '{cell_class}'")
    return plain


def write_cells(path: Path | str, records: Iterable[CellRecord]) -> None:
    """Write a cell table as CSV; of the columns from ``raw_label`` on, those that no record uses are left out.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [_cells_of(cell) for cell in records]
    used = [k for k in range(len(COLUMNS)) if k < _ALWAYS or any(row[k] for row in rows)]
    write_bytes(Path(path), table_text([COLUMNS[k] for k in used], ([row[k] for k in used] for row in rows)))


def _cells_of(cell: CellRecord) -> list[str]:
    return [
        cell.slide_id,
        cell.cell_id,
        *(f"{side:.12g}" for side in cell.box),
        cell.label,
        cell.cell_class or "",
        _SEPARATOR.join(cell.descriptions),
        cell.raw_label,
        cell.subtype,
        "yes" if cell.lossy else "",
        _corners(cell.outline),
        _corners(cell.nucleus),
    ]


def _corners(polygon: Polygon) -> str:
    return " ".join(f"{x:.12g},{y:.12g}" for x, y in polygon)


def read_regions(folder: Path | str) -> dict[str, list[Box]]:
    """Annotated regions by slide id, level-0 px, in the order of the file; none without a ``regions.csv``.

    Raises:
        ManifestError: a missing column, or naming every broken line.
    """
    path = Path(folder) / _REGIONS_NAME
    if not path.exists():
        return {}
    present, rows = read_table(path, _BOX_COLUMNS, {"slide": "slide_id"})
    missing = [name for name in _BOX_COLUMNS if name not in present]
    if missing:
        raise ManifestError(
            f"{path.absolute()} has no column {', '.join(missing)}", f"columns are {', '.join(_BOX_COLUMNS)}"
        )
    problems: list[str] = []
    regions: dict[str, list[Box]] = {}
    for row in rows:
        try:
            box = Box(*(row.number(name, "number") for name in _BOX_COLUMNS[1:]))
            if not box.area > 0:
                raise ManifestError(f"region {tuple(box)} is empty or non-finite", "use x0 < x1 and y0 < y1")
            regions.setdefault(row.get("slide_id"), []).append(box)
        except ManifestError as error:
            problems.append(f"{row.place}: {error}")
    refuse(problems, path.name)
    return regions


def write_regions(folder: Path | str, regions: Iterable[tuple[str, Box]]) -> None:
    """Write ``regions.csv``: slide ids, each with a rectangle in level-0 px.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = ([slide_id, *(f"{side:.12g}" for side in box)] for slide_id, box in regions)
    write_bytes(Path(folder) / _REGIONS_NAME, table_text(_BOX_COLUMNS, rows))
