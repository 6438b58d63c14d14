"""One codec for QuPath's GeoJSON: every geometry and every dialect, there and back."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.errors import ManifestError, OutputError
from stride_monai.geojson import (
    Classification,
    Color,
    Feature,
    Geometry,
    Plane,
    collection_text,
    compressed,
    feature_of,
    feature_text,
    features_in,
    features_of_bytes,
    packed,
)
from stride_monai.units import Box

# --- round trip ----------------------------------------------------------------------------------------------------

NUMBERS = st.integers(-(10**7), 10**7).map(lambda number: number / 100)  # hundredths of a px, as QuPath writes them
CORNERS = st.tuples(NUMBERS, NUMBERS)
LINES = st.lists(CORNERS, min_size=2, max_size=6).map(tuple)
RINGS = st.lists(CORNERS, min_size=3, max_size=6).map(tuple).filter(lambda ring: ring[0] != ring[-1])
POLYGONS = st.lists(RINGS, min_size=1, max_size=3).map(tuple)
PLANES = st.none() | st.builds(Plane, st.integers(-1, 5), st.integers(0, 9), st.integers(0, 9))


def several(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(parts, max_size=3).map(tuple)


def kind(name: str, coordinates: st.SearchStrategy[Any]) -> st.SearchStrategy[Geometry]:
    return st.builds(Geometry, st.just(name), coordinates, plane=PLANES)


SIMPLE = st.one_of(
    kind("Point", CORNERS),
    kind("MultiPoint", several(CORNERS)),
    kind("LineString", LINES),
    kind("MultiLineString", several(LINES)),
    kind("Polygon", POLYGONS),
    kind("MultiPolygon", several(POLYGONS)),
    st.builds(Geometry, st.just("Polygon"), POLYGONS, ellipse=st.just(True)),
)
GEOMETRIES = st.recursive(
    SIMPLE,
    lambda inner: st.builds(
        lambda parts, plane: Geometry("GeometryCollection", geometries=tuple(parts), plane=plane),
        st.lists(inner, max_size=3),
        PLANES,
    ),
    max_leaves=6,
)
COLORS: st.SearchStrategy[Color] = st.tuples(*[st.integers(0, 255)] * 3)
NAMES = st.text(min_size=1, max_size=12)
PARTS = NAMES.filter(lambda name: ": " not in name and not name.endswith(":") and not name.startswith(" "))
FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)


def features(children: st.SearchStrategy[Any] = st.just(())) -> st.SearchStrategy[Feature]:  # noqa: B008
    return st.builds(
        Feature,
        GEOMETRIES,
        feature_id=st.just("") | st.uuids().map(str),
        object_type=st.sampled_from(["annotation", "detection", "cell", "tile"]),
        name=st.just("") | NAMES,
        classification=st.none()
        | st.builds(Classification, st.lists(PARTS, min_size=1, max_size=3).map(tuple), st.none() | COLORS),
        color=st.none() | COLORS,
        locked=st.booleans(),
        measurements=st.dictionaries(NAMES, FINITE, max_size=3),
        metadata=st.dictionaries(NAMES, st.text(max_size=12), max_size=3),
        nucleus=st.none() | SIMPLE,
        children=children,
        extra=st.dictionaries(NAMES.map("x ".__add__), st.none() | st.booleans() | st.text(max_size=5), max_size=2),
    )


@settings(max_examples=50)
@given(st.lists(features(st.lists(features(), max_size=2).map(tuple)), max_size=3))
def test_what_is_written_is_read_again(objects: list[Feature]) -> None:
    text = collection_text(objects, {"made_by": "test"})
    assert features_of_bytes(text.encode()) == objects
    assert features_of_bytes(compressed(text)) == objects
    assert json.loads(text)["made_by"] == "test"
    # Written once more from what was read: the same text, so nothing drifts from round to round.
    assert collection_text(features_of_bytes(text.encode()), {"made_by": "test"}) == text


@given(GEOMETRIES)
def test_the_text_is_geojson(geometry: Geometry) -> None:
    """Against the rules of RFC 7946, spelt out: nesting by kind, closed rings."""
    check_geometry(json.loads(feature_text(Feature(geometry)))["geometry"])


def check_geometry(raw: dict[str, Any]) -> None:
    def corner(pair: Any) -> None:
        assert len(pair) == 2
        assert all(isinstance(value, float) for value in pair)

    def ring(points: Any) -> None:
        assert len(points) >= 4
        assert points[0] == points[-1]
        [corner(pair) for pair in points]

    coordinates = raw.get("coordinates")
    match raw["type"]:
        case "Point":
            corner(coordinates)
        case "MultiPoint" | "LineString":
            [corner(pair) for pair in coordinates]
        case "MultiLineString":
            [corner(pair) for line in coordinates for pair in line]
        case "Polygon":
            [ring(points) for points in coordinates]
        case "MultiPolygon":
            [ring(points) for polygon in coordinates for points in polygon]
        case "GeometryCollection":
            [check_geometry(inner) for inner in raw["geometries"]]
        case other:
            pytest.fail(other)


# --- what the versions of QuPath write -----------------------------------------------------------------------------

SQUARE = [[[10, 20], [30, 20], [30, 40], [10, 40], [10, 20]]]
CORNERS_OF_SQUARE = ((10.0, 20.0), (30.0, 20.0), (30.0, 40.0), (10.0, 40.0))


def raw(properties: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": SQUARE},
        "properties": properties,
        **members,
    }


RED = (200, 0, 0)
DIALECTS = {
    "0.2": raw(
        {
            "classification": {"name": "Tumor: Positive", "colorRGB": packed(RED)},
            "isLocked": True,
            "measurements": [{"name": "Area", "value": 400.5}, {"name": "Mean", "value": math.nan}],
        },
        id="PathDetectionObject",
    ),
    "0.3": raw(
        {
            "object_type": "detection",
            "classification": {"name": "Tumor: Positive", "colorRGB": packed(RED)},
            "isLocked": True,
            "measurements": [{"name": "Area", "value": 400.5}],
        },
        id="PathDetectionObject",
    ),
    "0.4": raw(
        {
            "objectType": "detection",
            "classification": {"names": ["Tumor", "Positive"], "color": [200, 0, 0]},
            "isLocked": True,
            "measurements": {"Area": 400.5, "Mean": "NaN"},
        },
        id="5ab5b13b-7a5e-4d0f-a6b6-4aa5bb5b8f0d",
    ),
    "0.6": raw(
        {
            "objectType": "detection",
            "name": "first",
            "color": [1, 2, 3],
            "classification": {"names": ["Tumor", "Positive"], "color": [200, 0, 0]},
            "isLocked": True,
            "measurements": {"Area": 400.5},
            "metadata": {"who": "A"},
        },
        id="5ab5b13b-7a5e-4d0f-a6b6-4aa5bb5b8f0d",
    ),
}


@pytest.mark.parametrize("version", DIALECTS)
def test_dialects_of_qupath(version: str) -> None:
    feature = feature_of(DIALECTS[version])
    assert feature.object_type == "detection"
    assert feature.classification == Classification(("Tumor", "Positive"), RED)
    assert feature.class_name == "Tumor: Positive"
    assert feature.locked
    assert feature.measurements == {"Area": 400.5}  # of one that is missing, QuPath says NaN too
    assert feature.geometry == Geometry("Polygon", (CORNERS_OF_SQUARE,))
    assert bool(feature.feature_id) == (version >= "0.4")
    assert (feature.name, feature.color, feature.metadata) == (
        ("first", (1, 2, 3), {"who": "A"}) if version == "0.6" else ("", None, {})
    )
    # Whatever the dialect was, it is written as that of 0.4 on.
    assert json.loads(feature_text(feature))["properties"]["measurements"] == {"Area": 400.5}


def test_bare_nan_as_qupath_writes_it_can_be_read() -> None:
    text = json.dumps(DIALECTS["0.2"])
    assert "NaN" in text
    (feature,) = features_of_bytes(text.encode())
    assert "Mean" not in feature.measurements


def test_geometries_of_qupath() -> None:
    ellipse = feature_of(raw({}) | {"geometry": {"type": "Polygon", "coordinates": SQUARE, "isEllipse": True}})
    assert ellipse.geometry.ellipse
    assert json.loads(feature_text(ellipse))["geometry"]["isEllipse"] is True
    deep = {"type": "Point", "coordinates": [1, 2, 9], "plane": {"c": -1, "z": 3, "t": 0}}
    assert feature_of(raw({}) | {"geometry": deep}).geometry == Geometry("Point", (1.0, 2.0), plane=Plane(-1, 3, 0))
    cell = feature_of(raw({"objectType": "cell"}, nucleusGeometry={"type": "Polygon", "coordinates": SQUARE}))
    assert cell.nucleus == Geometry("Polygon", (CORNERS_OF_SQUARE,))
    core = feature_of(raw({"objectType": "tma_core", "isMissing": True}))
    assert (core.object_type, core.missing) == ("tmaCore", True)
    assert feature_of(json.loads(feature_text(core))) == core
    parent = feature_of(raw({"childObjects": [raw({"name": "inner"})]}))
    assert [feature.name for feature in parent.walk()] == ["", "inner"]


def test_parts_and_bounds() -> None:
    geometry = Geometry(
        "GeometryCollection",
        geometries=(
            Geometry.point(5, 6),
            Geometry("MultiPoint", ((1, 2), (3, 4))),
            Geometry(
                "MultiPolygon", ((CORNERS_OF_SQUARE,), (((0, 0), (1, 0), (1, 1)), ((0.1, 0), (0.2, 0), (0.2, 0.1))))
            ),
        ),
    )
    assert [part.kind for part in geometry.parts()] == ["Point", "Point", "Point", "Polygon", "Polygon"]
    assert geometry.bounds() == Box(0, 0, 30, 40)
    assert Geometry.box(Box(10, 20, 30, 40)) == Geometry("Polygon", (CORNERS_OF_SQUARE,))
    with pytest.raises(ManifestError, match="the MultiPoint is empty"):
        Geometry("MultiPoint").bounds()


def test_collections_lists_and_single_features() -> None:
    one = raw({})
    for content in ({"type": "FeatureCollection", "features": [one]}, [one], one):
        assert features_in(content) == [one]
        assert len(features_of_bytes(gzip.compress(json.dumps(content).encode()))) == 1
    with pytest.raises(ManifestError, match="no GeoJSON"):
        features_in({"type": "FeatureCollection"})
    with pytest.raises(ManifestError, match=r"a\.geojson cannot be read as GeoJSON"):
        features_of_bytes(b"\x1f\x8bnot gzip", "a.geojson")
    with pytest.raises(ManifestError, match=r"a\.geojson feature 2: the feature has no geometry"):
        features_of_bytes(json.dumps([one, {"type": "Feature", "geometry": None}]).encode(), "a.geojson")


@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "the polygon has 2 corners"),
        ({"type": "LineString", "coordinates": [[0, 0]]}, "the line has 1 corners"),
        ({"type": "Point", "coordinates": ["a", 1]}, "invalid x 'a'"),
        ({"type": "Point", "coordinates": [1, math.nan]}, "non-finite y nan"),
        ({"type": "Point", "coordinates": [1, 10**400]}, "invalid y '1000"),
        ({"type": "Point", "coordinates": [True, 1]}, "invalid x 'True'"),
        ({"type": "Point", "coordinates": []}, "the coordinates of the Point are broken"),
        ({"type": "Polygon", "coordinates": "abc"}, "the coordinates of the Polygon are broken"),
        ({"type": "Polygon", "coordinates": [{"0": 1}]}, "the coordinates of the Polygon are broken"),
        ({"type": "GeometryCollection", "geometries": [1]}, "the geometries of the GeometryCollection are broken"),
        ({"type": "Circle"}, "a Circle is no geometry of GeoJSON"),
        ({"type": ["Point"]}, "is no geometry of GeoJSON"),
        ({"type": "Point", "coordinates": [1, 2], "plane": {"z": "deep"}}, "the plane .* is none"),
    ],
)
def test_broken_geometries_are_refused(geometry: dict[str, Any], what: str) -> None:
    with pytest.raises(ManifestError, match=what):
        feature_of(raw({}) | {"geometry": geometry})


def test_broken_features_are_refused() -> None:
    for color in ("red", [1, 2], [1, 2, 300], [1.5, 2, 3]):
        with pytest.raises(ManifestError, match=r"the color .* is none"):
            feature_of(raw({"classification": {"name": "x", "color": color}}))
    with pytest.raises(ManifestError, match="no name or number"):
        feature_of(raw({}, id=["a"]))
    nested: dict[str, Any] = {"type": "Point", "coordinates": [1, 2]}
    for _ in range(2000):
        nested = {"type": "GeometryCollection", "geometries": [nested]}
    with pytest.raises(ManifestError, match="nested too deeply"):
        feature_of(raw({}) | {"geometry": nested})
    parent = raw({})
    for _ in range(100):
        parent = raw({"childObjects": [parent]})
    with pytest.raises(ManifestError, match="nested too deeply"):
        feature_of(parent)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "geometry", "coordinates", "properties", "id", "color"]), inner)
        ),
        max_leaves=12,
    )
)
def test_nothing_but_our_error_comes_of_nonsense(content: Any) -> None:
    for given_raw in (content, raw({"classification": content, "measurements": content, "metadata": content})):
        try:
            feature_of(given_raw)
        except ManifestError:
            continue


def test_numbers_that_are_none_are_not_written() -> None:
    with pytest.raises(OutputError, match="the object 'a' holds a non-finite value"):
        feature_text(Feature(Geometry.point(math.inf, 0), name="a"))
    with pytest.raises(OutputError, match="the object 'LSIL'"):
        feature_text(
            Feature(Geometry.point(0, 0), classification=Classification.of("LSIL"), measurements={"p": math.nan})
        )
