"""Turned rectangles, key points, masks, and numbers of the wrong kind: taken as meant, told, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import dataset_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imports import run_import

from stride_monai.data import read_cells
from stride_monai.data.cells import CellRecord, read_regions
from stride_monai.data.importers.geometry import hull, simple, turned
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.yolo import keypoint_lines, line_of
from stride_monai.errors import ManifestError
from stride_monai.units import Box

Corner = tuple[float, float]
BOX = [100, 100, 80, 20]
UPENDED = Box(130, 70, 150, 150)  # the same, turned by 90 degrees
RECTANGLE = [[100, 100, 180, 100, 180, 120, 100, 120]]


def _cells(out: Path) -> list[CellRecord]:
    return read_cells(out / "cells.csv")


def _coco(folder: Path, **annotation: Any) -> Path:
    samples.field(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **annotation}],
        "categories": [{"id": 1, "name": "HSIL"}],
    }
    samples.as_json(folder / "x.json", content)
    return folder


def _voc(folder: Path, inner: str) -> Path:
    samples.field(folder / "a.png")
    content = f"<annotation>\n<filename>a.png</filename>\n<object><name>HSIL</name>{inner}</object>\n</annotation>"
    samples.text(folder / "a.xml", content)
    return folder


def _yolo(folder: Path, *lines: str, yaml: str = "names: [HSIL]") -> Path:
    samples.field(folder / "a.png")
    samples.text(folder / "a.txt", "\n".join(lines))
    samples.text(folder / "data.yaml", yaml)
    return folder


def _bndbox(*corners: float, more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return f"<bndbox>{''.join(f'<{name}>{side}</{name}>' for name, side in sides)}{more}</bndbox>"


@pytest.mark.parametrize(
    "annotation",
    [
        {"bbox": BOX, "attributes": {"rotation": 90.0}},
        {"bbox": BOX, "attributes": {"rotation": "450"}},
        {"bbox": BOX, "rotation": -90},
        {"bbox": BOX, "segmentation": [], "attributes": {"rotation": 90}},
        {"bbox": BOX, "segmentation": RECTANGLE, "attributes": {"rotation": 90}},
        {"bbox": BOX, "segmentation": [[130, 70, 150, 70, 150, 150, 130, 150]], "attributes": {"rotation": 90}},
    ],
)
def test_turned_rectangles_of_coco(annotation: dict[str, Any], tmp_path: Path) -> None:
    report = run_import("coco", _coco(tmp_path / "in", **annotation), tmp_path / "out")
    (cell,) = _cells(tmp_path / "out")
    assert cell.box == UPENDED
    assert hull(cell.outline) == UPENDED
    assert any("1 boxes are turned rectangles" in note for note in report.warnings)


@pytest.mark.parametrize(
    "inner",
    [
        _bndbox(101, 101, 180, 120)
        + "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>",
        "<robndbox><cx>140</cx><cy>110</cy><w>80</w><h>20</h><angle>1.570796</angle></robndbox>",
    ],
)
def test_turned_rectangles_of_voc(inner: str, tmp_path: Path) -> None:
    report = run_import("voc", _voc(tmp_path / "in", inner), tmp_path / "out")
    (cell,) = _cells(tmp_path / "out")
    assert cell.box == pytest.approx(UPENDED, abs=1e-3)
    assert len(cell.outline) == 4
    assert any("1 boxes are turned rectangles" in note for note in report.warnings)


@given(st.floats(-720, 720), st.floats(1, 50), st.floats(1, 50))
def test_a_turned_rectangle_keeps_its_middle_and_size(degrees: float, width: float, height: float) -> None:
    corners = turned(Box.around(7, 9, 1)._replace(x0=0, y0=0, x1=width, y1=height), degrees)
    xs, ys = zip(*corners, strict=True)
    assert (sum(xs) / 4, sum(ys) / 4) == pytest.approx((width / 2, height / 2), abs=1e-5)
    assert math.dist(corners[0], corners[1]) == pytest.approx(width, abs=1e-5)
    assert math.dist(corners[1], corners[2]) == pytest.approx(height, abs=1e-5)
    assert turned(Box(0, 0, width, height), 0)[2] == pytest.approx((width, height), abs=1e-6)


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        ({"bbox": [140, 110, 80, 20, 90]}, r"its bbox has 5 values, not 4 .*: for a turned box give its polygon"),
        ({"bbox": [140, 110, 80, 20, 90], "segmentation": RECTANGLE}, "its bbox has 5 values"),
        ({"bbox": [1, 1, 9, 1, 9, 9, 1, 9]}, "its bbox has 8 values"),
        ({"bbox": BOX, "angle": 0.3}, r"turned by angle 0\.3, of which nobody knows unit"),
        ({"bbox": BOX, "attributes": {"theta": 30}}, "turned by theta 30"),
        ({"bbox": BOX, "attributes": {"rotation": "left"}}, "invalid rotation 'left'"),
        ({"bbox": "[100, 100, 80, 20]"}, "its bbox is '.*', no list of four numbers"),
        ({"bbox": {"x": 100}}, "no list of four numbers"),
        ({"bbox": [0.5, 0.5, 0.4, 0.1]}, "all of it lies in the image's first pixel: are these shares"),
        ({"bbox": [10, 10, 90, 60], "segmentation": [[10, 10, 90, 10, 90, 60]]}, None),
        ({"bbox": [100, 100, 180, 120], "segmentation": RECTANGLE}, "different places: is bbox not x, y, width"),
        ({"bbox": [60, 60, 90, 80], "area": 600}, r"its area 600 is that of bbox \[60, 60, 90, 80\] as two corners"),
        ({"segmentation": {"counts": "abc", "size": [200, 200]}}, "it has neither bbox nor polygon"),
        ({"bbox": BOX, "segmentation": "100 100"}, "its segmentation is str"),
        ({"bbox": BOX, "category_id": None}, "it has no category_id"),
        ({"bbox": BOX, "image_id": float("nan")}, "it names no image of the file"),
        ({"bbox": BOX, "id": float("nan")}, "id is 'nan', which names nothing"),
        ({"bbox": BOX, "image_id": "1", "category_id": 1.0, "id": "7.0"}, None),
        ({"bbox": BOX, "iscrowd": "0"}, None),
    ],
)
def test_coco_numbers_of_another_kind(annotation: dict[str, Any], what: str | None, tmp_path: Path) -> None:
    source = _coco(tmp_path / "in", **annotation)
    if what is None:
        report = run_import("coco", source, tmp_path / "out")
        assert report.counts["cells"] == 1
        return
    with pytest.raises(ManifestError, match=rf"x\.json annotation 1 .*{what}"):
        run_import("coco", source, tmp_path / "out")


@pytest.mark.parametrize(
    ("annotation", "note"),
    [
        ({"bbox": BOX, "keypoints": [110, 110, 2], "num_keypoints": 1}, "1 cells have key points"),
        ({"bbox": BOX, "segmentation": {"counts": [1, 2], "size": [9, 9]}}, "1 cells have a mask in run lengths"),
        (
            {"segmentation": [[100, 100, 120, 100, 120, 120], [160, 100, 180, 110, 180, 120]]},
            "outline of several parts",
        ),
        ({"bbox": BOX, "segmentation": RECTANGLE[0]}, ""),  # without a list around it, as VIA writes one polygon
        ({"bbox": BOX, "segmentation": [[]], "attributes": {"rotation": 0.0}}, ""),
    ],
)
def test_what_coco_says_besides_the_box_is_told(annotation: dict[str, Any], note: str, tmp_path: Path) -> None:
    report = run_import("coco", _coco(tmp_path / "in", **annotation), tmp_path / "out")
    (cell,) = _cells(tmp_path / "out")
    assert cell.box == Box(100, 100, 180, 120)
    assert any(note in warning for warning in report.warnings)
    assert not any("turned" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        (_bndbox(50, 11, 11, 30), "xmin, ymin, xmax, ymax are 50, 11, 11, 30: the box is empty"),
        (_bndbox(11, 11, 50, 30, more="<angle>30</angle>"), "turned by angle 30"),
        ("<robndbox><cx>1</cx><cy>1</cy><w>8</w><h>2</h><angle>90</angle></robndbox>", "no number of radians"),
        (_bndbox(11, 11, 50, 30) * 2, "the object has 2 boxes, not one"),
        ("<polygon><x1>1</x1></polygon>", "the object has no bndbox"),
        (_bndbox(0.3, 0.3, 0.5, 0.6), "all of it lies in the image's first pixel"),
    ],
)
def test_voc_boxes_of_another_kind(inner: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"a\.xml line 3: .*{what}"):
        run_import("voc", _voc(tmp_path / "in", inner), tmp_path / "out")


POSE = "0 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.55 1"


def test_key_points_where_the_yaml_says_so(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", POSE, "0 0.2 0.2 0.1 0.1", yaml="names: [HSIL]\nkpt_shape: [2, 3]")
    report = run_import("yolo", source, tmp_path / "out")
    assert [cell.box for cell in _cells(tmp_path / "out")] == [
        pytest.approx((80, 80, 120, 120)),
        pytest.approx((30, 30, 50, 50)),
    ]
    assert not any(cell.outline for cell in _cells(tmp_path / "out"))
    assert any("1 cells have key points, of which only the box is taken" in note for note in report.warnings)
    samples.text(source / "data.yaml", "names: [HSIL]\nkpt_shape: [3, 3]")
    with pytest.raises(ManifestError, match=r"a\.txt line 1: there are 11 values"):
        run_import("yolo", source, tmp_path / "b")
    samples.text(source / "data.yaml", "names: [HSIL]\nkpt_shape: 17")
    with pytest.raises(ManifestError, match=r"data\.yaml: kpt_shape is 17"):
        run_import("yolo", source, tmp_path / "b")


@pytest.mark.parametrize(
    "line",
    [
        POSE,
        POSE.replace(" 2 ", " 1 "),
        "0 0.5 0.5 0.1 0.1 0.48 0.48 0.52 0.52",
        "0 0.5 0.5 0.1 0.1 0.48 0.48",
        "0 0.5 0.5 0.1 0.1 0.48 0.48 2",
        "0 0.5 0.5 0.2 0.3 0.45 0.4 0 0 0 0 0.55 0.6 2 0.5 0.5 2",
    ],
)
def test_key_points_are_no_polygon(line: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.txt line 1: .*say kpt_shape in the YAML file"):
        run_import("yolo", _yolo(tmp_path / "in", line), tmp_path / "out")


@pytest.mark.parametrize(
    "line",
    [
        "0 0.4 0.4 0.6 0.4 0.6 0.5 0.4 0.5",  # a box by its corners, as YOLO's oriented boxes
        "0 0.5 0.3 0.6 0.4 0.5 0.5 0.4 0.4",
        "0 0.7 0.7 0.8 0.7 0.75 0.8",
        "0 0.4 0.4 0.6 0.42 0.6 0.5 0.45 0.55",
    ],
)
def test_polygons_are_no_key_points(line: str, tmp_path: Path) -> None:
    run_import("yolo", _yolo(tmp_path / "in", line), tmp_path / "out")
    (cell,) = _cells(tmp_path / "out")
    sides = [float(word) * samples.SIDE for word in line.split()[1:]]
    assert cell.box == pytest.approx((min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])))
    assert len(cell.outline) == len(sides) // 2


def test_the_user_says_that_lines_are_polygons(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", "0 0.5 0.5 0.1 0.1 0.48 0.48 0.52 0.52")
    run_import("yolo", source, tmp_path / "out", values={"lines": "polygons"})
    assert len(_cells(tmp_path / "out")[0].outline) == 4


@given(
    st.lists(
        st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.02, 0.09), st.floats(0.02, 0.09)),
        min_size=1,
        max_size=6,
    ),
    st.integers(5, 24),
    st.floats(0, math.tau),
)
def test_outlines_of_cells_are_never_taken_for_key_points(
    cells: list[tuple[float, float, float, float]], corners: int, start: float
) -> None:
    angles = [start + math.tau * k / corners for k in range(corners)]
    texts = [" ".join(f"{x + w * math.cos(a):.5f} {y + h * math.sin(a):.5f}" for a in angles) for x, y, w, h in cells]
    problems = ProblemLog()
    lines = [line_of(f"0 {text}", Place("a.txt", f"line {n}"), "a", (100, 100)) for n, text in enumerate(texts)]
    assert keypoint_lines(lines, problems)[0] == set()
    assert not problems.found


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.floats(0.04, 0.1), st.floats(0.04, 0.1)), min_size=1
    ),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_boxes_with_key_points_are_seen(
    boxes: list[tuple[float, float, float, float]], count: int, random: Any
) -> None:
    def points(x: float, y: float, width: float, height: float) -> str:
        pairs = [(x + width * random.uniform(-0.5, 0.5), y + height * random.uniform(-0.5, 0.5)) for _ in range(count)]
        return f"0 {x} {y} {width} {height} " + " ".join(f"{px:.5f} {py:.5f}" for px, py in pairs)

    lines = [line_of(points(*box), Place("a.txt", f"line {n}"), "a", (100, 100)) for n, box in enumerate(boxes)]
    assert keypoint_lines(lines, ProblemLog())[0]


@pytest.mark.parametrize(
    ("line", "yaml", "what"),
    [
        ("7 0.5 0.5 0.1 0.1", "names: [HSIL]", r"a\.txt line 1: class 7 has no name in data\.yaml"),
        ("1 0.5 0.5 0.1 0.1", "names: {0: HSIL, 2: NILM}", r"a\.txt line 1: class 1 has no name"),
        ("1 0.5 0.5 0.1 0.1", "names: [HSIL, ]\nnc: 2", r"nc is 2, but names has 1 classes"),
        ("0 0.5 0.5 0.1 0.1", "names: ['', HSIL]", r"a\.txt line 1: class 0 has no name"),
        ("HSIL 0.5 0.5 0.1 0.1", "names: [HSIL]", r"a\.txt line 1: invalid class 'HSIL'"),
        ("0.5 0.5 0.5 0.1 0.1", "names: [HSIL]", r"a\.txt line 1: invalid class '0\.5'"),
        ("-1 0.5 0.5 0.1 0.1", "names: [HSIL]", "invalid class '-1'"),
        ("0 50 50 10 10", "names: [HSIL]", r"a\.txt line 1: the values are not between 0 and 1"),
        ("0 0.5 0.5 0.1 0.1 30", "names: [HSIL]", "with a confidence, or a turned box"),
        ("100 100 180 100 180 120 100 120 HSIL 0", "names: [HSIL]", r"a\.txt line 1: invalid value 'HSIL'"),
        ("0 0.5 0.5 0.1 0.1", "names: [HSIL]\nnames: [NILM]", r"data\.yaml line 1 is no YAML \(a key occurs twice"),
        ("0 0.5 0.5 0.1 0.1", "names: [NO, 2024_05]", r"labels that no map knows: 'NO' \(1\)"),
    ],
)
def test_yolo_classes_and_numbers_of_another_kind(line: str, yaml: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=what):
        run_import("yolo", _yolo(tmp_path / "in", line, yaml=yaml), tmp_path / "out")


def test_yolo_class_names_that_contradict(tmp_path: Path) -> None:
    source = _yolo(tmp_path / "in", "0.0 0.5 0.5 0.1 0.1", yaml="names: [HSIL, NILM]")
    samples.text(source / "classes.txt", "HSIL\nNILM\n\n")
    run_import("yolo", source, tmp_path / "out")
    samples.text(source / "classes.txt", "NILM\nHSIL\n")
    with pytest.raises(ManifestError, match=r"classes\.txt and data\.yaml name the classes otherwise"):
        run_import("yolo", source, tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"version": "5", "shapes": [], "imagePath": "a.png"}, "LabelMe's JSON: convert it"),
        ({"a.png123": {"filename": "a.png", "regions": []}}, "VIA's JSON: export it as COCO"),
        ([{"id": 1, "annotations": [], "data": {}}], "Label Studio's own JSON: export it"),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON: name it .geojson, and import it"),
        ([{"x": 1, "y": 1, "w": 2, "h": 2, "class": "roi"}], "a list of Tianchi"),
        ([], "no COCO file"),
        ({"images": [], "annotations": []}, r"no COCO file, since it has no list of categories: correct"),
        ({"images": [], "annotations": None, "categories": []}, "no list of annotations"),
    ],
)
def test_files_of_other_tools_are_called_by_their_names(content: Any, what: str, tmp_path: Path) -> None:
    samples.as_json(_coco(tmp_path / "in", bbox=BOX) / "x.json", content)
    with pytest.raises(ManifestError, match=what):
        run_import("coco", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("content", [{"name": "cervix"}, [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]])
def test_json_of_no_annotations_is_passed_over_beside_a_coco_file(content: Any, tmp_path: Path) -> None:
    source = _coco(tmp_path / "in", bbox=BOX)
    own = source / "x.json"
    other = samples.as_json(source / "info.json", content)
    report = run_import("coco", source, tmp_path / "out")
    assert report.counts["cells"] == 1
    assert any("info.json is passed over: it is no COCO file" in note for note in report.warnings)
    assert own.is_file()
    for named in (other, source):
        own.unlink(missing_ok=True)
        with pytest.raises(ManifestError, match="no COCO file, since it has no list of images or categories"):
            run_import("coco", named, tmp_path / "b")


@pytest.mark.parametrize("marked", [{}, {"annotations": []}])
def test_images_of_a_coco_file_without_annotations_are_not_negative(marked: Any, tmp_path: Path) -> None:
    """As of a test set whose annotations are not published."""
    source = _coco(tmp_path / "in", bbox=BOX)
    samples.field(source / "b.png", size=(40, 40))
    images = [{"id": 1, "file_name": "b.png"}]
    samples.as_json(source / "image_info_test.json", {"images": images, "categories": [], **marked})
    report = run_import("coco", source, tmp_path / "out")
    assert set(read_regions(tmp_path / "out")) == {"a"}
    assert any("1 images are of image_info_test.json, which holds no annotation" in note for note in report.warnings)
    run_import("coco", source, tmp_path / "c", complete=True)
    assert set(read_regions(tmp_path / "c")) == {"a", "b"}


@pytest.mark.parametrize(("root", "what"), [("annotations", "CVAT's own XML"), ("ASAP_Annotations", "ASAP's XML")])
def test_xml_of_other_tools(root: str, what: str, tmp_path: Path) -> None:
    samples.text(_voc(tmp_path / "in", _bndbox(1, 1, 9, 9)) / "a.xml", f"<{root}><image name='a.png'/></{root}>")
    with pytest.raises(ManifestError, match=what):
        run_import("voc", tmp_path / "in", tmp_path / "out")


def test_crossing_edges() -> None:
    assert simple(((0, 0), (2, 0), (2, 2), (0, 2)))
    assert simple(((0, 0), (2, 0), (1, 1)))
    assert not simple(((0, 0), (2, 2), (2, 0), (0, 2)))
    assert simple(((1, 1), (1, 1), (1, 1)))


_CORNERS = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(_CORNERS, min_size=3, max_size=9))
def test_edges_cross_where_each_has_the_others_ends_on_both_sides(shape: list[tuple[float, float]]) -> None:
    def between(a: Corner, b: Corner, c: Corner, d: Corner) -> bool:
        sides = [(b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) for p in (c, d)]
        return sides[0] * sides[1] < 0

    edges = list(zip(shape, [*shape[1:], shape[0]], strict=True))
    crossing = any(between(*one, *other) and between(*other, *one) for one in edges for other in edges)
    assert simple(tuple(shape)) is not crossing


def _objects(folder: Path, *features: dict[str, Any]) -> Path:
    samples.field(folder / "a.png")
    samples.as_json(folder / "a.geojson", [{"type": "Feature", **feature} for feature in features])
    return folder


def _square(low: float, high: float) -> list[list[float]]:
    return [[low, low], [high, low], [high, high], [low, high], [low, low]]


def test_a_region_with_a_hole_is_not_annotated_as_a_whole(tmp_path: Path) -> None:
    hole = {"type": "Polygon", "coordinates": [_square(10, 150), _square(20, 30)]}
    region = {"geometry": hole, "properties": {"classification": {"name": "Region*"}}}
    cell = {"type": "Polygon", "coordinates": [_square(50, 60)], "plane": {"c": -1, "z": 3, "t": 0}}
    source = _objects(tmp_path / "in", region, {"geometry": cell, "properties": {"classification": "HSIL"}})
    with pytest.raises(ManifestError, match=r"a\.geojson feature 1: the region has a hole"):
        run_import("geojson", source, tmp_path / "out")
    _objects(source, {"geometry": cell, "properties": {"classification": "HSIL"}})
    report = run_import("geojson", source, tmp_path / "out")
    assert any("1 objects lie on another focal plane" in note for note in report.warnings)


def test_a_nucleus_of_several_parts_is_told(tmp_path: Path) -> None:
    nuclei = {"type": "MultiPolygon", "coordinates": [[_square(50, 55)], [_square(60, 65)]]}
    cell = {"type": "Polygon", "coordinates": [_square(40, 70)]}
    feature = {"geometry": cell, "nucleusGeometry": nuclei, "properties": {"classification": {"name": "HSIL"}}}
    report = run_import("geojson", _objects(tmp_path / "in", feature), tmp_path / "out")
    assert hull(_cells(tmp_path / "out")[0].nucleus) == Box(50, 50, 55, 55)
    assert any("1 cells have a nucleus of several parts" in note for note in report.warnings)


def test_what_coco_says_to_ignore_is_no_cell(tmp_path: Path) -> None:
    source = _coco(tmp_path / "in", bbox=BOX)
    image = {"id": 1, "file_name": "a.png"}
    cells = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [9 * n, 9, 8, 8], "ignore": n} for n in (0, 1)]
    content = {"images": [image], "annotations": cells, "categories": [{"id": 1, "name": "HSIL"}]}
    samples.as_json(source / "x.json", content)
    assert run_import("coco", source, tmp_path / "out").problems == {"note: crowd": 1}
    assert not read_regions(tmp_path / "out")


@pytest.mark.parametrize("name", ["yolo", "voc", "geojson", "tianchi", "cric"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"version": "5", "shapes": [], "imagePath": "a.png"}, "LabelMe's JSON: convert it"),
        ({"images": [], "annotations": [], "categories": []}, "a COCO file: import it as coco"),
    ],
)
def test_a_folder_of_another_tool_is_told(name: str, content: Any, what: str, tmp_path: Path) -> None:
    samples.field(tmp_path / "in" / "a.png")
    samples.as_json(tmp_path / "in" / "a.json", content)
    with pytest.raises(ManifestError, match=what):
        run_import(name, tmp_path / "in", tmp_path / "out")
