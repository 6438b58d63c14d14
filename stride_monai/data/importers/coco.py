"""COCO detection files: images, annotations, categories. A shape that contradicts itself is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import TURNED, box_text, from_corner, hull, polygon, turned
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, data_folder, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.split_names import split_named, stated_split
from stride_monai.data.importers.texts import json_of, load_json, to_id, to_number
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_NO_CROWD = frozenset({"0", "0.0", "false"})
_PARTS = ("images", "annotations", "categories")
_ROTATIONS = ("rotation",)  # degrees, clockwise, about the middle (CVAT)
_OTHER_ROTATIONS = ("angle", "theta", "rot", "rotate")  # of other tools, in any unit and direction
_SAME = 1.0  # px by which numbers of the same place may differ
_AGREE = 0.5  # of box and polygon: intersection over union, at least


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read one COCO file, or all of a folder, and the images.

    A crowd (``iscrowd``) is no cell: it is noted, not imported, and its image no longer counts as annotated completely.
    Neither do the images of a file without any annotation, as of a test set, unless the user says so. The split of an
    image is the one that its file of annotations, or else a folder, is named after.
    """
    tables = files_in(source, "*.json")
    index = ImageIndex(options.images or data_folder(source))
    images: dict[str, SourceImage] = {}
    result = Source()
    other: dict[Path, str] = {}
    for table in tables:
        content, file = load_json(table, options.encoding), place_of(table, source)
        if what := _wrong(content):
            if json_of(content) or _parts(content) or not content:
                problems.add(file, "file", what, table.stem)
            else:
                other[table] = what
            continue
        marked = bool(content.get("annotations"))
        complete = None if marked or options.complete else False
        by_id = _images(content["images"], table, file, index, complete, problems)
        for image in by_id.values():
            first = images.setdefault(image.slide_id, image)
            if first is not image:
                what = f"image '{image.slide_id}' is named by {first.place} too"
                problems.add(image.place, "duplicate", what, image.slide_id)
        if by_id and complete is False:
            what = f"{len(by_id)} images are of {file}, which holds no annotation, and count as"
            result.notes.append(f"{what} unlabelled, not as negative (say --complete if they hold no lesion)")
        if marked:
            names = _names(content["categories"], table.stem, file, problems)
            _annotations(content["annotations"], file, names, by_id, images, result, problems)
    for table, what in other.items():
        if len(other) < len(tables):
            result.notes.append(f"{place_of(table, source)} is passed over: {what}")
        else:
            problems.add(place_of(table, source), "file", what, table.stem)
    result.images = list(images.values())
    result.notes += index.remarks(image.path for image in result.images)
    return result


def _parts(content: Any) -> set[str]:
    """Which lists of a COCO file there are."""
    return {name for name in _PARTS if isinstance(content, dict) and isinstance(content.get(name), list)}


def _wrong(content: Any) -> str:
    """Why a file is no COCO file; empty where it is one. A file of a test set may have no annotations."""
    there = _parts(content)
    missing = [name for name in _PARTS if name not in there and (name in content or name != "annotations")]
    if not missing:
        return ""
    what = f"it is no COCO file, since it has no list of {' or '.join(missing)}"
    tool = "" if there else json_of(content)
    return f"{what}, but {tool}" if tool else what


def _images(
    entries: list[Any], table: Path, file: Place, index: ImageIndex, complete: bool | None, problems: ProblemLog
) -> dict[str, SourceImage]:
    split = split_named(table.stem)
    found: dict[str, SourceImage] = {}
    for number, entry in enumerate(entries, start=1):
        place = file._replace(where=f"image {number}")
        with problems.catching(place, "image"):
            if not isinstance(entry, dict) or not entry.get("file_name"):
                raise ManifestError("the entry names no file")
            key = _key(entry, "id")
            if key in found:
                raise ManifestError(f"image id {key} is that of {found[key].place} too")
            name = str(entry["file_name"])
            beside = table.parent / name  # as Roboflow exports: every split with its images and a file of its own
            path = beside if beside in index.ids else index.find(name, under=table.stem, near=table.parent)
            stated = [to_number(entry[side], side) for side in ("width", "height") if entry.get(side)]
            found[key] = SourceImage(
                index.id_of(path),
                path,
                place,
                split=stated_split(entry.get("split"), split),
                size=(stated[0], stated[1]) if len(stated) == 2 else None,
                complete=complete,
            )
    return found


