"""GeoJSON as QuPath writes and reads it, both ways: the one codec of exporters, importers and annotations.

Read are the dialects of QuPath 0.2 to 0.6: a FeatureCollection, a list or one Feature; ``PathAnnotationObject`` as id
(0.2), ``object_type`` (0.3) and ``objectType`` (0.4 on); packed colors (``colorRGB``) and ``[r, g, b]``; measurements
as a list and as an object; a class of several names as ``name`` (``A: B``) and as ``names``. Written is that of 0.4 on.

Coordinates are level-0 px of the slide's content, written to a hundredth of a px as QuPath does. Rings are kept without
their closing corner. A measurement that is no finite number is left out: of one that is missing, QuPath says NaN too.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from stride_monai.errors import ManifestError, OutputError
from stride_monai.units import Box

__all__ = [
    "OBJECT_TYPES",
    "Classification",
    "Color",
    "Corner",
    "Feature",
    "Geometry",
    "Plane",
    "collection_text",
    "compressed",
    "feature_of",
    "feature_text",
    "features_in",
    "features_of_bytes",
    "packed",
]

Corner = tuple[float, float]
Color = tuple[int, int, int]

OBJECT_TYPES = ("annotation", "detection", "cell", "tile", "tmaCore", "root")
"""What an object of QuPath can be; ``annotation`` where it does not say."""

_LEGACY = {f"Path{name.capitalize()}Object": name for name in OBJECT_TYPES} | {"TMACoreObject": "tmaCore"}  # 0.2: as id
_LEGACY_ID = re.compile(r"Path\w+Object|TMACoreObject")
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_CORNERS = {
    "LineString": 2,
    "MultiLineString": 2,
    "Polygon": 3,
    "MultiPolygon": 3,
}  # the fewest of a line or ring
_CLOSED = frozenset({"Polygon", "MultiPolygon"})
_PARTS = {"MultiPoint": "Point", "MultiLineString": "LineString", "MultiPolygon": "Polygon"}
_DEEPEST = 50  # objects or geometries within each other; QuPath's own hierarchies have a handful
_COMPRESSION = 4  # within 15 % of the smallest file at a third of the time
_READ = frozenset(
    {"objectType", "object_type", "type", "name", "color", "colorRGB", "classification", "isLocked", "isMissing"}
    | {"measurements", "metadata", "childObjects", "children"}
)


@dataclass(frozen=True, slots=True)
class Plane:
    """Channel, focal plane and time of a geometry; QuPath writes it where it is not the first (``-1, 0, 0``)."""

    c: int = -1
    z: int = 0
    t: int = 0


@dataclass(frozen=True, slots=True)
class Geometry:
    """A geometry of GeoJSON.

    Attributes:
        kind: ``Point``, ``MultiPoint``, ``LineString``, ``MultiLineString``, ``Polygon``, ``MultiPolygon`` or
            ``GeometryCollection``.
        coordinates: as GeoJSON nests them, tuples for lists: a corner ``(x, y)``, a tuple of corners, of rings (the
            outer one, then the holes), or of polygons; empty for a collection.
        geometries: those of a collection.
        plane: None where the file does not say.
        ellipse: the polygon stands for the ellipse of its bounds.
    """

    kind: str
    coordinates: tuple[Any, ...] = ()
    geometries: tuple[Geometry, ...] = ()
    plane: Plane | None = None
    ellipse: bool = False

    @classmethod
    def polygon(cls, outer: Iterable[Corner], *holes: Iterable[Corner]) -> Geometry:
        """A polygon; rings without their closing corner."""
        return cls("Polygon", tuple(tuple(ring) for ring in (outer, *holes)))

    @classmethod
    def box(cls, box: Box) -> Geometry:
        """A rectangle, as QuPath writes one: a polygon of four corners."""
        return cls.polygon(((box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)))

    @classmethod
    def point(cls, x: float, y: float) -> Geometry:
        return cls("Point", (x, y))

    def parts(self) -> Iterator[Geometry]:
        """The points, lines and polygons that it consists of, in order."""
        if self.kind == "GeometryCollection":
            for geometry in self.geometries:
                yield from geometry.parts()
        elif self.kind in _PARTS:
            yield from (Geometry(_PARTS[self.kind], part, plane=self.plane) for part in self.coordinates)
        else:
            yield self

    def corners(self) -> Iterator[Corner]:
        """Every corner of every part, those of holes among them."""
        for part in self.parts():
            yield from _corners(part.coordinates, _DEPTH[part.kind])

    def bounds(self) -> Box:
        """The smallest box that holds it.

        Raises:
            ManifestError: it has no corner.
        """
        corners = list(self.corners())
        if not corners:
            raise ManifestError(f"the {self.kind} is empty")
        xs, ys = zip(*corners, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True, slots=True)
class Classification:
    """Class of an object; QuPath nests classes, ``("Tumor", "Positive")`` is shown as ``Tumor: Positive``."""

    names: tuple[str, ...]
    color: Color | None = None

    @property
    def name(self) -> str:
        return ": ".join(self.names)

    @classmethod
    def of(cls, name: str, color: Color | None = None) -> Classification:
        """The class of a name as QuPath shows it."""
        return cls(tuple(name.split(": ")), color)


@dataclass(frozen=True, slots=True)
class Feature:
    """An object of QuPath.

    Attributes:
        feature_id: a UUID from 0.4 on; empty where there is none.
        object_type: one of :data:`OBJECT_TYPES`, or what the file says.
        name, color: of the object itself; empty and None where it has none.
        locked: nobody is to move it.
        missing: of a TMA core.
        measurements: finite numbers by name.
        metadata: texts by name.
        nucleus: of a cell.
        children: objects within the object, where QuPath was asked for the hierarchy.
        extra: other properties, as they are.
    """

    geometry: Geometry
    feature_id: str = ""
    object_type: str = "annotation"
    name: str = ""
    classification: Classification | None = None
    color: Color | None = None
    locked: bool = False
    missing: bool = False
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    nucleus: Geometry | None = None
    children: tuple[Feature, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """Name of the class; empty where the object has none."""
        return self.classification.name if self.classification else ""

    def walk(self) -> Iterator[Feature]:
        """The object, and those within it."""
        yield self
        for child in self.children:
            yield from child.walk()


# --- reading -----------------------------------------------------------------------------------------------------


def features_in(content: Any) -> list[Any]:
    """The features of parsed GeoJSON, each still as it was written: of a FeatureCollection, a list, or one Feature.

    Raises:
        ManifestError: the content is none of these.
    """
    if isinstance(content, dict):
        content = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    if not isinstance(content, list):
        raise ManifestError("this is no GeoJSON", "export it from QuPath")
    return content


def features_of_bytes(content: bytes, name: str = "the file") -> list[Feature]:
    """The objects of a GeoJSON file in UTF-8, packed by gzip or plain.

    Raises:
        ManifestError: it is no GeoJSON, or one of its features is broken; names the file and the feature.
    """
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        parsed = json.loads(plain.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise ManifestError(f"{name} cannot be read as GeoJSON ({error})", "export it again") from error
    found = []
    for number, raw in enumerate(features_in(parsed), start=1):
        try:
            found.append(feature_of(raw))
        except ManifestError as error:
            raise ManifestError(f"{name} feature {number}: {error.what}", error.advice) from error
    return found


def feature_of(raw: Any) -> Feature:
    """The object of a feature as parsed from JSON.

    Raises:
        ManifestError: it has no geometry, or one of its parts is broken.
    """
    return _feature(raw)


def _refuse_deep(depth: int) -> None:
    """Not left to Python's own limit, which other libraries raise."""
    if depth > _DEEPEST:
        raise ManifestError("the feature is nested too deeply", "QuPath writes no such file: export it again")


