"""What the calls are worth at the operating point: by group, by grade, and for another share of positive slides."""

from __future__ import annotations

import numpy as np

from stride_monai.bethesda import ABNORMAL, LABELS, REPORT_GROUPS, SLIDE_CLASSES
from stride_monai.evaluation.figures.grades import grades_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import percent
from stride_monai.evaluation.statistics import (
    TARGETS,
    CallStatistics,
    ClassStatistics,
    Interval,
    Proportion,
    RankStatistics,
    Rates,
    Statistic,
    bootstrap,
    joined,
    predictive_values,
    proportion,
)
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.discrimination import Discrimination
from stride_monai.evaluation.study.part import Part, Settings, bounds_text, share_text, shown

__all__ = ["clusters_part", "operating_part"]

_NAMES = {
    **{"auc": "AUC", "ppv": "PPV", "npv": "NPV", "f1_macro": "F1-macro"},
    **{f"specificity_at_{target:g}": f"specificity at sensitivity {percent(target, 0)}" for target in TARGETS},
}

_SHARES = ("sensitivity", "specificity", "ppv", "npv")


def _name(figure: str) -> str:
    """As a table has it: ``F1 LSIL`` for ``f1_LSIL``."""
    return _NAMES.get(figure) or figure.replace("f1_", "F1 ").replace("_", " ")


def operating_part(cohort: JudgedCohort, calls: Calls, settings: Settings) -> Part:
    """Rates at the operating point."""
    own = calls.rates()
    groups = {name: calls.rates(of, known) for name in REPORT_GROUPS for known, of in [cohort.in_group(name)]}
    grades = _grades(cohort, calls)
    at = {share: predictive_values(own, share, settings.level) for share in settings.prevalences}
    numbers = {
        "threshold": calls.threshold,
        "source": calls.source,
        "without_call": int((~calls.known).sum()),
        "rates": own.as_json(),
        "groups": {name: found.as_json() for name, found in groups.items()},
        "called_positive_by_label": {name: found.as_json() for name, found in grades.items()},
        "at_prevalence": [
            {"prevalence": share, "ppv": ppv.as_json(), "npv": npv.as_json()} for share, (ppv, npv) in at.items()
        ],
    }
    said = f"threshold {calls.threshold:.6g}, {calls.source}" if calls.threshold is not None else calls.source
    words = ", ".join(f"{name} {found.estimate:.3f}" for name, found in grades.items())
    section = Section(
        "operating-point",
        "At the operating point",
        text=[f"Slides are called positive {'at or above the ' if calls.threshold is not None else ''}{said}."],
        notes=calls.notes,
        figures=[
            PageFigure(
                "called_by_label", grades_figure(grades), "Share called positive by grade, 95 % interval.", words
            )
        ],
        tables=[_groups_table(groups), _grades_table(grades), _prevalence_table(own, at)],
    )
    keys = [
        (name.capitalize(), f"{found.estimate:.3f}", f"{found.hits:,} of {found.total:,}, {bounds_text(found.wilson)}")
        for name in _SHARES[:2]
        for found in [getattr(own, name)]
        if found.total
    ]
    return Part("operating_point", numbers, section, _csv(groups, grades), keys)


def _grades(cohort: JudgedCohort, calls: Calls) -> dict[str, Proportion]:
    """Share called positive of each label that occurs, by severity."""
    found = {}
    for label in (*LABELS, ABNORMAL):
        of = calls.known & (cohort.label == label)
        if of.any():
            found[label] = proportion(int((calls.call[of] == 1).sum()), int(of.sum()))
    return found


def _groups_table(groups: dict[str, Rates]) -> PageTable:
    rows = [
        (name, *(f"{count:,}" for count in (r.tp, r.fn, r.tn, r.fp)), *(share_text(getattr(r, s)) for s in _SHARES))
        for name, r in groups.items()
    ]
    heads = ("group", "TP", "FN", "TN", "FP", "sensitivity", "specificity", "PPV", "NPV")
    note = (
        "95 % intervals by Wilson; those by Clopper and Pearson stand in rates.csv. PPV and NPV hold at the share of "
        "positive slides of this very table. The calls are the same in every row; what counts as positive differs."
    )
    return PageTable("Rates by group of lesions", heads, rows, note)