def _annotations(
    entries: list[Any],
    file: Place,
    names: dict[str, str],
    by_id: dict[str, SourceImage],
    images: dict[str, SourceImage],
    result: Source,
    problems: ProblemLog,
) -> None:
    for number, entry in enumerate(entries, start=1):
        given = entry.get("id") if isinstance(entry, dict) else None
        place = file._replace(where=f"annotation {number}" + ("" if given is None else f" (id {given})"))
        image = by_id.get(_shown_key(entry, "image_id"))
        with problems.catching(place, "row", image.slide_id if image else ""):
            if image is None:
                raise ManifestError("it names no image of the file")
            crowd = [name for name in ("iscrowd", "ignore") if str(entry.get(name) or 0).lower() not in _NO_CROWD]
            if crowd:
                problems.note(place, "crowd", f"what is marked '{crowd[0]}' is no cell and is not imported")
                images[image.slide_id] = replace(images[image.slide_id], complete=False)
                continue
            category = _key(entry, "category_id")
            if category not in names:
                raise ManifestError(f"unknown category {category}")
            box, outline = _shape(entry, result.tally)
            cell_id = to_id(given, "id")
            result.cells.append(
                SourceCell(image.slide_id, names[category], place, box=box, cell_id=cell_id, outline=outline)
            )


def _key(entry: dict[str, Any], name: str) -> str:
    """A number or text to look up by, the same however it is written; an error where there is none, or neither."""
    key = to_id(entry.get(name), name)
    if not key:
        raise ManifestError(f"it has no {name}")
    return key


def _shown_key(entry: Any, name: str) -> str:
    """:func:`_key`, empty where there is none."""
    try:
        return _key(entry, name) if isinstance(entry, dict) else ""
    except ManifestError:
        return ""


def _names(categories: list[Any], stem: str, file: Place, problems: ProblemLog) -> dict[str, str]:
    """Id of a category -> its name."""
    names: dict[str, str] = {}
    for number, entry in enumerate(categories, start=1):
        with problems.catching(file._replace(where=f"category {number}"), "row", stem):
            if not isinstance(entry, dict):
                raise ManifestError("the entry is no object")
            key, name = _key(entry, "id"), str(entry.get("name") or "").strip()
            if names.get(key, name) != name:
                raise ManifestError(f"id {key} is '{names[key]}' and '{name}'", "give each category its own id")
            names[key] = name
    return names


def _shape(entry: Mapping[str, Any], tally: Counter[str]) -> tuple[Box, Polygon]:
    """Box and outline of an annotation, px; the outline only where it is one polygon.

    Args:
        tally: counts what was changed or left out.

    Raises:
        ManifestError: no box, numbers that are none, or a box and a polygon of different places.
    """
    polygons = [
        polygon([to_number(n, "segmentation") for n in part]) for part in _polygons(entry.get("segmentation"), tally)
    ]
    around = hull(point for part in polygons for point in part) if polygons else None
    outline = polygons[0] if len(polygons) == 1 else ()
    if len(polygons) > 1:
        tally["cells have an outline of several parts, of which the box around all is taken"] += 1
    if entry.get("keypoints"):
        tally["cells have key points, of which only the box is taken"] += 1
    box = _box(entry)
    if box is None and around is None:
        raise ManifestError("it has neither bbox nor polygon")
    degrees = _rotation(entry)
    if box is None or around is None:
        if box is not None and degrees:
            tally[TURNED] += 1
            outline = turned(box, degrees)
            box = hull(outline)
        return box or around or Box(0, 0, 0, 0), outline
    if degrees and _same(around, box) and _is_rectangle(outline, box):  # the rectangle before it was turned
        tally[TURNED] += 1
        outline = turned(box, degrees)
        return hull(outline), outline
    if degrees and _same(around, hull(turned(box, degrees))):
        tally[TURNED] += 1
        return around, outline
    if box.area > 0 and around.area > 0 and _overlap(box, around) < _AGREE:
        raise ManifestError(
            f"bbox {box_text(box)} and the polygon's {box_text(around)} are different places",
            "is bbox not x, y, width, height?",
        )
    return box, outline


