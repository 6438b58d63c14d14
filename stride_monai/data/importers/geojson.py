"""QuPath GeoJSON: cells as polygons or points, annotated regions as rectangles."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shapely

from stride_monai.bethesda import UNLABELED
from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import hull
from stride_monai.data.importers.labels import BETHESDA, MappedLabel
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage, SourceRegion
from stride_monai.data.importers.texts import decoded, parsed_json, to_id, to_number
from stride_monai.errors import ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_REGIONS = frozenset({"region", "region*", "roi"})
_SUFFIX = re.compile(r"(\.geojson|\.json)?(\.gz)?$", re.IGNORECASE)
_KIND = re.compile(r"Path\w+Object")  # what QuPath 0.2 wrote for the id of every object
_RECTANGLE = 0.99  # share of its box that a rectangle, drawn by hand or rounded, fills


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<image>.geojson`` (or ``.geojson.gz``), as QuPath exports it, and the image of that name.

    Objects of class ``Region*`` or ``ROI`` (or of the one named by the option ``region``) are annotated regions; every
    other polygon is a cell, every point a nucleus.
    """
    index = ImageIndex(options.images or (source if source.is_dir() else source.parent))
    regions = {options.values["region"].lower()} if "region" in options.values else _REGIONS
    result = Source()
    for table in files_in(source, "*.geojson", "*.geojson.gz"):
        stem, file = _SUFFIX.sub("", table.name), place_of(table, source)
        with problems.catching(file, "file", stem):
            path = index.find(stem, near=table.parent)
            slide_id = index.id_of(path)
            result.add_image(SourceImage(slide_id, path, file))
            for number, feature in enumerate(_features(table, options.encoding), start=1):
                place = file._replace(where=f"feature {number}")
                with problems.catching(place, "row", slide_id):
                    _feature(feature, slide_id, place, regions, result, problems)
    result.notes = index.remarks(image.path for image in result.images)
    return result


def _features(table: Path, encoding: str) -> list[Any]:
    try:
        stored = table.read_bytes()
        plain = gzip.decompress(stored) if table.suffix.lower() == ".gz" else stored
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{table.name} cannot be read ({error})", "export it again") from error
    content = parsed_json(decoded(plain, table.name, encoding), table.name)
    if isinstance(content, dict):
        content = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    if not isinstance(content, list):
        raise ManifestError(f"{table.name} is no GeoJSON", "export it from QuPath")
    return content


def _feature(
    feature: Any,
    slide_id: str,
    place: Place,
    regions: frozenset[str] | set[str],
    result: Source,
    problems: ProblemLog,
) -> None:
    if not isinstance(feature, dict) or not isinstance(feature.get("geometry"), dict):
        raise ManifestError("the feature has no geometry")
    label = _class_name(feature.get("properties"))
    shapes = list(_shapes(feature["geometry"]))
    if not shapes:
        raise ManifestError("the feature's geometry is empty")
    plane = feature["geometry"].get("plane")
    if isinstance(plane, dict) and any(str(plane.get(axis) or 0) != "0" for axis in ("z", "t")):
        result.tally["objects lie on another focal plane or time than the first, and are taken for that"] += 1
    if label.lower() in regions:
        if _has_hole(feature["geometry"]):
            raise ManifestError("the region has a hole", "draw the annotated parts as rectangles of their own")
        for shape in shapes:
            with problems.catching(place, "region", slide_id):
                result.regions.append(SourceRegion(slide_id, _rectangle(shape), place))
        return
    if sum(len(shape) > 1 for shape in shapes) > 1:
        problems.note(place, "parts", f"the object has {len(shapes)} parts: each becomes a cell")
    given = to_id(feature.get("id"), "id")
    given = "" if _KIND.fullmatch(given) else given
    nuclei = list(_shapes(feature["nucleusGeometry"])) if isinstance(feature.get("nucleusGeometry"), dict) else []
    nucleus = nuclei[0] if nuclei else ()
    if len(nuclei) > 1:
        result.tally["cells have a nucleus of several parts, of which the first is taken"] += 1
    if len(nucleus) == 1:
        raise ManifestError("the nucleus is a point", "remove it, or draw it as a polygon")
    for number, shape in enumerate(shapes):
        cell_id = f"{given}-{number}" if given and len(shapes) > 1 else given
        if len(shape) == 1:
            result.cells.append(SourceCell(slide_id, label, place, point=shape[0], cell_id=cell_id))
        else:
            result.cells.append(
                SourceCell(slide_id, label, place, box=hull(shape), cell_id=cell_id, outline=shape, nucleus=nucleus)
            )


def _has_hole(geometry: dict[str, Any]) -> bool:
    parts = geometry.get("coordinates") or []
    parts = [parts] if geometry.get("type") == "Polygon" else parts
    return any(isinstance(part, list) and len(part) > 1 for part in parts)


def _class_name(properties: Any) -> str:
    """Name of the class; empty where the object has none."""
    found = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(found, dict):
        names = found.get("names")
        return str(found.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else ""))
    return str(found or "")


def _shapes(geometry: dict[str, Any]) -> Iterator[Polygon]:
    """Outer rings without their closing corner; a point is a shape of one corner."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    try:
        if kind == "Point":
            yield (_corner(coordinates),)
        elif kind == "MultiPoint":
            yield from ((_corner(point),) for point in coordinates or [])
        elif kind == "Polygon":
            yield _ring((coordinates or [])[0])
        elif kind == "MultiPolygon":
            yield from (_ring(part[0]) for part in coordinates or [])
        elif kind == "GeometryCollection":
            for part in geometry.get("geometries", []):
                yield from _shapes(part)
        else:
            raise ManifestError(f"a {kind} is neither a cell nor a region", "remove it, or draw it as a polygon")
    except (IndexError, TypeError) as error:
        raise ManifestError(f"the coordinates of the {kind} are broken") from error


def _corner(pair: Any) -> tuple[float, float]:
    return to_number(pair[0], "x"), to_number(pair[1], "y")


def _ring(points: Any) -> Polygon:
    corners = tuple(_corner(point) for point in points)
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners = corners[:-1]
    if len(corners) < 3:
        raise ManifestError(f"the polygon has {len(corners)} corners")
    return corners


def _rectangle(shape: Polygon) -> Box:
    box = hull(shape)
    if len(shape) < 3 or shapely.Polygon(shape).area < _RECTANGLE * box.area:
        raise ManifestError("the region is no rectangle", "draw annotated regions with QuPath's rectangle tool")
    return box


FORMAT = Format(
    name="geojson",
    title="QuPath GeoJSON",
    layout="<image>.geojson or .geojson.gz as QuPath exports it, and the image of that name",
    unit="slide",
    labels={**BETHESDA, "Ignore*": MappedLabel(UNLABELED)},
    read=read,
    point_um=22.8,
    options={"region": "class of the objects that are annotated regions; Region* or ROI"},
)
