"""The interface over HTTP: what is kept, what is shown to whom, and what is refused."""

from __future__ import annotations

import io
import json
import threading
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from extras import needs

needs("fastapi", "review")
from annotation_samples import full_disk  # noqa: E402
from review_client import ONE, TWO, Reader  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from stride_monai.annotations import Action, AnnotationStore, Kind, Role, Users, added_cell_id  # noqa: E402
from stride_monai.cli.main import app as main  # noqa: E402
from stride_monai.data import read_manifest  # noqa: E402

PASSWORD = "correct horse battery"
MakeApp = Callable[..., Any]
Study = tuple[Path, Path]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    made = Users(tmp_path_factory.mktemp("users") / "users.json")
    for name, role in (("Ann", Role.ANNOTATOR), ("Bo", Role.ANNOTATOR), ("Chief", Role.ADMIN)):
        made.add(name, PASSWORD, role)
    return made


# What is kept.


def test_a_label_is_kept_and_found_again(make_app: MakeApp) -> None:
    reader = Reader(make_app(reader="Zhang 张"))
    cell = reader.cell()
    answer = reader.read(cell["id"], "LSIL")
    assert answer["cells"][0]["mine"]["label"] == "LSIL"
    again = Reader(make_app(reader="Zhang 张"))  # another process would see the same
    assert again.cell()["mine"] == {"label": "LSIL", "chosen": [], "typed": ""}
    (kept,) = again.http.app.state.review.store.actions(ONE)
    assert (kept.who, kept.blind, kept.seconds) == ("Zhang 张", False, 1.0)
    assert kept.fingerprint
    assert kept.model_version


