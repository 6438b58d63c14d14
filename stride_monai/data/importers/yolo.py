"""YOLO label files: one text file per image, a line for each box, polygon, or box with key points, which looks like a
polygon; as shares of the image's sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import from_yolo, hull, polygon, simple
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.pictures import label_size
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, place_of, plain_name
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.texts import text_of, to_number, tool_of
from stride_monai.data.importers.yolo_data import NAME_FILES, YoloData, yolo_data
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.files import files_below
from stride_monai.units import Box

__all__ = ["FORMAT", "keypoint_lines", "line_of", "read"]

_IMAGES = frozenset({"images", "jpegimages"})
_LINES = ("", "polygons")
_OVER = 1e-3  # shares beyond 0-1 by rounding
_LOOKED_AT = 200  # polygons of which edges are compared
_SEEN = {0.0, 1.0, 2.0}  # what key points have for their visibility
_ADVICE = "say kpt_shape in the YAML file for key points, or --option lines=polygons"


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``labels/.../NAME.txt`` for ``images/.../NAME.jpg`` (or both in one folder), class names and splits.

    A line is ``class x y width height``, or ``class x0 y0 x1 y1 x2 y2 ...``, a polygon; where the YAML file says
    ``kpt_shape``, a box with key points, of which the box is taken. An empty label file says that its image has no
    cell; an image without one has no cell either, but is not annotated completely unless the user says so.
    """
    if not source.is_dir():
        raise ManifestError(
            f"{source} is no folder", "name the folder with images, labels and the names of the classes"
        )
    if options.values.get("lines", "") not in _LINES:
        raise ConfigError(f"lines is '{options.values['lines']}'", "say polygons, or leave it out")
    index = ImageIndex(options.images or source)
    files = files_below(source)
    data = yolo_data(source, files, index, options, problems)
    result = Source(lists=data.lists, notes=data.notes)
    can_be = [path for path in files if path.suffix.lower() == ".txt" and path.name.lower() not in NAME_FILES]
    labels = _label_files(source, can_be, index)
    lines: list[_Line] = []
    without: list[Path] = []
    for path in index.paths:
        slide_id, table = index.id_of(path), labels.get(path)
        place = place_of(table, source) if table else place_of(path, index.folder)
        complete = None if table or options.complete else False
        result.images.append(SourceImage(slide_id, path, place, complete=complete))
        if table is None:
            without.append(path)
            continue
        with problems.catching(place, "file", slide_id):
            lines += _lines(table, place, path, slide_id, options, problems)
    for table in sorted({*can_be} - {*labels.values()}):
        if _looks_like_labels(table, source, options.encoding):
            problems.add(place_of(table, source), "image", "the label file has no image", table.stem)
    if without and len(without) == len(index.paths):
        what = f"{source.name} holds no label file of any of its {len(without)} images"
        raise ManifestError(what, tool_of(files) or "check the folder")
    if without:
        result.notes.append(_without_labels(without, bool(options.complete)))
    result.notes += index.remarks(index.paths)
    _add_cells(lines, data, options, result, problems)
    return result


def _without_labels(images: Sequence[Path], complete: bool) -> str:
    what = f"{len(images)} images have no label file and count as"
    if complete:
        return f"{what} images without a cell, e.g. {images[0].name}"
    advice = "say --complete if somebody looked through all images, or give those without a cell an empty label file"
    return (
        f"{what} unlabelled, not as negative, e.g. {images[0].name} (YOLO trains on them as background all the same: "
        f"{advice})"
    )


def _label_files(source: Path, files: Sequence[Path], index: ImageIndex) -> dict[Path, Path]:
    """Label files by their images: beside the image, or at the same place below ``labels`` instead of ``images``; by
    whatever link. A name that differs in case or accents from what it should be counts where nothing else has it."""
    known, by_real = set(files), {path.resolve(): path for path in files}
    places = {image: _label_places(image, index.folder, source) for image in index.paths}
    labels: dict[Path, Path] = {}
    for image, own in places.items():
        if place := next((place for place in own if place in known or place.is_file()), None):
            labels[image] = place if place in known else by_real.get(place.resolve(), place)
    by_key: dict[str, list[Path]] = {}
    for path in sorted({*files} - {*labels.values()}):
        by_key.setdefault(_key(path), []).append(path)
    for image in [image for image in places if image not in labels]:
        found = next((by_key[key] for place in places[image] if (key := _key(place)) in by_key), [])
        if len(found) > 1:
            named = " and ".join(place_of(path, source).file for path in found[:2])
            raise ManifestError(f"{named} could both be the labels of {image.name}", "keep one of them")
        if found:
            labels[image] = found[0]
    return labels


