"""What a laboratory screens, week after week, against a reference: scores, calls, quality, stain and focus."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.data.tables import read_table, refuse
from stride_monai.errors import ManifestError
from stride_monai.evaluation.control_charts import ControlChart, control_chart, share_z, values_z
from stride_monai.evaluation.inputs.results_folder import Results, ScreenedSlide, common_ground
from stride_monai.evaluation.reports import header, plain
from stride_monai.findings import DISCLAIMER, SlideStatus

__all__ = [
    "FALSE_ALARMS",
    "LEAST_REFERENCE",
    "Measured",
    "Monitored",
    "Week",
    "monitor",
    "monitor_report",
    "read_dates",
]

SCHEMA_VERSION = "1.0"
FALSE_ALARMS = 0.01
"""Share of the weeks in which any limit of any chart is crossed although nothing has changed, at most."""
LEAST_REFERENCE = 20
"""Slides below which a reference says too little."""


class _Measure(NamedTuple):
    """What is charted.

    Attributes:
        of: its value for a slide, None where the slide has none; a bool for a share of slides.
        unit: behind a value, for people.
    """

    key: str
    title: str
    of: Callable[[ScreenedSlide], float | bool | None]
    unit: str = ""


class Week(NamedTuple):
    """A week of a measure: its Monday, slides, and their median or share."""

    monday: date
    slides: int
    value: float


class Measured(NamedTuple):
    """A measure: its weeks, its chart over them, and the median or share of the reference."""

    key: str
    title: str
    unit: str
    is_share: bool
    reference: float
    reference_slides: int
    weeks: Sequence[Week]
    chart: ControlChart


@dataclass(frozen=True, eq=False)
class Monitored:
    """Weeks against a reference.

    Attributes:
        measures: those that reference and weeks have.
        each: share of the weeks in which each of the two lines of each chart crosses where nothing has changed.
        slides, reference: how many of both are charted.
        notes: what the reader must know.
    """

    measures: Sequence[Measured]
    each: float
    slides: int
    reference: int
    dates_from: str
    notes: Sequence[str]

    @property
    def crossings(self) -> list[tuple[Measured, Week, str]]:
        """Each crossing: the measure, the week, and which way it went (``higher``, ``lower``)."""
        found = []
        for measure in self.measures:
            chart = measure.chart
            for k, week in enumerate(measure.weeks):
                if chart.crossed[k]:
                    beyond = abs(chart.z[k]) > chart.limit
                    way = chart.z[k] if beyond else chart.ewma[k]
                    found.append((measure, week, "higher" if way > 0 else "lower"))
        return sorted(found, key=lambda one: one[1].monday)


def _is_judged(slide: ScreenedSlide) -> bool:
    return slide.status in {SlideStatus.OK, SlideStatus.UNSATISFACTORY}


def _stain(slide: ScreenedSlide, channel: int | None) -> float | None:
    """Sum of the optical densities, or the share of a channel in it."""
    stain = slide.quality.stain
    if stain is None or sum(stain) <= 0:
        return None
    return sum(stain) if channel is None else stain[channel] / sum(stain)


_MEASURES = (
    _Measure("score", "Slide score", lambda slide: slide.score),
    _Measure("positive", "Called positive", lambda slide: None if slide.call is None else slide.call == "positive"),
    _Measure(
        "not_judged",
        "Failed or unsatisfactory",
        lambda slide: None if slide.status == SlideStatus.SKIPPED else slide.status != SlideStatus.OK,
    ),
    _Measure("cells", "Estimated cells", lambda slide: slide.quality.estimated_cells),
    _Measure("focus", "Focus (variance of the Laplacian)", lambda slide: slide.quality.focus),
    _Measure("stain", "Stain strength (optical density)", lambda slide: _stain(slide, None)),
    _Measure("stain_red", "Stain hue: share of red", lambda slide: _stain(slide, 0)),
    _Measure("stain_blue", "Stain hue: share of blue", lambda slide: _stain(slide, 2)),
)


def read_dates(path: Path) -> dict[str, date]:
    """Dates of slides: a table with ``slide_id`` and ``date`` (``2026-11-29``, what follows is passed over).

    Raises:
        ManifestError: it has no such columns, a date is none, or an id stands twice.
    """
    present, rows = read_table(path, ("slide_id", "date"), {"slide": "slide_id"})
    if present != {"slide_id", "date"}:
        lacking = " and ".join(sorted({"slide_id", "date"} - present))
        raise ManifestError(f"{path.absolute()} has no column {lacking}", "give it columns slide_id and date")
    found: dict[str, date] = {}
    problems = []
    for row in rows:
        slide_id, text = row.get("slide_id"), row.get("date")
        try:
            day = date.fromisoformat(text[:10])
        except ValueError:
            problems.append(f"{row.place}: '{text}' is no date like 2026-11-29")
            continue
        if slide_id in found:
            problems.append(f"{row.place}: slide '{slide_id}' stands twice")
        found[slide_id] = day
    refuse(problems, path.name)
    return found


def monitor(results: Results, reference: Results, dates: Mapping[str, date] | None = None) -> Monitored:
    """Hold each week of results against a reference.

    Args:
        dates: of slides by their id; None for the days on which they were screened.

    Raises:
        ManifestError: the reference has fewer than :data:`LEAST_REFERENCE` slides; no slide has a date; all of them are
            of the reference; or the two were screened in different ways, so that scores cannot be compared.
    """
    base = [slide for slide in reference.slides if slide.status != SlideStatus.SKIPPED]
    if len(base) < LEAST_REFERENCE:
        raise ManifestError(
            f"the reference has {len(base)} slides", f"give {LEAST_REFERENCE} or more, better some hundreds"
        )
    common_ground([*base, *results.slides])
    known = {slide.slide_id for slide in base}
    fresh = [slide for slide in results.slides if slide.slide_id not in known]
    notes = [*(f"reference: {note}" for note in reference.notes), *results.notes]
    if len(fresh) < len(results.slides):
        notes.append(f"{len(results.slides) - len(fresh):,} slides are of the reference too and are left out")
    if not fresh:
        raise ManifestError("every slide is of the reference too", "name other results, or another reference")
    weeks = _by_week(fresh, dates, notes)
    measured = _measured(weeks, base, notes)
    each = FALSE_ALARMS / (2 * len(measured))
    return Monitored(
        [_charted(measure, weeks, base, each) for measure in measured],
        each,
        sum(map(len, weeks.values())),
        len(base),
        "the table of dates" if dates is not None else "the screening",
        notes,
    )


def _by_week(
    slides: Sequence[ScreenedSlide], dates: Mapping[str, date] | None, notes: list[str]
) -> dict[date, list[ScreenedSlide]]:
    """Slides by the Monday of their week, in order."""
    found: dict[date, list[ScreenedSlide]] = defaultdict(list)
    undated = 0
    for slide in slides:
        stated = slide.screened_at[:10]
        day = dates.get(slide.slide_id) if dates is not None else date.fromisoformat(stated) if stated else None
        if day is None:
            undated += 1
        else:
            found[date.fromordinal(day.toordinal() - day.weekday())].append(slide)
    if not found:
        why = "the index does not say when they were screened" if dates is None else "none is in the table of dates"
        raise ManifestError(f"no slide has a date: {why}", "give a table with slide_id and date: --dates TABLE")
    if undated:
        notes.append(f"{undated:,} slides have no date and are left out")
    return dict(sorted(found.items()))


def _measured(
    weeks: Mapping[date, Sequence[ScreenedSlide]], base: Sequence[ScreenedSlide], notes: list[str]
) -> list[_Measure]:
    """The measures that both have; of the others it is said why there is none."""
    mine = [slide for week in weeks.values() for slide in week]
    found = []
    for measure in _MEASURES:
        if measure.key == "positive" and (why := _other_thresholds([*base, *mine])):
            notes.append(f"calls are not compared: {why}")
            continue
        if min(len(_values(measure, base)), len(_values(measure, mine))) == 0:
            whose = "the reference does" if not _values(measure, base) else "the slides do"
            notes.append(f"no chart of '{measure.title}': {whose} not have it")
            continue
        found.append(measure)
    return found


def _other_thresholds(slides: Sequence[ScreenedSlide]) -> str:
    thresholds = {slide.point[0] for slide in slides if slide.point is not None and slide.call is not None}
    if len(thresholds) < 2:
        return ""
    some = ", ".join(f"{threshold:g}" for threshold in sorted(thresholds)[:5])
    return f"they were made by {len(thresholds)} thresholds ({some})"


def _values(measure: _Measure, slides: Sequence[ScreenedSlide]) -> list[float | bool]:
    values = [measure.of(slide) for slide in slides if _is_judged(slide) or measure.key == "not_judged"]
    return [value for value in values if value is not None and math.isfinite(value)]


def _charted(
    measure: _Measure, weeks: Mapping[date, Sequence[ScreenedSlide]], base: Sequence[ScreenedSlide], each: float
) -> Measured:
    before = _values(measure, base)
    is_share = isinstance(before[0], bool)
    by_week = {monday: values for monday, slides in weeks.items() if (values := _values(measure, slides))}
    z = [
        share_z(sum(before), len(before), sum(values), len(values)) if is_share else values_z(before, values)  # type: ignore[arg-type]
        for values in by_week.values()
    ]
    sizes = [len(values) for values in by_week.values()]
    typical = statistics.fmean if is_share else statistics.median
    return Measured(
        measure.key,
        measure.title,
        measure.unit,
        is_share,
        float(typical(before)),
        len(before),
        [Week(monday, len(values), float(typical(values))) for monday, values in by_week.items()],
        control_chart(z, sizes, len(before), each),
    )


def monitor_report(found: Monitored) -> dict[str, Any]:
    """The content of ``monitor.json``; fields: docs/artifacts.md."""
    return {
        **header(SCHEMA_VERSION),
        "crossed": bool(found.crossings),
        "false_alarms": FALSE_ALARMS,
        "false_alarms_each": plain(found.each),
        "slides": found.slides,
        "reference_slides": found.reference,
        "dates_from": found.dates_from,
        "measures": {measure.key: _reported(measure) for measure in found.measures},
        "notes": list(found.notes),
        "disclaimer": DISCLAIMER,
    }


def _reported(measure: Measured) -> dict[str, Any]:
    chart = measure.chart
    return {
        "title": measure.title,
        "statistic": "share" if measure.is_share else "median",
        "reference": plain(measure.reference),
        "reference_slides": measure.reference_slides,
        "limit": plain(chart.limit),
        "weeks": [
            {
                "monday": week.monday.isoformat(),
                "slides": week.slides,
                "value": plain(week.value),
                "z": plain(chart.z[k]),
                "ewma": plain(chart.ewma[k]),
                "ewma_limit": plain(chart.ewma_limits[k]),
                "crossed": bool(chart.crossed[k]),
            }
            for k, week in enumerate(measure.weeks)
        ],
    }
