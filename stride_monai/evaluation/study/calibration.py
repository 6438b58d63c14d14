"""Whether a score of 0.3 means three lesions in ten slides, and what calibration on validation slides makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures.calibration import reliability_figure
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted, plain_list
from stride_monai.evaluation.statistics import (
    Calibration,
    Calibrator,
    Isotonic,
    Temperature,
    calibration_of,
    fit_isotonic,
    fit_temperature,
)
from stride_monai.evaluation.study.part import Part, Settings, shown

__all__ = ["Calibrated", "calibrated", "calibration_part"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Scores of the cohort as they are, and calibrated by what validation slides teach.

    Attributes:
        scores: by name, ``[N]``: ``as given``, and with validation ``temperature`` and ``isotonic``.
        learned: by name. validation: number of slides that taught, 0 for none. notes: what could not be learned.
    """

    scores: Mapping[str, Floats]
    learned: Mapping[str, Calibrator]
    validation: int = 0
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> tuple[str, Floats]:
        """The scores that are nearest to risks, with their name: calibrated ones where there are any."""
        name = next((name for name in ("isotonic", "temperature") if name in self.scores), "as given")
        return name, self.scores[name]


def calibrated(cohort: JudgedCohort, validation: JudgedCohort | None) -> Calibrated:
    """Scores as they are, and calibrated.

    Raises:
        ManifestError: a validation slide is one of the slides that are judged.
    """
    scores: dict[str, Floats] = {"as given": cohort.score}
    if validation is None:
        return Calibrated(scores, {})
    both = np.intersect1d(cohort.slide_id, validation.slide_id)
    if len(both):
        what = f"slide '{both[0]}' and {len(both) - 1} more are judged and are validation slides too"
        raise ManifestError(what, "judge other slides than those that calibrate (--split test)")
    learned: dict[str, Calibrator] = {}
    notes = []
    for name, fit in (("temperature", fit_temperature), ("isotonic", fit_isotonic)):
        try:
            learned[name] = fit(validation.score, validation.positive)
            scores[name] = learned[name](cohort.score)
        except ManifestError as error:
            notes.append(f"{name}: {error.what}.")
    return Calibrated(scores, learned, len(validation), tuple(notes))


def calibration_part(cohort: JudgedCohort, found: Calibrated, settings: Settings) -> Part | None:
    """Numbers, table and figure; None where all slides are of one kind, since nothing can be said."""
    made: dict[str, Calibration] = {}
    notes = list(found.notes)
    for name, scores in found.scores.items():
        try:
            made[name] = calibration_of(scores, cohort.positive, level=settings.level)
        except ManifestError as error:
            notes.append(f"{name}: {error.what}.")
    if not made:
        return Part("calibration", {"why": notes}, Section("calibration", "Calibration", notes=notes))
    numbers = {name: one.as_json() for name, one in made.items()}
    for name, how in found.learned.items():
        if name in numbers:
            numbers[name]["learned"] = _learned(how)
    text = [f"Probabilities of being positive against the share that is. {_said(found)}"]
    words = ", ".join(f"{name} ECE {one.ece:.3f}" for name, one in made.items())
    figure = reliability_figure({name: one.reliability for name, one in made.items()})
    caption = "Reliability: mean score of a bin against the share of positive slides in it; below, slides in each bin."
    section = Section(
        "calibration",
        "Calibration",
        text=text,
        notes=notes,
        figures=[PageFigure("calibration", figure, caption, words)],
        tables=[_table(made)],
    )
    return Part("calibration", numbers, section, {"calibration": _bins(made)})


def _said(found: Calibrated) -> str:
    if not found.validation:
        return "The scores are judged as they are; with --validation they are calibrated on other slides."
    words = []
    for how in found.learned.values():
        if isinstance(how, Temperature):
            words.append(f"temperature {how.value:.3f}")
        if isinstance(how, Isotonic):
            words.append(f"isotonic regression with {counted(len(how.scores), 'knot')}")
    return f"Learned on {counted(found.validation, 'validation slide')}: {', '.join(words) or 'nothing'}."


def _learned(how: Calibrator) -> dict[str, Any]:
    if isinstance(how, Isotonic):
        return {"scores": plain_list(how.scores), "shares": plain_list(how.shares)}
    return {"temperature": how.value} if isinstance(how, Temperature) else {}


def _table(made: Mapping[str, Calibration]) -> PageTable:
    rows = [
        (name, f"{one.ece:.4f}", f"{one.brier:.4f}", shown(one.slope), shown(one.intercept))
        for name, one in made.items()
    ]
    note = (
        "ECE: mean distance of score and share over 15 bins. Slope 1 and intercept 0 are right; a slope below 1 is "
        "overconfident, an intercept below 0 too high (Cox 1958, 95 % Wald intervals)."
    )
    return PageTable("Calibration of the score", ("scores", "ECE", "Brier", "slope", "intercept"), rows, note)


def _bins(made: Mapping[str, Calibration]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    rows = []
    for name, one in made.items():
        table = one.reliability
        for k, number in enumerate(table.number.tolist()):
            low, high = float(table.edges[k]), float(table.edges[k + 1])
            confidence, share = (
                x if x is not None else "" for x in plain_list([table.confidence[k], table.accuracy[k]])
            )
            rows.append((name, round(low, 6), round(high, 6), number, confidence, share))
    return ("scores", "from", "to", "slides", "mean_score", "share_positive"), rows
