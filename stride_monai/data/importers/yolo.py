"""YOLO label files: one text file per image, boxes as shares of the image's sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.pictures import label_size
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, place_of, plain_name
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.texts import text_of, tool_of
from stride_monai.data.importers.yolo_data import NAME_FILES, YoloData, yolo_data
from stride_monai.data.importers.yolo_lines import Line, keypoint_lines, line_of, shape_of
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.files import files_below

__all__ = ["FORMAT", "read"]

_IMAGES = frozenset({"images", "jpegimages"})
_LINES = ("", "polygons")


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
    lines: list[Line] = []
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
) -> list[Line]:
    found: list[Line] = []
    size = label_size(image, options.labels_on)
    for number, text in enumerate(text_of(table, options.encoding).splitlines(), start=1):
        if not text.strip():
            continue
        place = file._replace(where=f"line {number}")
        with problems.catching(place, "row", slide_id):
            found.append(line_of(text, place, slide_id, size))
    return found


def _add_cells(
    lines: Sequence[Line], data: YoloData, options: ImportOptions, result: Source, problems: ProblemLog
) -> None:
    wrong: set[Place] = set()
    if data.key_shape is None and not options.values.get("lines"):
        wrong, note = keypoint_lines(lines, problems)
        result.notes += [note] if note else []
    for line in lines:
        if line.place in wrong:
            continue
        with problems.catching(line.place, "row", line.slide_id):
            box, outline = shape_of(line, data.key_shape)
            label = data.label(line.number)
            result.cells.append(SourceCell(line.slide_id, label, line.place, box=box, outline=outline))
            if data.key_shape and len(line.values) > 4:
                result.tally["cells have key points, of which only the box is taken"] += 1


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
