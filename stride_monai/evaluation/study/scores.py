"""How the scores lie, by diagnosis and by centre: what a threshold meets."""

from __future__ import annotations

import numpy as np

from stride_monai.bethesda import ABNORMAL, LABELS
from stride_monai.evaluation.figures.scores import scores_figure
from stride_monai.evaluation.figures.style import drawn_names
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import plain_list
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, names_tables
from stride_monai.evaluation.study.subgroups import values_of

__all__ = ["scores_part"]

_LINES = 40  # centres that are drawn
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def scores_part(cohort: JudgedCohort, calls: Calls | None) -> Part:
    """Figures by diagnosis and by centre, and the quantiles that they show."""
    threshold = calls.threshold if calls is not None else None
    by_label = {
        label: (cohort.score[of], cohort.positive[of])
        for label in (*LABELS, ABNORMAL)
        for of in [cohort.label == label]
        if of.any()
    }
    figures = [
        PageFigure(
            "scores_by_label",
            scores_figure(by_label, threshold, "Diagnosis"),
            "Scores by reference diagnosis.",
            ", ".join(f"{name} median {np.median(scores):.3f}" for name, (scores, _) in by_label.items()),
            wide=True,
        )
    ]
    text, groups, tables = [], {"label": by_label}, list[PageTable]()
    if any(cohort.columns.get("centre", ())):
        values, order = values_of("centre", cohort.columns["centre"])
        groups["centre"] = {name: (cohort.score[of], cohort.positive[of]) for name in order for of in [values == name]}
        drawn = dict(list(groups["centre"].items())[:_LINES])
        caption = "Scores by centre. Of more than 400 slides of a kind: 5th to 95th percentile, quartiles and median."
        said = ", ".join(f"{name} median {np.median(scores):.3f}" for name, (scores, _) in drawn.items())
        written = drawn_names(order, "Centre")
        figure = scores_figure(drawn, threshold, "Centre", written)
        figures.append(PageFigure("scores_by_centre", figure, caption, said, wide=True))
        tables = names_tables({name: written[name] for name in drawn})
        if len(order) > _LINES:
            text.append(f"The first {_LINES} of {len(order):,} centres are drawn; scores.csv has all.")
    heads = ("by", "value", "kind", "slides", *(f"q{100 * q:.0f}" for q in _QUANTILES))
    rows = [
        (by, name, kind, int(of.sum()), *plain_list(np.quantile(scores[of], _QUANTILES)))
        for by, of_group in groups.items()
        for name, (scores, positive) in of_group.items()
        for kind, of in (("NILM", ~positive), ("positive", positive))
        if of.any()
    ]
    numbers = [dict(zip(heads, row, strict=True)) for row in rows]
    section = Section("scores", "Scores", text, figures=figures, tables=tables)
    return Part("scores", {"quantiles": numbers}, section, {"scores": (heads, rows)})
