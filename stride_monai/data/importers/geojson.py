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
from stride_monai.data.importers.texts import decoded, parsed_json, to_id
from stride_monai.errors import ManifestError
from stride_monai.geojson import Feature, Geometry, feature_of, features_in
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_REGIONS = frozenset({"region", "region*", "roi"})
_SUFFIX = re.compile(r"(\.geojson|\.json)?(\.gz)?$", re.IGNORECASE)
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
                    _feature(feature_of(feature), slide_id, place, regions, result, problems)
    result.notes = index.remarks(image.path for image in result.images)
    return result


def _features(table: Path, encoding: str) -> list[Any]:
    try:
        stored = table.read_bytes()
        plain = gzip.decompress(stored) if table.suffix.lower() == ".gz" else stored
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{table.name} cannot be read ({error})", "export it again") from error
    content = parsed_json(decoded(plain, table.name, encoding), table.name)
    try:
        return features_in(content)
    except ManifestError as error:
        raise ManifestError(f"{table.name} is no GeoJSON", error.advice) from error


def _feature(
    feature: Feature,
    slide_id: str,
    place: Place,
    regions: frozenset[str] | set[str],
    result: Source,
    problems: ProblemLog,
) -> None:
    shapes = list(_shapes(feature.geometry))
    if not shapes:
        raise ManifestError("the feature's geometry is empty")
    plane = feature.geometry.plane
    if plane is not None and (plane.z, plane.t) != (0, 0):
        result.tally["objects lie on another focal plane or time than the first, and are taken for that"] += 1
    if feature.class_name.lower() in regions:
        if any(len(part.coordinates) > 1 for part in feature.geometry.parts() if part.kind == "Polygon"):
            raise ManifestError("the region has a hole", "draw the annotated parts as rectangles of their own")
        for shape in shapes:
            with problems.catching(place, "region", slide_id):
                result.regions.append(SourceRegion(slide_id, _rectangle(shape), place))
        return
    if sum(len(shape) > 1 for shape in shapes) > 1:
        problems.note(place, "parts", f"the object has {len(shapes)} parts: each becomes a cell")
    result.cells.extend(_cells(feature, shapes, slide_id, place, result))


def _cells(
    feature: Feature, shapes: list[Polygon], slide_id: str, place: Place, result: Source
) -> Iterator[SourceCell]:
    """A cell of each shape; the first part of the nucleus belongs to each."""
    given, label = to_id(feature.feature_id, "id"), feature.class_name
    nuclei = list(_shapes(feature.nucleus)) if feature.nucleus else []
    nucleus = nuclei[0] if nuclei else ()
    if len(nuclei) > 1:
        result.tally["cells have a nucleus of several parts, of which the first is taken"] += 1
    if len(nucleus) == 1:
        raise ManifestError("the nucleus is a point", "remove it, or draw it as a polygon")
    for number, shape in enumerate(shapes):
        cell_id = f"{given}-{number}" if given and len(shapes) > 1 else given
        if len(shape) == 1:
            yield SourceCell(slide_id, label, place, point=shape[0], cell_id=cell_id)
        else:
            yield SourceCell(slide_id, label, place, box=hull(shape), cell_id=cell_id, outline=shape, nucleus=nucleus)


def _shapes(geometry: Geometry) -> Iterator[Polygon]:
    """Outer rings without their closing corner; a point is a shape of one corner."""
    for part in geometry.parts():
        if part.kind == "Point":
            yield (part.coordinates,)
        elif part.kind != "Polygon":
            raise ManifestError(f"a {part.kind} is neither a cell nor a region", "remove it, or draw it as a polygon")
        elif part.coordinates:
            yield part.coordinates[0]


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
