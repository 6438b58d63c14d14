"""Cervix93: frames in extended depth of field with a grade each, and points at their nuclei."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stride_monai.bethesda import UNLABELED
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.pictures import upright_pixels
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, only_table
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.texts import csv_rows, text_of, to_number
from stride_monai.errors import ConfigError, ManifestError

__all__ = ["FORMAT", "read"]

_ORDERS = ("xy", "yx")
_REACH = 3  # px around a point whose brightness is averaged
_CERTAIN = 3.0  # standard errors by which nuclei must be darker in one order than in the other
_LUMA = (0.299, 0.587, 0.114)
_SPLITS = {"0": "train", "1": "test"}


class _Point(NamedTuple):
    frame: str
    first: float
    second: float
    place: Place


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``labels.csv`` (frame, label, set) and ``EDF/<frame>.png`` with ``EDF/<frame>.csv``, two numbers a line.

    Which of the two is x is found from the images: nuclei are darker than what else the points would hit, and no point
    is outside its frame. A point has no class of its own: in negative frames it is NILM, in others unlabelled.
    """
    table = only_table(files_in(source, "labels.csv"), source)
    folder = options.images or table.parent / "EDF"
    columns = {"frame": ("frame",), "label": ("label",), "set": ("set",)}
    images: dict[str, SourceImage] = {}
    points: list[_Point] = []
    for row in csv_rows(table, columns, options.encoding, problems, optional=("set",)):
        frame, place = row.get("frame"), Place(table.name, row.place)
        if frame in images:
            problems.add(place, "duplicate", f"frame '{frame}' is that of {images[frame].place} too", frame)
            continue
        path, split = folder / f"{frame}.png", _SPLITS.get(row.get("set"))
        if row.get("set") and split is None:
            problems.add(place, "split", f"set is '{row.get('set')}', not 0 (train) or 1 (test)", frame)
            continue
        images[frame] = SourceImage(frame, path, place, split=split, label=row.get("label"))
        with problems.catching(place, "file", frame):
            points += _points(folder / f"{frame}.csv", frame, options, problems)
    order, note = _order(points, images, options.values.get("columns"))
    cells = [
        SourceCell(
            point.frame,
            f"nucleus in {images[point.frame].label}",
            point.place,
            point=(point.first + 0.5, point.second + 0.5) if order == "xy" else (point.second + 0.5, point.first + 0.5),
        )
        for point in points
    ]
    others = ImageIndex(folder).remarks(image.path for image in images.values())
    notes = [note, "the focal planes of the stacks are not imported", *others]
    return Source(list(images.values()), cells, notes=notes)


def _points(path: Path, frame: str, options: ImportOptions, problems: ProblemLog) -> list[_Point]:
    points = []  # not by the reader of tables: without a heading it would guess the delimiter, here it is named
    for number, line in enumerate(text_of(path, options.encoding).splitlines(), start=1):
        place = Place(path.name, f"line {number}")
        if not line.strip():
            continue
        with problems.catching(place, "row", frame):
            numbers = [to_number(part.strip(), "value") for part in line.split(",")]
            if len(numbers) != 2:
                raise ManifestError(f"there are {len(numbers)} values, not 2")
            points.append(_Point(frame, numbers[0], numbers[1], place))
    return points


def _order(points: list[_Point], images: dict[str, SourceImage], asked: str | None) -> tuple[str, str]:
    """``xy`` or ``yx``, and a note on what it rests on."""
    if asked is not None:
        if asked not in _ORDERS:
            raise ConfigError(f"columns is '{asked}'", "give xy or yx")
        return asked, f"the columns of the points are {asked}, as stated"
    outside = dict.fromkeys(_ORDERS, 0)
    darker: list[float] = []  # brightness in the order xy less brightness in the order yx
    for frame, image in images.items():
        own = np.array([(p.first, p.second) for p in points if p.frame == frame]).reshape(-1, 2)
        if not len(own) or not image.path.is_file():
            continue
        try:
            gray = upright_pixels(image.path).astype(np.float32) @ np.array(_LUMA, np.float32)
        except ManifestError:
            continue  # the checks name it
        height, width = gray.shape
        fits = {"xy": (own < (width, height)).all(axis=1), "yx": (own < (height, width)).all(axis=1)}
        for order in _ORDERS:
            outside[order] += int((~fits[order]).sum())
        both = own[fits["xy"] & fits["yx"]]
        darker += [_brightness(gray, x, y) - _brightness(gray, y, x) for x, y in both]
    return _decided(outside, np.array(darker))


def _brightness(gray: npt.NDArray[np.float32], x: float, y: float) -> float:
    row, column = int(y), int(x)
    around = gray[max(0, row - _REACH) : row + _REACH + 1, max(0, column - _REACH) : column + _REACH + 1]
    return float(around.mean())


def _decided(outside: dict[str, int], darker: npt.NDArray[np.float64]) -> tuple[str, str]:
    error = darker.std(ddof=1) / np.sqrt(len(darker)) if len(darker) > 1 else np.inf
    lean = float(darker.mean() / error) if len(darker) > 1 and error > 0 else 0.0
    votes = {"xy" if outside["xy"] < outside["yx"] else "yx"} if outside["xy"] != outside["yx"] else set()
    votes |= {"xy" if lean < 0 else "yx"} if abs(lean) >= _CERTAIN else set()
    said = (
        f"in the order xy {outside['xy']} points are outside their frames, in the order yx {outside['yx']}; nuclei are "
        f"{abs(lean):.1f} standard errors darker in the order {'xy' if lean < 0 else 'yx'}"
    )
    if len(votes) != 1:
        raise ConfigError(
            f"the images do not tell which column of the points is x ({said})", "say --option columns=xy or columns=yx"
        )
    (order,) = votes
    return order, f"the columns of the points are {order}: {said}"


FORMAT = Format(
    name="cervix93",
    title="Cervix93",
    layout="labels.csv (frame, label, set) and EDF/<frame>.png with EDF/<frame>.csv",
    unit="field",
    labels={
        "N": MappedLabel("NILM"),
        "L": MappedLabel("LSIL"),
        "H": MappedLabel("HSIL"),
        "nucleus in N": MappedLabel("NILM"),
        "nucleus in L": MappedLabel(UNLABELED, True),
        "nucleus in H": MappedLabel(UNLABELED, True),
    },
    read=read,
    license="no licence is stated with the data set: ask its authors before you pass anything on",
    citation="Phoulady and Mouton, Cervix93, arXiv 1811.09651",
    preparation="liquid-based",
    point_um=22.8,
    options={"columns": "xy or yx, the order of the two columns of points; by default found from the images"},
    bethesda=False,
)
