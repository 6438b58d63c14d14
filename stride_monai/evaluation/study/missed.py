"""The lesions that were missed, gravest first, with the cells that the system showed instead."""

from __future__ import annotations

import base64
import binascii
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stride_monai.bethesda import ABNORMAL, SEVERITY, SLIDE_CLASSES
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import Card, PageTable, Section
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part

__all__ = ["gallery_of", "missed_part"]

_CARDS = 24  # slides with pictures
_PICTURES = 8  # of each
_ROWS = 40  # of the table on the page; the CSV file has all


class Missed(NamedTuple):
    """A positive slide that was called negative."""

    slide_id: str
    label: str
    score: float
    predicted: str


def missed_part(cohort: JudgedCohort, calls: Calls) -> Part:
    """Positive slides that were called negative: by severity, then by score."""
    places = np.flatnonzero(cohort.positive & (calls.call == 0))
    slides = [
        Missed(
            str(cohort.slide_id[k]),
            str(cohort.label[k]),
            float(cohort.score[k]),
            SLIDE_CLASSES[cohort.predicted[k]] if cohort.predicted[k] >= 0 else "",
        )
        for k in places
    ]
    slides.sort(key=lambda one: (-SEVERITY.get(one.label, 0), one.score, one.slide_id))
    heads = ("slide_id", "label", "score", "class")
    rows = [(*one[:2], "" if np.isnan(one.score) else round(one.score, 6), one.predicted) for one in slides]
    text = [f"{counted(len(slides), 'lesion')} of {int((cohort.positive & calls.known).sum()):,} missed."]
    if not slides:
        text = ["No lesion was called negative."]
    cards = []
    if cohort.results is not None and slides:
        cards = [_card(cohort.results, one) for one in slides[:_CARDS]]
        text.append(
            f"Pictures are the {_PICTURES} most suspicious cells of the slide's own report"
            + (f", for the first {_CARDS} slides." if len(slides) > _CARDS else ".")
        )
    by_label = {label: sum(one.label == label for one in slides) for label in (*SEVERITY, ABNORMAL)}
    numbers = {"count": len(slides), "by_label": {label: count for label, count in by_label.items() if count}}
    tables = []
    if slides:
        shown = [
            (s, label, f"{score:.4g}" if score != "" else "–", named or "–") for s, label, score, named in rows[:_ROWS]
        ]
        more = f"The first {_ROWS} of {len(rows):,}; missed.csv has all." if len(rows) > _ROWS else ""
        tables = [PageTable("Lesions that were called negative", ("slide", "diagnosis", "score", "class"), shown, more)]
    return Part(
        "missed",
        numbers,
        Section("missed", "Missed lesions", text, tables=tables, cards=cards),
        {"missed": (heads, rows)},
    )


def _card(results: Path, one: Missed) -> Card:
    lines = [f"{one.label}, score {one.score:.3f}" + (f", named {one.predicted}" if one.predicted else "")]
    pictures = gallery_of(results / one.slide_id / "report.html", _PICTURES)
    if not pictures:
        lines.append("no pictures: the slide has no report.html with a gallery")
    return Card(one.slide_id, lines, pictures)


def gallery_of(report: Path, most: int) -> list[tuple[bytes, str]]:
    """The first pictures of the gallery in a slide's ``report.html``, and what each shows; none without the file."""
    try:
        text = report.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    found = _Gallery(most)
    found.feed(text)
    return found.pictures


class _Gallery(HTMLParser):
    """Pictures within elements of the class ``card``."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.pictures: list[tuple[bytes, str]] = []
        self._most, self._inside = most, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "li":
            self._inside = "card" in (attributes.get("class") or "").split()
        kind, _, content = (attributes.get("src") or "").partition(",")
        if tag == "img" and self._inside and kind == "data:image/jpeg;base64" and len(self.pictures) < self._most:
            try:
                self.pictures.append((base64.b64decode(content, validate=True), attributes.get("alt") or "cell"))
            except binascii.Error:
                return
