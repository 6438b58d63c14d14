"""How many slides nobody need read, which lesions would be lost with them, and what acting on the score is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures.calibration import decision_figure
from stride_monai.evaluation.figures.exclusion import exclusion_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import percent, plain_list
from stride_monai.evaluation.statistics import (
    ExclusionCurve,
    SafeExclusion,
    decision_curve,
    exclusion_curve,
    safe_exclusion,
    shift_prevalence,
)
from stride_monai.evaluation.study.calibration import Calibrated
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, Settings, share_text

__all__ = ["decision_part", "exclusion_part"]

TARGETS = (("ASC-US+", 0.95), ("ASC-US+", 0.98), ("HSIL+", 0.99), ("HSIL+", 1.0))
"""Groups of lesions, and the share of each that must not be lost."""


def exclusion_part(cohort: JudgedCohort, calls: Calls | None, settings: Settings) -> Part | None:
    """Of the slides whose grade is known; None where there is no lesion among them."""
    graded = cohort.taken(cohort.graded)
    if not graded.positive.any():
        return None
    curve = exclusion_curve(graded.score, graded.label.tolist())
    found, notes = [], []
    for group, target in TARGETS:
        try:
            found.append(safe_exclusion(graded.score, graded.label.tolist(), group, target, settings.level))
        except ManifestError as error:
            notes.append(f"{group} at {percent(target, 0)}: {error.what}.")
    numbers = {"safe": [one.as_json() for one in found]}
    point = None
    if calls is not None and calls.threshold is not None:
        point = calls.threshold
    words = "; ".join(
        f"{percent(one.excluded.estimate)} excluded where {percent(one.target, 0)} of {one.group} are kept"
        for one in found
    )
    caption = "Share of all slides below a rising threshold, against the share of the lesions of each grade among them."
    section = Section(
        "exclusion",
        "Safe exclusion",
        text=["Slides with a score below a threshold would not be read. The lesions among them would be lost."],
        notes=notes,
        figures=[PageFigure("exclusion", exclusion_figure(curve, point), caption, words or caption)],
        tables=[_table(found)] if found else [],
    )
    heads = ("threshold", "excluded", "negatives_excluded", *(f"lost_{label}" for label in curve.lost))
    return Part("exclusion", numbers, section, {"exclusion": (heads, _rows(curve))})


def _rows(curve: ExclusionCurve) -> Sequence[Sequence[object]]:
    columns = [curve.threshold, curve.excluded, curve.negatives, *curve.lost.values()]
    return [["" if value is None else value for value in plain_list(row)] for row in np.column_stack(columns)]


def _table(found: Sequence[SafeExclusion]) -> PageTable:
    labels = list(found[0].lost)
    rows = [
        (
            f"{percent(one.target, 0)} of {one.group}",
            f"{one.threshold:.4g}",
            share_text(one.excluded),
            share_text(one.negatives),
            *(f"{one.lost[label].hits:,} of {one.lost[label].total:,}" for label in labels),
        )
        for one in found
    ]
    heads = ("lesions kept", "threshold", "slides excluded", "NILM excluded", *(f"{label} lost" for label in labels))
    note = (
        "Thresholds chosen on these very slides. The share of all slides depends on how many are negative; that of "
        "NILM does not. 95 % intervals by Wilson."
    )
    return PageTable("What may be excluded if a share of the lesions must be kept", heads, rows, note)


def decision_part(cohort: JudgedCohort, found: Calibrated, settings: Settings) -> Part | None:
    """Net benefit at these slides' share of positives; None where the scores are no probabilities."""
    name, risks = found.best
    try:
        curve = decision_curve(risks, cohort.positive, level=settings.level)
    except ManifestError:
        return None
    here = float(cohort.positive.mean())
    tables = {
        "decision_curve": (
            ("prevalence", "threshold", "net_benefit", "low", "high", "every_slide"),
            list[list[object]](),
        )
    }
    for share in (here, *settings.prevalences):
        moved = curve
        if share != here:
            moved = decision_curve(
                shift_prevalence(risks, here, share), cohort.positive, prevalence=share, level=settings.level
            )
        columns = np.column_stack([moved.threshold, moved.score, moved.low, moved.high, moved.everyone])
        tables["decision_curve"][1].extend([round(share, 6), *plain_list(row)] for row in columns)
    text = [
        "Net benefit is true positives per slide, less false positives at the price that the risk from which one would "
        f"read a slide puts on them (Vickers and Elkin 2006). Scores: {name}."
    ]
    notes = [] if found.learned else ["The scores are not calibrated; where they are no risks, the curve is not right."]
    wins = curve.score > np.maximum(curve.everyone, 0)
    best = curve.threshold[wins]
    said = (
        f"better than reading all or none at risks from {percent(best.min())} to {percent(best.max())}"
        if len(best)
        else ""
    )
    caption = f"Decision curve where {percent(here)} of the slides are positive; decision_curve.csv has other shares."
    figure = PageFigure("decision_curve", decision_figure(curve), caption, said or caption)
    numbers = {"scores": name, "better_from": plain_list(best[[0, -1]]) if len(best) else None}
    section = Section("decision", "Decision curve", text, notes, [figure])
    return Part("decision_curve", numbers, section, tables)
