"""A page as plain values, and as one HTML file that opens anywhere and loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from stride_monai import __version__
from stride_monai.evaluation.figures.style import png_of
from stride_monai.findings import DISCLAIMER
from stride_monai.pages import template

__all__ = ["Card", "Page", "PageFigure", "PageTable", "Section", "page_html"]


class PageTable(NamedTuple):
    """A table.

    Attributes:
        caption: what it shows, a sentence.
        columns: headings. rows: cells as they are shown; the first of a row is its heading.
        note: beneath it, such as how the intervals were found.
        words: whether the cells are texts, not numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    words: bool = False


class PageFigure(NamedTuple):
    """A figure.

    Attributes:
        name: of its files. caption: what it shows.
        alternative: the same in words, for whoever cannot see it: the main numbers.
        wide: whether it takes the width of the page.
    """

    name: str
    figure: Figure
    caption: str
    alternative: str
    wide: bool = False


class Card(NamedTuple):
    """Something with pictures, such as a slide that was missed.

    Attributes:
        lines: beneath the title. pictures: JPEG or PNG with what each shows.
    """

    title: str
    lines: Sequence[str]
    pictures: Sequence[tuple[bytes, str]] = ()


class Section(NamedTuple):
    """A part of a page; ``key`` is the anchor that it is linked by. Notes are set off as what must not be missed."""

    key: str
    title: str
    text: Sequence[str] = ()
    notes: Sequence[str] = ()
    figures: Sequence[PageFigure] = ()
    tables: Sequence[PageTable] = ()
    cards: Sequence[Card] = ()


class Page(NamedTuple):
    """A page.

    Attributes:
        subtitle: beneath the title. notes: above everything else.
        key_figures: the few numbers that matter, as (name, value, remark).
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    key_figures: Sequence[tuple[str, str, str]] = ()
    disclaimer: str = DISCLAIMER


def page_html(page: Page) -> str:
    """The page as HTML text; the same page gives the same text."""
    made = template("stride_monai.evaluation.page", "page.html")
    return made.render(page=page, version=__version__, png=_png, picture=_picture)


def _png(figure: Figure) -> str:
    return _uri(png_of(figure), "png")


def _picture(content: bytes) -> str:
    return _uri(content, "png" if content.startswith(b"\x89PNG") else "jpeg")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
