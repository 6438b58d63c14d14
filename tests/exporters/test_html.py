"""The HTML report, parsed: the facts are there, nothing is loaded from elsewhere, no text becomes markup."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser

import pytest
from findings_samples import make_findings, make_jpeg, make_pictures

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.exporters import html
from stride_monai.exporters.view import view_of
from stride_monai.findings import (
    DISCLAIMER,
    Described,
    Description,
    Findings,
    OperatingPoint,
    Pictures,
    SlideStatus,
)
from stride_monai.units import Box

VOID = {"meta", "img", "rect", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes, all text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def with_class(self, name: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.elements if name in attrs.get("class", "").split()]

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]


def page_of(findings: Findings, pictures: Pictures | None = None) -> Page:
    return Page(html.page(findings, pictures or make_pictures(findings)))


def test_the_report_states_the_facts() -> None:
    findings = make_findings(cells=40)
    page = page_of(findings)
    assert page.texts.count(DISCLAIMER) == 2
    assert DISCLAIMER in page.text[:200]
    assert page.text.rstrip().endswith(DISCLAIMER)
    for fact in (
        "positive",
        "0.940 is at or above the threshold 0.412",
        "specificity at sensitivity 0.95, 40 synthetic validation slides",
        "trained on synthetic slides",
        "0.25, given by the user",
        "0.499",
        "6,789",
        "2 regions were not examined.",
        "9f2c1e0b77aa4410",
        "Most probable class: HSIL",
    ):
        assert fact in page.text, fact
    for name, value in zip(SLIDE_CLASSES, ("0.060", "0.040", "0.080", "0.110", "0.690", "0.020"), strict=True):
        assert f"{name} {value}" in page.text
    for count, name in zip((8, 8, 8, 8, 8), CELL_CLASSES, strict=True):
        assert f"{name}: {count}" in page.text


def test_weights_are_short_with_the_whole_digest_at_hand() -> None:
    page = page_of(make_findings())
    assert "a3" * 8 in page.texts
    assert "a3" * 32 in [attrs.get("title") for tag, attrs in page.elements if tag == "code"]


def test_gallery_has_the_first_32_and_each_meets_its_mark() -> None:
    findings = make_findings(cells=40)
    page = page_of(findings)
    assert len(page.with_class("card")) == 32
    assert len(page.with_class("mark")) == 40
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for tag, attrs in page.elements if tag == "a"]
    assert sorted(links) == sorted(f"{kind}-{rank}" for kind in ("mark", "cell") for rank in range(1, 33))
    assert set(links) <= set(ids)
    first = findings.cells[0]
    label = f"Cell 1: {first.cell_class}, probability 0.800, detector score 0.999"
    assert label in page.texts


def test_each_cell_of_the_gallery_has_its_words_and_a_contradiction_is_marked_in_words() -> None:
    findings = make_findings(cells=40)
    page, shown = page_of(findings), findings.cells[:32]
    words = [text for cell in shown for text in cell.descriptions]
    for text in {text.text for text in words}:
        assert page.texts.count(text) == sum(other.text == text for other in words)
    contradictions = [cell for cell in shown for text in cell.descriptions if not text.fits_class]
    assert len(contradictions) == 4
    assert len(page.with_class("against")) == 4
    for cell in contradictions:
        assert f"Contradicts {cell.cell_class}" in page.texts
    assert "4 of these cells have a description that contradicts the class" in page.text
    without = sum(not cell.descriptions for cell in shown)
    assert page.texts.count("No description above 0.31") == without > 0


def test_cells_that_were_not_described_are_said_to_be() -> None:
    findings = make_findings(cells=3)
    cells = tuple(dataclasses.replace(cell, descriptions=()) for cell in findings.cells)
    page = page_of(dataclasses.replace(findings, cells=cells, described=Described(False, "no weights")))
    assert "Cells are not described: no weights." in page.texts
    assert page.texts.count("Not described") == 3


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = html.page(make_findings(), make_pictures(make_findings()))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text.replace("// A card", ""))
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in {"link", "iframe", "object", "embed", "base"}]
    for tag, attrs in page.elements:
        assert attrs.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attrs, tag
        assert attrs.get("href", "#").startswith("#")
    policy = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none'")


def test_pictures_have_alternative_texts_and_class_names_go_with_colors() -> None:
    findings = make_findings()
    page = page_of(findings)
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(images) == 33
    assert all(attrs["alt"] for attrs in images)
    for cell, attrs in zip(findings.cells[:32], images[1:], strict=True):
        assert f"Cell {cell.rank}, {cell.cell_class}" in attrs["alt"]


@pytest.mark.parametrize(
    "nasty", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b <i>'x'", "{{ 7*7 }}"]
)
def test_markup_in_names_stays_text(nasty: str) -> None:
    findings = make_findings(cells=2, slide_id=nasty, file_name=nasty, reason=nasty, status=SlideStatus.UNSATISFACTORY)
    provenance = dataclasses.replace(
        findings.provenance, weights_note=nasty, requested={nasty: nasty}, used={nasty: [nasty]}, weights={nasty: nasty}
    )
    cells = (dataclasses.replace(findings.cells[0], descriptions=(Description(nasty, 0.5, False),)),)
    point = OperatingPoint(0.5, 8, nasty)
    quality = dataclasses.replace(findings.quality, notes=(nasty,))
    findings = dataclasses.replace(findings, provenance=provenance, cells=cells, operating_point=point, quality=quality)
    text = html.page(findings, make_pictures(findings))
    plain, page = page_of(make_findings(cells=1)), Page(text)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"small"}
    assert text.count("<script") == 1
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert nasty in page.texts


def test_scale_bar_and_box_have_their_physical_size() -> None:
    findings = make_findings(cells=1)
    crop = view_of(findings, make_pictures(findings)).cards[0].crop
    assert crop is not None
    # 128 px at 0.5 um/px show 64 um; the longest round bar within a third of that is 20 um = 40 px.
    assert (crop.bar_label, crop.bar_px) == ("20 µm", 40.0)
    # 80 x 60 px at 0.25 um/px are 20 x 15 um = 40 x 30 px, centred.
    assert crop.box == pytest.approx((44.0, 49.0, 40.0, 30.0))


def test_marks_lie_on_their_cells_and_are_never_too_small_to_see() -> None:
    findings = make_findings(cells=3)
    overview = view_of(findings, make_pictures(findings)).overview
    for cell, mark in zip(findings.cells, overview.shown, strict=True):
        assert (mark.x + mark.width / 2, mark.y + mark.height / 2) == pytest.approx(cell.box.center, abs=0.1)
        assert mark.width >= 0.01 * overview.width


def test_many_cells_are_not_all_marked_and_the_report_says_so() -> None:
    page = page_of(make_findings(cells=1200))
    assert len(page.with_class("mark")) == 1024
    assert "Mark the other 992 cells as well (176 more are not marked)" in page.text


def test_no_cell_at_all() -> None:
    page = page_of(make_findings(cells=0))
    assert "Nothing found" in page.text
    assert "no call" in page.text
    assert "there is nothing to decide from" in page.text
    assert page.with_class("card") == []


def test_unsatisfactory_with_its_reason_and_without_overview() -> None:
    findings = make_findings(cells=0, status=SlideStatus.UNSATISFACTORY, reason="no deposit was found on the slide")
    page = page_of(findings, Pictures(b"", 1.0, 0.5))
    assert "Unsatisfactory. no deposit was found on the slide" in page.text
    assert "No overview picture is available" in page.text


def test_a_low_score_on_an_unsatisfactory_slide_is_no_negative_call() -> None:
    page = page_of(make_findings(status=SlideStatus.UNSATISFACTORY, reason="few cells", score=0.1, call=None))
    assert "no call" in page.text
    assert "0.100 is below the threshold 0.412, but what cannot be judged is not called negative." in page.text


def test_ranks_on_the_overview_do_not_cover_each_other() -> None:
    base = make_findings(cells=32)
    # Ten cells on one spot and the others in a row, closer together than their ranks are wide.
    heap = [dataclasses.replace(c, box=Box(4000, 3000, 4080, 3060)) for c in base.cells[:10]]
    row = [dataclasses.replace(c, box=Box(60 * c.rank, 100, 60 * c.rank + 50, 150)) for c in base.cells[10:]]
    findings = dataclasses.replace(base, cells=(*heap, *row))
    overview = view_of(findings, make_pictures(findings)).overview
    tags = {tag.rank: tag for tag in overview.tags}
    assert 1 in tags
    assert 11 in tags
    assert len(tags) < 32
    places = [(t.x, t.y, 0.6 * overview.font * len(str(t.rank)), 0.75 * overview.font) for t in overview.tags]
    for i, (x, y, width, height) in enumerate(places):
        for other_x, other_y, other_width, _ in places[:i]:
            assert abs(x - other_x) >= (width + other_width) / 2 or abs(y - other_y) >= height


def test_missing_and_damaged_crops_are_said_not_shown() -> None:
    findings = make_findings(cells=3)
    pictures = Pictures(b"no picture", 20.0, 0.5, {1: make_jpeg(128, 128), 2: b"\xff\xd8 damaged"})
    page = page_of(findings, pictures)
    assert page.text.count("No picture: the region could not be read") == 2
    assert "No overview picture is available" in page.text
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 1


def test_options_side_by_side() -> None:
    options = {option.name: option for option in view_of(make_findings(), make_pictures(make_findings())).options}
    assert (options["device"].requested, options["device"].used, options["device"].differs) == ("auto", "cpu", False)
    assert (options["mpp"].requested, options["mpp"].used) == ("0.25", "0.25")
    assert (options["profile"].requested, options["profile"].differs) == ("not given", False)
    assert (options["top_k"].requested, options["top_k"].used) == ("not given", "256")
    assert not options["mpp"].differs
    provenance = dataclasses.replace(
        make_findings().provenance, requested={"reader": "openslide"}, used={"reader": "tiff"}
    )
    (reader,) = view_of(make_findings(provenance=provenance), make_pictures(make_findings())).options
    assert reader.differs


def test_an_operating_point_that_is_not_set_is_said() -> None:
    page = page_of(make_findings(operating_point=OperatingPoint(math.nan, 64, "")))
    assert "Threshold not set" in page.text
    assert "no call" in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_what_was_read_is_shown_and_laid_over_the_slide() -> None:
    areas = {"glass": 2.0, "read": 5.0, "out_of_focus": 0.5, "unreadable": 0.0, "bubble": 0.25, "pen": 0.25}
    base = make_findings()
    quality = dataclasses.replace(base.quality, areas_mm2=areas, cells_interval=(5000, 9100), foreground_mm2=5.5)
    findings = dataclasses.replace(base, quality=quality)
    pictures = dataclasses.replace(make_pictures(findings), ground=b"a picture")
    page = page_of(findings, pictures)
    shown = [attrs for tag, attrs in page.elements if tag == "img" and "map" in attrs.get("class", "")]
    over = [attrs for tag, attrs in page.elements if tag == "img" and attrs.get("class") == "read"]
    assert len(shown) == len(over) == 1
    assert shown[0]["src"] == over[0]["src"] == "data:image/png;base64,YSBwaWN0dXJl"
    for words in ("read: 5.00 mm²", "read, out of focus: 0.50 mm²", "air bubble: 0.25 mm²", "no deposit: 2.00 mm²"):
        assert words in page.text
    assert "could not be decoded" not in page.text, "nothing was"
    assert "6,789 (5,000 to 9,100)" in page.text
    assert "9 % of the deposit" in page.text
    without = page_of(findings)
    assert [attrs for tag, attrs in without.elements if attrs.get("id") == "show-read"] == []
    assert "read: 5.00 mm²" in without.text
