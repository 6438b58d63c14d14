"""Weeks of screening against a reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.results_folder import Results, ScreenedSlide
from stride_monai.evaluation.monitoring import FALSE_ALARMS, monitor, monitor_report, read_dates
from stride_monai.evaluation.page.monitoring import monitor_page
from stride_monai.evaluation.page.page import page_html
from stride_monai.findings import Quality
from stride_monai.operating_point import HoldsFor

HELD = HoldsFor("swift_mil", {"swift_mil": "aa"}, "bb", 256, 1.0, 0.5)
START = date(2026, 1, 5)  # a Monday


def slides(count: int, week: int, seed: int, name: str = "s", **shift: float) -> list[ScreenedSlide]:
    """Slides of a week: scores, calls, quality; ``shift`` moves what it names."""
    rng = np.random.default_rng([seed, week])
    found = []
    for k in range(count):
        score = float(np.clip(rng.beta(0.5, 3) + shift.get("score", 0), 0, 1))
        focus, strength = rng.gamma(20, 10) + shift.get("focus", 0), rng.normal(0.9, 0.05) + shift.get("stain", 0)
        failed = rng.random() < 0.02 + shift.get("failed", 0)
        quality = Quality(3.0, int(rng.normal(60_000, 8000)), focus, 0.0, 70, 0, True, (), (strength, 0.6, 0.4))
        found.append(
            ScreenedSlide(
                slide_id=f"{name}{week}-{k}",
                status="failed" if failed else "ok",
                score=None if failed else score,
                call=None if failed else "positive" if score >= 0.4 else "negative",
                point=None if failed else (0.4, 256, "a test"),
                mpp=None if failed else 0.25,
                quality=Quality() if failed else quality,
                held_for=HoldsFor() if failed else HELD,
                screened_at=f"{START + timedelta(weeks=week, days=k % 5)}T10:00:00+00:00",
            )
        )
    return found


def weeks(count: int, seed: int = 1, changed: Sequence[int] = (), **shift: float) -> Results:
    return Results([one for w in range(count) for one in slides(40, w, seed, **(shift if w in changed else {}))])


REFERENCE = Results(slides(300, 0, 0, "reference"))


def test_weeks_like_the_reference_are_within_their_limits() -> None:
    found = monitor(weeks(8, seed=2), REFERENCE)
    assert found.crossings == []
    assert [measure.key for measure in found.measures] == [
        *("score", "positive", "not_judged", "cells", "focus", "stain", "stain_red", "stain_blue")
    ]
    assert found.each == FALSE_ALARMS / 16
    score = found.measures[0]
    assert [week.monday for week in score.weeks] == [START + timedelta(weeks=w) for w in range(8)]
    judged = [one.score for one in weeks(8, seed=2).slides if one.slide_id.startswith("s3-") and one.score is not None]
    assert (score.weeks[3].slides, score.weeks[3].value) == (len(judged), np.median(judged))
    report = monitor_report(found)
    assert report["crossed"] is False
    assert report["measures"]["not_judged"]["statistic"] == "share"


@pytest.mark.parametrize(
    ("shift", "measure", "way"),
    [
        ({"score": 0.4}, "score", "higher"),
        ({"score": 0.4}, "positive", "higher"),
        ({"failed": 0.5}, "not_judged", "higher"),
        ({"focus": -120}, "focus", "lower"),
        ({"stain": 0.4}, "stain", "higher"),
        ({"stain": 0.4}, "stain_red", "higher"),
        ({"stain": 0.4}, "stain_blue", "lower"),
    ],
)
def test_a_week_that_differs_crosses(shift: dict[str, float], measure: str, way: str) -> None:
    found = monitor(weeks(6, changed=[4], **shift), REFERENCE)
    crossed = {(one.key, week.monday): said for one, week, said in found.crossings}
    assert crossed[measure, START + timedelta(weeks=4)] == way
    assert (measure, START + timedelta(weeks=3)) not in crossed


def test_the_rate_of_false_alarms_over_all_charts() -> None:
    """400 weeks in which nothing changes: any limit is crossed in no more than the 1 % that is stated (and chance)."""
    rng = np.random.default_rng(0)
    alarms = 0
    for run in range(40):
        reference = Results(slides(200, 0, int(rng.integers(2**31)), "reference"))
        found = monitor(weeks(10, 1000 + run), reference)
        alarms += len({week.monday for _, week, _ in found.crossings})
    assert alarms <= 10, "P(Bin(400, 0.01) > 10) is 0.003"


def test_what_cannot_be_charted_is_said() -> None:
    old = [replace(one, quality=replace(one.quality, stain=None)) for one in REFERENCE.slides]
    found = monitor(weeks(2), Results(old, notes=("an old one",)))
    assert "stain" not in {measure.key for measure in found.measures}
    assert found.notes[0] == "reference: an old one"
    assert sum("the reference does not have it" in note for note in found.notes) == 3
    again = [replace(one, point=one.point and (0.5, 256, "")) for one in weeks(2).slides]
    found = monitor(Results(again), REFERENCE)
    assert "positive" not in {measure.key for measure in found.measures}
    assert "calls are not compared: they were made by 2 thresholds (0.4, 0.5)" in found.notes


def test_slides_that_cannot_be_placed_are_left_out_and_counted() -> None:
    mine = weeks(3).slides
    undated = [replace(one, screened_at="") for one in mine[:5]]
    found = monitor(Results([*undated, *mine[5:], *REFERENCE.slides[:7]]), REFERENCE)
    assert found.slides == len(mine) - 5
    assert "7 slides are of the reference too and are left out" in found.notes
    assert "5 slides have no date and are left out" in found.notes
    dates = {one.slide_id: date(2026, 3, 5) for one in mine[:30]}
    found = monitor(Results(mine), REFERENCE, dates)
    assert [week.monday for week in found.measures[0].weeks] == [date(2026, 3, 2)]
    assert found.slides == 30


@pytest.mark.parametrize(
    ("results", "reference", "dates", "says"),
    [
        (weeks(2), Results(REFERENCE.slides[:19]), None, "the reference has 19 slides: give 20 or more"),
        (REFERENCE, REFERENCE, None, "every slide is of the reference too"),
        (weeks(1), REFERENCE, {}, "no slide has a date: none is in the table of dates"),
        (
            Results([replace(one, screened_at="") for one in weeks(1).slides]),
            REFERENCE,
            None,
            "the index does not say when they were screened: give a table",
        ),
        (
            Results([replace(one, held_for=replace(HELD, bag_size=64)) for one in weeks(1).slides]),
            REFERENCE,
            None,
            "were screened in different ways: K 256, it holds for 64",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(results: Results, reference: Results, dates: Any, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        monitor(results, reference, dates)


def test_dates_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    table = tmp_path / "日期.csv"
    table.write_text("slide_id;date\na;2026-11-29\nb;2026-11-30T08:00:00\n")
    assert read_dates(table) == {"a": date(2026, 11, 29), "b": date(2026, 11, 30)}
    table.write_text("slide_id,date\na,29.11.2026\na,2026-11-29\na,2026-11-29\n")
    with pytest.raises(ManifestError, match=r"line 2: '29.11.2026' is no date.*line 4: slide 'a' stands twice"):
        read_dates(table)
    table.write_text("slide_id\na\n")
    with pytest.raises(ManifestError, match="has no column date"):
        read_dates(table)


def test_a_week_without_slides_is_a_gap_in_the_chart() -> None:
    kept = [one for w in (0, 1, 4, 5) for one in slides(40, w, 1)]
    page = monitor_page(monitor(Results(kept), REFERENCE))
    assert page.subtitle.startswith("160 slides of 4 weeks against")
    axes = page.sections[1].figures[0].figure.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["week"].get_xdata().tolist() == [0, 1, 4, 5]
    assert np.isnan(lines["moving average"].get_ydata()).tolist() == [False, False, True, True, False, False]
    named = [label.get_text() for label in axes.get_xticklabels()]
    assert named == [f"2026-W{2 + w:02d}" for w in range(6)]
    shaded = axes.collections[0].get_paths()
    assert sorted({float(x) for path in shaded for x in path.vertices[:, 0]}) == [-0.5, 0.5, 1.5, 3.5, 4.5, 5.5]


def test_a_long_chart_names_weeks_at_even_steps_and_has_minus_signs() -> None:
    page = monitor_page(monitor(weeks(30), REFERENCE))
    section = page.sections[1]
    assert section.figures[0].figure.axes[0].get_xticks().tolist() == [*range(0, 30, 3)]
    signed = [cell for row in section.tables[0].rows for cell in row[3:5]]
    assert all(re.fullmatch(r"[+−]\d+\.\d\d", cell) for cell in signed)
    assert any(cell.startswith("−") for cell in signed)


def test_the_legend_of_a_chart_lies_beside_it() -> None:
    page = monitor_page(monitor(weeks(6, changed=[4], focus=-120), REFERENCE))
    (focus,) = (section for section in page.sections if section.key == "focus")
    axes = focus.figures[0].figure.axes[0]
    axes.figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        *("limits of the moving average", "limits of a week", "moving average", "week", "week with a limit crossed")
    ]


@pytest.mark.parametrize("dated", [True, False])
def test_the_page_says_whose_dates_they_are(dated: bool) -> None:
    mine = weeks(1)
    dates = {one.slide_id: START for one in mine.slides} if dated else None
    said = monitor_page(monitor(mine, REFERENCE, dates)).subtitle
    whose = "the table of dates" if dated else "the screening"
    assert said == f"40 slides of 1 week against a reference of 300 slides; the dates are those of {whose}."


def test_the_page_loads_nothing_and_names_what_crossed() -> None:
    page = page_html(monitor_page(monitor(weeks(6, changed=[4, 5], focus=-120), REFERENCE)))
    assert "2026-W06" in page
    assert "Focus (variance of the Laplacian)" in page
    assert "at most 1 % of weeks" in page
    assert 'src="http' not in page
