"""CRIC Cervix: points at nuclei in fields of conventional smears, as JSON or CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stride_monai.data.importers.geometry import pixel_center
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, only_table
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.split_names import stated_split
from stride_monai.data.importers.texts import csv_rows, json_of, load_json, to_id, to_number
from stride_monai.data.tables import NOT_KNOWN
from stride_monai.errors import ManifestError
from stride_monai.files import files_below

__all__ = ["FORMAT", "read"]

_COLUMNS = {
    "image": ("image_filename", "image_name", "image"),
    "cell_id": ("cell_id",),
    "label": ("bethesda_system", "label"),
    "x": ("nucleus_x", "x"),
    "y": ("nucleus_y", "y"),
    "width": ("width",),
    "height": ("height",),
    "split": ("split",),
}


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``classifications.json``, ``classifications.csv`` or ``points.csv`` and the images beside them.

    Coordinates are pixels counted from 1. Where a folder holds JSON and CSV, they say the same, and the JSON is read.
    """
    table = _table(source)
    index = ImageIndex(options.images or table.parent)
    rows = _json_rows(table, options, problems) if table.suffix.lower() == ".json" else _rows(table, options, problems)
    images: dict[str, SourceImage] = {}
    result = Source()
    for place, row in rows:
        if row["image"].lower() in {"", *NOT_KNOWN}:
            problems.add(place, "image", "the row names no image")
            continue
        with problems.catching(place, "row", Path(row["image"]).stem):
            path = index.find(row["image"], near=table.parent)
            slide_id, comma = index.id_of(path), bool(row.get("decimal_comma"))
            if slide_id not in images:
                stated = [to_number(row[side], side, comma) for side in ("width", "height") if row.get(side)]
                size = (stated[0], stated[1]) if len(stated) == 2 else None
                images[slide_id] = SourceImage(slide_id, path, place, size=size, split=stated_split(row.get("split")))
            elif row.get("split") and stated_split(row["split"]) != images[slide_id].split:
                raise ManifestError(f"image '{slide_id}' is in another split too, {images[slide_id].place}")
            if row.get("x") is None:
                continue  # an image without cells
            point = pixel_center(*(to_number(row[axis], f"nucleus_{axis}", comma) for axis in ("x", "y")))
            cell_id = to_id(row.get("cell_id"), "cell_id")
            result.cells.append(SourceCell(slide_id, row["label"], place, point=point, cell_id=cell_id))
    result.images = list(images.values())
    result.notes = index.remarks(image.path for image in result.images)
    return result


def _table(source: Path) -> Path:
    if source.is_file():
        return source
    for name in ("classifications.json", "classifications.csv", "points.csv"):
        found = [path for path in files_below(source) if path.name.lower() == name] if source.is_dir() else []
        if found:
            return only_table(found, source)
    return only_table(files_in(source, "*.json", "*.csv"), source)


def _rows(table: Path, options: ImportOptions, problems: ProblemLog) -> list[tuple[Place, dict[str, Any]]]:
    rows = csv_rows(table, _COLUMNS, options.encoding, problems, optional=("cell_id", "width", "height", "split"))
    return [(Place(table.name, row.place), {**row.cells, "decimal_comma": row.decimal_comma}) for row in rows]


def _json_rows(table: Path, options: ImportOptions, problems: ProblemLog) -> list[tuple[Place, dict[str, Any]]]:
    content = load_json(table, options.encoding)
    if not isinstance(content, list):
        advice = json_of(content) or "use classifications.json as CRIC publishes it"
        raise ManifestError(f"{table.name} is no list of images", advice)
    rows: list[tuple[Place, dict[str, Any]]] = []
    for number, entry in enumerate(content, start=1):
        place = Place(table.name, f"image {number}")
        if not isinstance(entry, dict) or not isinstance(entry.get("classifications"), list):
            problems.add(place, "row", "the entry has no list of classifications")
            continue
        image = {"image": str(entry.get("image_name") or entry.get("image_filename") or "")}
        if not entry["classifications"]:
            rows.append((place, image))
        for k, cell in enumerate(entry["classifications"], start=1):
            at = Place(table.name, f"image {number} cell {k}")
            if not isinstance(cell, dict):
                problems.add(at, "row", "the entry is no object")
                continue
            found = {name: _first(cell, keys) for name, keys in _COLUMNS.items() if name not in {"image", "width"}}
            rows.append((at, {**{name: value or "" for name, value in found.items()}, **image}))
    return rows


def _first(cell: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(cell[key]) for key in keys if cell.get(key) is not None), None)


FORMAT = Format(
    name="cric",
    title="CRIC Cervix",
    layout="classifications.json, classifications.csv or points.csv, and the images anywhere below",
    unit="field",
    labels={},  # all are of the Bethesda System
    read=read,
    license="CC BY 4.0",
    citation="Rezende et al., Scientific Data 8:151 (2021), doi 10.1038/s41597-021-00933-8; figshare c.4960286",
    preparation="conventional",
    mpp=0.228,
    point_um=22.8,
)