def _key(path: Path) -> str:
    """A path without regard to case and to how an accent is written."""
    return plain_name(path.with_suffix(".txt").as_posix())


def _label_places(image: Path, root: Path, source: Path) -> list[Path]:
    places = [image.with_suffix(".txt")]
    parts = image.relative_to(root).parts if image.is_relative_to(root) else (image.name,)
    for at, part in enumerate(parts[:-1]):
        if part.lower() in _IMAGES:
            places.append(root.joinpath(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt"))
    if root.name.lower() in _IMAGES:
        places.append(root.parent.joinpath("labels", *parts).with_suffix(".txt"))
    places.append(source.joinpath("labels", *parts).with_suffix(".txt"))
    return places


def _looks_like_labels(path: Path, source: Path, encoding: str) -> bool:
    """Whether its first line holds numbers, or ends with one below ``labels``: other text files are not for us."""
    below = "labels" in {part.lower() for part in path.relative_to(source).parts}
    try:
        words = text_of(path, encoding).strip().split("\n", 1)[0].split()
        numbers = [float(word) for word in (words[-1:] if below else words)]
    except ManifestError:
        return below
    except ValueError:
        return False
    return below or len(numbers) >= 5


def _lines(
    table: Path, file: Place, image: Path, slide_id: str, options: ImportOptions, problems: ProblemLog
) -> list[_Line]:
    found: list[_Line] = []
    size = label_size(image, options.labels_on)
    for number, text in enumerate(text_of(table, options.encoding).splitlines(), start=1):
        if not text.strip():
            continue
        place = file._replace(where=f"line {number}")
        with problems.catching(place, "row", slide_id):
            found.append(line_of(text, place, slide_id, size))
    return found


def _add_cells(
    lines: Sequence[_Line], data: YoloData, options: ImportOptions, result: Source, problems: ProblemLog
) -> None:
    wrong: set[Place] = set()
    if data.key_shape is None and not options.values.get("lines"):
        wrong, note = keypoint_lines(lines, problems)
        result.notes += [note] if note else []
    for line in lines:
        if line.place in wrong:
            continue
        with problems.catching(line.place, "row", line.slide_id):
            box, outline = _shape(line, data.key_shape)
            label = data.label(line.number)
            result.cells.append(SourceCell(line.slide_id, label, line.place, box=box, outline=outline))
            if data.key_shape and len(line.values) > 4:
                result.tally["cells have key points, of which only the box is taken"] += 1


class _Line(NamedTuple):
    """A label: the number of its class as text, and shares of the image's sides."""

    place: Place
    slide_id: str
    size: tuple[int, int]
    number: str
    values: Sequence[float]


def line_of(text: str, place: Place, slide_id: str, size: tuple[int, int]) -> _Line:
    """A line of a label file.

    Raises:
        ManifestError: not a class by its number and then numbers.
    """
    words = text.split()
    class_number = to_number(words[0], "class")
    if class_number != int(class_number) or class_number < 0:
        raise ManifestError(f"invalid class '{words[0]}'")
    return _Line(place, slide_id, size, str(int(class_number)), [to_number(word, "value") for word in words[1:]])


def _shape(line: _Line, key_shape: tuple[int, int] | None) -> tuple[Box, Polygon]:
    """Box and outline in px; of a box with key points the box.

    Args:
        key_shape: number of key points and of values for each, of a data set that has them.

    Raises:
        ManifestError: another number of values, or values that are no shares.
    """
    values = list(line.values)
    if key_shape is not None:
        count = 4 + key_shape[0] * key_shape[1]
        if len(values) not in {4, count}:
            what = f"{key_shape[0]} key points of {key_shape[1]} values"
            raise ManifestError(f"there are {len(values) + 1} values, not {count + 1}: a class, a box and {what}")
        values = values[:4]
    if len(values) == 5:
        raise ManifestError("there are 6 values: is this a detector's output with a confidence, or a turned box?")
    if len(values) < 4:
        raise ManifestError(f"there are {len(values) + 1} values, not 5")
    if len(values) % 2:
        raise ManifestError(f"there are {len(values) + 1} values: neither a box nor a polygon", _ADVICE)
    if min(values) < -_OVER or max(values) > 1 + _OVER:
        raise ManifestError("the values are not between 0 and 1: they are no shares of the image's sides")
    if len(values) == 4:
        return from_yolo(values[0], values[1], values[2], values[3], line.size), ()
    outline = polygon([share * line.size[k % 2] for k, share in enumerate(values)])
    return hull(outline), outline


def keypoint_lines(lines: Sequence[_Line], problems: ProblemLog) -> tuple[set[Place], str]:
    """Lines that read better as a box with key points than as a polygon: each is a problem.

    Both are rows of numbers. As key points all points lie in the box of the first four numbers, and every third number
    may be 0, 1 or 2; in a polygon the second corner is no farther from the others than these are from each other. A
    data set holds either, so a few lines tell it of all; and all have the same number of key points.

    Returns:
        Their places; and a note where nothing tells the two apart.
    """
    long = [line for line in lines if len(line.values) >= 6 and len(line.values) % 2 == 0]
    points = [line for line in long if _fits_points(line.values)]
    if 2 * len(points) <= len(long) or len({len(line.values) for line in long}) > 1:
        return set(), ""
    sure = [line for line in points if _with_visibility(line.values) or not _fits_polygon(line.values)]
    if not sure and len(points) == len(long) and not all(simple(_pairs(line.values)) for line in points[:_LOOKED_AT]):
        sure = points
    for line in sure:
        what = f"the {len(line.values) + 1} values look like a box with key points, not like a polygon"
        problems.add(line.place, "row", f"{what}: {_ADVICE}", line.slide_id)
    note = ""
    if not sure and len(points) == len(long):
        note = f"{len(long)} polygons could also be boxes with key points, and are taken for polygons ({_ADVICE})"
    return {line.place for line in sure}, note


def _pairs(values: Sequence[float]) -> Polygon:
    return tuple(zip(values[::2], values[1::2], strict=True))


def _inside(points: Sequence[tuple[float, float]], values: Sequence[float]) -> bool:
    """Whether points lie in the box of centre and size, and that in the image."""
    x, y, width, height = values[:4]
    box = Box(x - width / 2 - _OVER, y - height / 2 - _OVER, x + width / 2 + _OVER, y + height / 2 + _OVER)
    whole = min(box.x0, box.y0) >= -2 * _OVER and max(box.x1, box.y1) <= 1 + 2 * _OVER
    return whole and all(box.x0 <= px <= box.x1 and box.y0 <= py <= box.y1 for px, py in points)


def _with_visibility(values: Sequence[float]) -> bool:
    rest = values[4:]
    if len(rest) % 3 or not set(rest[2::3]) <= _SEEN:
        return False
    shown = [(x, y) for x, y, seen in zip(rest[::3], rest[1::3], rest[2::3], strict=True) if seen]
    return _inside(shown, values)


def _fits_points(values: Sequence[float]) -> bool:
    return _with_visibility(values) or (_inside(_pairs(values[4:]), values) and not _is_parallelogram(values))


def _is_parallelogram(values: Sequence[float]) -> bool:
    """Four corners of a rectangle, turned or not: YOLO's oriented boxes."""
    if len(values) != 8:
        return False
    a, b, c, d = _pairs(values)
    return all(abs(a[k] + c[k] - b[k] - d[k]) < _OVER for k in (0, 1))


def _fits_polygon(values: Sequence[float]) -> bool:
    first, second, *rest = _pairs(values)
    around = hull([first, *rest])
    reach = max(around.width, around.height)
    return around.x0 - reach <= second[0] <= around.x1 + reach and around.y0 - reach <= second[1] <= around.y1 + reach


FORMAT = Format(
    name="yolo",
    title="YOLO",
    layout="images/.../NAME.jpg with labels/.../NAME.txt, and the class names in a YAML file, classes.txt or obj.names",
    unit="field",
    labels=BETHESDA,
    read=read,
    complete=True,
    options={
        "data": "name of the YAML file with names and splits, where there are several",
        "lines": "polygons: lines of many values are polygons, not boxes with key points",
    },
)
