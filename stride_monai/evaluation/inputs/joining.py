"""Predictions and truth joined slide by slide; every slide of either is accounted for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import ABNORMAL, LABELS, NEGATIVE, REPORT_GROUPS, SLIDE_CLASSES, slide_class_of
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.predictions import Predictions
from stride_monai.evaluation.inputs.truth import NOT_JUDGEABLE, Truth
from stride_monai.operating_point import OperatingPointFile

__all__ = ["JudgedCohort", "SlideFlow", "Unjudged", "cohort_hash", "join_truth", "noted_point"]

_POOR = "unsatisfactory"
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int8]


class Unjudged(NamedTuple):
    """A slide whose diagnosis is known and that the system did not judge: ``missing``, ``failed``, ``skipped``,
    ``unsatisfactory`` or ``no score``.

    Attributes:
        call: what the system called it all the same, 1, 0 or -1.
    """

    slide_id: str
    label: str
    why: str
    reason: str
    call: int = -1


class SlideFlow(NamedTuple):
    """Where the slides of the truth table went (STARD 2015, item 19).

    Attributes:
        listed: slides of the truth table.
        other_split: of them of another split than the one that is judged.
        no_reference: without a diagnosis.
        unsatisfactory_reference: that the readers could not judge.
        unjudged: by why, slides that the system did not judge.
        reasons: why slides failed, were skipped or unsatisfactory, and how many.
        analysed: the rest.
        not_listed: slides that the system judged and the table does not list.
    """

    listed: int
    other_split: int
    no_reference: int
    unsatisfactory_reference: int
    unjudged: Mapping[str, int]
    reasons: Mapping[str, int]
    analysed: int
    not_listed: int

    @property
    def eligible(self) -> int:
        """Slides with a reference diagnosis, of the split that is judged."""
        return self.listed - self.other_split - self.no_reference - self.unsatisfactory_reference

    @property
    def in_words(self) -> str:
        """``40 slides in the truth table, 27 of another split, 13 with a diagnosis``."""
        other = f", {self.other_split:,} of another split" if self.other_split else ""
        slides = "slide" if self.listed == 1 else "slides"
        return f"{self.listed:,} {slides} in the truth table{other}, {self.eligible:,} with a diagnosis"


@dataclass(frozen=True, eq=False)
class JudgedCohort:
    """The N slides that have a diagnosis and were judged.

    Attributes:
        system: name of the system.
        slide_id, score, call, predicted, probabilities: as of :class:`Predictions`.
        label: ``[N]``, of :data:`~stride_monai.bethesda.LABELS`, or :data:`~stride_monai.bethesda.ABNORMAL`.
        columns: further columns of the truth table, ``[N]`` texts each.
        unjudged: slides that have a diagnosis and were not judged.
        flow: where all slides went.
        results: the results folder of ``screen``; None for a table.
        sources: what was read: ``predictions``, ``truth``.
        notes: what the reader must know.
    """

    system: str
    slide_id: NDArray[np.str_]
    label: NDArray[np.str_]
    score: Floats
    call: Ints
    predicted: Ints
    probabilities: Floats | None
    columns: Mapping[str, NDArray[np.str_]]
    unjudged: tuple[Unjudged, ...]
    flow: SlideFlow
    results: Path | None = None
    sources: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.slide_id)

    @property
    def positive(self) -> Bools:
        """``[N]``, the slides that are not NILM."""
        found: Bools = self.label != NEGATIVE
        return found

    @property
    def scored(self) -> bool:
        """Whether slides have scores; a system may call alone."""
        return bool(np.isfinite(self.score).any())

    @property
    def graded(self) -> Bools:
        """``[N]``, the slides whose grade is known."""
        found: Bools = self.label != ABNORMAL
        return found

    @property
    def truth_class(self) -> Ints:
        """``[N]``, index of the true slide class (SCC is HSIL), -1 where the grade is not known."""
        index = {label: SLIDE_CLASSES.index(slide_class_of(label)) for label in LABELS} | {ABNORMAL: -1}
        kinds, inverse = np.unique(self.label, return_inverse=True)
        found: Ints = np.array([index[str(kind)] for kind in kinds], np.int8)[inverse]
        return found

    def in_group(self, name: str) -> tuple[Bools, Bools]:
        """Of a group such as ``LSIL+``: the slides that it can be said of ``[N]``, and those that are of it ``[N]``."""
        of = np.isin(self.label, sorted(REPORT_GROUPS[name]))
        if name == "ASC-US+":
            return np.ones(len(self), bool), self.positive
        return self.graded, of

    def taken(self, of: Bools | NDArray[np.intp]) -> JudgedCohort:
        """Some of the slides; flow and unjudged slides stay those of all."""
        arrays = ("slide_id", "label", "score", "call", "predicted")
        changes: dict[str, Any] = {name: getattr(self, name)[of] for name in arrays}
        changes["probabilities"] = None if self.probabilities is None else self.probabilities[of]
        changes["columns"] = {name: values[of] for name, values in self.columns.items()}
        return JudgedCohort(**{**vars(self), **changes})


def cohort_hash(slide_ids: Sequence[str] | NDArray[np.str_], labels: Sequence[str] | NDArray[np.str_]) -> str:
    """SHA-256 of which slides were judged and of their diagnoses, whatever their order: tells two cohorts apart."""
    lines = sorted(f"{slide_id}\t{label}\n" for slide_id, label in zip(slide_ids, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def join_truth(predictions: Predictions, truth: Truth, split: str = "", unsatisfactory: bool = False) -> JudgedCohort:
    """Join what a system said with what is true, by slide id.

    Args:
        split: judge slides of this split alone; needs a column ``split``.
        unsatisfactory: judge unsatisfactory slides that have a score (or call) like the others; a note says how many.

    Raises:
        ManifestError: no slide is left to judge, saying why; or there is no column ``split``.
    """
    wanted = _of_split(truth, split)
    place = {slide_id: k for k, slide_id in enumerate(predictions.slide_id)}
    listed = set(truth.slide_id)
    scored = bool(np.isfinite(predictions.score).any())
    if not scored and not (predictions.call >= 0).any():
        predictions = _called_by_class(predictions)
    analysed: list[tuple[int, int]] = []
    unjudged: list[Unjudged] = []
    out: Counter[str] = Counter()
    for k, (slide_id, label) in enumerate(zip(truth.slide_id, truth.label, strict=True)):
        if not wanted[k]:
            out["split"] += 1
        elif label in {"", NOT_JUDGEABLE}:
            out[label] += 1
        else:
            at = place.get(slide_id)
            why = "missing" if at is None else _why_not(predictions, at, scored, unsatisfactory)
            if at is None or why:
                unjudged.append(_unjudged(predictions, slide_id, label, at, why))
            else:
                analysed.append((k, at))
    flow = SlideFlow(
        listed=len(truth),
        other_split=out["split"],
        no_reference=out[""],
        unsatisfactory_reference=out[NOT_JUDGEABLE],
        unjudged=dict(sorted(Counter(one.why for one in unjudged).items())),
        reasons=dict(Counter(one.reason for one in unjudged if one.reason).most_common(20)),
        analysed=len(analysed),
        not_listed=sum(slide_id not in listed for slide_id in predictions.slide_id),
    )
    if not analysed:
        raise _nothing_left(predictions, truth, flow, split)
    return _cohort(predictions, truth, np.array(analysed, np.intp).T, tuple(unjudged), flow)


def noted_point(cohort: JudgedCohort, point: OperatingPointFile) -> JudgedCohort:
    """The cohort; with a note where the operating point was chosen on its very slides."""
    if point.chosen_on.cohort_sha256 != cohort_hash(cohort.slide_id, cohort.label):
        return cohort
    note = "the operating point was chosen on these very slides: what it achieves on them says little"
    return replace(cohort, notes=(*cohort.notes, note))


def _of_split(truth: Truth, split: str) -> Sequence[bool]:
    if not split:
        return [True] * len(truth)
    name = parse_split(split)
    if "split" not in truth.columns:
        raise ManifestError("the truth table has no column 'split'", "leave out --split, or add the column")
    return [one == name for one in truth.columns["split"]]


def _called_by_class(predictions: Predictions) -> Predictions:
    call = np.where(predictions.predicted < 0, -1, predictions.predicted != SLIDE_CLASSES.index(NEGATIVE))
    notes = (
        "the system gives neither scores nor calls: a slide counts as called positive where its class is not NILM",
    )
    return Predictions(**{**vars(predictions), "call": call.astype(np.int8), "notes": (*predictions.notes, *notes)})


def _why_not(predictions: Predictions, at: int, scored: bool, unsatisfactory: bool) -> str:
    """Why a slide is not analysed; empty where it is."""
    status = predictions.status[at]
    if status != "ok" and not (unsatisfactory and status == _POOR):
        return status
    if np.isfinite(predictions.score[at]) if scored else predictions.call[at] >= 0:
        return ""
    return "no score" if scored else "no call"


def _unjudged(predictions: Predictions, slide_id: str, label: str, at: int | None, why: str) -> Unjudged:
    if at is None:
        return Unjudged(slide_id, label, why, "")
    return Unjudged(slide_id, label, why, predictions.reason[at], int(predictions.call[at]))


def _cohort(
    predictions: Predictions,
    truth: Truth,
    places: NDArray[np.intp],
    unjudged: tuple[Unjudged, ...],
    flow: SlideFlow,
) -> JudgedCohort:
    of_truth, of_predictions = places
    probabilities = predictions.probabilities
    poor = sum(predictions.status[at] == _POOR for at in of_predictions)
    notes = [f"unsatisfactory slides that are judged like the others: {poor:,}"] if poor else []
    return JudgedCohort(
        system=predictions.name,
        slide_id=np.array(truth.slide_id, np.str_)[of_truth],
        label=np.array(truth.label, np.str_)[of_truth],
        score=predictions.score[of_predictions],
        call=predictions.call[of_predictions],
        predicted=predictions.predicted[of_predictions],
        probabilities=None if probabilities is None else probabilities[of_predictions],
        columns={name: np.array(values, np.str_)[of_truth] for name, values in truth.columns.items()},
        unjudged=unjudged,
        flow=flow,
        results=predictions.results,
        sources={"predictions": dict(predictions.source), "truth": dict(truth.source)},
        notes=(*predictions.notes, *truth.notes, *notes),
    )


def _nothing_left(predictions: Predictions, truth: Truth, flow: SlideFlow, split: str) -> ManifestError:
    """Says why no slide is left, as exactly as can be."""
    said, ids = predictions.slide_id[0], truth.slide_id
    if flow.unjudged.get("missing") == flow.eligible > 0:
        what = f"no slide of the predictions is in the truth table: '{said}' here, '{ids[0]}' there"
        return ManifestError(what, "give both the same slide_id (slide_id_from in a mapping file cuts it out)")
    if flow.other_split == flow.listed:
        return ManifestError(f"no slide is of the split {split}", f"the table has {', '.join(_splits(truth))}")
    if not flow.eligible:
        return ManifestError("no slide of the truth table has a diagnosis", "fill in its column label")
    why = ", ".join(f"{count:,} {name}" for name, count in flow.unjudged.items())
    poor = "; 'stride-monai evaluate --with-unsatisfactory' judges those too" if _POOR in flow.unjudged else ""
    return ManifestError(f"no slide with a diagnosis was judged ({why})", f"see their status{poor}")


def _splits(truth: Truth) -> list[str]:
    return sorted({one or "no split" for one in truth.columns.get("split", ())})