def _feature(raw: Any, depth: int = 0) -> Feature:
    _refuse_deep(depth)
    if not isinstance(raw, dict) or not isinstance(raw.get("geometry"), dict):
        raise ManifestError("the feature has no geometry")
    properties = raw.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    given = _id(raw.get("id"))
    legacy = _LEGACY.get(given, "annotation")
    kinds = (properties.get(key) for key in ("objectType", "object_type", "type"))
    kind = next((kind for kind in kinds if isinstance(kind, str) and kind), legacy)
    children = properties.get("childObjects", properties.get("children"))
    nucleus = raw.get("nucleusGeometry")
    return Feature(
        geometry=_geometry(raw["geometry"]),
        feature_id="" if _LEGACY_ID.fullmatch(given) else given,
        object_type="tmaCore" if kind == "tma_core" else _LEGACY.get(kind, kind),
        name=_text(properties.get("name")),
        classification=_classification(properties.get("classification")),
        color=_color(properties.get("color", properties.get("colorRGB"))),
        locked=properties.get("isLocked") is True,
        missing=properties.get("isMissing") is True,
        measurements=_measurements(properties.get("measurements")),
        metadata=_metadata(properties.get("metadata")),
        nucleus=_geometry(nucleus) if isinstance(nucleus, dict) else None,
        children=tuple(_feature(child, depth + 1) for child in children) if isinstance(children, list) else (),
        extra={name: value for name, value in properties.items() if name not in _READ},
    )


