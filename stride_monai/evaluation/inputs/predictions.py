"""What a system said of each slide: a table, or a results folder of ``screen``, as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import SLIDE_CLASSES, slide_class_of
from stride_monai.data.tables import Row, named_rows, plain_heading, refuse
from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.mapping import NO_MAPPING, Mapped, mapped_rows
from stride_monai.evaluation.inputs.results_folder import ScreenedSlide, read_results
from stride_monai.files import sha256_of
from stride_monai.findings import SlideStatus
from stride_monai.metrics.slide import positive_scores
from stride_monai.names import readable

__all__ = ["COLUMNS", "Predictions", "read_predictions"]

P_COLUMNS: tuple[str, ...] = tuple(f"p_{name}" for name in SLIDE_CLASSES)
COLUMNS: tuple[str, ...] = ("slide_id", "score", "call", "class", "status", "reason", *P_COLUMNS)
_ALIASES = {**{plain_heading(name): name for name in P_COLUMNS}, "slide": "slide_id", "slide_class": "class"}
_MAY_BE_UNKNOWN = ("score", "call", "class", "status", *P_COLUMNS)
_CALLS = {
    **dict.fromkeys(("positive", "pos", "1", "true", "yes", "+", "abnormal"), 1),
    **dict.fromkeys(("negative", "neg", "0", "false", "no", "-", "normal"), 0),
}
_STATUSES = frozenset(status.value for status in SlideStatus)
_SUM_OFF = 0.02  # what rounding to two decimals takes from, or adds to, six probabilities that sum to 1
Floats = NDArray[np.float64]
Ints = NDArray[np.int8]
Problem = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a system said of N slides.

    Attributes:
        name: of the system.
        slide_id: ``[N]``, each once.
        score: ``[N]``, the higher the more suspicious; NaN where the system gave none.
        call: ``[N]``, 1 positive, 0 negative, -1 none.
        predicted: ``[N]``, index of the slide class that was named, -1 for none.
        probabilities: ``[N, 6]`` of :data:`~stride_monai.bethesda.SLIDE_CLASSES`, NaN where there are none; None where
            no slide has any.
        status: ``[N]``, how each slide ended; ``ok`` where nothing is said.
        reason: ``[N]``, why, where it is not ``ok``.
        results: the results folder; None for a table.
        source: what is read, for the record: ``file``, ``sha256``, or facts of the run.
        notes: what the reader must know of them.
        screened: ``[N]`` the slides of a results folder; empty for a table.
    """

    name: str
    slide_id: Sequence[str]
    score: Floats
    call: Ints
    predicted: Ints
    probabilities: Floats | None
    status: Sequence[str]
    reason: Sequence[str]
    results: Path | None = None
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    screened: Sequence[ScreenedSlide] = ()

    def __len__(self) -> int:
        return len(self.slide_id)


