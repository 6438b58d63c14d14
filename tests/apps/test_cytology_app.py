"""The MONAI Label app: the real server over HTTP, in the environment that ``make app`` makes.

Where that environment is missing the tests are skipped. One server with two slides serves them all.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from extras import needs
from hypothesis import given, settings

from stride_monai.annotations import AnnotationStore, Role, Users, corrections
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import ConfigError
from stride_monai.geojson import features_of_bytes
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.units import Box

needs("httpx", "dev")
needs("schemathesis", "dev")
import httpx  # noqa: E402
import schemathesis  # noqa: E402
from label_server import APP, NEEDED, serving  # noqa: E402

ONE, TWO = "phantom-0001", "slide 二 (b)"

pytestmark = NEEDED


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small slides, one of an odd name."""
    from stride_monai.phantom import CohortDesign, make_slides

    folder = tmp_path_factory.mktemp("app")
    studies = folder / "slides"
    studies.mkdir()
    make_slides(folder / "made", CohortDesign(classes=("HSIL", "HSIL"), diameter_mm=0.9, seed=1))
    for made, name in (("phantom-0001", ONE), ("phantom-0002", TWO)):
        (folder / "made" / "slides" / f"{made}.tiff").rename(studies / f"{name}.tiff")
    (folder / "secret.tiff").write_bytes((studies / f"{ONE}.tiff").read_bytes())
    (studies / "link.tiff").symlink_to(folder / "secret.tiff")
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[httpx.Client]:
    with serving(home / "slides", home / "server.log") as client:
        yield client


@pytest.fixture(scope="module")
def screened(server: httpx.Client) -> dict[str, Any]:
    """What ``screen`` says of the first slide."""
    answer = server.post(f"/infer/wsi_v2/screen?image={ONE}&output=json", data={"wsi": json.dumps({"size": [0, 0]})})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def store(home: Path) -> AnnotationStore:
    return AnnotationStore(home / "slides-labels" / "results", create=False)


def send(server: httpx.Client, image: str, name: str, content: str | bytes, **params: Any) -> httpx.Response:
    """A label, as the viewers send it."""
    return server.put(
        "/datastore/label",
        params={"image": image, "tag": "final"},
        files={"label": (name, content)},
        data={"params": json.dumps(params)},
    )


def test_info_names_what_there_is(server: httpx.Client) -> None:
    info = server.get("/info/").json()
    assert set(info["models"]) == {"detect", "classify", "screen"}
    assert set(info["trainers"]) == {"detection", "cell_cls", "text_align"}
    assert set(info["strategies"]) == {"top_k_review", "uncertainty", "diversity", "random"}
    assert info["labels"] == list(CELL_CLASSES)
    assert info["datastore"]["total"] == 2  # not the link that leads out of the folder
    assert server.get("/review/").status_code == 200
    assert server.get("/", follow_redirects=False).headers["location"] == "/review/"


# --- QuPath ----------------------------------------------------------------------------------------------------------