def test_the_same_action_sent_again_is_one_action(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    action = {"uuid": str(uuid.uuid4()), "kind": "label", "cell_id": reader.cell()["id"], "after": "AGC"}
    assert reader.act(**action)["sequence"] == reader.act(**action)["sequence"]
    assert reader.slide()["slide"]["sequence"] == 1


def test_a_stale_action_is_refused_and_says_what_stands(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    cell = reader.cell()["id"]
    reader.read(cell, "AGC")
    answer = reader.send(kind="label", cell_id=cell, before=None, after="LSIL")
    assert answer.status_code == 409
    assert answer.json()["current"] == "AGC"
    assert reader.cell()["mine"]["label"] == "AGC"


def test_a_drawn_box_moves_and_goes_and_undo_brings_it_back(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    name = str(uuid.uuid4())
    cell = added_cell_id(name)
    (shown,) = reader.act(uuid=name, kind="box_added", cell_id=cell, after=[10, 20, 50.5, 60])["cells"]
    assert (shown["box"], shown["drawn"], shown["drawn_by_me"]) == ([10, 20, 50.5, 60], True, True)
    reader.act(kind="box_moved", cell_id=cell, before=[10, 20, 50.5, 60], after=[12, 20, 52, 60])
    gone = reader.act(kind="box_removed", cell_id=cell, before=[12, 20, 52, 60])
    assert gone["cells"][0]["box"] is None
    assert cell not in {known["id"] for known in reader.slide()["cells"]}
    back = reader.act(kind="undo", after=gone["slide"]["undoable"])
    assert back["cells"][0]["box"] == [12, 20, 52, 60]
    again = reader.act(kind="redo", after=back["slide"]["redoable"])
    assert again["cells"][0]["box"] is None


def test_a_cell_that_was_removed_has_no_picture_and_one_that_never_was_is_not_found(make_app: MakeApp) -> None:
    reader, name = Reader(make_app()), str(uuid.uuid4())
    cell = added_cell_id(name)
    crops = f"/api/slides/{ONE}/crops"
    assert reader.http.get(f"{crops}/{cell}").status_code == 404
    reader.act(uuid=name, kind="box_added", cell_id=cell, after=[10, 20, 50.5, 60])
    assert reader.http.get(f"{crops}/{cell}").headers["Content-Type"] == "image/jpeg"
    reader.act(kind="box_removed", cell_id=cell, before=[10, 20, 50.5, 60])
    gone = reader.http.get(f"{crops}/{cell}")
    assert (gone.status_code, gone.content) == (204, b"")


def test_a_box_beside_the_slide_is_refused(make_app: MakeApp) -> None:
    name = str(uuid.uuid4())
    box = [5000, 5000, 5050, 5050]
    answer = Reader(make_app()).send(uuid=name, kind="box_added", cell_id=added_cell_id(name), after=box)
    assert answer.status_code == 409


def test_words_call_and_adequacy(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    cell = reader.cell()["id"]
    words = {"chosen": ["high nuclear-cytoplasmic ratio"], "typed": "核深染 <b>dark</b>"}
    reader.act(kind="descriptions", cell_id=cell, after=words)
    reader.act(kind="call", after="HSIL")
    reader.act(kind="adequacy", after="satisfactory")
    assert {**words, "label": None} == reader.cell()["mine"]
    assert (reader.slide()["slide"]["call"], reader.slide()["slide"]["adequacy"]) == ("HSIL", "satisfactory")
    listed = {slide["slide_id"]: slide for slide in reader.http.get("/api/slides").json()}
    assert listed[ONE]["call"] == "HSIL"
    assert listed[TWO]["call"] is None


def test_the_list_of_slides_is_up_to_date_for_everybody(make_app: MakeApp, tmp_path: Path) -> None:
    """It is worked out again for slides to which something was done, here or by another process."""
    reader = Reader(make_app())

    def read() -> dict[str, int]:
        return {slide["slide_id"]: slide["read"] for slide in reader.http.get("/api/slides").json()}

    assert read() == read() == {ONE: 0, TWO: 0}
    cells = reader.slide(TWO)["cells"]
    reader.read(cells[0]["id"], "LSIL", slide_id=TWO)
    assert read() == {ONE: 0, TWO: 1}
    with AnnotationStore(tmp_path / "annotations.sqlite") as other:
        other.append(Action("reader", TWO, Kind.LABEL, cells[1]["id"], None, "AGC"))
    assert read() == read() == {ONE: 0, TWO: 2}


def test_eight_readers_at_once_lose_nothing(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    cells = [cell["id"] for cell in Reader(app).slide(TWO)["cells"]]
    app.state.review.policy = type(app.state.review.policy)(readers=None)
    users = Users(tmp_path / "users.json")
    names = [f"reader {number}" for number in range(8)]
    tokens = []
    for name in names:
        users.add(name, PASSWORD)
        tokens.append(users.issue_token(name))
    app.state.access.users = users
    failed: list[str] = []

    def work(token: str) -> None:
        reader = Reader(app)
        reader.http.headers["authorization"] = f"Bearer {token}"
        for cell in cells:
            answer = reader.send(TWO, kind="label", cell_id=cell, after="LSIL")
            if answer.status_code != 200:
                failed.append(answer.text)

    threads = [threading.Thread(target=work, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with AnnotationStore(tmp_path / "annotations.sqlite") as store:
        kept = {(action.who, action.cell_id) for action in store.actions(TWO)}
    assert kept == {(name, cell) for name in names for cell in cells}


# What is shown to whom.


def everything(value: Any) -> set[str]:
    """All keys of JSON, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in everything(inner)}
    return {key for inner in value for key in everything(inner)} if isinstance(value, list) else set()


def test_blind_mode_sends_nothing_of_the_model(make_app: MakeApp) -> None:
    open_, blind = Reader(make_app()), Reader(make_app(blind=True))
    assert {"score", "probabilities", "rank", "class"} <= everything(open_.slide())
    cell = blind.cell()["id"]
    answers = [blind.slide(), blind.http.get("/api/slides").json(), blind.read(cell, "NILM")]
    answers.append(blind.http.get("/api/disagreements").json())
    for answer in answers:
        assert not {"score", "probabilities", "rank", "class", "status", "reason"} & everything(answer)
        assert "positive" not in str(answer)
    assert blind.slide()["model"] is None
    ranked = [known["id"] for known in open_.slide()["cells"]]
    shuffled = [known["id"] for known in blind.slide()["cells"]]
    assert set(ranked) == set(shuffled)
    assert ranked != shuffled
    assert blind.http.app.state.review.store.actions(ONE)[0].blind


def test_a_second_reader_sees_nothing_of_the_first_until_both_have_read(make_app: MakeApp, users: Users) -> None:
    app = make_app(users=users, double_read=True)
    ann, bo, chief = (Reader(app, name, PASSWORD) for name in ("Ann", "Bo", "Chief"))
    cell = ann.cell()["id"]
    ann.read(cell, "LSIL")
    shown = bo.cell()
    assert (shown["others"], shown["state"], shown["label"], shown["mine"]) == ({}, "unreviewed", None, None)
    assert chief.cell()["others"] == {}  # nothing to settle yet
    after = bo.read(cell, "AGC")["cells"][0]
    assert (after["state"], after["others"]["Ann"]["label"]) == ("disagreed", "LSIL")
    (found,) = chief.http.get("/api/disagreements").json()
    assert {who: read["label"] for who, read in found["cell"]["others"].items()} == {"Ann": "LSIL", "Bo": "AGC"}
    assert bo.send(kind="arbitration", cell_id=cell, after="AGC").status_code == 403
    settled = chief.act(kind="arbitration", cell_id=cell, after="LSIL")["cells"][0]
    assert (settled["state"], settled["label"]) == ("arbitrated", "LSIL")
    assert chief.http.get("/api/disagreements").json() == []


def test_two_readers_never_get_the_same_cell_unless_asked(make_app: MakeApp, users: Users) -> None:
    app = make_app(users=users)
    ann, bo = Reader(app, "Ann", PASSWORD), Reader(app, "Bo", PASSWORD)
    assert not any(cell["taken"] for cell in ann.slide()["cells"])
    assert all(cell["taken"] for cell in bo.slide()["cells"])
    answer = bo.send(kind="label", cell_id=bo.cell()["id"], after="AGC")
    assert (answer.status_code, answer.json()["error"]) == (409, "another reader has this cell")
    assert ann.http.request("DELETE", "/api/session").status_code == 200  # what is not read is free again
    assert not any(cell["taken"] for cell in bo.slide()["cells"])


def test_what_a_full_disk_cannot_keep_is_not_acknowledged(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    store = reader.http.app.state.review.store
    cells = [cell["id"] for cell in reader.slide()["cells"]]
    reader.read(cells[0], "LSIL")
    action = {"uuid": str(uuid.uuid4()), "kind": "label", "cell_id": cells[1], "after": "AGC"}
    with full_disk(store, ONE, cells[0]):
        before = len(store.actions())
        answer = reader.send(**action)
        assert answer.status_code == 507
        assert answer.json() == {
            "error": "the disk of annotations.sqlite is full",
            "advice": "make room on it and try again; nothing that was saved is lost",
        }
        assert reader.slide()["cells"][0]["mine"]["label"] == "LSIL"
    sequence = reader.act(**action)["sequence"]
    assert reader.act(**action)["sequence"] == sequence == len(store.actions()) == before + 1


def test_exports(make_app: MakeApp, users: Users) -> None:
    app = make_app(users=users)
    ann, chief = Reader(app, "Ann", PASSWORD), Reader(app, "Chief", PASSWORD)
    ann.read(ann.cell(0, TWO)["id"], "LSIL", slide_id=TWO)
    answer = chief.http.get(f"/api/slides/{TWO}/geojson")
    assert "%E5%88%87" in answer.headers["content-disposition"]
    features = json.loads(answer.content)["features"]
    assert len(features) == 12
    names = [feature["properties"].get("classification", {}).get("name") for feature in features]
    assert names.count("LSIL") >= 1
    with zipfile.ZipFile(io.BytesIO(chief.http.get("/api/agreement").content)) as archive:
        assert "Ann" in archive.read("readers.csv").decode("utf-8-sig")
    for path in (f"slides/{TWO}/geojson", "agreement", "cohort"):
        assert ann.http.get(f"/api/{path}").status_code == 403
        assert Reader(make_app(blind=True)).http.get(f"/api/{path}").status_code == 403  # it would tell


def test_the_cohort_of_the_page_is_that_of_the_command(make_app: MakeApp, study: Study, tmp_path: Path) -> None:
    chief = Reader(make_app())
    asked = chief.http.get("/api/cohort")
    assert (asked.status_code, asked.json()["error"]) == (422, "nothing has been reviewed yet")
    chief.read(chief.cell(0, TWO)["id"], "LSIL", slide_id=TWO)
    chief.act(TWO, kind="call", after="LSIL")
    store = chief.http.app.state.review.store.path
    words = ["annotations", "export", str(store), "--slides", str(study[0]), "--out", str(tmp_path / "cohort")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(io.BytesIO(chief.http.get("/api/cohort").content)) as archive:
        archive.extractall(tmp_path / "of the page")
    made = {path.name: path.read_bytes() for path in (tmp_path / "cohort").iterdir()}
    assert {"manifest.csv", "cells.csv"} <= made.keys()
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "of the page" / "cohort").iterdir()}
    (slide,) = read_manifest(tmp_path / "of the page" / "cohort" / "manifest.csv")
    assert (slide.slide_class, slide.path) == ("LSIL", study[1] / f"{TWO}.tiff")


# What is refused.


def test_without_a_session_nothing_is_shown(make_app: MakeApp, users: Users) -> None:
    nobody = Reader(make_app(users=users)).http
    assert nobody.get("/api/session").json() == {"name": None, "users": True}
    for path in ("slides", f"slides/{ONE}", f"slides/{ONE}/tiles/9/0/0", f"slides/{ONE}/crops/x", "disagreements"):
        assert nobody.get(f"/api/{path}").status_code == 401, path
    assert nobody.post(f"/api/slides/{ONE}/actions", json={"uuid": "x", "kind": "call"}).status_code == 401
    assert nobody.get("/").status_code == 200  # the page, which asks for a name


def test_wrong_passwords_and_tokens(make_app: MakeApp, users: Users) -> None:
    app = make_app(users=users)
    http = Reader(app).http
    for name, password in (("Ann", "wrong horse battery"), ("Nobody", PASSWORD)):
        answer = http.post("/api/session", json={"name": name, "password": password})
        assert (answer.status_code, "wrong name or password" in answer.text) == (401, True)
    token = users.issue_token("Bo")
    assert http.get("/api/slides", headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert http.get("/api/slides", headers={"authorization": f"Bearer {token}x"}).status_code == 401


def test_passwords_cannot_be_tried_for_ever(make_app: MakeApp) -> None:
    class Nobody(Users):
        def with_password(self, name: str, password: str) -> Any:  # as slow as a wrong one, but for the hashing
            from stride_monai.annotations import AccessError

            raise AccessError("wrong name or password")

    http = Reader(make_app(users=Nobody("none.json"))).http
    codes = [http.post("/api/session", json={"name": "Ann", "password": "x"}).status_code for _ in range(12)]
    assert codes == [401] * 8 + [429] * 4
    assert http.post("/api/session", json={"name": "Bo", "password": "x"}).status_code == 401


def test_the_cookie_is_out_of_reach(make_app: MakeApp) -> None:
    app = make_app()
    cookie = Reader(app).http.get("/api/session", headers={"cookie": ""}).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    from fastapi.testclient import TestClient

    answer = TestClient(app, base_url="https://localhost").get("/api/session")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-csrf-token": ""},
        {"x-csrf-token": "guessed"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_changes_nothing(make_app: MakeApp, headers: dict[str, str]) -> None:
    reader = Reader(make_app())
    reader.http.headers.update(headers)
    assert reader.send(kind="call", after="NILM").status_code == 403
    assert reader.slide()["slide"]["call"] is None


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.evil:8040"])
def test_another_name_for_this_machine_is_refused(make_app: MakeApp, host: str) -> None:
    answer = Reader(make_app()).http.get("/api/session", headers={"host": host})
    assert answer.status_code == 421
    assert "set-cookie" not in answer.headers


def test_every_answer_has_a_strict_policy(make_app: MakeApp) -> None:
    http = Reader(make_app()).http
    for path in ("/", "/api/slides", "/static/js/main.js", "/nothing", f"/api/slides/{ONE}/tiles/9/0/0"):
        headers = http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert http.get("/api/slides").headers["cache-control"] == "no-store"


def test_large_bodies_are_refused(make_app: MakeApp) -> None:
    reader = Reader(make_app())
    assert reader.send(kind="call", after="x" * 100_000).status_code == 413
    chunks = (b'{"uuid": "', *(b"x" * 4096 for _ in range(40)))
    headers = {"content-type": "application/json"}
    assert reader.http.post(f"/api/slides/{ONE}/actions", content=iter(chunks), headers=headers).status_code == 413
    assert reader.http.post("/api/session", content=b"{}", headers={"content-length": "-5"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fetc%2fpasswd/tiles/9/0/0", "%2e%2e/tiles/9/0/0", "..%5c..%5cwindows/tiles/9/0/0", "%00/tiles/9/0/0",
        "%2fetc%2fpasswd", "slide%20one%00.tiff", "slide%20one::$DATA", "slide%20one%2f..", "slide%20one.tiff",
        "%252e%252e%252fetc", "slide%20one/crops/..%2f..%2fx", "slide%20one/crops/label", "slide%20one/label",
        "slide%20one/macro", "slide%20one/tiles/9/0/99",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_slides(make_app: MakeApp, path: str) -> None:
    answer = Reader(make_app()).http.get(f"/api/slides/{path}")
    assert answer.status_code in {404, 422}
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/texts/..%2fapp.py", "/static//etc/passwd"]
)
def test_no_file_of_the_package_is_served(make_app: MakeApp, path: str) -> None:
    answer = Reader(make_app()).http.get(path)
    assert answer.status_code == 404
    assert "import" not in answer.text


@pytest.mark.parametrize(
    "action",
    [
        {"kind": "label", "cell_id": "c0", "after": "nonsense"},
        {"kind": "sing"},
        {"kind": "label", "after": "LSIL"},
        {"kind": "call", "after": {"deep": [1, 2]}},
        {"kind": "descriptions", "cell_id": "c0", "after": {"chosen": ["invented"]}},
        {"kind": "descriptions", "cell_id": "c0", "after": {"typed": "\ud800"}},
        {"kind": "call", "after": "NILM", "uuid": "no uuid"},
        {"kind": "call", "after": "NILM", "seconds": -1},
        {"kind": "box_added", "cell_id": "c0", "after": [1e400, 0, 1, 1]},
        {"kind": "call", "after": "NILM", "who": "somebody else"},
    ],
)
def test_what_is_no_action_is_refused_in_words(make_app: MakeApp, action: dict[str, Any]) -> None:

    reader = Reader(make_app())
    body = json.dumps({"uuid": str(uuid.uuid4()), **action})
    headers = {"content-type": "application/json"}
    answer = reader.http.post(f"/api/slides/{ONE}/actions", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


def test_a_failure_of_ours_tells_nothing_of_the_server(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    reader = Reader(app)

    def broken(*_: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(app.state.review, "slides", broken)
    answer = reader.http.get("/api/slides")
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed", "advice": "its log says more"}
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_errors_name_no_folder(make_app: MakeApp, study: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from stride_monai.errors import OutputError

    app = make_app()

    def broken(*_: Any) -> None:
        raise OutputError(f"{study[0] / 'x'} is broken")

    monkeypatch.setattr(app.state.review, "slides", broken)
    assert str(study[0].parent) not in Reader(app).http.get("/api/slides").text


def test_it_can_be_mounted_below_another_app(make_app: MakeApp) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    outer = FastAPI()
    outer.mount("/review", make_app())
    http = TestClient(outer, base_url="http://localhost")
    assert "STRIDE review" in http.get("/review").text
    assert http.get("/review").url.path == "/review/"
    answer = http.get("/review/api/session")
    assert "Path=/review/" in answer.headers["set-cookie"]
    assert http.get("/review/api/slides").status_code == 200
    assert http.get("/review/static/js/main.js").status_code == 200
