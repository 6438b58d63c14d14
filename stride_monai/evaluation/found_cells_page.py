"""Cells that were found, as a section of a report and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.evaluation.figures.style import COLORS, DOUBLE, new_figure, paper_style
from stride_monai.evaluation.found_cells import BY_IOU, COVERED, CellsEvaluation
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.findings import GALLERY_SIZE

__all__ = ["cells_section", "cells_tables"]

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


def cells_section(found: CellsEvaluation) -> Section:
    """The section ``cells``: what it says stands in the tables of :func:`cells_tables` too."""
    tables = cells_tables(found)
    shown = [
        PageTable(
            "Lesions that are found among the K best cells of their slide", *_rounded(tables["cells_top_k_recall"])
        ),
        PageTable(
            f"Of the {GALLERY_SIZE} cells that are shown first, the share that are right",
            *_rounded(tables["cells_shown"]),
            "Mean over slides, with Student's interval. A lesion that nobody marked counts as wrong.",
        ),
    ]
    if "cells_classes" in tables:
        note = f"Of {found.matched:,} marked cells that were found; those that none found are counted apart."
        shown.append(PageTable("Classes of the marked cells that were found", *_rounded(tables["cells_classes"]), note))
    if found.described is not None:
        shown.append(PageTable("Descriptions", *_rounded(tables["cells_descriptions"]), words=False))
    notes = [f"{note[:1].upper()}{note[1:]}." for note in found.notes]
    return Section("cells", "Cells", notes=notes, figures=_figures(found), tables=shown)


def _rounded(table: Table) -> tuple[Sequence[str], list[list[Any]]]:
    columns, rows = table
    return columns, [[_cell(value) for value in row] for row in rows]


def _cell(value: Any) -> Any:
    if value is None or value == "":
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else value


def cells_tables(found: CellsEvaluation) -> dict[str, Table]:
    """Headings and rows by name: ``cells_top_k_recall``, ``cells_shown``, and where cells were matched
    ``cells_classes``, ``cells_descriptions``; what is not defined is empty."""
    curves = found.curves
    rules = [(COVERED, found.covered), (BY_IOU, curves.recall)]
    recall = [
        [k, rule, *(float(of[name][row]) for name in curves.recall)]
        for rule, of in rules
        for row, k in enumerate(curves.ks)
    ]
    shown = [
        [one.slide_class, one.right, one.rule, one.slides]
        + [_known(value) for value in (one.precision.estimate, one.precision.low, one.precision.high)]
        for one in found.shown
    ]
    tables: dict[str, Table] = {
        "cells_top_k_recall": (["k", "rule", *curves.recall], recall),
        "cells_shown": (["slide_class", "right", "rule", "slides", "precision", "low", "high"], shown),
    }
    if found.classes is not None:
        tables["cells_classes"] = _classes(found, found.classes["classes"])
    if found.described is not None:
        tables["cells_descriptions"] = _descriptions(found.described)
    return tables


def _known(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else ""


def _classes(found: CellsEvaluation, classes: Mapping[str, Mapping[str, Any]]) -> Table:
    names = ("precision", "recall", "f1")
    rows = [
        [
            name,
            classes[name]["cells"],
            found.missed[name],
            *("" if (v := classes[name][of]) is None else v for of in names),
        ]
        for name in CELL_CLASSES
    ]
    return ["class", "found", "not_found", *names], rows


def _descriptions(described: Mapping[str, Any]) -> Table:
    names = ("precision", "recall", "f1")
    rows: list[list[Any]] = [
        [text, of["cells"], of["kept"], *("" if of[name] is None else of[name] for name in names)]
        for text, of in described["descriptions"].items()
    ]
    micro = ["" if described["micro"][name] is None else described["micro"][name] for name in names]
    total = [sum(row[k] for row in rows) for k in (1, 2)]
    return ["description", "cells", "kept", *names], [*rows, ["all texts", *total, *micro]]


def _figures(found: CellsEvaluation) -> list[PageFigure]:
    drawn = found.figures()
    recall = found.covered.get("all")
    captions = {
        "top_k_recall": "Lesions that are found among the K best cells of a slide, by class of the slide",
        "slide_froc": "Lesions that are found, by IoU, against false boxes on NILM slides",
        "cell_confusion": "Classes of the marked cells that were found",
        "cell_f1_by_count": "F1 of each class against its number of cells",
        "cell_reliability": "Calibration of the cell classes",
    }
    words = "" if recall is None else f"within the {found.curves.ks[-1]} best {recall[-1]:.3f} of the lesions"
    figures = [
        PageFigure(name, drawn[name], captions[name], f"{captions[name]}; {words}")
        for name in captions
        if name in drawn
    ]
    lesions = [one for one in found.shown if one.rule == COVERED]
    if lesions:
        figures.insert(1, _precision(found))
    return figures


@paper_style
def _precision(found: CellsEvaluation) -> PageFigure:
    """Bars by class of the slide, one for any lesion and one for those of the slide's own class."""
    figure, axes = new_figure(DOUBLE / 2, 2.6)
    mine = {(one.slide_class, one.right): one for one in found.shown if one.rule == COVERED}
    names = [name for name in SLIDE_CLASSES if (name, "a lesion") in mine]
    for k, right in enumerate(("a lesion", "of the slide's class")):
        for place, name in enumerate(names):
            of = mine[name, right].precision
            x = place + 0.38 * (k - 0.5)
            axes.bar(x, of.estimate, width=0.36, color=COLORS[k], label=right if place == 0 else None)
            if of.known:
                axes.plot((x, x), (of.low, of.high), color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), [f"{name}\n({mine[name, 'a lesion'].slides})" for name in names])
    axes.set(ylim=(0, 1.02), ylabel=f"precision at {GALLERY_SIZE}", xlabel="class of the slide (slides)")
    axes.legend(loc="best")
    words = "; ".join(f"{name} {mine[name, 'a lesion'].precision.text()}" for name in names)
    caption = f"Of the {GALLERY_SIZE} cells that are shown first, the share that are right, by class of the slide"
    return PageFigure("cells_shown", figure, caption, words)