def test_qupath_sends_and_receives_asap_xml(
    server: httpx.Client, screened: dict[str, Any], store: AnnotationStore
) -> None:
    """What the extension does: HEAD the image, infer, PUT the corrected annotations."""
    assert server.head("/datastore/image", params={"image": ONE}).status_code == 200
    answer = server.post("/infer/wsi/screen", params={"image": ONE, "output": "asap"}, json={"size": [0, 0]})
    root = ElementTree.fromstring(answer.text)
    annotations = root.findall("Annotations/Annotation")
    assert len(annotations) == len(screened["cells"]) > 5
    for one, cell in zip(annotations, screened["cells"], strict=True):
        corners = [(float(c.get("X", "")), float(c.get("Y", ""))) for c in one.iter("Coordinate")]
        xs, ys = zip(*corners, strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(cell["box"], abs=0.01)
        assert one.get("PartOfGroup") == cell["label"]
    # The reader changes the class of the first, moves the second, deletes the third, and draws a new one.
    annotations[0].set("PartOfGroup", "AGC")
    for corner in annotations[1].iter("Coordinate"):
        corner.set("X", str(float(corner.get("X", "")) + 7))
    parent = root.find("Annotations")
    assert parent is not None
    parent.remove(annotations[2])
    new = ElementTree.SubElement(parent, "Annotation", {"Type": "Rectangle", "PartOfGroup": "LSIL"})
    around = ElementTree.SubElement(new, "Coordinates")
    for order, (x, y) in enumerate(((10, 10), (90, 10), (90, 90), (10, 90))):
        ElementTree.SubElement(around, "Coordinate", {"Order": str(order), "X": str(x), "Y": str(y)})
    text = ElementTree.tostring(root, encoding="unicode")
    answer = send(server, ONE, "a.xml", text, annotator="qupath", complete=True)
    assert answer.status_code == 200, answer.text
    ids = [cell["cell_id"] for cell in screened["cells"]]
    state = store.state(ONE)
    assert state.cells[ids[0]].reads["qupath"].label == "AGC"
    moved = state.cells[ids[1]].box
    assert moved is not None
    assert moved.x0 == pytest.approx(screened["cells"][1]["box"][0] + 7, abs=0.01)
    assert state.cells[ids[2]].reads["qupath"].label == "not_a_lesion"
    (added,) = [cell for cell in state.present if cell.added_by == "qupath"]
    assert (added.box, added.reads["qupath"].label) == (Box(10, 10, 90, 90), "LSIL")
    # The label lies in MONAI Label's datastore too, and the same file again changes nothing.
    assert server.get("/datastore/label", params={"label": ONE, "tag": "final"}).text == text
    assert server.get("/datastore/").json()["completed"] == 1
    assert send(server, ONE, "a.xml", text, annotator="qupath", complete=True).status_code == 200
    assert store.state(ONE) == state


def test_names_in_the_xml_are_escaped(server: httpx.Client) -> None:
    """MONAI Label writes labels into its XML as they are."""
    text = '<ASAP_Annotations><Annotations><Annotation PartOfGroup="&lt;b&gt;"/></Annotations></ASAP_Annotations>'
    answer = send(server, TWO, "a.xml", text)
    assert answer.status_code == 422
    answer = server.post("/infer/wsi/detect", params={"image": TWO, "output": "asap"}, json={"size": [500, 500]})
    ElementTree.fromstring(answer.text)


def test_geojson_is_the_way_for_current_qupath(
    server: httpx.Client, screened: dict[str, Any], store: AnnotationStore
) -> None:
    answer = server.post("/infer/screen", params={"image": ONE, "output": "image"})
    features = features_of_bytes(answer.content)
    assert [feature.metadata["Cell"] for feature in features] == [cell["cell_id"] for cell in screened["cells"]]
    raw = json.loads(answer.text)
    raw["features"][4]["properties"]["classification"] = {"name": "HSIL", "color": [1, 2, 3]}
    assert send(server, ONE, "slide.geojson", json.dumps(raw), annotator="geo").status_code == 200
    state = store.state(ONE)
    reads = {cell_id: cell.reads["geo"].label for cell_id, cell in state.cells.items() if "geo" in cell.reads}
    assert reads == {screened["cells"][4]["cell_id"]: "HSIL"}  # the others were not looked at
    assert not corrections(state, features_of_bytes(json.dumps(raw).encode()), "geo", "x").actions


# --- Digital Slide Archive and CVAT ----------------------------------------------------------------------------------


def test_digital_slide_archive(server: httpx.Client, screened: dict[str, Any], store: AnnotationStore) -> None:
    body = {"level": 0, "location": [0, 0], "size": [0, 0], "tile_size": [1024, 1024], "params": {"wsi_tiles": []}}
    answer = server.post("/infer/wsi/screen", params={"image": ONE, "output": "dsa"}, json=body)
    document = answer.json()
    assert len(document["elements"]) == len(screened["cells"])
    # The archive's task reads the description on the last line but one.
    line = answer.text.split("\n")[-2].replace('"description": ', "")
    assert json.loads(json.loads(line))["count"] == len(screened["cells"])
    document["elements"][5]["group"] = "ASC-US"
    document["elements"].append(
        {
            "type": "rectangle",
            "center": [300, 200, 0],
            "width": 80,
            "height": 40,
            "rotation": math.pi / 2,
            "group": "AGC",
        }
    )
    wrapped = {"annotation": document}
    assert send(server, ONE, "a.json", json.dumps(wrapped), annotator="dsa").status_code == 200
    state = store.state(ONE)
    (added,) = [cell for cell in state.present if cell.added_by == "dsa"]
    assert added.box == pytest.approx((280, 160, 320, 240))
    if screened["cells"][5]["label"] != "ASC-US":
        assert state.cells[screened["cells"][5]["cell_id"]].reads["dsa"].label == "ASC-US"


def test_cvat_sends_a_picture_and_gets_shapes(server: httpx.Client, home: Path, screened: dict[str, Any]) -> None:
    """What its serverless function does with the answer is done here word for word."""
    from PIL import Image

    from stride_monai.slides import open_slide

    with open_slide(home / "slides" / f"{ONE}.tiff") as slide:
        pixels = slide.read(Box.around(*Box(*screened["cells"][0]["box"]).center, 1200), slide.mpp)
    picture = home / "field.png"
    Image.fromarray(pixels).save(picture)
    with picture.open("rb") as stream:
        answer = server.post(
            "/infer/detect?output=json",
            files={"file": ("field.png", stream, "image/png")},
            data={"params": json.dumps({"mpp": slide.mpp})},
        )
    assert answer.status_code == 200, answer.text
    shapes = [
        {"label": element["label"], "points": [v for point in contour for v in point], "type": "polygon"}
        for annotation in answer.json()["annotations"]
        for element in annotation["annotation"]["elements"]
        for contour in element["contours"]
    ]
    assert shapes
    assert all(len(shape["points"]) == 8 for shape in shapes)
    rectangle = {"type": "rectangle", "points": [400, 400, 470, 480], "label": "ASC-H", "rotation": 0}
    answer = send(server, TWO, "cvat.json", json.dumps({"shapes": [rectangle]}), annotator="cvat")
    assert answer.status_code == 200, answer.text
    store = AnnotationStore(home / "slides-labels" / "results", create=False)
    (added,) = [cell for cell in store.state(TWO).present if cell.added_by == "cvat"]
    assert (added.box, added.label) == (Box(400, 400, 470, 480), "ASC-H")


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_regions_and_given_cells(server: httpx.Client, screened: dict[str, Any]) -> None:
    x0, y0, x1, y1 = screened["cells"][0]["box"]
    corner, side = [max(0, int(x0) - 400), max(0, int(y0) - 400)], 900
    body = {"location": corner, "size": [side, side]}
    answer = server.post("/infer/wsi/detect", params={"image": ONE, "output": "json"}, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    region = Box(corner[0], corner[1], corner[0] + side, corner[1] + side)
    assert any(cell["box"] == pytest.approx([x0, y0, x1, y1], abs=1) for cell in found["cells"])
    assert all(region.holds(Box(*cell["box"]).intersection(region)) for cell in found["cells"])
    cells = [[x0, y0, x1, y1], [(x0 + x1) / 2, (y0 + y1) / 2]]
    answer = server.post(
        "/infer/classify", params={"image": ONE, "output": "json"}, data={"params": json.dumps({"cells": cells})}
    )
    box, point = answer.json()["cells"]
    assert box["probabilities"] == point["probabilities"]
    assert sum(box["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    far = {"location": [10**7, 0], "size": [10, 10]}
    answer = server.post("/infer/wsi/detect", params={"image": ONE, "output": "json"}, json=far)
    assert (answer.status_code, "outside" in answer.text) == (422, True)


def test_screening_says_what_the_command_says(server: httpx.Client, screened: dict[str, Any], home: Path) -> None:
    findings = json.loads((home / "slides-labels" / "results" / ONE / "findings.json").read_text())
    assert screened["slide_probabilities"] == findings["slide_probabilities"]
    assert [cell["label"] for cell in screened["cells"]] == [cell["cell_class"] for cell in findings["cells"]][:32]
    assert "Research use only" in screened["disclaimer"]


def test_two_readers_are_never_given_the_same_cell(server: httpx.Client, screened: dict[str, Any]) -> None:
    fresh = server.post("/activelearning/top_k_review", json={"annotator": "a"}).json()
    assert (fresh["id"], fresh["todo"]) == (TWO, "screen")  # slides that nobody screened come first
    assert "/" not in fresh["path"]
    server.post("/infer/wsi/screen", params={"image": TWO, "output": "json"}, json={"size": [0, 0]})
    strategies = ["top_k_review", "uncertainty", "diversity", "random"] * 2

    def ask(number: int) -> list[tuple[str, str]]:
        body = {"annotator": f"reader {number}", "count": 3}
        answer = server.post(f"/activelearning/{strategies[number]}", json=body)
        assert answer.status_code == 200, answer.text
        return [(cell["slide_id"], cell["cell_id"]) for cell in answer.json().get("cells", [])]

    for wrong in ({"seed": "x"}, {"seed": -1}, {"count": 0}, {"count": "many"}):
        assert server.post("/activelearning/random", json=wrong).status_code == 422
    with ThreadPoolExecutor(8) as pool:
        given = [key for keys in pool.map(ask, range(8)) for key in keys]
    assert len(given) == len(set(given)) >= 20
    body = {"annotator": "second", "count": 64, "double_read": True}
    double = server.post("/activelearning/top_k_review", json=body).json()["cells"]
    assert set(given) & {(cell["slide_id"], cell["cell_id"]) for cell in double}


def test_scoring(server: httpx.Client, screened: dict[str, Any]) -> None:
    send(server, ONE, "a.json", json.dumps({"shapes": []}), annotator="scored", complete=True)
    found = server.post("/scoring/model?run_sync=true").json()
    assert 0 <= found["precision"] <= 1
    assert "readers" in server.post("/scoring/agreement?run_sync=true").json()


# --- safety ----------------------------------------------------------------------------------------------------------

OUTSIDE = [
    "../secret",
    "..%2fsecret",
    "%2e%2e/secret",
    "..\\secret",
    "/etc/passwd",
    "secret",
    "link",
    f"{ONE}.tiff",
    f"{ONE}::$DATA",
    f"./{ONE}",
    f"{ONE}\0",
    "file:///etc/passwd",
    "",
]


@pytest.mark.parametrize("image", OUTSIDE)
def test_nothing_outside_of_the_studies_is_read_or_written(server: httpx.Client, home: Path, image: str) -> None:
    before = sorted(path for path in home.rglob("*") if "slides-labels" not in path.parts and path.name != "server.log")
    absolute = image if image != "secret" else str(home / "secret.tiff")
    for name in (image, absolute):
        answers = [
            server.head("/datastore/image", params={"image": name}),
            server.get("/datastore/image/info", params={"image": name}),
            server.put("/datastore/image/info", params={"image": name}, data={"info": '{"x": 1}'}),
            server.get("/datastore/label", params={"label": name, "tag": "final"}),
            server.post("/infer/detect", params={"image": name, "output": "json"}),
            server.post("/infer/wsi/detect", params={"image": name, "output": "json"}, json={"size": [64, 64]}),
            server.put("/datastore/image", params={"image": name}, files={"file": ("x.tiff", b"no slide")}),
            send(server, name, "a.json", '{"shapes": []}'),
        ]
        assert all(400 <= answer.status_code < 500 for answer in answers), [a.status_code for a in answers]
        assert not any("root:" in answer.text for answer in answers)
    after = sorted(path for path in home.rglob("*") if "slides-labels" not in path.parts and path.name != "server.log")
    assert before == after
    assert server.get("/datastore/label", params={"label": ONE, "tag": "../x"}).status_code == 404


@pytest.mark.parametrize("key", ["image", "session", "label", "model", "file"])
def test_parameters_cannot_make_another_request(server: httpx.Client, key: str, home: Path) -> None:
    params = {"params": json.dumps({key: str(home / "secret.tiff")})}
    assert server.post(f"/infer/detect?image={ONE}&output=json", data=params).status_code == 422
    body = {"size": [64, 64], "params": {key: str(home / "secret.tiff")}}
    assert server.post(f"/infer/wsi/detect?image={ONE}&output=json", json=body).status_code == 422
    form = {"wsi": json.dumps(body)}
    assert server.post(f"/infer/wsi_v2/detect?image={ONE}&output=json", data=form).status_code == 422


def test_other_sites_and_other_names_are_refused(server: httpx.Client) -> None:
    assert server.get("/info/", headers={"host": "evil.example"}).status_code == 421
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = server.post("/activelearning/random", json={}, headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    answer = server.get("/info/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_what_is_unsafe_is_not_there(server: httpx.Client) -> None:
    for method, path in [
        *(("GET", "/proxy/dicom/x"), ("PUT", "/session/"), ("GET", "/datastore/dataset"), ("PUT", "/model/detect")),
        *(("GET", f"/datastore/image?image={ONE}"), ("DELETE", f"/datastore/image?id={ONE}"), ("GET", "/logs/")),
        *(("POST", "/reload"), ("GET", "/ohif/x"), ("POST", "/batch/infer/screen"), ("GET", "/docs")),
    ]:
        assert server.request(method, path).status_code in {404, 405}, path


def test_slides_can_be_uploaded_and_are_checked(server: httpx.Client, home: Path) -> None:
    def upload(image: str, content: bytes, name: str = "x.tiff") -> int:
        answer = server.put("/datastore/image", params={"image": image}, files={"file": (name, content)})
        return answer.status_code

    slide = (home / "slides" / f"{ONE}.tiff").read_bytes()
    assert upload("new", slide) == 200
    assert server.head("/datastore/image", params={"image": "new"}).status_code == 200
    assert (home / "slides" / "new.tiff").read_bytes() == slide
    assert upload("new", slide) == 404  # nothing is replaced
    assert upload("program", slide, "x.exe") == 404
    assert upload("broken", slide[:2000]) == 422
    (home / "slides" / "new.tiff").unlink()


def screened_by_command(home: Path) -> Path:
    """Results that are there when a server starts, with no annotations yet, as ``make app`` finds them."""
    results = home / "by-command"
    findings = (home / "slides-labels" / "results" / ONE / "findings.json").read_text()
    for name in (ONE, TWO):
        (results / name).mkdir(parents=True)
        facts = json.loads(findings)
        facts["slide"] |= {"slide_id": name, "fingerprint": slide_fingerprint(home / "slides" / f"{name}.tiff")}
        (results / name / "findings.json").write_text(json.dumps(facts))
    return results


def test_users_sign_in_where_others_can_reach_the_server(home: Path, screened: dict[str, Any]) -> None:
    """And what the command has screened comes up for review."""
    results = screened_by_command(home)
    users = Users(home / "users.json")
    users.add("ann", "correct horse battery", Role.ANNOTATOR)
    token = users.issue_token("ann")
    conf = ("users", str(home / "users.json"), "work", str(home / "other"), "max_upload_mb", "1")
    conf += ("results", str(results))
    with serving(home / "slides", home / "users.log", *conf) as client:
        assert client.get("/info/").status_code == 401
        assert client.get("/info/", headers={"authorization": "Bearer x"}).status_code == 401
        assert client.get("/info/", auth=("ann", "wrong")).status_code == 401
        assert client.get("/info/", auth=("ann", "correct horse battery")).status_code == 200
        client.headers["authorization"] = f"Bearer {token}"
        assert client.get("/info/").status_code == 200
        assert client.post("/train/cell_cls", json={}).status_code == 403
        assert client.put("/versions/cell_cls/shipped").status_code == 403
        assert client.get("/train/log").status_code == 403
        shapes = {"shapes": [{"type": "rectangle", "points": [1, 1, 50, 50], "label": "NILM"}]}
        # Whatever the request says, who signed in signs.
        assert send(client, ONE, "a.json", json.dumps(shapes), annotator="somebody else").status_code == 200
        state = AnnotationStore(results, create=False).state(ONE)
        assert {cell.added_by for cell in state.present} == {"ann"}
        given = client.post("/activelearning/top_k_review", json={"count": 2}).json()["cells"]
        first = screened["cells"][0]["cell_id"]
        assert {(cell["slide_id"], cell["cell_id"]) for cell in given} == {(ONE, first), (TWO, first)}
        assert client.put("/datastore/image?image=big", files={"file": ("x.tiff", b"0" * 2**21)}).status_code == 413


def test_no_request_makes_the_server_fail(server: httpx.Client) -> None:
    """Requests made from the server's own description: no failure, no traceback."""
    schema = schemathesis.openapi.from_url(f"{server.base_url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:

        @settings(max_examples=12)
        @given(operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            answer = case.call(base_url=str(server.base_url), timeout=60)
            assert answer.status_code < 500, f"{case.method} {case.formatted_path}: {answer.text}"
            assert b"Traceback" not in answer.content

        check()


@pytest.mark.parametrize(
    ("conf", "what"),
    [
        ({"reeder": "x"}, "unknown --conf 'reeder': did you mean reader?"),
        ({"cells": "many"}, "invalid --conf cells 'many': give a whole number from 1"),
        ({"mpp": "nan"}, "invalid --conf mpp 'nan'"),
        ({"blind": "perhaps"}, "invalid --conf blind 'perhaps': give true or false"),
    ],
)
def test_wrong_settings_are_refused(conf: dict[str, str], what: str, tmp_path: Path) -> None:
    place = part_of_app("place")
    with pytest.raises(ConfigError, match=re.escape(what)):
        place.Place.of(str(tmp_path), conf)
    with pytest.raises(ConfigError, match="lies among the slides"):
        place.Place.of(str(tmp_path), {"work": str(tmp_path / "work")})


def part_of_app(name: str) -> ModuleType:
    """A module of the app that needs no MONAI Label."""
    called = f"app_{name.replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(called, APP / "lib" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[called] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("present", "new", "used"),
    [
        (0.5, 0.6, True),
        (0.5, 0.5, True),
        (0.5, 0.4, False),
        (None, None, False),
        (None, 0.4, False),
        (0.4, None, False),
    ],
)
def test_a_version_is_used_only_where_it_was_judged_and_is_not_worse(
    present: float | None, new: float | None, used: bool
) -> None:
    assert part_of_app("trainers/held_out").holds_up(present, new) is used
