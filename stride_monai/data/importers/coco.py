"""COCO detection files: images, annotations, categories."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import from_corner, hull, polygon
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, load_json, place_of, split_in_path, to_number
from stride_monai.data.importers.records import Format, Options, Source, SourceCell, SourceImage
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_SPLIT = re.compile(r"(?:^|[^a-z])(train|training|val|valid|validation|test|testing)(?:[^a-z]|$)", re.IGNORECASE)


def read(source: Path, options: Options, problems: ProblemLog) -> Source:
    """Read one COCO file, or all of a folder, and the images.

    A crowd (``iscrowd``) is no cell: it is noted, not imported, and its image no longer counts as annotated completely.
    The split of an image is the one that its file of annotations, or else a folder, is named after.
    """
    tables = files_in(source, "*.json")
    root = options.images or (source if source.is_dir() else _image_root(source))
    index = ImageIndex(root)
    images: dict[str, SourceImage] = {}
    result = Source()
    for table in tables:
        content = load_json(table, options.encoding)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
        ):
            what = "it has no images, annotations and categories: no COCO file"
            problems.add(place_of(table, source), "file", what, table.stem)
            continue
        by_id = _images(content["images"], table, source, index, problems)
        for image in by_id.values():
            other = images.setdefault(image.slide_id, image)
            if other is not image:
                what = f"image '{image.slide_id}' is named by {other.place} too"
                problems.add(image.place, "duplicate", what, image.slide_id)
        _annotations(content, table, source, by_id, images, result, problems)
    result.images = list(images.values())
    result.notes = index.not_named(image.path for image in result.images)
    return result


def _image_root(table: Path) -> Path:
    """Beside ``annotations/`` for a file in it, else beside the file."""
    return table.parent.parent if table.parent.name.lower() == "annotations" else table.parent


def _images(
    entries: list[Any], table: Path, source: Path, index: ImageIndex, problems: ProblemLog
) -> dict[Any, SourceImage]:
    match = _SPLIT.search(table.stem)
    split = parse_split(match.group(1)) if match else None
    found: dict[Any, SourceImage] = {}
    for number, entry in enumerate(entries, start=1):
        place = place_of(table, source, f"image {number}")
        with problems.catching(place, "image"):
            if not isinstance(entry, dict) or not entry.get("file_name"):
                raise ManifestError("the entry names no file")
            key = _key(entry, "id")
            if key in found:
                raise ManifestError(f"image id {key} is that of {found[key].place} too")
            name = str(entry["file_name"])
            beside = table.parent / name  # as Roboflow exports: every split with its images and a file of its own
            path = beside if beside in index.ids else index.find(name, under=match.group(1) if match else "")
            stated = [to_number(entry[side], side) for side in ("width", "height") if entry.get(side)]
            found[key] = SourceImage(
                index.id_of(path),
                path,
                place,
                split=split or split_in_path(path, index.folder),
                size=(stated[0], stated[1]) if len(stated) == 2 else None,
            )
    return found


def _annotations(
    content: dict[str, Any],
    table: Path,
    source: Path,
    by_id: dict[Any, SourceImage],
    images: dict[str, SourceImage],
    result: Source,
    problems: ProblemLog,
) -> None:
    names = _names(content["categories"], table, source, problems)
    for number, entry in enumerate(content["annotations"], start=1):
        given = entry.get("id") if isinstance(entry, dict) else None
        place = place_of(table, source, f"annotation {number}" + ("" if given is None else f" (id {given})"))
        image = by_id.get(_key(entry, "image_id")) if isinstance(entry, dict) else None
        with problems.catching(place, "row", image.slide_id if image else ""):
            if image is None:
                raise ManifestError("it names no image of the file")
            if entry.get("iscrowd"):
                problems.note(place, "crowd", "a crowd is no cell and is not imported")
                images[image.slide_id] = replace(images[image.slide_id], complete=False)
                continue
            category = _key(entry, "category_id")
            if category not in names:
                raise ManifestError(f"there is no category {category!r}")
            box, outline = _shape(entry)
            result.cells.append(
                SourceCell(
                    image.slide_id,
                    names[category],
                    place,
                    box=box,
                    cell_id="" if given is None else str(given),
                    outline=outline,
                )
            )


def _key(entry: dict[str, Any], name: str) -> Any:
    """A number or text to look up by; anything else as its text."""
    value = entry.get(name)
    return value if isinstance(value, int | float | str | None) else str(value)


def _names(categories: list[Any], table: Path, source: Path, problems: ProblemLog) -> dict[Any, str]:
    """Id of a category -> its name."""
    names: dict[Any, str] = {}
    for number, entry in enumerate(categories, start=1):
        place = place_of(table, source, f"category {number}")
        if not isinstance(entry, dict):
            problems.add(place, "row", "the entry is no object", table.stem)
            continue
        key, name = _key(entry, "id"), str(entry.get("name", ""))
        if names.setdefault(key, name) != name:
            raise ManifestError(f"{place}: id {key!r} is '{names[key]}' and '{name}'", "give each category its own id")
    return names


def _shape(entry: dict[str, Any]) -> tuple[Box, Polygon]:
    """Box and outline; the outline only where it is one polygon."""
    polygons = [polygon([to_number(n, "segmentation") for n in part]) for part in _polygons(entry.get("segmentation"))]
    corners = entry.get("bbox")
    if isinstance(corners, list) and len(corners) == 4:
        x, y, width, height = (
            to_number(n, name) for n, name in zip(corners, ("x", "y", "width", "height"), strict=True)
        )
        box = from_corner(x, y, width, height)
    elif polygons:
        box = hull(point for part in polygons for point in part)
    else:
        raise ManifestError("it has neither bbox nor polygon")
    return box, polygons[0] if len(polygons) == 1 else ()


def _polygons(parts: Any) -> list[list[Any]]:
    """Lists of numbers; none for a mask in run lengths."""
    return [part for part in parts if isinstance(part, list) and part] if isinstance(parts, list) else []


FORMAT = Format(
    name="coco",
    title="COCO detection",
    layout="one or more JSON files with images, annotations, categories, and the images below",
    unit="field",
    labels=BETHESDA,
    read=read,
    complete=True,
)
