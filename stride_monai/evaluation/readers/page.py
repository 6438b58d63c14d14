"""``report.html`` of a reader study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stride_monai.evaluation.page.page import Page, PageFigure, PageTable, Section
from stride_monai.evaluation.readers.estimate import Estimate
from stride_monai.evaluation.readers.measures import Measured, Verdict
from stride_monai.evaluation.readers.summary import StudySummary
from stride_monai.evaluation.reports import p_text

__all__ = ["study_page"]


def study_page(summary: StudySummary, figures: Mapping[str, Figure]) -> Page:
    """The report as a page."""
    study = summary.study
    compared = f" Compared: {summary.compared[1]} against {summary.compared[0]}." if summary.compared else ""
    sections = [_arms(summary, figures), _readers(summary, figures), _times(summary), _panel(summary)]
    return Page(
        title="Reader study",
        subtitle=f"{len(study.readers)} readers, {len(study.cases)} cases, {len(study.reads)} reads. "
        f"Arms: {', '.join(study.arms)}.{compared}",
        sections=[section for section in sections if section is not None],
        notes=summary.notes,
        key_figures=_key_figures(summary),
    )


def _key_figures(summary: StudySummary) -> list[tuple[str, str, str]]:
    rows: list[tuple[Measured, str]] = [(one, _gap(summary)) for one, _ in summary.differences]
    rows = rows or [(one, one.arm) for one in summary.arms]
    names = [f"{name} ({summary.group})" for name in ("sensitivity", "specificity", "AUC")]
    return [
        (f"{one.measure}, {arm}", _number(one.estimate.interval.estimate), _bounds(one.estimate))
        for one, arm in rows
        if one.measure in names and one.estimate is not None
    ]


def _gap(summary: StudySummary) -> str:
    """What the differences are of, with a minus; empty where no two arms are compared."""
    return f"{summary.compared[1]} − {summary.compared[0]}" if summary.compared else ""


def _bounds(found: Estimate) -> str:
    interval = found.interval
    if not interval.known:
        return "no interval: nothing varies"
    return f"{100 * interval.level:g} % interval {_number(interval.low)} to {_number(interval.high)}"


def _arms(summary: StudySummary, figures: Mapping[str, Figure]) -> Section:
    cells: dict[str, dict[str, str]] = {}
    for one in summary.arms:
        cells.setdefault(one.measure, {})[one.arm] = _shown(one)
    columns, rows = ["Measure", *summary.study.arms], [[name, *by_arm.values()] for name, by_arm in cells.items()]
    if summary.compared:
        columns += [_gap(summary), "p"]
        for row, (one, _) in zip(rows, summary.differences, strict=True):
            row += [_shown(one), p_text(one.estimate.p) if one.estimate else "–"]
    table = PageTable(
        f"Mean over the readers of an arm, with its {100 * summary.level:g} % interval",
        columns,
        rows,
        " ".join(
            ["measures.csv says how each interval was found, on how many reads it rests, and why one is missing."]
            + [f"* {caution[0].upper()}{caution[1:]}." for caution in _cautions(summary)]
        ),
    )
    tables = [table, *_published(summary)]
    if stated := [(one, said) for one, said in summary.differences if said is not None]:
        tables.append(
            PageTable(
                "Non-inferiority: shown where the lower bound of the difference lies above the margin",
                ["Measure", "Lower bound", "Margin", "Result"],
                [[one.measure, _number(said.bound), f"−{said.margin:g}", _word(said)] for one, said in stated],
                "It proves something for the measure that was named before the study, not for whichever shows it.",
            )
        )
    words = "; ".join(f"{row[0]} {row[len(summary.study.arms) + 1]}" for row in rows[:2]) if summary.compared else ""
    shown = [
        PageFigure("differences", figures["differences"], "Differences with their intervals.", words, wide=True)
        for _ in ("differences",)
        if "differences" in figures
    ]
    return Section("arms", "Arms", figures=shown, tables=tables)


def _cautions(summary: StudySummary) -> list[str]:
    """Each once."""
    every = (*summary.arms, *(one for one, _ in summary.differences))
    return list(dict.fromkeys(one.caution for one in every if one.caution))


def _published(summary: StudySummary) -> list[PageTable]:
    """The differences as other programs print them, where they are others than ours."""
    rows = [
        (one.measure, printed.interval.typeset(), _number(printed.freedom, 1), p_text(printed.p))
        for one, _ in summary.differences
        if one.estimate is not None and (printed := one.estimate.published) is not None and printed.interval.known
    ]
    note = (
        "Obuchowski and Rockette's with the degrees of freedom of Hillis, as OR-DBM MRMC and MRMCaov print them. "
        "Bounds are about the difference itself, which is skewed near 1: the truth of a better arm is above them "
        "more often than below."
    )
    heads = ["Measure", f"Difference ({100 * summary.level:g} % interval)", "Degrees of freedom", "p"]
    return [PageTable("The same differences as other programs print them", heads, rows, note)] if rows else []


def _word(said: Verdict) -> str:
    return "superior" if said.superior else "not inferior" if said.non_inferior else "not shown"


def _readers(summary: StudySummary, figures: Mapping[str, Figure]) -> Section:
    counts = ("tp", "fn", "fp", "tn")
    rows: list[list[Any]] = [
        [one.reader, one.arm, *(one.counts[name] for name in counts)]
        + [figure.typeset() for figure in (one.sensitivity, one.specificity, one.kappa, one.weighted)]
        + [_number(one.exact)]
        for one in summary.readers
    ]
    tables = [
        PageTable(
            f"Readers at {summary.group}",
            [
                "Reader",
                "Arm",
                "TP",
                "FN",
                "FP",
                "TN",
                "Sensitivity",
                "Specificity",
                "Kappa",
                "Weighted kappa",
                "Same labels",
            ],
            rows,
            "Wilson's intervals of shares; the jackknife's of kappas, on Fisher's z. Weighted kappa: of the labels, "
            "quadratic weights; where only a few reads are wrong its interval is wider than it says. Same labels: "
            "share of the reads that name the very labels of the panel, composite ones included.",
        )
    ]
    if summary.tests and summary.compared:
        first, second = summary.compared
        tables.append(
            PageTable(
                "McNemar's test of the cases that a reader has read in both arms",
                ["Reader", "Cases", "Right in both", "Wrong in both", "Gained", "Lost", "p", "Test"],
                [
                    [one.reader, one.kind, one.both, one.neither, one.gained, one.lost, p_text(one.p), _by(one.exact)]
                    for one in summary.tests
                ],
                f"Gained: right in {second} alone. Lost: right in {first} alone.",
            )
        )
    between = [
        f"Fleiss' kappa of the labels between the {readers} readers of {arm}: {_number(value)} ({cases} cases)."
        for arm, (value, readers, cases) in summary.between.items()
        if readers > 1 and cases
    ]
    words = "; ".join(f"{row[0]}, {row[1]}: sensitivity {row[6]}, specificity {row[7]}" for row in rows[:6])
    arrows = "; arrows lead from the first arm to the second" if summary.compared else ""
    caption = f"Every reader at {summary.group}{arrows}."
    return Section(
        "readers",
        "Readers",
        between,
        figures=[PageFigure("readers", figures["readers"], caption, words)],
        tables=tables,
    )


def _by(exact: bool) -> str:
    return "exact" if exact else "chi-squared"


def _times(summary: StudySummary) -> Section | None:
    if not summary.times:
        return None
    rows = []
    for one in summary.times:
        quartiles = f"{one.lower:.1f}–{one.upper:.1f}"
        rows.append([one.arm, one.reads, one.without, one.geometric.typeset(1), _number(one.median, 1), quartiles])
    text = []
    if summary.ratio and summary.compared:
        first, second = summary.compared
        text = [
            f"A read in {second} takes {summary.ratio.interval.typeset(2)} times as long as one in {first} "
            f"(p {p_text(summary.ratio.p)})."
        ]
    columns = ["Arm", "Reads", "Without a time", "Geometric mean, s", "Median, s", "Quartiles, s"]
    return Section("time", "Time", text, tables=[PageTable("Seconds of a read", columns, rows)])


def _panel(summary: StudySummary) -> Section:
    panel = summary.panel
    text = [
        f"{panel['cases']} cases: {', '.join(f'{label} {count}' for label, count in panel['labels'].items())}; "
        f"{panel['composite']} with several labels."
    ]
    if panel["experts"]:
        kappa = panel["kappa"]
        said = kappa["interval"].typeset() if kappa["interval"] else _number(kappa["estimate"])
        text += [
            f"{panel['experts']} experts. {panel['read_by_two_or_more']} cases were read by two or more of them, who "
            f"disagree in {panel['experts_disagree']}. Weighted kappa between experts: {said}.",
            f"{panel['arbitrated']} arbitrations, {panel['arbitrated_though_agreed']} though the experts agreed; "
            f"{panel['disagree_without_arbitration']} disagreements without one.",
            f"The label is no expert's in {panel['label_is_no_experts']} cases, and not the arbitration's in "
            f"{panel['label_is_not_the_arbitration']}.",
        ]
    return Section("panel", "The panel's labels", text)


def _shown(one: Measured) -> str:
    if one.estimate is None:
        return "–"
    return one.estimate.interval.typeset() + ("*" if one.caution else "")


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"
