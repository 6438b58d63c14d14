"""The page in a real browser: a phantom slide is read, by keyboard and by mouse, and everything is found again.

The pictures of docs/review.md are made here: ``STRIDE_SCREENSHOTS=docs/figures pytest tests/review/test_page.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, serious_faults
from extras import needs

needs("fastapi", "review")
from annotation_samples import full_disk  # noqa: E402
from review_client import Reader  # noqa: E402
from review_samples import running, write_phantom_study  # noqa: E402

from stride_monai.annotations import Action, AnnotationStore, Kind, Role, Users, export_cohort  # noqa: E402
from stride_monai.data import SlideRecord, read_cells  # noqa: E402
from stride_monai.review import create_app  # noqa: E402

pytestmark = pytest.mark.slow
SLIDE = "phantom slide"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A field of a phantom with twelve lesion cells, as a screened slide."""
    return write_phantom_study(tmp_path_factory.mktemp("phantom"), SLIDE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with AnnotationStore(tmp_path / "annotations.sqlite") as opened:
        yield opened


@pytest.fixture
def open_page(chromium: Any, study: tuple[Path, Path], store: AnnotationStore) -> Iterator[Callable[..., Any]]:
    """``open_page(**options of create_app)`` gives the page once it is ready; nothing may go wrong in its console."""
    closing: list[Any] = []
    wrong: list[str] = []

    def open_it(ready: bool = True, **options: Any) -> Any:
        server = running(create_app(*study, store, **options))
        address = server.__enter__()
        context = chromium.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
        closing.append((context, server))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        if ready:
            wait_ready(page)
        page.expected = []
        return page

    yield open_it
    for context, server in reversed(closing):
        expected = [text for page in context.pages for text in getattr(page, "expected", [])]
        unexpected = [text for text in wrong if not any(known in text for known in expected)]
        context.close()
        server.__exit__(None, None, None)
        assert not unexpected


def is_wrong(said: Any) -> bool:
    """An error in the console; that OpenSeadragon was told to drop a tile is none."""
    return said.type == "error" and not said.text.endswith("- error: Image load aborted.")


def wait_ready(page: Any) -> None:
    page.wait_for_selector("html[data-ready]")
    wait_painted(page)


def wait_painted(page: Any) -> None:
    """Until the slide's middle is no longer the color of the empty view."""
    page.wait_for_function(
        """() => { const canvas = document.querySelector('.openseadragon-canvas canvas');
        if (!canvas || !canvas.width) return false;
        const data = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 8, 8).data;
        return [...data].some((value) => value > 0); }"""
    )


def wait_saved(page: Any) -> None:
    page.wait_for_function("() => document.getElementById('saved').className === 'saved'")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def shot(page: Any, name: str) -> None:
    """A picture for the documentation."""
    if "STRIDE_SCREENSHOTS" not in os.environ:
        return
    page.wait_for_timeout(900)  # the view comes to rest
    page.screenshot(path=Path(os.environ["STRIDE_SCREENSHOTS"]) / f"review-{name}.jpg", type="jpeg", quality=70)


def labels(page: Any) -> list[str]:
    """What the gallery says of each cell in words."""
    said: list[str] = page.eval_on_selector_all("#gallery button", "all => all.map((one) => one.textContent)")
    return said


def kinds(store: AnnotationStore) -> list[tuple[str, Any]]:
    return [(action.kind.value, action.after) for action in store.actions(SLIDE)]


def test_a_slide_is_read_by_keyboard_and_everything_is_found_again(
    open_page: Callable[..., Any], store: AnnotationStore, study: tuple[Path, Path], tmp_path: Path
) -> None:
    page = open_page()
    assert page.inner_text("#progress-text") == "0 of 12 read"
    zoom = "() => document.querySelector('#scale span').textContent"
    before = page.evaluate(zoom)
    press(page, "-", "-", "-")
    page.wait_for_function(f"() => document.querySelector('#scale span').textContent !== {before!r}")
    press(page, "4", "x", "c", "u")
    wait_saved(page)
    read = [after for kind, after in kinds(store) if kind == "label"]
    assert read[:2] == ["ASC-H/HSIL", "not_a_lesion"]
    assert read[3] == "cannot_tell"
    press(page, "e", " ", "ArrowDown", "ArrowDown", " ", "Escape")
    page.fill("#words textarea", "dark, notched <i>nucleus</i> 核")
    press(page, "Escape")
    press(page, "a")
    page.focus('[data-key="adequacy-satisfactory"]')
    press(page, "Enter")
    page.focus('[data-key="call-HSIL"]')
    press(page, "Enter", "Escape")
    wait_saved(page)
    shot(page, "reading")
    page.reload()
    wait_ready(page)
    assert ["unread" not in said for said in labels(page)] == [True] * 4 + [False] * 8
    assert page.get_attribute('[data-key="call-HSIL"]', "aria-pressed") == "true"
    assert page.get_attribute('[data-key="adequacy-satisfactory"]', "aria-pressed") == "true"
    assert page.input_value("#words textarea") == "dark, notched <i>nucleus</i> 核"
    assert page.locator("#words input:checked").count() == 2
    cell = store.state(SLIDE).cells[next(iter(store.state(SLIDE).cells))]
    assert cell.label == "ASC-H/HSIL"
    assert all(action.seconds >= 0 and not action.blind for action in store.actions(SLIDE))
    assert "min left" in page.inner_text("#progress-text")
    page.click("#export")
    with page.expect_download() as downloaded:
        page.click("#dialog a[download$=geojson]")
    features = json.loads(downloaded.value.path().read_text(encoding="utf-8"))["features"]
    names = [feature["properties"].get("classification", {}).get("name") for feature in features]
    assert len(names) == 12
    assert "ASC-H/HSIL" in names
    export_cohort([store.state(SLIDE)], [SlideRecord(SLIDE, next(study[1].iterdir()), mpp=0.25)], tmp_path / "cohort")
    to_train_on = {cell.label for cell in read_cells(tmp_path / "cohort" / "cells.csv")}
    assert {"ASC-H/HSIL", "NILM"} <= to_train_on


def test_a_missed_cell_is_drawn_by_keyboard_moved_and_removed(
    open_page: Callable[..., Any], store: AnnotationStore
) -> None:
    page = open_page()
    press(page, "d")
    assert "Enter" in page.inner_text("#mode")
    press(page, *["Alt+ArrowRight"] * 3, *["Shift+ArrowDown"] * 5, "Enter", "2")
    wait_saved(page)
    assert [kind for kind, _ in kinds(store)] == ["box_added", "label"]
    x0, y0, x1, y1 = kinds(store)[0][1]
    assert x1 - x0 == pytest.approx(120, abs=0.3)  # 30 um at 0.25 um/px
    assert y1 - y0 == pytest.approx(140, abs=0.3)  # 5 um more
    page.locator("#gallery li").last.locator("button").click()
    press(page, "m", "ArrowLeft", "ArrowLeft", "Enter")
    wait_saved(page)
    assert kinds(store)[-1] == ("box_moved", pytest.approx([x0 - 8, y0, x1 - 8, y1], abs=0.3))
    press(page, "Delete")
    wait_saved(page)
    assert kinds(store)[-1] == ("box_removed", None)
    assert page.locator("#gallery li").count() == 12
    press(page, "z")
    wait_saved(page)
    page.wait_for_function("() => document.querySelectorAll('#gallery li').length === 13")


def test_pictures_that_are_not_wanted_any_more_are_called_off(open_page: Callable[..., Any]) -> None:
    """A picture of the old place of a box, asked for and not yet made, when the box is moved and then removed."""
    page = open_page()
    late: list[Any] = []
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
    page.route("**/crops/a*", lambda route: route.continue_() if late else late.append(route))
    press(page, "d", "Enter")
    wait_saved(page)
    page.locator("#gallery li").last.locator("button").click()
    while not late:
        page.wait_for_timeout(50)
    press(page, "m", "ArrowLeft", "Enter")
    wait_saved(page)
    press(page, "Delete")
    wait_saved(page)
    late[0].continue_()
    page.wait_for_timeout(500)
    assert not refused
    assert page.locator("#gallery li").count() == 12


def test_a_box_is_drawn_with_the_mouse_where_the_mouse_is(
    open_page: Callable[..., Any], store: AnnotationStore
) -> None:
    page = open_page()
    page.wait_for_timeout(800)
    box = page.locator("#viewer").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    first = store.state(SLIDE).present[0].box
    assert first is not None
    page.click("#draw")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=6)
    shot(page, "drawing")
    page.mouse.up()
    page.wait_for_selector("#gallery li:nth-child(13)")
    wait_saved(page)
    (kind, drawn), *_ = kinds(store)
    assert kind == "box_added"
    assert drawn[:2] == pytest.approx(first.center, abs=4)  # the cell in hand is in the middle of the view
    assert (drawn[2] - drawn[0]) / (drawn[3] - drawn[1]) == pytest.approx(1.5, abs=0.1)
    assert page.inner_text("#cell h2") == "Drawn cell"
    press(page, "ArrowLeft")  # moves the view, as the slide has the focus
    press(page, "k")
    page.wait_for_function("() => document.querySelector('#cell h2').textContent !== 'Drawn cell'")


