"""A reader study as JSON and as tables; fields: docs/reader-studies.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stride_monai.data.tables import table_text
from stride_monai.evaluation.readers.estimate import Estimate, Published
from stride_monai.evaluation.readers.measures import Measured, Verdict
from stride_monai.evaluation.readers.summary import StudySummary
from stride_monai.evaluation.reports import header, plain
from stride_monai.evaluation.statistics.intervals import Interval
from stride_monai.findings import DISCLAIMER

__all__ = ["study_record", "study_tables"]

SCHEMA_VERSION = "1.1"
_COUNTS = ("tp", "fn", "fp", "tn", "open")


def study_record(summary: StudySummary, sources: Mapping[str, str]) -> dict[str, Any]:
    """The content of ``reader_study.json``.

    Args:
        sources: name of an input -> SHA-256 of its file.
    """
    study = summary.study
    return {
        **header(SCHEMA_VERSION),
        "inputs_sha256": dict(sources),
        "level": summary.level,
        "readers": list(study.readers),
        "cases": len(study.cases),
        "reads": len(study.reads),
        "arms": list(study.arms),
        "compared": list(summary.compared) if summary.compared else None,
        "threshold": summary.group,
        "cases_without_label": list(study.without_label),
        "cases_unread": list(study.unread),
        "notes": list(summary.notes),
        "measures": [_measured(one) for one in summary.arms],
        "differences": [{**_measured(one), "non_inferiority": _verdict(said)} for one, said in summary.differences],
        "by_reader": [
            {
                "reader": one.reader,
                "arm": one.arm,
                **{name: one.counts[name] for name in _COUNTS},
                **{name: getattr(one, name).as_json() for name in ("sensitivity", "specificity", "kappa", "weighted")},
                "exact_labels": plain(one.exact),
                "median_seconds": plain(one.seconds),
            }
            for one in summary.readers
        ],
        "mcnemar": [{**one._asdict(), "p": plain(one.p)} for one in summary.tests],
        "fleiss_kappa": {
            arm: {"kappa": plain(value), "readers": readers, "cases": cases}
            for arm, (value, readers, cases) in summary.between.items()
        },
        "seconds": [
            {
                **{name: getattr(one, name) for name in ("arm", "reads", "without")},
                "geometric_mean": one.geometric.as_json(),
                **{name: plain(getattr(one, name)) for name in ("lower", "median", "upper")},
            }
            for one in summary.times
        ],
        "seconds_ratio": _estimate(summary.ratio),
        "panel": {**summary.panel, "kappa": _panel_kappa(summary.panel["kappa"])},
        "disclaimer": DISCLAIMER,
    }


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    freedom = None if math.isinf(found.freedom) else plain(found.freedom)
    return {
        **found.interval.as_json(),
        "standard_error": plain(found.error),
        "degrees_of_freedom": freedom,
        "p": plain(found.p),
        "random_readers": found.random_readers,
        "published": _published(found.published),
    }


def _published(found: Published | None) -> dict[str, Any] | None:
    if found is None:
        return None
    freedom = None if math.isinf(found.freedom) else plain(found.freedom)
    return {**found.interval.as_json(), "degrees_of_freedom": freedom, "p": plain(found.p)}


def _measured(one: Measured) -> dict[str, Any]:
    names = ("measure", "arm", "readers", "cases", "reads", "note", "caution")
    return {**{name: getattr(one, name) for name in names}, "found": _estimate(one.estimate)}


def _verdict(said: Verdict | None) -> dict[str, Any] | None:
    return None if said is None else {**said._asdict(), "bound": plain(said.bound)}


def _panel_kappa(kappa: Mapping[str, Any]) -> dict[str, Any]:
    interval: Interval | None = kappa["interval"]
    return {"estimate": plain(kappa["estimate"]), "interval": None if interval is None else interval.as_json()}


def study_tables(summary: StudySummary) -> dict[str, bytes]:
    """``measures``, ``readers`` and, with two arms to compare, ``mcnemar``, as CSV; an undefined figure is empty."""
    tables = {"measures": _measures(summary), "readers": _readers(summary)}
    return tables if summary.compared is None else {**tables, "mcnemar": _tests(summary)}


_ESTIMATE = ("estimate", "low", "high", "standard_error", "degrees_of_freedom", "p", "method")
_PUBLISHED = ("published_low", "published_high", "published_p")


def _measures(summary: StudySummary) -> bytes:
    counted = ("readers", "cases", "reads")
    header = ["measure", "arm", *_ESTIMATE, *_PUBLISHED, *counted, "margin", "non_inferior", "note", "caution"]
    rows = []
    for one, said in [*((one, None) for one in summary.arms), *summary.differences]:
        counts = map(str, (one.readers, one.cases, one.reads))
        cells = [one.measure, one.arm, *_cells(one.estimate), *_printed(one.estimate)]
        rows.append([*cells, *counts, *_said(said), one.note, one.caution])
    return table_text(header, rows)


def _readers(summary: StudySummary) -> bytes:
    bounded = ("sensitivity", "specificity", "kappa", "weighted")
    named = [f"{name}{end}" for name in bounded for end in ("", "_low", "_high")]
    header = ["reader", "arm", *_COUNTS, *named, "exact_labels", "median_seconds"]
    rows = []
    for one in summary.readers:
        counts = [str(one.counts[name]) for name in _COUNTS]
        figures = [cell for name in bounded for cell in _bounds(getattr(one, name))]
        rows.append([one.reader, one.arm, *counts, *figures, _number(one.exact), _number(one.seconds)])
    return table_text(header, rows)


def _cells(found: Estimate | None) -> list[str]:
    if found is None:
        return [""] * len(_ESTIMATE)
    return [*_bounds(found.interval), *map(_number, (found.error, found.freedom, found.p)), found.interval.method]


def _printed(found: Estimate | None) -> list[str]:
    if found is None or found.published is None:
        return [""] * len(_PUBLISHED)
    return [_number(x) for x in (found.published.interval.low, found.published.interval.high, found.published.p)]


def _said(said: Verdict | None) -> list[str]:
    return ["", ""] if said is None else [_number(said.margin), "yes" if said.non_inferior else "not shown"]


def _tests(summary: StudySummary) -> bytes:
    header = ["reader", "cases", "right_in_both", "wrong_in_both", "gained", "lost", "p", "test"]
    rows = []
    for one in summary.tests:
        counts = map(str, (one.both, one.neither, one.gained, one.lost))
        rows.append([one.reader, one.kind, *counts, _number(one.p), "exact" if one.exact else "chi-squared"])
    return table_text(header, rows)


def _bounds(interval: Interval) -> list[str]:
    return [_number(value) for value in (interval.estimate, interval.low, interval.high)]


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
