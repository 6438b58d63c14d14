"""Where the slides went: the STARD flow, and what becomes of the rates if no slide may be left out."""

from __future__ import annotations

from typing import Any

from stride_monai.bethesda import NEGATIVE
from stride_monai.evaluation.figures.flow import Box, flow_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort, SlideFlow, cohort_hash
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.statistics import Rates, rates_of_counts
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, share_text

__all__ = ["flow_part"]

_WHY = {
    "missing": "no prediction",
    "failed": "failed in screening",
    "skipped": "skipped in screening",
    "unsatisfactory": "unsatisfactory by the system",
    "no score": "no score (no cell found)",
    "no call": "no call",
}


def flow_part(cohort: JudgedCohort, calls: Calls | None) -> Part:
    """Counts, the flow diagram, and the rates with every eligible slide counted."""
    flow, positives = cohort.flow, int(cohort.positive.sum())
    numbers: dict[str, Any] = {
        **flow._asdict(),
        "eligible": flow.eligible,
        "positive": positives,
        "negative": len(cohort) - positives,
        "labels": {str(label): int((cohort.label == label).sum()) for label in sorted(set(cohort.label))},
        "cohort_sha256": cohort_hash(cohort.slide_id, cohort.label),
    }
    tables = [_reasons_table(flow)] if flow.reasons else []
    if calls is not None and cohort.unjudged:
        whole = _all_eligible(cohort, calls)
        numbers["all_eligible"] = {name: found.as_json() for name, (_, found) in whole.items()}
        tables.append(_whole_table(whole))
    figure = flow_figure(_boxes(cohort, calls))
    text = [f"{flow.in_words}, {len(cohort):,} analysed: {positives:,} positive, {len(cohort) - positives:,} negative."]
    if flow.not_listed:
        text.append(f"{counted(flow.not_listed, 'slide')} with a prediction, but not in the truth table: not used.")
    section = Section(
        "flow",
        "Slides",
        text=text,
        figures=[PageFigure("flow", figure, "Flow of slides (STARD).", " ".join(text), wide=True)],
        tables=tables,
    )
    rows = [(one.slide_id, one.label, _WHY[one.why], one.reason) for one in cohort.unjudged]
    return Part("slides", numbers, section, {"not_judged": (("slide_id", "label", "why", "reason"), rows)})


def _boxes(cohort: JudgedCohort, calls: Calls | None) -> list[Box]:
    flow = cohort.flow
    out = [f"{_WHY[why]}: {count:,}" for why, count in flow.unjudged.items()]
    without = [
        f"{name}: {count:,}"
        for name, count in (
            ("of another split", flow.other_split),
            ("no diagnosis", flow.no_reference),
            ("unsatisfactory by the reference", flow.unsatisfactory_reference),
        )
        if count
    ]
    boxes = [
        Box(f"Slides in the truth table\nn = {flow.listed:,}", without),
        Box(f"Slides with a reference diagnosis\nn = {flow.eligible:,}", out),
    ]
    last = [f"Analysed\nn = {len(cohort):,}"]
    sides = []
    for name, of in (("Positive (not NILM)", cohort.positive), ("NILM", ~cohort.positive)):
        lines = [f"{name}\nn = {int(of.sum()):,}"]
        if calls is not None:
            lines += [
                f"called positive: {int((of & (calls.call == 1)).sum()):,}",
                f"called negative: {int((of & (calls.call == 0)).sum()):,}",
            ]
            none = int((of & (calls.call < 0)).sum())
            lines += [f"no call: {none:,}"] if none else []
        sides.append("\n".join(lines))
    return [*boxes, Box(last[0], [], sides)]


def _reasons_table(flow: SlideFlow) -> PageTable:
    rows = [(reason, f"{count:,}") for reason, count in flow.reasons.items()]
    return PageTable("Why slides were not judged, the most frequent reasons", ("reason", "slides"), rows)


def _all_eligible(cohort: JudgedCohort, calls: Calls) -> dict[str, tuple[str, Rates]]:
    """Rates over all slides with a diagnosis, by what is made of those that were not judged."""
    own = calls.rates()
    missed = [one for one in cohort.unjudged if one.call != 1]
    sick = sum(one.label != NEGATIVE for one in missed)
    called = [one for one in cohort.unjudged if one.call == 1]
    tp = own.tp + sum(one.label != NEGATIVE for one in called)
    fp = own.fp + sum(one.label == NEGATIVE for one in called)
    well = len(missed) - sick
    return {
        "analysed": ("slides that were judged", own),
        "read_by_people": (
            "all, those without a judgement count as positive: people read them",
            rates_of_counts(tp + sick, own.fn, own.tn, fp + well),
        ),
        "worst": (
            "all, those without a judgement count as wrong",
            rates_of_counts(tp, own.fn + sick, own.tn, fp + well),
        ),
    }


def _whole_table(whole: dict[str, tuple[str, Rates]]) -> PageTable:
    rows = [
        (said, f"{found.slides:,}", share_text(found.sensitivity), share_text(found.specificity))
        for said, found in whole.values()
    ]
    return PageTable(
        "If no slide may be left out",
        ("slides", "n", "sensitivity", "specificity"),
        rows,
        "95 % intervals by Wilson. Unsatisfactory slides that were called positive count as called.",
    )