def _polygons(parts: Any, tally: Counter[str]) -> list[list[Any]]:
    """Lists of numbers; none for a mask in run lengths."""
    if isinstance(parts, dict) and parts.get("counts"):
        tally["cells have a mask in run lengths, of which only the box is taken"] += 1
        return []
    if parts is None or parts == {} or parts == "":
        return []
    if not isinstance(parts, list):
        raise ManifestError(f"its segmentation is {type(parts).__name__}, no list of polygons")
    if parts and not any(isinstance(part, list | dict) for part in parts):  # one polygon without a list around it (VIA)
        parts = [parts]
    if not all(isinstance(part, list) for part in parts):
        raise ManifestError("its segmentation is no list of lists of numbers")
    return [part for part in parts if part]


def _box(entry: Mapping[str, Any]) -> Box | None:
    given = entry.get("bbox")
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise ManifestError(f"its bbox is {given!r}, no list of four numbers")
    if len(given) != 4:
        what = "x, y, width, height"
        advice = "for a turned box give its polygon, or attributes.rotation" if len(given) in {5, 8} else ""
        raise ManifestError(f"its bbox has {len(given)} values, not 4 ({what})", advice)
    x, y, width, height = (to_number(n, name) for n, name in zip(given, ("x", "y", "width", "height"), strict=True))
    area = entry.get("area")
    if not entry.get("segmentation") and isinstance(area, int | float) and area > _SAME:
        corners = (width - x) * (height - y)
        if width > x and height > y and abs(area - width * height) > 0.1 * area and abs(area - corners) < 0.01 * area:
            raise ManifestError(
                f"its area {area:g} is that of bbox {given} as two corners", "write bbox as x, y, width, height"
            )
    return from_corner(x, y, width, height)


def _rotation(entry: Mapping[str, Any]) -> float:
    """Degrees by which the box is turned."""
    attributes = entry.get("attributes")
    places = [entry, attributes] if isinstance(attributes, dict) else [entry]
    degrees = 0.0
    for place in places:
        for name in (*_ROTATIONS, *_OTHER_ROTATIONS):
            if place.get(name) is None or place[name] == "":
                continue
            value = to_number(place[name], name)
            if value and name in _OTHER_ROTATIONS:
                raise ManifestError(
                    f"its box is turned by {name} {value:g}, of which nobody knows unit and direction",
                    "export the polygon instead",
                )
            degrees = degrees or value % 360
    return degrees


def _same(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= _SAME for a, b in zip(one, other, strict=True))


def _is_rectangle(outline: Polygon, box: Box) -> bool:
    """Whether all corners of an outline are the box's."""
    corners = [(x, y) for x in (box.x0, box.x1) for y in (box.y0, box.y1)]
    return bool(outline) and all(
        any(abs(x - cx) <= _SAME and abs(y - cy) <= _SAME for cx, cy in corners) for x, y in outline
    )


def _overlap(one: Box, other: Box) -> float:
    common = one.intersection(other).area
    return common / (one.area + other.area - common)


FORMAT = Format(
    name="coco",
    title="COCO detection",
    layout="one or more JSON files with images, annotations, categories, and the images below",
    unit="field",
    labels=BETHESDA,
    read=read,
    complete=True,
)
