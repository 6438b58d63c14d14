"""The page of ``stride-monai transfer``."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, GRAY, drawable, new_figure, paper_style
from stride_monai.evaluation.page.page import Page, PageFigure, PageTable, Section
from stride_monai.evaluation.reports import p_text, percent
from stride_monai.evaluation.transfer import Shift, Transfer
from stride_monai.operating_point import Share

__all__ = ["transfer_page"]

_NOT_KNOWN = "not known"


def transfer_page(found: Transfer) -> Page:
    """The page as plain values."""
    everything = found.shifts["all"]
    return Page(
        title="An operating point at a new centre",
        subtitle=f"{found.name}: {everything.slides:,} slides against {everything.reference:,} of the reference; "
        f"threshold {found.point.threshold:.4f} ({found.point.in_words()}).",
        notes=[f"{found.verdict[:1].upper()}{found.verdict[1:]}.", *found.notes],
        key_figures=(
            ("Sensitivity here", *_key(found.sensitivity)),
            ("Specificity here", *_key(found.specificity)),
            ("Called positive", percent(found.called.value), f"reference {percent(found.reference_called.value)}"),
            ("Scores", "shifted" if everything.shifted else "no shift found", f"PSI {everything.psi:.3f}"),
        ),
        sections=[_scores(found), _calls(found), _what_is_needed(found)],
    )


def _key(one: Share | None) -> tuple[str, str]:
    if one is None:
        return _NOT_KNOWN, "no diagnoses were given"
    return f"{one.value:.3f}", f"{one.low:.3f}–{one.high:.3f}, {one.of:,} slides"


def _scores(found: Transfer) -> Section:
    names = {"all": "all slides", "negative": "negative slides", "positive": "positive slides"}
    rows = [(names[name], *_shift(one)) for name, one in found.shifts.items()]
    table = PageTable(
        "Scores of the new centre against the reference",
        (
            *("", "Slides", "Reference", "Median", "Reference", "PSI", "by chance below", "KS", "p", "Shifted"),
        ),
        rows,
        note="PSI: population stability index over the reference's deciles; 95 % of equal cohorts of these sizes stay"
        " below the value by chance. KS: Kolmogorov and Smirnov's distance. A shift of all scores may come from another"
        " share of positive slides alone; shifts by diagnosis tell.",
    )  # fmt: skip
    one = found.shifts["all"]
    figure = PageFigure(
        "scores",
        _drawn(found),
        "Share of slides with a score at or below: the new centre and the reference; the threshold is dashed.",
        f"Scores: median {one.quantiles[2]:.3f} here, {one.reference_quantiles[2]:.3f} in the reference",
        wide=True,
    )
    return Section("scores", "Scores", figures=[figure], tables=[table])


def _shift(one: Shift) -> tuple[str, ...]:
    return (
        f"{one.slides:,}",
        f"{one.reference:,}",
        f"{one.quantiles[2]:.3f}",
        f"{one.reference_quantiles[2]:.3f}",
        f"{one.psi:.3f}",
        f"{one.psi_by_chance:.3f}",
        f"{one.ks:.3f}",
        p_text(one.ks_p),
        "yes" if one.shifted else "no",
    )


def _calls(found: Transfer) -> Section:
    chosen = found.point
    rows = [
        ("Sensitivity", _share(found.sensitivity), _share(chosen.sensitivity)),
        ("Specificity", _share(found.specificity), _share(chosen.specificity)),
        ("Called positive", _share(found.called), _share(found.reference_called)),
    ]
    table = PageTable(
        "At the threshold as it is",
        ("", "New centre", "Where it was chosen, calls: reference"),
        rows,
        note="95 % intervals of Clopper and Pearson.",
    )
    return Section("calls", "Calls", tables=[table])


def _share(one: Share | None) -> str:
    if one is None:
        return _NOT_KNOWN
    return f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f}; {one.found:,} of {one.of:,})"


def _what_is_needed(found: Transfer) -> Section:
    target = found.point.target
    rows = [
        (
            "a bound at all" if one.margin is None else f"{target:g}–{target + one.margin:g}",
            f"{one.positives:,}",
            _NOT_KNOWN if one.slides is None else f"{one.slides:,}",
        )
        for one in found.needed
    ]
    table = PageTable(
        "Slides with a known diagnosis to choose the operating point anew",
        ("Sensitivity, 95 % sure of either side", "Positive slides", "Slides in all, at the share of positives here"),
        rows,
        note="By the conformal bound (stride-monai operating-point --conformal). With fewer slides it is safe by a low"
        " threshold, at the cost of specificity. Slides that choose it must not judge it afterwards.",
    )
    return Section("needed", "What it takes to choose it anew", tables=[table])


@paper_style
def _drawn(found: Transfer) -> Figure:
    figure, axes = new_figure(DOUBLE, 3.0)
    for scores, label, color in (
        (found.reference_scores, "reference", GRAY),
        (found.scores, drawable(found.name, "new centre"), COLORS[0]),
    ):
        ordered = np.sort(scores)
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=color, label=label)
    axes.axvline(found.point.threshold, color=COLORS[1], linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel="slide score", ylabel="share of slides at or below", xlim=(-0.01, 1.01), ylim=(0, 1.01))
    axes.grid(visible=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
