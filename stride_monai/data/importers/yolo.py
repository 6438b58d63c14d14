"""YOLO label files: one text file per image, boxes as shares of the image's sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from stride_monai.data._tables import read_text
from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import from_yolo, hull, polygon
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, picture_size, place_of, split_in_path, to_number
from stride_monai.data.importers.records import Format, Options, Source, SourceCell, SourceImage
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
_OVER = 1e-3  # shares beyond 0-1 by rounding


def read(source: Path, options: Options, problems: ProblemLog) -> Source:
    """Read ``labels/.../NAME.txt`` for ``images/.../NAME.jpg`` (or both in one folder) and the names of the classes.

    A line is ``class x y width height``, or ``class x0 y0 x1 y1 x2 y2 ...``, a polygon. An image without a label file
    has no cell. Class names come from ``names`` in a YAML file, or from ``classes.txt`` or ``obj.names``.
    """
    if not source.is_dir():
        raise ManifestError(
            f"{source} is no folder", "name the folder with images, labels and the names of the classes"
        )
    index = ImageIndex(options.images or source)
    names = _class_names(source, options.encoding)
    labels = {path for path in source.rglob("*") if path.suffix.lower() == ".txt" and path.name not in _NAME_FILES}
    by_name = {path.with_suffix(".txt"): path for path in labels}
    used: set[Path] = set()
    result = Source()
    empty = 0
    for path in index.paths:
        slide_id = index.id_of(path)
        table = _label_file(path, index.folder, source, by_name)
        split = split_in_path(path, index.folder)
        place = place_of(table, source) if table else place_of(path, index.folder)
        result.images.append(SourceImage(slide_id, path, place, split=split))
        if table is None:
            empty += 1
            continue
        used.add(table)
        with problems.catching(place, "file", slide_id):
            _cells(table, place, slide_id, picture_size(path), names, options, result, problems)
    for table in sorted(labels - used):
        if _looks_like_labels(table, source):
            problems.add(place_of(table, source), "image", "the label file has no image", table.stem)
    if empty:
        result.notes.append(f"{empty} images have no label file and count as images without a cell")
    return result


def _class_names(source: Path, encoding: str) -> dict[str, str]:
    """Number of a class as text -> its name.

    Raises:
        ManifestError: a YAML file that is none, or two that name the classes otherwise.
    """
    found: dict[Path, dict[str, str]] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in {".yaml", ".yml"}):
        try:
            content = yaml.safe_load(read_text(path, encoding))
        except yaml.YAMLError as error:
            raise ManifestError(f"{path.name} is no YAML ({error})", "correct it") from error
        names: Any = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            found[path] = {str(number): str(name) for number, name in names.items()}
        elif isinstance(names, list):
            found[path] = {str(number): str(name) for number, name in enumerate(names)}
    for path, other in found.items():
        first = next(iter(found))
        if other != found[first]:
            raise ManifestError(f"{first.name} and {path.name} name the classes otherwise", "keep one of them")
    if found:
        return next(iter(found.values()))
    for name in _NAME_FILES:
        for path in sorted(source.rglob(name)):
            lines = read_text(path, encoding).splitlines()
            return {str(number): line.strip() for number, line in enumerate(lines)}
    return {}


def _label_file(image: Path, root: Path, source: Path, by_name: dict[Path, Path]) -> Path | None:
    """Beside the image, or at the same place below ``labels`` instead of ``images``."""
    places = [image.with_suffix(".txt")]
    parts = image.relative_to(root).parts
    for at, part in enumerate(parts[:-1]):
        if part == "images":
            places.append(root.joinpath(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt"))
    if root.name == "images":
        places.append(root.parent.joinpath("labels", *parts).with_suffix(".txt"))
    places.append(source.joinpath("labels", *parts).with_suffix(".txt"))
    return next((by_name[place] for place in places if place in by_name), None)


def _looks_like_labels(path: Path, source: Path) -> bool:
    """Whether it lies below ``labels`` or its first line holds numbers only: other text files are not for us."""
    if "labels" in path.relative_to(source).parts:
        return True
    try:
        first = read_text(path).split("\n", 1)[0].split()
        return len(first) >= 5 and all(float(part) is not None for part in first)
    except (ManifestError, ValueError):
        return False


def _cells(
    table: Path,
    file: Place,
    slide_id: str,
    size: tuple[int, int],
    names: dict[str, str],
    options: Options,
    result: Source,
    problems: ProblemLog,
) -> None:
    for number, line in enumerate(read_text(table, options.encoding).splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        place = file._replace(where=f"line {number}")
        with problems.catching(place, "row", slide_id):
            box, outline = _shape([to_number(value, "value") for value in values[1:]], size)
            label = names.get(values[0], f"class {values[0]}")
            result.cells.append(SourceCell(slide_id, label, place, box=box, outline=outline))


def _shape(shares: list[float], size: tuple[int, int]) -> tuple[Box, Polygon]:
    if len(shares) == 5:
        raise ManifestError("there are 6 values: is this a detector's output, with a confidence?")
    if len(shares) < 4:
        raise ManifestError(f"there are {len(shares) + 1} values, not 5")
    if min(shares) < -_OVER or max(shares) > 1 + _OVER:
        raise ManifestError("the values are not between 0 and 1: they are no shares of the image's sides")
    if len(shares) == 4:
        return from_yolo(shares[0], shares[1], shares[2], shares[3], size), ()
    outline = polygon([share * size[k % 2] for k, share in enumerate(shares)])
    return hull(outline), outline


FORMAT = Format(
    name="yolo",
    title="YOLO",
    layout="images/.../NAME.jpg with labels/.../NAME.txt, and the class names in a YAML file, classes.txt or obj.names",
    unit="field",
    labels=BETHESDA,
    read=read,
    complete=True,
)
