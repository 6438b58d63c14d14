"""The same figures for parts of the slides: by centre, scanner, preparation, age, HPV or any other column."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.data.tables import number, plain_heading
from stride_monai.errors import ConfigError
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageTable, Section
from stride_monai.evaluation.statistics import Interval, Rates, auc_interval
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, Settings, interval_cells, share_text, shown

__all__ = ["UNKNOWN", "USUAL", "Subgroup", "chosen_columns", "subgroups", "subgroups_part", "values_of"]

USUAL = ("centre", "scanner", "preparation", "age", "hpv")
"""Columns whose tables are made unasked."""
UNKNOWN = "(not known)"
_NEVER = ("patient", "split")
_AGES = (25, 35, 50, 65)
_MANY = 12  # different numbers in a column, above which it is cut into parts
_SHOWN = 60  # rows on the page; the CSV file has all
Texts = NDArray[np.str_]


class Subgroup(NamedTuple):
    """Slides of one value of a column; ``auc`` is None where they are of one kind, ``rates`` without calls."""

    value: str
    slides: int
    positive: int
    auc: Interval | None
    rates: Rates | None


def chosen_columns(columns: Mapping[str, Any], by: Sequence[str] | None) -> list[str]:
    """Headings of the columns that tables are made of.

    Args:
        columns: of the truth table. by: as asked for; None for those of :data:`USUAL` that are there.

    Raises:
        ConfigError: there is no such column.
    """
    known = {plain_heading(name): name for name in columns if name not in _NEVER}
    if by is None:
        return [known[name] for name in USUAL if name in known]
    wanted = {plain_heading(name): name for name in by}
    wanted = {{"center": "centre"}.get(key, key): name for key, name in wanted.items()}
    for key, name in wanted.items():
        if key not in known:
            advice = f"it has {', '.join(known.values())}" if known else "it has slide_id and label alone"
            raise ConfigError(f"--by {name}: the truth table has no such column", advice)
    return [known[key] for key in wanted]


def values_of(name: str, texts: Texts) -> tuple[Texts, list[str]]:
    """The subgroup of each slide ``[N]``, and all subgroups in their order.

    A column of numbers with many different ones is cut: ages at 25, 35, 50 and 65 years, others at their quartiles.
    What is empty is :data:`UNKNOWN`, and comes last.
    """
    kinds, places = np.unique(texts, return_inverse=True)
    numbers = _numbers(kinds)
    if numbers is not None and np.isfinite(numbers).sum() > _MANY:
        spread = numbers[places]
        cuts = _AGES if plain_heading(name) == "age" else tuple(_quartiles(spread))
        names = _between(cuts)
        values = np.array([*names, UNKNOWN], np.str_)
        of = np.where(np.isnan(spread), len(names), np.searchsorted(cuts, spread, side="right"))
        return values[of], [str(value) for k, value in enumerate(values) if (of == k).any()]
    shown_as = np.array([str(kind) or UNKNOWN for kind in kinds], np.str_)
    order = sorted((str(kind) for kind in kinds if kind), key=_naturally)
    return shown_as[places], [*order, *([UNKNOWN] if "" in kinds else [])]


def _numbers(kinds: Texts) -> NDArray[np.float64] | None:
    """Each text as a number, NaN for an empty one; None where one is no number."""
    try:
        return np.array([number(str(kind)) if kind else np.nan for kind in kinds], np.float64)
    except ValueError:
        return None


def _quartiles(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{cut:.6g}") for cut in np.unique(np.nanquantile(values, (0.25, 0.5, 0.75)))]


def _between(cuts: Sequence[float]) -> list[str]:
    inner = [f"{low:g} to <{high:g}" for low, high in itertools.pairwise(cuts)]
    return [f"<{cuts[0]:g}", *inner, f">={cuts[-1]:g}"]


def _naturally(text: str) -> list[tuple[int, float, str]]:
    """Centre 2 before centre 10."""
    parts = re.findall(r"\d+(?:\.\d+)?|[^\d]+", text)
    return [(0, float(part), "") if part[0].isdecimal() else (1, 0.0, part) for part in parts]


def subgroups(cohort: JudgedCohort, calls: Calls | None, name: str, level: float) -> list[Subgroup]:
    """Of one column, by value."""
    values, order = values_of(name, cohort.columns[name])
    kinds, places = np.unique(values, return_inverse=True)
    rows = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    by_value = {str(kind): of for kind, of in zip(kinds, rows, strict=True)}
    return [_subgroup(cohort, calls, value, by_value[value], level) for value in order]


def _subgroup(cohort: JudgedCohort, calls: Calls | None, value: str, of: NDArray[np.intp], level: float) -> Subgroup:
    positive = cohort.positive[of]
    area = None
    if cohort.scored and positive.any() and not positive.all():
        area = auc_interval(cohort.score[of], positive, level)
    mask = np.zeros(len(cohort), bool)
    mask[of] = True
    found = None if calls is None else calls.rates(of=mask)
    return Subgroup(value, len(of), int(positive.sum()), area, found)


def subgroups_part(cohort: JudgedCohort, calls: Calls | None, settings: Settings) -> Part | None:
    """A table for each column; None where no column is asked for, and none of the usual ones is there."""
    names = chosen_columns(cohort.columns, settings.by)
    if not names:
        return None
    found = {name: subgroups(cohort, calls, name, settings.level) for name in names}
    numbers = {name: {one.value: _numbers_of(one) for one in groups} for name, groups in found.items()}
    notes = [f"{name}: all slides are '{groups[0].value}'." for name, groups in found.items() if len(groups) == 1]
    section = Section(
        "subgroups",
        "Subgroups",
        text=["A subgroup of few slides says little: look at its interval. Nothing is tested here."],
        notes=notes,
        tables=[_table(name, groups) for name, groups in found.items()],
    )
    figures = [f"{name}{part}" for name in ("auc", "sensitivity", "specificity") for part in ("", "_low", "_high")]
    heads = ("column", "value", "slides", "positive", *figures)
    rows = [_row(name, one) for name, groups in found.items() for one in groups]
    return Part("subgroups", numbers, section, {"subgroups": (heads, rows)})


def _numbers_of(one: Subgroup) -> dict[str, Any]:
    return {
        "slides": one.slides,
        "positive": one.positive,
        "auc": one.auc.as_json() if one.auc else None,
        "rates": one.rates.as_json() if one.rates else None,
    }


def _row(name: str, one: Subgroup) -> list[Any]:
    area = interval_cells(one.auc) if one.auc else [""] * 3
    rates = one.rates
    shares = [interval_cells(getattr(rates, s).wilson) if rates else [""] * 3 for s in ("sensitivity", "specificity")]
    return [name, one.value, one.slides, one.positive, *area, *shares[0], *shares[1]]


def _table(name: str, groups: Sequence[Subgroup]) -> PageTable:
    rows = [
        (
            one.value,
            f"{one.slides:,}",
            f"{one.positive:,}",
            shown(one.auc) if one.auc else "–",
            share_text(one.rates.sensitivity) if one.rates else "–",
            share_text(one.rates.specificity) if one.rates else "–",
        )
        for one in groups[:_SHOWN]
    ]
    heads = (name, "slides", "positive", "AUC", "sensitivity", "specificity")
    more = f" The first {_SHOWN} of {len(groups):,} are shown; subgroups.csv has all." if len(groups) > _SHOWN else ""
    note = "95 % intervals: DeLong, Wilson. A dash: not defined, as all slides are of one kind, or none was called."
    return PageTable(f"By {name}", heads, rows, note + more)
