"""Pages and figures of evaluations."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browser
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from stride_monai.evaluation.figures import style
from stride_monai.evaluation.figures.style import (
    drawable,
    drawn_names,
    new_figure,
    paper_style,
    png_of,
    save_for_paper,
)
from stride_monai.evaluation.page.page import Card, Page, PageFigure, PageTable, Section, page_html
from stride_monai.evaluation.study.part import names_tables
from stride_monai.findings import DISCLAIMER


class Parsed(HTMLParser):
    """Tags in order with their attributes; every tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@paper_style
def line() -> Figure:
    figure, axes = new_figure()
    axes.plot([0, 1], [1, 0])
    return figure


def some_page() -> Page:
    figure = line()
    sections = [
        Section(
            "roc",
            "ROC <b>",
            text=["A & B"],
            notes=["mind"],
            figures=[PageFigure("roc", figure, "The curve", "AUC 0.9")],
            tables=[PageTable("Rates", ["", "value"], [["<script>alert(1)</script>", "0.9"]], "Wilson")],
            cards=[Card("slide 'x\"", ["HSIL"], [(png_of(figure), "cell 1")])],
        )
    ]
    return Page("Évaluation <i>", "of x", sections, ["note"], [("AUC", "0.9", "0.8-1")])


def test_a_page_is_whole_escaped_and_loads_nothing() -> None:
    text = page_html(some_page())
    assert text == page_html(some_page())
    parsed = Parsed(text)
    assert not [tag for tag, _ in parsed.tags if tag in {"script", "link", "iframe", "b", "i"}]
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.findall(r"(?:https?:)?//", re.sub(r"data:image/png;base64,[^\"]+", "", text))
    assert sum(DISCLAIMER in one for one in parsed.texts) == 2
    assert "<script>alert(1)</script>" in parsed.texts


def test_a_page_can_be_read_by_a_screen_reader() -> None:
    parsed = Parsed(page_html(some_page()))
    assert ("html", {"lang": "en"}) in parsed.tags
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
    scopes = [attributes.get("scope") for tag, attributes in parsed.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(attributes["href"] or "").removeprefix("#") for tag, attributes in parsed.tags if tag == "a"]
    labels = [attributes["aria-labelledby"] for _, attributes in parsed.tags if "aria-labelledby" in attributes]
    assert {*links, *labels} <= set(ids)
    assert [tag for tag, _ in parsed.tags if tag in {"h1", "main", "nav"}] == ["nav", "main", "h1"]


WIDE = PageTable(
    "Readers",
    ["Reader", *(f"{name} (95 % interval)" for name in ("Sensitivity", "Specificity", "Kappa", "Weighted kappa")), "n"],
    [["sensitivity", *["0.123 (0.012 to 0.789)"] * 4, "1,000"], ["Dr. Müller-Lüdenscheidt", *["0.1"] * 4, "9"]],
)


def test_a_wide_table_breaks_no_word_and_fits_a_printed_page(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page_html(Page("Wide", "", [Section("t", "T", tables=[WIDE])])), encoding="utf-8")
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1100, "height": 900})
        page.goto(file.as_uri())
        heights = page.eval_on_selector_all("tbody th", "all => all.map(one => one.getClientRects()[0].height)")
        assert heights[0] < 40, "a name of one word stands on one line"
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 703, "height": 1000})  # A4 within its margins, at 96 dpi
        over = page.eval_on_selector_all(".scroll", "all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert max(over) <= 0, "what does not fit a printed page is lost"


def test_figures_are_saved_for_a_paper_and_alike_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_for_paper(tmp_path / name, {"line": line()})
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["line.pdf", "line.png", "line.svg"]
    for kind, begins in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        content = (tmp_path / "one" / f"line.{kind}").read_bytes()
        assert content.startswith(begins)
        assert content == (tmp_path / "two" / f"line.{kind}").read_bytes()
    assert b"/Type3" not in (tmp_path / "one" / "line.pdf").read_bytes()


@pytest.mark.parametrize(("text", "drawn"), [("Århus β", "Århus β"), ("x\U0001f9ec", "centre 2")])
def test_a_name_that_no_font_has_is_drawn_otherwise(text: str, drawn: str) -> None:
    assert drawable(text, "centre 2") == drawn


def font_of(text: str, path: Path) -> Path:
    """A font whose letters are squares."""
    letters = {ord(letter): f"square{k}" for k, letter in enumerate(text)}
    names = [".notdef", *letters.values()]
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyph = pen.glyph()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder(names)
    made.setupCharacterMap(letters)
    made.setupGlyf(dict.fromkeys(names, glyph))
    made.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(path)
    return path


def test_any_font_of_the_machine_that_has_the_letters_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Linear B, which no font of a laboratory's machine has: first without one, then with one."""
    name = "\U00010000\U00010001"
    monkeypatch.setattr(style, "_others", [])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    style._another.cache_clear()
    written = drawn_names(["Ost", name], "Centre")
    assert written == {"Ost": "Ost", name: "Centre 2"}
    (table,) = names_tables(written)
    assert [*table.rows] == [("Centre 2", name)]
    assert caplog.text == "", "the search tells of no weight that some font lacks"
    font_manager.fontManager.addfont(font_of(name, tmp_path / "squares.ttf"))
    style._another.cache_clear()
    assert drawn_names(["Ost", name], "Centre") == {"Ost": "Ost", name: name}
    assert names_tables({name: name}) == []
    assert style._others == ["Squares"]
    style._another.cache_clear()
