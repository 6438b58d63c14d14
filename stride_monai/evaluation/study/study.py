"""A whole evaluation: the topics that can be judged, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stride_monai.data.cells import CellRecord
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import Page
from stride_monai.evaluation.reports import header
from stride_monai.evaluation.study.calls import Calls, calls_of
from stride_monai.evaluation.study.cells import cells_part
from stride_monai.evaluation.study.checklist import checklist_part
from stride_monai.evaluation.study.classes import classes_part
from stride_monai.evaluation.study.comparison import comparison_part
from stride_monai.evaluation.study.discrimination import Discrimination, discrimination, discrimination_part
from stride_monai.evaluation.study.flow import flow_part
from stride_monai.evaluation.study.missed import missed_part
from stride_monai.evaluation.study.operating import clusters_part, operating_part
from stride_monai.evaluation.study.part import Part, Settings
from stride_monai.evaluation.study.scores import scores_part
from stride_monai.evaluation.study.subgroups import chosen_columns, subgroups_part
from stride_monai.findings import DISCLAIMER

__all__ = ["SCHEMA_VERSION", "Study", "run_study"]

SCHEMA_VERSION = "1.0"
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Study:
    """An evaluation.

    Attributes:
        metrics: the content of ``metrics.json``; fields: docs/artifacts.md.
        page: of ``report.html``. parts: topic by topic.
    """

    cohort: JudgedCohort
    parts: Sequence[Part]
    metrics: Mapping[str, Any]
    page: Page


def run_study(
    cohort: JudgedCohort,
    settings: Settings,
    compare: JudgedCohort | None = None,
    cells: tuple[Path, Sequence[CellRecord]] | None = None,
    tell: Tell = lambda _text: None,
) -> Study:
    """Judge a cohort.

    Args:
        compare: another system on the same truth.
        cells: a table of marked cells, and what it holds.
        tell: told what is being done.

    Raises:
        ConfigError: a column, a threshold or cells are asked for that cannot be used.
        ManifestError: no slide was judged by both systems.
    """
    chosen_columns(cohort.columns, settings.by)  # a misspelt one is refused at once
    calls = calls_of(cohort, settings)
    parts: list[Part | None] = [flow_part(cohort, calls)]
    if cohort.scored:
        parts += _of_scores(cohort, calls, settings, tell)
    elif calls is not None:
        parts.append(operating_part(cohort, calls, settings))
    tell("classes, subgroups, lesions that were missed")
    parts += [classes_part(cohort), subgroups_part(cohort, calls, settings)]
    if calls is not None:
        parts.append(missed_part(cohort, calls))
    if cells is not None:
        tell("cells")
        parts.append(cells_part(cohort, cells[1], cells[0]))
    if compare is not None:
        tell(f"comparison with {compare.system}")
        parts.append(comparison_part(cohort, compare, settings))
    made = [part for part in parts if part is not None]
    made.append(checklist_part(cohort, made, calls, settings))
    return Study(cohort, made, _metrics(cohort, made, settings), _page(cohort, made, calls))


def _of_scores(cohort: JudgedCohort, calls: Calls | None, settings: Settings, tell: Tell) -> list[Part | None]:
    tell("discrimination")
    found: Discrimination = discrimination(cohort, settings)
    parts: list[Part | None] = [discrimination_part(found, calls, settings.level)]
    if calls is not None:
        parts.append(operating_part(cohort, calls, settings))
    tell(f"bootstrap, {settings.replicates:,} samples")
    parts.append(clusters_part(cohort, found, calls, settings))
    parts.append(scores_part(cohort, calls))
    return parts


def _metrics(cohort: JudgedCohort, parts: Sequence[Part], settings: Settings) -> dict[str, Any]:
    return {
        **header(SCHEMA_VERSION),
        "system": cohort.system,
        "sources": dict(cohort.sources),
        "settings": asdict(settings),
        "notes": list(cohort.notes),
        **{part.key: part.numbers for part in parts},
        "disclaimer": DISCLAIMER,
    }


def _page(cohort: JudgedCohort, parts: Sequence[Part], calls: Calls | None) -> Page:
    notes = [f"{note[:1].upper()}{note[1:]}." for note in cohort.notes]
    weights = cohort.sources["predictions"].get("weights_note")
    if isinstance(weights, str) and weights:
        notes.append(f"Weights: {weights}")
    if "train" in set(cohort.columns.get("split", ())):
        notes.append("Slides of the split 'train' are among those that are judged: figures on them say little.")
    if calls is None:
        notes.append(
            "No operating point: the system makes no calls and none was given (--threshold, --operating-point), so "
            "sensitivity and specificity stand at thresholds that were chosen on these very slides."
        )
    truth = cohort.sources["truth"].get("file", "the truth table")
    return Page(
        title=f"Evaluation of {cohort.system}",
        subtitle=f"{len(cohort):,} slides, judged against {truth}.",
        sections=[part.section for part in parts],
        notes=notes,
        key_figures=[key for part in parts for key in part.key_figures],
    )