def read_predictions(path: Path | str, mapped: Mapped = NO_MAPPING) -> Predictions:
    """Read what a system said.

    Args:
        path: a results folder of ``screen``, or a CSV, JSON or Parquet file with ``slide_id`` and one or more of
            ``score``, ``call`` (positive, negative), ``class`` (a Bethesda label), ``p_<class>`` for all six classes;
            ``status`` and ``reason`` where slides could not be judged. Where there is no ``score``, it is the sum of
            the positive classes' probabilities.
        mapped: how another system's columns are called.

    Raises:
        ManifestError: naming every broken line: no id, an id twice, a score that is infinite or no number, a
            probability outside 0..1, an unknown call, class or status.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    header, rows = mapped_rows(path, mapped, COLUMNS)
    present, rows = named_rows(header, rows, path.name, COLUMNS, _ALIASES, _MAY_BE_UNKNOWN)
    has_p = _check_columns(present, path)
    if not rows:
        raise ManifestError(f"{path.absolute()} lists no slide", "give it a line for each slide")
    problems: list[str] = []
    ids = _ids(rows, mapped, problems)
    score = _column(rows, problems, lambda row: _score(row, mapped.score_scale), np.float64)
    call = _column(rows, problems, lambda row: _call(row.get("call"), mapped.calls), np.int8)
    predicted = _column(rows, problems, lambda row: _class(row.get("class"), mapped.labels), np.int8)
    status = _column(rows, problems, lambda row: _status(row.get("status")), object)
    probabilities = _column(rows, problems, _probabilities, np.float64) if has_p else None
    refuse(problems, path.name)
    return _finished(
        Predictions(
            name=mapped.name or readable(path.stem),
            slide_id=ids,
            score=score,
            call=call,
            predicted=predicted,
            probabilities=probabilities,
            status=status.tolist(),
            reason=[row.get("reason") for row in rows],
            source={"file": readable(path.name), "sha256": sha256_of(path)},
        )
    )


def _of_folder(path: Path) -> Predictions:
    found = read_results(path)
    slides = found.slides
    problems: list[str] = []
    count = len(slides)
    calls = [_CALLS[one.call] if one.call else -1 for one in slides]
    predicted = [SLIDE_CLASSES.index(one.slide_class) if one.slide_class else -1 for one in slides]
    nothing = (math.nan,) * len(SLIDE_CLASSES)
    probabilities = np.array([one.probabilities or nothing for one in slides], np.float64).reshape(count, -1)
    refuse(problems, path.name)
    return _finished(
        Predictions(
            name=readable(path.resolve().name),
            slide_id=[one.slide_id for one in slides],
            score=np.array([math.nan if one.score is None else one.score for one in slides], np.float64),
            call=np.array(calls, np.int8),
            predicted=np.array(predicted, np.int8),
            probabilities=probabilities,
            status=[one.status for one in slides],
            reason=[one.reason for one in slides],
            results=path,
            source=found.source,
            notes=found.notes,
            screened=slides,
        )
    )


def _finished(predictions: Predictions) -> Predictions:
    """With scores and classes from the probabilities where these alone are given, and a note where they contradict."""
    probabilities = predictions.probabilities
    if probabilities is None or not np.isfinite(probabilities).any():
        return _replaced(predictions, probabilities=None)
    known = np.isfinite(probabilities).all(axis=1)
    summed = positive_scores(probabilities)
    score = np.where(np.isnan(predictions.score) & known, summed, predictions.score)
    best = np.where(known, np.nan_to_num(probabilities).argmax(axis=1), -1)
    predicted = np.where((predictions.predicted < 0) & known, best, predictions.predicted).astype(np.int8)
    notes = list(predictions.notes)
    off = int((np.abs(summed - score) > _SUM_OFF).sum())
    if off:
        notes.append(
            f"the score of {off:,} slides is not the sum of the positive classes' probabilities; the score is taken"
        )
    return _replaced(predictions, score=score, predicted=predicted, notes=tuple(notes))


def _replaced(predictions: Predictions, **changes: Any) -> Predictions:
    return Predictions(**{**vars(predictions), **changes})


def _check_columns(present: set[str], path: Path) -> bool:
    """Whether there are probabilities.

    Raises:
        ManifestError: there is nothing to judge, or the probability of a class is missing.
    """
    if "slide_id" not in present:
        advice = "name its column in a mapping file (--map)"
        raise ManifestError(f"{path.absolute()} has no column 'slide_id'", advice)
    lacking = [name for name in P_COLUMNS if name not in present]
    has_p = len(lacking) < len(P_COLUMNS)
    if has_p and lacking:
        advice = f"give all of {', '.join(P_COLUMNS)}, or none"
        raise ManifestError(f"{path.name} has no column {', '.join(lacking)}", advice)
    if not has_p and not present & {"score", "call", "class"}:
        advice = f"give it columns of {', '.join(COLUMNS)}, or say in a mapping file (--map) what they are called"
        raise ManifestError(f"{path.name} says nothing of its slides", advice)
    return has_p


def _ids(rows: Sequence[Row], mapped: Mapped, problems: list[str]) -> list[str]:
    """The id of each row; what is wrong with them is noted."""
    place_of: dict[str, str] = {}
    ids: list[str] = []
    for row in rows:
        try:
            slide_id = mapped.slide_id(row.get("slide_id"))
        except ManifestError as error:
            problems.append(f"{row.place}: {error.what}")
            continue
        ids.append(slide_id)
        if not slide_id:
            problems.append(f"{row.place}: no slide_id")
        elif slide_id in place_of:
            problems.append(f"{row.place}: slide '{slide_id}' is that of {place_of[slide_id]} too")
        place_of.setdefault(slide_id, row.place)
    return ids


def _column(rows: Sequence[Row], problems: list[str], read: Callable[[Row], Any], kind: Any) -> NDArray[Any]:
    """A value of each row; what cannot be read is noted."""
    values = []
    for row in rows:
        try:
            values.append(read(row))
        except ManifestError as error:
            problems.append(f"{row.place}: {error.what} (slide '{row.get('slide_id')}')")
    return np.array(values, kind) if not problems else np.empty(0, kind)


def _score(row: Row, scale: float) -> float:
    return row.number("score") / scale if row.get("score") else math.nan


def _call(text: str, words: Mapping[str, str]) -> int:
    if not text:
        return -1
    word = words.get(text.lower(), text.lower())
    if word and word not in _CALLS:
        raise ManifestError(f"unknown call '{text}'")
    return _CALLS[word] if word else -1


def _class(text: str, words: Mapping[str, str]) -> int:
    return SLIDE_CLASSES.index(slide_class_of(words.get(text.lower(), text))) if text else -1


def _status(text: str) -> str:
    if not text or text.lower() in _STATUSES:
        return text.lower() or SlideStatus.OK.value
    raise ManifestError(f"unknown status '{text}'")


def _probabilities(row: Row) -> list[float]:
    cells = [row.get(name) for name in P_COLUMNS]
    if not any(cells):
        return [math.nan] * len(cells)
    values = [row.number(name) for name in P_COLUMNS]
    if min(values) < 0 or max(values) > 1 or abs(sum(values) - 1) > _SUM_OFF:
        raise ManifestError(f"probabilities of the classes are {', '.join(cells)}, which sum to {sum(values):.3g}")
    return values
