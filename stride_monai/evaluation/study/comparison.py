"""Two systems on the same slides: DeLong's paired test of their areas, McNemar's of their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures.roc import RocLine, curves_figure
from stride_monai.evaluation.figures.style import drawn_names
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted, plain
from stride_monai.evaluation.statistics import AucComparison, Rates, compare_auc, rates
from stride_monai.evaluation.study.calls import Calls, calls_of
from stride_monai.evaluation.study.part import Part, Settings, names_tables, share_text, shown, thinned
from stride_monai.metrics.slide import roc_curve

__all__ = ["Paired", "comparison_part", "paired"]

_EXACT_BELOW = 25  # slides on which two systems differ, below which McNemar's test is exact


class Paired(NamedTuple):
    """Calls of two systems on slides of one kind.

    Attributes:
        both: right by both. first_alone, second_alone: right by that one alone. neither: wrong by both.
        p: McNemar's, two-sided; exact where the two differ on fewer than 25 slides, else with continuity correction.
            NaN where they differ on none.
    """

    both: int
    first_alone: int
    second_alone: int
    neither: int
    p: float

    @property
    def method(self) -> str:
        """How p was found."""
        return "exact" if self.first_alone + self.second_alone < _EXACT_BELOW else "chi-squared, continuity corrected"


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """McNemar's test (Psychometrika 1947;12:153-7).

    Args:
        first, second: ``[n]``, the slides on which each system is right.
    """
    table = np.array([[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)])
    differ = int(table[0, 1] + table[1, 0])
    p = float(mcnemar(table, exact=differ < _EXACT_BELOW).pvalue) if differ else np.nan
    return Paired(int(table[0, 0]), int(table[0, 1]), int(table[1, 0]), int(table[1, 1]), p)


def comparison_part(first: JudgedCohort, second: JudgedCohort, settings: Settings) -> Part:
    """Of the slides that both judged.

    Raises:
        ManifestError: no slide was judged by both.
    """
    one, two = _shared(first, second)
    names = (one.system, two.system if two.system != one.system else f"{two.system} (2)")
    text = [f"{counted(len(one), 'slide')} judged by both; {len(first) - len(one):,} by {names[0]} alone, "]
    text[0] += f"{len(second) - len(two):,} by {names[1]} alone. Differences are {names[0]} minus {names[1]}."
    notes, figures, tables = [], [], []
    numbers: dict[str, Any] = {"first": names[0], "second": names[1], "slides": len(one), "auc": None, "calls": None}
    try:
        areas = compare_auc(one.score, two.score, one.positive, settings.level)
        numbers["auc"] = areas.as_json()
        tables.append(_area_table(names, areas))
        drawn = drawn_names(names, "system")
        figures.append(_figure((*drawn.values(),), one, two, areas))
        tables += names_tables(drawn)
    except ManifestError as error:
        notes.append(f"Areas are not compared: {error.what}.")
    calls = calls_of(one, settings), calls_of(two, Settings())
    if calls[0] is not None and calls[1] is not None:
        numbers["calls"], table = _calls(names, calls[0], calls[1])
        tables.append(table)
    else:
        notes.append("Calls are not compared: one of the two systems makes none.")
    section = Section("comparison", f"Compared with {names[1]}", text, notes, figures, tables)
    return Part("comparison", numbers, section)


def _shared(first: JudgedCohort, second: JudgedCohort) -> tuple[JudgedCohort, JudgedCohort]:
    ids, here, there = np.intersect1d(first.slide_id, second.slide_id, assume_unique=True, return_indices=True)
    if not len(ids):
        raise ManifestError(
            f"no slide was judged by both {first.system} and {second.system}", "compare on the same slides"
        )
    return first.taken(here), second.taken(there)


def _area_table(names: tuple[str, str], areas: AucComparison) -> PageTable:
    p = "–" if np.isnan(areas.p) else _p(areas.p)
    rows = [(names[0], shown(areas.first)), (names[1], shown(areas.second)), ("difference", shown(areas.difference))]
    note = (
        f"DeLong's paired test: p {p}."
        if p != "–"
        else "DeLong's paired test is not defined: the two order the slides alike."
    )
    return PageTable("AUC, positive or NILM", ("system", "AUC (95 % interval)"), rows, note)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _figure(names: Sequence[str], one: JudgedCohort, two: JudgedCohort, areas: AucComparison) -> PageFigure:
    lines: list[RocLine] = []
    for name, of, area in zip(names, (one, two), (areas.first, areas.second), strict=True):
        rate, sensitivity = thinned(*roc_curve(of.score, of.positive))
        lines.append(RocLine(name, rate, sensitivity, area))
    said = f"AUC {areas.first.estimate:.3f} and {areas.second.estimate:.3f}"
    return PageFigure("comparison_roc", curves_figure(lines), "ROC curves of both systems on the same slides.", said)


def _calls(names: tuple[str, str], first: Calls, second: Calls) -> tuple[dict[str, Any], PageTable]:
    known = first.known & second.known
    numbers: dict[str, Any] = {"slides": int(known.sum())}
    rows = []
    for name, of in (("sensitivity", first.positive & known), ("specificity", ~first.positive & known)):
        wanted = 1 if name == "sensitivity" else 0
        found = paired(first.call[of] == wanted, second.call[of] == wanted)
        both = [rates(calls.call[known] == 1, calls.positive[known]) for calls in (first, second)]
        numbers[name] = {
            "first": getattr(both[0], name).as_json(),
            "second": getattr(both[1], name).as_json(),
            **{**found._asdict(), "p": plain(found.p)},
            "method": found.method,
        }
        rows.append(_row(name, both, found))
    heads = ("", *names, "right by both", f"{names[0]} alone", f"{names[1]} alone", "by neither", "McNemar")
    note = "95 % intervals by Wilson. McNemar's test is exact where the two differ on fewer than 25 slides."
    return numbers, PageTable("Calls", heads, rows, note)


def _row(name: str, both: list[Rates], found: Paired) -> tuple[str, ...]:
    p = "–" if np.isnan(found.p) else f"p {_p(found.p)}"
    counts = (f"{count:,}" for count in found[:4])
    return (name, *(share_text(getattr(one, name)) for one in both), *counts, p)
