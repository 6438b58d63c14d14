"""How much centres differ: a forest plot of sensitivity and specificity, pooled."""

from __future__ import annotations

from typing import Any

import numpy as np

from stride_monai.evaluation.figures.forest import forest_figure
from stride_monai.evaluation.figures.style import drawn_names
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import p_text, percent
from stride_monai.evaluation.statistics import Forest, forest
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, Settings, names_tables, shown
from stride_monai.evaluation.study.subgroups import UNKNOWN, values_of

__all__ = ["centres_part"]

_DRAWN = 60


def centres_part(cohort: JudgedCohort, calls: Calls, settings: Settings) -> Part | None:
    """Of the slides whose centre is known; None where there are not two centres."""
    if "centre" not in cohort.columns:
        return None
    values, order = values_of("centre", cohort.columns["centre"])
    names = [name for name in order if name != UNKNOWN]
    if len(names) < 2:
        return None
    found = {
        kind: forest(_counts(values, names, calls, kind), settings.level) for kind in ("sensitivity", "specificity")
    }
    drawn = _largest(values, names)
    said = " ".join(_words(kind.capitalize(), one) for kind, one in found.items())
    text = [f"{len(names):,} centres. {said}"]
    if len(drawn) < len(names):
        text.append(f"The {len(drawn)} centres with most slides are drawn; subgroups.csv has all.")
    written = drawn_names(names, "Centre")
    figure = forest_figure(found, drawn, written)
    caption = "Sensitivity and specificity by centre with 95 % Wilson intervals; the diamond is the median centre"
    further = any(one.prediction.known for one in found.values())
    caption += ", the line beneath it where a further centre is expected." if further else "."
    section = Section(
        "centres",
        "Centres",
        text=text,
        figures=[PageFigure("forest", figure, caption, " ".join(text), wide=True)],
        tables=[*names_tables({name: written[name] for name in drawn}), _table(found)],
    )
    return Part("centres", {kind: one.as_json() for kind, one in found.items()}, section)


def _counts(values: Any, names: list[str], calls: Calls, kind: str) -> dict[str, tuple[int, int]]:
    wanted = 1 if kind == "sensitivity" else 0
    of = calls.known & (calls.positive if wanted else ~calls.positive)
    place = {name: k for k, name in enumerate(names)}
    at = np.array([place.get(str(value), -1) for value in np.unique(values)])[np.unique(values, return_inverse=True)[1]]
    total = np.bincount(at[of & (at >= 0)], minlength=len(names))
    hits = np.bincount(at[of & (at >= 0) & (calls.call == wanted)], minlength=len(names))
    return {name: (int(hits[k]), int(total[k])) for k, name in enumerate(names)}


def _largest(values: Any, names: list[str]) -> list[str]:
    if len(names) <= _DRAWN:
        return names
    kinds, counts = np.unique(values, return_counts=True)
    number = dict(zip(map(str, kinds), counts.tolist(), strict=True))
    kept = set(sorted(names, key=lambda name: -number[name])[:_DRAWN])
    return [name for name in names if name in kept]


def _words(name: str, one: Forest) -> str:
    said = f"{name} of the median centre {shown(one.pooled)}"
    return f"{said}, I² {percent(one.i_squared, 0)}." if np.isfinite(one.i_squared) else f"{said}."


def _table(found: dict[str, Forest]) -> PageTable:
    rows = [
        (
            kind,
            f"{len(one.centres):,}",
            shown(one.pooled),
            f"{one.prediction.low:.3f}–{one.prediction.high:.3f}" if one.prediction.known else "–",
            percent(one.i_squared, 0),
            "–" if np.isnan(one.tau) else f"{one.tau:.3f}",
            p_text(one.p),
        )
        for kind, one in found.items()
    ]
    heads = ("", "centres", "median centre", "a further centre", "I²", "τ (logit)", "p of equal centres")
    note = "Random-effects logistic model (Stijnen et al. 2010). I²: the part of the differences that is not chance."
    return PageTable("Centres pooled", heads, rows, note)
