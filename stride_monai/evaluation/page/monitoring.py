"""The page of ``stride-monai monitor``: what crossed its limits first, then a chart of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.evaluation.figures.style import COLORS, DOUBLE, GRAY, new_figure, paper_style
from stride_monai.evaluation.monitoring import FALSE_ALARMS, Measured, Monitored, Week
from stride_monai.evaluation.page.page import Page, PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted, percent

__all__ = ["monitor_page"]

_SHOWN = 12
Floats = NDArray[np.float64]


def monitor_page(found: Monitored) -> Page:
    """The page as plain values."""
    crossings = found.crossings
    weeks = sorted({week.monday for measure in found.measures for week in measure.weeks})
    last = [(measure, way) for measure, week, way in crossings if week.monday == weeks[-1]]
    return Page(
        title="Monitoring of slide screening",
        subtitle=f"{counted(found.slides, 'slide')} of {counted(len(weeks), 'week')} against a reference of "
        f"{found.reference:,} slides; the dates are those of {found.dates_from}.",
        notes=found.notes,
        key_figures=(
            ("Limits crossed", f"{len(crossings)}", "of any chart, in any week"),
            ("In the last week", f"{len(last)}", ", ".join(measure.title for measure, _ in last) or "none"),
            ("Weeks", f"{len(weeks)}", f"with slides, {_name(weeks[0])} to {_name(weeks[-1])}"),
            ("False alarms", f"at most {percent(FALSE_ALARMS, 0)} of weeks", "where nothing has changed"),
        ),
        sections=[_crossed(crossings), *(_measure(measure) for measure in found.measures), _how(found)],
    )


def _name(monday: date) -> str:
    return f"{monday:%G-W%V}"


def _value(measure: Measured, value: float) -> str:
    return percent(value) if measure.is_share else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _crossed(crossings: Sequence[tuple[Measured, Week, str]]) -> Section:
    if not crossings:
        return Section("crossed", "Limits crossed", ["No limit was crossed."])
    rows = [
        (_name(week.monday), measure.title, way, _value(measure, week.value), _value(measure, measure.reference))
        for measure, week, way in reversed(crossings)
    ]
    table = PageTable(
        "Weeks in which a limit was crossed, the latest first",
        ("Week", "Measure", "Than the reference", "Week's value", "Reference"),
        rows,
        words=True,
    )
    advice = (
        "Find out what has changed before the results of these weeks are relied on: scanner, stain, preparation, who is"
        " screened. Where the change is meant to stay, choose the operating point anew and take a new reference."
    )
    return Section("crossed", "Limits crossed", [advice], tables=[table])


def _measure(measure: Measured) -> Section:
    chart, weeks = measure.chart, measure.weeks
    said = [f"{_name(weeks[k].monday)}" for k in np.flatnonzero(chart.crossed).tolist()]
    told = f"crossed in {', '.join(said[-_SHOWN:])}" if said else "no limit is crossed"
    kind = "share of slides" if measure.is_share else "median"
    figure = PageFigure(
        measure.key,
        _drawn(measure),
        "Each week's distance from the reference in standard errors (dots, Shewhart limits dashed), and its moving"
        " average (line, limits shaded).",
        f"{measure.title}: {len(weeks)} weeks, {told}",
        wide=True,
    )
    rows = [
        (
            _name(week.monday),
            week.slides,
            _value(measure, week.value),
            _signed(chart.z[k]),
            _signed(chart.ewma[k]),
            f"{chart.ewma_limits[k]:.2f}",
            "crossed" if chart.crossed[k] else "",
        )
        for k, week in enumerate(weeks)
    ]
    table = PageTable(
        f"{measure.title}: {kind} by week; reference {_value(measure, measure.reference)} "
        f"({measure.reference_slides:,} slides)",
        ("Week", "Slides", "Value", "Standard errors", "Moving average", "Its limit", ""),
        rows,
    )
    return Section(measure.key, measure.title, figures=[figure], tables=[table])


@paper_style
def _drawn(measure: Measured) -> Figure:
    chart, weeks = measure.chart, measure.weeks
    figure, axes = new_figure(DOUBLE, 2.4)
    place = _places(weeks)
    edges, limits = _steps(place, chart.ewma_limits)
    axes.fill_between(
        edges, -limits, limits, color=COLORS[0], alpha=0.12, linewidth=0, label="limits of the moving average"
    )
    for side in (-chart.limit, chart.limit):
        axes.axhline(side, color=GRAY, linestyle="--", linewidth=0.9, label="limits of a week" if side > 0 else None)
    axes.axhline(0, color=GRAY, linewidth=0.6)
    average = _with_gaps(place, chart.ewma)
    axes.plot(*average, color=COLORS[0], marker=".", markersize=2, label="moving average")
    inside = ~chart.crossed
    axes.plot(place[inside], chart.z[inside], "o", color="black", markersize=3, label="week")
    if chart.crossed.any():
        out = chart.crossed
        axes.plot(place[out], chart.z[out], "D", color=COLORS[1], markersize=5, label="week with a limit crossed")
    last = int(place[-1])
    shown = np.arange(0, last + 1, -(-(last + 1) // _SHOWN))
    named = [_name(weeks[0].monday + timedelta(weeks=int(k))) for k in shown]
    axes.set_xticks(shown, named, rotation=30, ha="right")
    top = max(chart.limit * 1.25, float(np.abs(chart.z).max()) * 1.1)
    axes.set(ylabel="standard errors", ylim=(-top, top), xlim=(-0.6, last + 0.6))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _places(weeks: Sequence[Week]) -> NDArray[np.int64]:
    """Weeks since the first: a week without slides leaves a gap."""
    return np.array([(week.monday - weeks[0].monday).days // 7 for week in weeks])


def _steps(place: NDArray[np.int64], values: Floats) -> tuple[Floats, Floats]:
    """Each value over the whole of its week, and nothing between weeks that are apart."""
    edges = np.stack([place - 0.5, place + 0.5, np.full(len(place), np.nan)], axis=1)
    return edges.ravel(), np.repeat(values, 3)


def _with_gaps(place: NDArray[np.int64], values: Floats) -> tuple[Floats, Floats]:
    """The line of the values, broken where a week has no slides."""
    every = np.arange(place[-1] + 1).astype(np.float64)
    line = np.full(len(every), np.nan)
    line[place] = values
    return every, line


def _how(found: Monitored) -> Section:
    charts = len(found.measures)
    texts = [
        f"The limits are such that, where nothing has changed, at most {percent(FALSE_ALARMS, 0)} of the weeks cross"
        f" any of them: each of the {2 * charts} lines ({charts} charts, a week's value and a moving average in each)"
        f" crosses in {percent(found.each, 4)} of the weeks.",
        "A week's values are held against the reference by normal scores of their ranks (van der Waerden), its shares"
        " by Fisher's exact test (mid-p); both are shown as a standard normal deviate. The moving average is"
        " exponentially weighted (0.2 for the last week); its limits allow for the slides of the reference.",
        "The stain is the optical density of stained pixels in red, green and blue: its strength is their sum, its hue"
        " the share of red, which haematoxylin absorbs, and of blue, which orange G and eosin absorb.",
        "A limit that is crossed says that slides differ from the reference, not why, and not that calls are wrong."
        " Few slides in a week hide changes; a limit that is not crossed is no proof that nothing has changed.",
    ]
    return Section("how", "How to read this", texts)
