"""How well the scores tell slides apart: areas under ROC curves, and the specificity at wanted sensitivities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import REPORT_GROUPS
from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures.roc import RocLine, curves_figure, roc_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import percent
from stride_monai.evaluation.statistics import (
    TARGETS,
    AtSensitivity,
    Interval,
    RocBand,
    at_sensitivities,
    auc_interval,
    roc_band,
    score_of,
)
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import (
    Part,
    Settings,
    bounds_text,
    interval_cells,
    share_text,
    shown,
    thinned,
)
from stride_monai.metrics.slide import Threshold, roc_curve

__all__ = ["Discrimination", "GroupTask", "discrimination", "discrimination_part"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_FEW = 100  # positive slides: below, one of them is a large step of the sensitivity


@dataclass(frozen=True, eq=False)
class GroupTask:
    """One way to cut the Bethesda classes in two.

    Attributes:
        group: a key of :data:`~stride_monai.bethesda.REPORT_GROUPS`.
        by: ``classes``, the summed probability of the group's classes, or ``score``, the system's one score.
        scores, positive: ``[n]``, of the slides that it can be said of.
        auc, points: None and empty where all slides are of one kind; ``why`` says so.
    """

    group: str
    by: str
    scores: Floats
    positive: Bools
    auc: Interval | None
    points: Sequence[AtSensitivity]
    why: str = ""


@dataclass(frozen=True, eq=False)
class Discrimination:
    """Tasks by group, ASC-US+ first, and the band of its curve (None where there is no curve)."""

    tasks: Sequence[GroupTask]
    band: RocBand | None


def discrimination(cohort: JudgedCohort, settings: Settings) -> Discrimination:
    """Areas and points of every group."""
    tasks = [_task(cohort, group, settings.level) for group in REPORT_GROUPS]
    first = tasks[0]
    return Discrimination(tasks, roc_band(first.scores, first.positive, level=settings.level) if first.auc else None)


def _task(cohort: JudgedCohort, group: str, level: float) -> GroupTask:
    known, positive = cohort.in_group(group)
    by, scores = "score", cohort.score
    if group != "ASC-US+" and cohort.probabilities is not None and np.isfinite(cohort.probabilities[known]).all():
        by, scores = "classes", score_of(cohort.probabilities, group)
    scores, positive = scores[known], positive[known]
    try:
        area, points = auc_interval(scores, positive, level), at_sensitivities(scores, positive, TARGETS, level)
    except ManifestError as error:
        return GroupTask(group, by, scores, positive, None, (), error.what)
    return GroupTask(group, by, scores, positive, area, points)


def discrimination_part(found: Discrimination, calls: Calls | None, level: float) -> Part:
    """Numbers, tables and figures."""
    numbers = {
        task.group: {
            "by": task.by,
            "slides": len(task.positive),
            "positive": int(task.positive.sum()),
            "auc": task.auc.as_json() if task.auc else None,
            "at_sensitivity": [point.as_json() for point in task.points],
            **({"why": task.why} if task.why else {}),
        }
        for task in found.tasks
    }
    first = found.tasks[0]
    keys = []
    if first.auc:
        at = first.points[1]
        keys = [
            (
                "AUC, positive or NILM",
                f"{first.auc.estimate:.3f}",
                f"{bounds_text(first.auc)}, {first.auc.method.partition(',')[0]}",
            ),
            (
                f"Specificity at sensitivity {percent(at.target, 0)}",
                f"{at.specificity.estimate:.3f}",
                f"{bounds_text(at.specificity)}; threshold chosen on these slides",
            ),
        ]
    rows, columns = _curve(first)
    notes = [f"{task.group}: not defined, {task.why}." for task in found.tasks if task.why]
    by_score = [task.group for task in found.tasks[1:] if task.by == "score" and task.auc]
    if by_score:
        notes.append(
            f"{', '.join(by_score)}: the system gives no class probabilities, so its one score, made for ASC-US+, "
            "orders the slides; it ranks milder lesions too high for these groups."
        )
    section = Section(
        "discrimination",
        "Discrimination",
        text=["Each group counts its lesions as positive and every other slide, milder lesions too, as negative."],
        notes=notes,
        figures=_figures(found, calls),
        tables=[_area_table(found, level), *_point_tables(first)],
    )
    tables = {"roc": (columns, rows), "at_sensitivity": _points(found)}
    return Part("discrimination", numbers, section, tables, keys)


def _area_table(found: Discrimination, level: float) -> PageTable:
    rows = [
        (
            task.group,
            f"{int(task.positive.sum()):,}",
            f"{len(task.positive) - int(task.positive.sum()):,}",
            shown(task.auc) if task.auc else "–",
            *(f"{point.specificity.estimate:.3f}" for point in task.points),
            *(() if task.points else ("–",) * len(TARGETS)),
            "class probabilities" if task.by == "classes" else "score",
        )
        for task in found.tasks
    ]
    heads = (
        "group",
        "positive",
        "negative",
        f"AUC ({percent(level, 0)} interval)",
        *(f"specificity at {percent(t, 0)}" for t in TARGETS),
    )
    note = "AUC with DeLong's interval on the logit scale (Newcombe's method 5 where slides are told apart perfectly)."
    return PageTable("By group of lesions", (*heads, "ordered by"), rows, note)


def _point_tables(task: GroupTask) -> list[PageTable]:
    if not task.points:
        return []
    rows = [
        (percent(p.target, 0), f"{p.point.threshold:.6g}", share_text(p.sensitivity), shown(p.specificity))
        for p in task.points
    ]
    note = (
        "The highest threshold whose sensitivity is at least the wanted one; a score that occurs, not interpolated. "
        "These thresholds are chosen on the very slides that they are judged by: a threshold for use comes from other "
        "slides. Specificity with an interval that allows for this (MOVER, Zou and Donner 2008)."
    )
    if task.positive.sum() < _FEW:
        note += f" With fewer than {_FEW} positive slides it holds more often than it says, 97 to 99 % in simulations."
    heads = ("wanted sensitivity", "threshold", "sensitivity achieved", "specificity")
    return [PageTable("Specificity at a wanted sensitivity, ASC-US+", heads, rows, note)]


def _points(found: Discrimination) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    heads = ("group", "target", "threshold", "sensitivity", "specificity", "specificity_low", "specificity_high")
    rows = [
        (task.group, p.target, p.point.threshold, round(p.point.sensitivity, 6), *interval_cells(p.specificity))
        for task in found.tasks
        for p in task.points
    ]
    return heads, rows


def _line(task: GroupTask) -> RocLine:
    assert task.auc is not None
    rate, sensitivity = thinned(*roc_curve(task.scores, task.positive))
    return RocLine(task.group, rate, sensitivity, task.auc)


def _curve(task: GroupTask) -> tuple[Sequence[Sequence[float]], Sequence[str]]:
    columns = ("false_positive_rate", "sensitivity")
    if not task.auc:
        return [], columns
    line = _line(task)
    return np.round(np.column_stack([line.false_positive_rate, line.sensitivity]), 6).tolist(), columns


def _figures(found: Discrimination, calls: Calls | None) -> list[PageFigure]:
    first = found.tasks[0]
    if not first.auc or found.band is None:
        return []
    point = None
    if calls is not None and calls.known.any():
        made = calls.rates()
        if made.tp + made.fn and made.tn + made.fp:
            point = Threshold(np.nan, made.sensitivity.estimate, made.specificity.estimate)
    drawn = [
        PageFigure(
            "roc",
            roc_figure(_line(first), found.band, first.points, point),
            "ROC curve of positive against NILM with a pointwise 95 % band.",
            f"ROC curve, AUC {shown(first.auc)}",
        )
    ]
    others = [_line(task) for task in found.tasks if task.auc]
    if len(others) > 1:
        areas = ", ".join(f"{line.name} {line.auc.estimate:.3f}" for line in others)
        drawn.append(
            PageFigure("roc_groups", curves_figure(others), "ROC curves by group of lesions.", f"AUC: {areas}")
        )
    return drawn