def test_a_drawn_cell_is_pictured_once_the_server_knows_it(open_page: Callable[..., Any]) -> None:
    page = open_page()
    asked: list[str] = []
    held: list[Any] = []
    page.on("request", lambda request: asked.append(request.url) if "/crops/a" in request.url else None)
    page.route("**/actions", lambda route: held.append(route))
    press(page, "d", "Enter")
    page.wait_for_selector("#gallery li:nth-child(13)")
    page.wait_for_timeout(500)
    assert len(held) == 1
    assert not asked
    held[0].continue_()
    wait_saved(page)
    page.wait_for_function("() => document.querySelector('#gallery li:nth-child(13) img').naturalWidth > 0")
    assert len(asked) == 1


def test_undo_and_redo(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page()
    press(page, "1", "3")
    wait_saved(page)
    press(page, "z")
    wait_saved(page)
    assert [cell.label for cell in store.state(SLIDE).present][:2] == ["NILM", None]
    press(page, "Control+z")
    wait_saved(page)
    assert [cell.label for cell in store.state(SLIDE).present][:2] == [None, None]
    press(page, "y", "Control+y")
    wait_saved(page)
    assert [cell.label for cell in store.state(SLIDE).present][:2] == ["NILM", "LSIL"]
    page.wait_for_function("() => document.querySelectorAll('#gallery .read:not(.none)').length === 2")


def test_blind_work(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page(blind=True)
    assert page.inner_text("#blind") == "Blind"
    text = page.inner_text("body")
    for word in ("Detector", "%", "positive", "Confirm", "model"):
        assert word not in text, word
    press(page, "c", "5")  # there is nothing to confirm
    wait_saved(page)
    (action,) = store.actions(SLIDE)
    assert (action.after, action.blind) == ("AGC", True)
    shot(page, "blind")


def test_a_disagreement_is_settled(
    open_page: Callable[..., Any], store: AnnotationStore, tmp_path: Path, study: tuple[Path, Path]
) -> None:
    users = Users(tmp_path / "users.json")
    users.add("Chief", PASSWORD, Role.ADMIN)
    cell = Reader(create_app(*study, store)).cell(0, SLIDE)["id"]
    for who, label in (("Ann", "LSIL"), ("Bo", "ASC-H/HSIL")):
        store.append(Action(who, SLIDE, Kind.LABEL, cell, None, label))
    page = open_page(ready=False, users=users, double_read=True)
    page.wait_for_selector("#dialog form")
    page.expected.append("401")
    page.fill('[name="name"]', "Chief")
    page.fill('[name="password"]', "wrong horse battery")
    press(page, "Enter")
    page.wait_for_selector(".wrong:not(:empty)")
    page.fill('[name="password"]', PASSWORD)
    press(page, "Enter")
    wait_ready(page)
    assert page.inner_text("#disagreements") == "Disagreements (1)"
    press(page, "g")
    page.wait_for_selector("#dialog table")
    assert "Ann: LSIL" in page.inner_text("#dialog")
    shot(page, "disagreements")
    page.focus("#dialog td button")
    press(page, "Enter")
    page.wait_for_selector("#settle:not([hidden])")
    shot(page, "settling")
    press(page, "r", "4")
    wait_saved(page)
    settled = store.actions(SLIDE)[-1]
    assert (settled.who, settled.kind, settled.after) == ("Chief", Kind.ARBITRATION, "ASC-H/HSIL")
    page.wait_for_function("() => document.getElementById('disagreements').textContent === 'Disagreements (0)'")


def test_nothing_is_lost_while_the_server_cannot_be_reached(
    open_page: Callable[..., Any], store: AnnotationStore
) -> None:
    page = open_page()
    page.expected += ["ERR_FAILED", "Failed to load"]
    page.route("**/actions", lambda route: route.abort())
    press(page, "1", "2", "3")
    page.wait_for_selector("#saved.failed")
    page.wait_for_function("() => document.getElementById('saved').textContent.includes('3 waiting')")
    assert store.actions(SLIDE) == []
    page.on("dialog", lambda asked: asked.accept())  # "leave the page?"
    page.unroute("**/actions")
    page.reload()  # the page is closed before it could send
    wait_ready(page)
    wait_saved(page)
    assert [action.after for action in store.actions(SLIDE)] == ["NILM", "ASC-US", "LSIL"]
    page.wait_for_function("() => document.querySelectorAll('#gallery .read:not(.none)').length === 3")


def test_a_full_disk_is_said_and_nothing_is_lost(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page()
    page.expected.append("507 (Insufficient Storage)")
    press(page, "1")
    wait_saved(page)
    with full_disk(store, SLIDE, store.state(SLIDE).present[0].cell_id):
        kept = store.actions()
        press(page, "2", "3")
        page.wait_for_selector("#saved.failed")
        assert page.inner_text("#saved") == "The server cannot save: 2 waiting, none lost"
        assert "is full: make room on it" in page.inner_text(".note.bad")
        page.wait_for_timeout(2500)  # it has tried again
        press(page, "4")
        assert page.locator(".note.bad").count() == 1  # said once
        assert store.actions() == kept
    wait_saved(page)
    mine = [action.after for action in store.actions(SLIDE) if action.who == "reader"]
    assert mine == ["NILM", "ASC-US", "LSIL", "ASC-H/HSIL"]
    page.reload()
    wait_ready(page)
    assert page.locator("#gallery .read:not(.none)").count() == 4


def test_a_server_that_began_anew_is_no_loss(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page()
    page.expected += ["401", "403", "failed to load"]
    page.context.clear_cookies()
    press(page, "1")
    wait_saved(page)
    page.evaluate("() => fetch('api/session')")  # another tab
    page.context.clear_cookies()
    page.evaluate("() => fetch('api/session').then((answer) => answer.json())")
    press(page, "2")
    page.wait_for_function("() => document.querySelectorAll('#gallery .read:not(.none)').length === 2")
    wait_saved(page)
    assert [action.after for action in store.actions(SLIDE)] == ["NILM", "ASC-US"]


def test_an_answer_that_got_lost_keeps_one_action(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page()
    page.expected += ["ERR_FAILED", "Failed to load"]

    def lose(route: Any) -> None:
        route.fetch()  # the server keeps it
        route.abort()

    page.route("**/actions", lose)
    press(page, "1")
    page.wait_for_selector("#saved.failed")
    page.unroute("**/actions")
    wait_saved(page)
    assert len(store.actions(SLIDE)) == 1


def test_what_another_tab_did_is_shown_not_overwritten(open_page: Callable[..., Any], store: AnnotationStore) -> None:
    page = open_page()
    page.expected.append("409")
    cell = store.state(SLIDE).present[0].cell_id
    store.append(Action("reader", SLIDE, Kind.LABEL, cell, None, "AGC"))
    press(page, "1")
    page.wait_for_selector(".note.bad")
    page.wait_for_function("() => document.querySelector('#gallery .read .name').textContent === 'AGC'")
    assert len(store.actions(SLIDE)) == 1


def test_filters_and_the_gallery_by_keyboard(open_page: Callable[..., Any]) -> None:
    page = open_page()
    press(page, "4", "x")
    wait_saved(page)
    page.select_option("#filter-state", "reviewed")
    assert page.inner_text("#shown-count") == "2 of 12 cells"
    page.select_option("#filter-label", "not_a_lesion")
    assert page.locator("#gallery li:visible").count() == 1
    page.select_option("#filter-state", "")
    page.select_option("#filter-label", "")
    page.focus('#gallery button[tabindex="0"]')
    start = page.evaluate("document.activeElement.textContent")
    press(page, "ArrowRight", "ArrowRight")
    assert page.evaluate("document.activeElement.textContent") != start
    assert page.locator('#gallery button[tabindex="0"]').count() == 1
    press(page, "b")
    assert page.get_attribute("#show-boxes", "aria-pressed") == "false"


def test_everything_has_a_key_and_both_languages(open_page: Callable[..., Any]) -> None:
    page = open_page()
    press(page, "?")
    page.wait_for_selector("#dialog[open]")
    shot(page, "keys")
    assert page.locator(".keys div").count() >= 25
    press(page, "Escape")
    press(page, "l")
    page.wait_for_selector('html[lang="zh-CN"]')
    assert page.inner_text("#saved") == "已全部保存"
    assert "非病变" in page.inner_text("#cell")
    page.reload()
    wait_ready(page)
    assert page.get_attribute("html", "lang") == "zh-CN"  # it is remembered


def test_tiles_that_are_no_longer_wanted_are_dropped_in_silence(open_page: Callable[..., Any]) -> None:
    page = open_page()
    late, again = [], []
    page.on("request", lambda one: again.append(one.url) if one.resource_type == "fetch" else None)
    page.route("**/tiles/**", lambda route: late.append(route))  # they do not come
    press(page, "h", "-", "-", "+", "+", "+", "+")
    while not late:
        page.wait_for_timeout(50)
    press(page, "s")
    page.click("#dialog td button")  # the same slide anew: the view is closed while its tiles are on their way
    page.unroute("**/tiles/**")
    page.wait_for_function("() => !document.getElementById('dialog').open")
    wait_painted(page)
    page.wait_for_timeout(300)
    assert not any("/tiles/" in url for url in again)
    assert page.locator(".note").count() == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_no_serious_fault(open_page: Callable[..., Any], language: str) -> None:
    page = open_page()
    if language == "zh":
        press(page, "l")
        page.wait_for_selector('html[lang="zh-CN"]')
    assert serious_faults(page) == []
    press(page, "1", "d")
    assert serious_faults(page) == []
    press(page, "Escape", "?")
    page.wait_for_selector("#dialog[open]")
    assert serious_faults(page) == []


def test_axe_finds_no_serious_fault_at_the_door(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(ready=False, users=Users(tmp_path / "users.json"))
    page.wait_for_selector("#dialog form")
    assert serious_faults(page) == []