def _id(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ManifestError(f"id is {value!r}, no name or number")
    return str(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _geometry(raw: Mapping[str, Any], depth: int = 0) -> Geometry:
    _refuse_deep(depth)
    kind = raw.get("type")
    if kind == "GeometryCollection":
        inner = raw.get("geometries", [])
        if not isinstance(inner, list) or not all(isinstance(part, dict) for part in inner):
            raise ManifestError("the geometries of the GeometryCollection are broken")
        parts = tuple(_geometry(part, depth + 1) for part in inner)
        return Geometry(kind, geometries=parts, plane=_plane(raw.get("plane")))
    if not isinstance(kind, str) or kind not in _DEPTH:
        raise ManifestError(f"a {kind} is no geometry of GeoJSON", "remove it, or draw it as a polygon")
    try:
        coordinates = _nested(raw.get("coordinates") or [], _DEPTH[kind], kind)
    except (IndexError, KeyError, TypeError) as error:
        raise ManifestError(f"the coordinates of the {kind} are broken") from error
    return Geometry(kind, coordinates, plane=_plane(raw.get("plane")), ellipse=raw.get("isEllipse") is True)


def _nested(raw: Any, depth: int, kind: str) -> tuple[Any, ...]:
    if depth == 0:
        return _number(raw[0], "x"), _number(raw[1], "y")
    if isinstance(raw, str | Mapping):
        raise TypeError("no list")
    if depth > 1 or kind not in _CORNERS:
        return tuple(_nested(part, depth - 1, kind) for part in raw)
    line = tuple(_nested(part, 0, kind) for part in raw)
    if kind in _CLOSED and len(line) > 1 and line[0] == line[-1]:
        line = line[:-1]
    if len(line) < _CORNERS[kind]:
        raise ManifestError(f"the {'polygon' if kind in _CLOSED else 'line'} has {len(line)} corners")
    return line


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ManifestError(f"invalid {name} '{value}'") from None
    if not math.isfinite(number):
        raise ManifestError(f"invalid {name} '{value}'" if isinstance(value, bool) else f"non-finite {name} {value}")
    return number


def _plane(raw: Any) -> Plane | None:
    """Raises:
    ManifestError: channel, focal plane or time are no whole numbers.
    """
    if not isinstance(raw, dict):
        return None
    try:
        return Plane(*(int(raw.get(axis, default)) for axis, default in (("c", -1), ("z", 0), ("t", 0))))
    except (TypeError, ValueError, OverflowError):
        raise ManifestError(f"the plane {raw!r} is none") from None


def _classification(raw: Any) -> Classification | None:
    """Raises:
    ManifestError: its color is none.
    """
    if isinstance(raw, dict):
        names = raw.get("names")
        color = _color(raw.get("color", raw.get("colorRGB")))
        if isinstance(names, list) and names and not raw.get("name"):
            return Classification(tuple(map(str, names)), color)
        raw = raw.get("name")
    else:
        color = None
    return Classification.of(str(raw), color) if raw else None


def _color(raw: Any) -> Color | None:
    """``[r, g, b]``, or the three packed into one number (0.2, 0.3).

    Raises:
        ManifestError: it is neither.
    """
    if raw is None:
        return None
    if isinstance(raw, int) and not isinstance(raw, bool):
        return (raw >> 16 & 255, raw >> 8 & 255, raw & 255)
    whole = isinstance(raw, list) and all(isinstance(part, int) and 0 <= part <= 255 for part in raw)
    if not whole or len(raw) not in {3, 4}:  # QGIS and others add an alpha
        raise ManifestError(f"the color {raw!r} is none", "give red, green and blue, 0 to 255")
    return raw[0], raw[1], raw[2]


def packed(color: Color) -> int:
    """A color as one number, as QuPath 0.2 and 0.3 write it (Java's int, opaque)."""
    value = 255 << 24 | color[0] << 16 | color[1] << 8 | color[2]
    return value - (1 << 32)


def _measurements(raw: Any) -> dict[str, float]:
    if isinstance(raw, list):  # before 0.4
        named: dict[str, Any] = {str(item.get("name")): item.get("value") for item in raw if isinstance(item, dict)}
    else:
        named = dict(raw) if isinstance(raw, dict) else {}
    found = {}
    for name, value in named.items():
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            found[name] = value if type(value) is int else number
    return found


def _metadata(raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict):
        return {}
    return {name: str(value) for name, value in raw.items() if isinstance(value, str | int | float)}


# --- writing -----------------------------------------------------------------------------------------------------


def collection_text(features: Iterable[Feature], members: Mapping[str, Any] | None = None) -> str:
    """A FeatureCollection as text, one feature a line.

    Args:
        members: what the collection says besides, e.g. what made it.

    Raises:
        OutputError: a coordinate is no finite number.
    """
    head = json.dumps({"type": "FeatureCollection", **(members or {})}, sort_keys=True, allow_nan=False)
    return head[:-1] + ', "features": [\n' + ",\n".join(map(feature_text, features)) + "\n]}\n"


def compressed(text: str) -> bytes:
    """A text packed by gzip, the same bytes each time; QuPath opens ``.geojson.gz`` by drag and drop."""
    return gzip.compress(text.encode(), compresslevel=_COMPRESSION, mtime=0)


def feature_text(feature: Feature) -> str:
    """A feature as text, on one line.

    Raises:
        OutputError: a coordinate or measurement is no finite number; names the feature.
    """
    # Put together as text, not by json.dumps: a slide with 100,000 cells takes a third of the time.
    try:
        identity = f'"id":{json.dumps(feature.feature_id)},' if feature.feature_id else ""
        nucleus = f',"nucleusGeometry":{_geometry_text(feature.nucleus)}' if feature.nucleus else ""
        return (
            f'{{"type":"Feature",{identity}"geometry":{_geometry_text(feature.geometry)}{nucleus},'
            f'"properties":{{{_properties_text(feature)}}}}}'
        )
    except ValueError as error:
        called = feature.name or feature.feature_id or feature.class_name or feature.geometry.kind
        raise OutputError(f"the object '{called}' holds a non-finite value", "correct it") from error


def _properties_text(feature: Feature) -> str:
    texts = [f'"objectType":{json.dumps(feature.object_type)}']
    if feature.name:
        texts.append(f'"name":{json.dumps(feature.name)}')
    if feature.color:
        texts.append(f'"color":{list(feature.color)}')
    if feature.classification:
        texts.append(f'"classification":{_classification_text(feature.classification)}')
    if feature.locked:
        texts.append('"isLocked":true')
    if feature.object_type == "tmaCore":
        texts.append(f'"isMissing":{json.dumps(feature.missing)}')
    if feature.measurements:
        # QuPath reads every measurement as a double, so there are numbers only; texts travel as metadata.
        named = ",".join(
            f"{json.dumps(name)}:{_measurement_text(value)}" for name, value in feature.measurements.items()
        )
        texts.append(f'"measurements":{{{named}}}')
    if feature.metadata:
        texts.append(f'"metadata":{json.dumps(dict(feature.metadata))}')
    if feature.children:
        texts.append(f'"childObjects":[{",".join(map(feature_text, feature.children))}]')
    texts += [f"{json.dumps(name)}:{json.dumps(value, allow_nan=False)}" for name, value in feature.extra.items()]
    return ",".join(texts)


def _measurement_text(value: float) -> str:
    return str(value) if type(value) is int else repr(float(_finite(value)))  # repr of a numpy number is none of JSON


@lru_cache(maxsize=256)
def _classification_text(classification: Classification) -> str:
    named: dict[str, Any] = {"name": classification.name}
    if len(classification.names) > 1:
        named = {"names": list(classification.names)}
    if classification.color:
        named["color"] = list(classification.color)
    return json.dumps(named, separators=(",", ":"))


def _geometry_text(geometry: Geometry) -> str:
    more = ""
    if geometry.plane is not None:
        more += f',"plane":{{"c":{geometry.plane.c},"z":{geometry.plane.z},"t":{geometry.plane.t}}}'
    if geometry.ellipse:
        more += ',"isEllipse":true'
    if geometry.kind == "GeometryCollection":
        inner = ",".join(map(_geometry_text, geometry.geometries))
        return f'{{"type":"GeometryCollection","geometries":[{inner}]{more}}}'
    depth, closed = _DEPTH[geometry.kind], geometry.kind in _CLOSED
    return f'{{"type":"{geometry.kind}","coordinates":{_nested_text(geometry.coordinates, depth, closed)}{more}}}'


def _nested_text(coordinates: tuple[Any, ...], depth: int, closed: bool) -> str:
    if depth == 0:
        if not coordinates:
            return "[]"
        x, y = coordinates
        return f"[{_finite(x):.2f},{_finite(y):.2f}]"
    if depth == 1 and closed and coordinates:
        coordinates = (*coordinates, coordinates[0])
    return f"[{','.join([_nested_text(part, depth - 1, closed) for part in coordinates])}]"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("non-finite")
    return value


def _corners(coordinates: tuple[Any, ...], depth: int) -> Iterator[Corner]:
    if depth:
        for part in coordinates:
            yield from _corners(part, depth - 1)
    elif coordinates:
        yield cast(Corner, coordinates)
