"""A whole evaluation: the topics that can be judged, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.data.cells import CellRecord
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import Page
from stride_monai.evaluation.reports import header
from stride_monai.evaluation.study.calibration import calibrated, calibration_part
from stride_monai.evaluation.study.calls import Calls, calls_of
from stride_monai.evaluation.study.cells import cells_part
from stride_monai.evaluation.study.centres import centres_part
from stride_monai.evaluation.study.checklist import checklist_part
from stride_monai.evaluation.study.classes import classes_part
from stride_monai.evaluation.study.comparison import comparison_part
from stride_monai.evaluation.study.discrimination import Discrimination, discrimination, discrimination_part
from stride_monai.evaluation.study.exclusion import decision_part, exclusion_part
from stride_monai.evaluation.study.features import features_part
from stride_monai.evaluation.study.flow import flow_part
from stride_monai.evaluation.study.missed import missed_part
from stride_monai.evaluation.study.operating import clusters_part, operating_part
from stride_monai.evaluation.study.part import Part, Settings
from stride_monai.evaluation.study.repeats import repeats_part, sample_part
from stride_monai.evaluation.study.scores import scores_part
from stride_monai.evaluation.study.subgroups import chosen_columns, subgroups_part
from stride_monai.findings import DISCLAIMER

__all__ = ["SCHEMA_VERSION", "Others", "Study", "run_study"]

SCHEMA_VERSION = "1.0"
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Others:
    """What is judged beside a system.

    Attributes:
        compare: another system on the same truth.
        validation: the system's own scores of validation slides, from which its scores are calibrated.
        repeats: trainings of the same kind with other seeds.
        features: ids ``[M]`` and features ``[M, D]`` of slides.
        cells: a table of marked cells, and what it holds.
    """

    compare: JudgedCohort | None = None
    validation: JudgedCohort | None = None
    repeats: Sequence[JudgedCohort] = ()
    features: tuple[Sequence[str], NDArray[np.float64]] | None = None
    cells: tuple[Path, Sequence[CellRecord]] | None = None


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
    others: Others = Others(),
    tell: Tell = lambda _text: None,
) -> Study:
    """Judge a cohort.

    Args:
        others: what is judged beside it. tell: told what is being done.

    Raises:
        ConfigError: a column, a threshold or cells are asked for that cannot be used.
        ManifestError: no slide was judged by both systems.
    """
    chosen_columns(cohort.columns, settings.by)  # a misspelt one is refused at once
    calls = calls_of(cohort, settings)
    parts: list[Part | None] = [flow_part(cohort, calls)]
    if cohort.scored:
        parts += _of_scores(cohort, calls, settings, others, tell)
    elif calls is not None:
        parts += [operating_part(cohort, calls, settings), sample_part(None, calls.rates())]
    tell("classes, centres, subgroups, lesions that were missed")
    parts.append(classes_part(cohort))
    if calls is not None:
        parts.append(centres_part(cohort, calls, settings))
    parts.append(subgroups_part(cohort, calls, settings))
    if calls is not None:
        parts.append(missed_part(cohort, calls))
    parts += _beside(cohort, settings, others, tell)
    made = [part for part in parts if part is not None]
    made.append(checklist_part(cohort, made, calls, settings))
    return Study(cohort, made, _metrics(cohort, made, settings), _page(cohort, made, calls))


def _beside(cohort: JudgedCohort, settings: Settings, others: Others, tell: Tell) -> list[Part | None]:
    parts: list[Part | None] = []
    if others.cells is not None:
        tell("cells")
        parts.append(cells_part(cohort, others.cells[1], others.cells[0]))
    if others.compare is not None:
        tell(f"comparison with {others.compare.system}")
        parts.append(comparison_part(cohort, others.compare, settings))
    if others.repeats:
        parts.append(repeats_part([cohort, *others.repeats], settings))
    if others.features is not None:
        tell("t-SNE of the features")
        parts.append(features_part(cohort, *others.features, settings))
    return parts


def _of_scores(
    cohort: JudgedCohort, calls: Calls | None, settings: Settings, others: Others, tell: Tell
) -> list[Part | None]:
    risks = calibrated(cohort, others.validation)
    tell("discrimination")
    found: Discrimination = discrimination(cohort, settings)
    parts: list[Part | None] = [discrimination_part(found, calls, settings.level)]
    if calls is not None:
        parts.append(operating_part(cohort, calls, settings))
    tell(f"bootstrap, {settings.replicates:,} samples")
    parts.append(clusters_part(cohort, found, calls, settings))
    parts.append(exclusion_part(cohort, calls, settings))
    parts += [calibration_part(cohort, risks, settings), decision_part(cohort, risks, settings)]
    parts += [scores_part(cohort, calls), sample_part(found, calls.rates() if calls is not None else None)]
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