def _grades_table(grades: dict[str, Proportion]) -> PageTable:
    rows = [(name, f"{found.total:,}", f"{found.hits:,}", share_text(found)) for name, found in grades.items()]
    return PageTable(
        "Called positive by reference diagnosis", ("diagnosis", "slides", "called positive", "share"), rows
    )


def _prevalence_table(own: Rates, at: dict[float, tuple[Interval, Interval]]) -> PageTable:
    rows = [(percent(share), shown(ppv), shown(npv, 4)) for share, (ppv, npv) in at.items()]
    note = (
        "From sensitivity and specificity above, whatever the share of positive slides here "
        f"({percent(own.prevalence)}); logit intervals of Mercaldo et al. 2007."
    )
    return PageTable(
        "Predictive values where another share of slides is positive", ("positive", "PPV", "NPV"), rows, note
    )


def _csv(
    groups: dict[str, Rates], grades: dict[str, Proportion]
) -> dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    heads = ("of", "rate", "hits", "total", "estimate", "wilson_low", "wilson_high", "exact_low", "exact_high")

    def row(of: str, name: str, one: Proportion) -> tuple[object, ...]:
        bounds = (one.estimate, one.wilson.low, one.wilson.high, one.exact.low, one.exact.high)
        return (of, name, one.hits, one.total, *("" if np.isnan(value) else round(value, 6) for value in bounds))

    rows = [row(group, name, getattr(found, name)) for group, found in groups.items() for name in _SHARES]
    rows += [row(label, "called positive", found) for label, found in grades.items()]
    return {"rates": (heads, rows)}


def clusters_part(cohort: JudgedCohort, found: Discrimination, calls: Calls | None, settings: Settings) -> Part | None:
    """Intervals that allow for slides of one patient, and of one centre, being alike; None without such columns."""
    first = found.tasks[0]
    statistics: list[Statistic] = []
    if first.auc:
        statistics.append(RankStatistics(first.scores, first.positive, [p.target for p in first.points]))
    if calls is not None and calls.known.all():
        statistics.append(CallStatistics(calls.call == 1, cohort.positive))
    truth, predicted = cohort.truth_class, cohort.predicted
    if (truth >= 0).all() and (predicted >= 0).all():
        statistics.append(ClassStatistics(predicted, truth, SLIDE_CLASSES))
    columns = [name for name in ("patient", "centre") if any(cohort.columns.get(name, ()))]
    if not statistics or not columns or not settings.replicates:
        return None
    whole, made = joined(*statistics), {}
    for name in columns:
        clusters = cohort.columns[name]
        made[name] = bootstrap(whole, len(cohort), clusters, settings.replicates, settings.seed, settings.level)
    rows = [
        (_name(name), *(shown(made[by].intervals[name]) for by in columns))
        for name in whole.names
        if name in made[columns[0]].intervals
    ]
    heads = ("figure", *(f"by {by} ({made[by].clusters:,})" for by in columns))
    one = [by for by in columns if made[by].clusters == 1]
    notes = [f"All slides are of one {by}: no interval can be found by resampling it." for by in one]
    text = [
        "Slides of one patient, and of one laboratory, resemble each other; intervals that take slides for independent "
        "are then too short. Here patients, or whole centres, are drawn with all their slides."
    ]
    note = (
        f"{settings.replicates:,} bootstrap samples, seed {settings.seed}: their standard error, Student's t, "
        "on the logit scale. No bounds for 0 and 1, where nothing varies, nor where more than 5 % of the samples "
        "leave a figure undefined. Slides without a patient or centre are drawn by themselves."
    )
    table = PageTable("Clustered 95 % intervals", heads, rows, note)
    section = Section("clusters", "Patients and centres as clusters", text, notes, tables=[table])
    return Part("clustered", {by: made[by].as_json() for by in columns}, section)
