"""Several trainings that differ by their seed, judged on the same slides; and how many slides a next study needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageTable, Section
from stride_monai.evaluation.reports import counted, percent
from stride_monai.evaluation.statistics import (
    TARGETS,
    Rates,
    SampleSize,
    seed_summary,
    slides_for_auc_width,
    slides_for_width,
)
from stride_monai.evaluation.study.calls import calls_of
from stride_monai.evaluation.study.discrimination import Discrimination
from stride_monai.evaluation.study.part import Part, Settings
from stride_monai.metrics.slide import auc, f1_macro, specificity_at_sensitivity

__all__ = ["figures_of", "repeats_part", "sample_part"]

WIDTHS = (0.10, 0.05, 0.02)
"""Widths of a 95 % interval, upper minus lower bound."""
_NAMES = {
    **{"auc": "AUC", "f1-macro": "F1-macro"},
    **{f"specificity at sensitivity {t:g}": f"specificity at sensitivity {percent(t, 0)}" for t in TARGETS},
}


def figures_of(cohort: JudgedCohort, settings: Settings) -> dict[str, float]:
    """The figures that are summed up over seeds; NaN where one is not defined."""
    found = dict.fromkeys(("auc", *(f"specificity at sensitivity {t:g}" for t in TARGETS)), math.nan)
    if cohort.scored and 0 < cohort.positive.sum() < len(cohort):
        found["auc"] = auc(cohort.score, cohort.positive)
        for target in TARGETS:
            point = specificity_at_sensitivity(cohort.score, cohort.positive, target)
            found[f"specificity at sensitivity {target:g}"] = point.specificity
    known = (cohort.truth_class >= 0) & (cohort.predicted >= 0)
    found["f1-macro"] = f1_macro(cohort.predicted[known], cohort.truth_class[known]) if known.any() else math.nan
    calls = calls_of(cohort, settings)
    rates = calls.rates() if calls is not None else None
    for name in ("sensitivity", "specificity"):
        found[name] = getattr(rates, name).estimate if rates is not None else math.nan
    return found


def repeats_part(runs: Sequence[JudgedCohort], settings: Settings) -> Part:
    """Mean and standard deviation over runs, on the slides that all of them judged.

    Raises:
        ManifestError: there is no such slide.
    """
    shared = reduce(np.intersect1d, [run.slide_id for run in runs])
    if not len(shared):
        raise ManifestError(f"no slide was judged by all {len(runs)} runs", "give runs on the same slides")
    each = [figures_of(run.taken(np.isin(run.slide_id, shared)), settings) for run in runs]
    summary = {
        name: one for name, one in seed_summary(each, settings.level).items() if math.isfinite(one.mean.estimate)
    }
    rows = [
        (_NAMES.get(name, name), *(f"{one[name]:.3f}" for one in each), f"{found.mean.estimate:.3f}", f"{found.sd:.3f}")
        for name, found in summary.items()
    ]
    heads = ("figure", *(f"run {k + 1}" for k in range(len(runs))), "mean", "SD")
    text = [
        f"{len(runs)} runs of the same training with other seeds: {', '.join(run.system for run in runs)}, on the "
        f"{counted(len(shared), 'slide')} that all judged. The SD tells of the training's chance, not of the slides'. "
        "All else in this report is of the first run."
    ]
    section = Section("runs", "Runs", text, tables=[PageTable("Figures of each run", heads, rows)])
    return Part("runs", {name: found.as_json() for name, found in summary.items()}, section)


def sample_part(found: Discrimination | None, rates: Rates | None) -> Part | None:
    """Slides that a study needs for intervals of stated widths, if its figures are those found here."""
    wanted: dict[str, list[SampleSize | None]] = {}
    if rates is not None and 0 < rates.prevalence < 1:
        for name, kind in (("sensitivity", rates.prevalence), ("specificity", 1 - rates.prevalence)):
            share = getattr(rates, name).estimate
            wanted[f"{name} {share:.3f}"] = [slides_for_width(share, width, kind) for width in WIDTHS]
    first = found.tasks[0] if found is not None else None
    if first is not None and first.auc is not None:
        prevalence = float(first.positive.mean())
        wanted[f"AUC {first.auc.estimate:.3f}"] = [_for_auc(first.auc.estimate, width, prevalence) for width in WIDTHS]
    if not wanted:
        return None
    rows = [
        (name, *(f"{one.slides:,} ({one.cases:,})" if one else "–" for one in sizes)) for name, sizes in wanted.items()
    ]
    numbers = {
        name: [one and {"width": w, **one._asdict()} for w, one in zip(WIDTHS, sizes, strict=True)]
        for name, sizes in wanted.items()
    }
    heads = ("if the figure is", *(f"width {width:.2f}" for width in WIDTHS))
    note = (
        "Slides of all kinds, at the share of positive slides found here; in brackets those of the kind that counts. "
        "Width of the 95 % interval: upper minus lower bound (Wilson; AUC by Hanley and McNeil 1982)."
    )
    table = PageTable("Slides for an interval of a stated width", heads, rows, note)
    return Part("sample_size", numbers, Section("sample-size", "Sample size", tables=[table]))


def _for_auc(area: float, width: float, prevalence: float) -> SampleSize | None:
    try:
        return slides_for_auc_width(area, width, prevalence)
    except ConfigError:  # below 0.5, or perfect
        return None
