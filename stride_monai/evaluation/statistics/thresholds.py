"""Which slides count as positive, by which score, and the specificity at a wanted sensitivity (METHOD's rule)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stride_monai.bethesda import NEGATIVE, REPORT_GROUPS, SLIDE_CLASSES, parse_label, slide_class_of
from stride_monai.errors import check_name
from stride_monai.evaluation.reports import plain
from stride_monai.evaluation.statistics.intervals import LEVEL, Interval, Proportion, proportion
from stride_monai.evaluation.statistics.roc import rate_bounds
from stride_monai.metrics.slide import Threshold, sides, specificity_at_sensitivity

__all__ = ["TARGETS", "AtSensitivity", "Task", "at_sensitivities", "positive_from", "score_of", "tasks"]

TARGETS = (0.90, 0.95, 0.98)
"""Sensitivities at which the specificity is reported."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Task(NamedTuple):
    """One way to cut the Bethesda classes in two.

    Attributes:
        group: a key of :data:`~stride_monai.bethesda.REPORT_GROUPS`; ``ASC-US+`` is positive or not.
        positive: ``[N]``, the truth: the label is of the group. Every other slide is negative, milder lesions too.
        scores: ``[N]``, what the slides are ordered by.
        by: ``classes``, the summed probability of the group's classes, or ``score``, the binary score, where a system
            gives nothing else. The binary score was made for ASC-US+: for a higher group it ranks milder lesions too
            high, and a report should say that it was used.
    """

    group: str
    positive: Bools
    scores: Floats
    by: str


@dataclass(frozen=True, slots=True)
class AtSensitivity:
    """What a wanted sensitivity costs.

    Attributes:
        target: the wanted sensitivity. point: METHOD's threshold and what it achieves on these slides.
        sensitivity: achieved, as a share of the positive slides. Its intervals are those of a threshold fixed
            beforehand; at a threshold chosen on the same slides they tell how little few slides can tell.
        specificity: with an interval that allows for the threshold being estimated from the same slides.
    """

    target: float
    point: Threshold
    sensitivity: Proportion
    specificity: Interval

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "target": self.target,
            "threshold": plain(self.point.threshold),
            "sensitivity": self.sensitivity.as_json(),
            "specificity": self.specificity.as_json(),
        }


def positive_from(labels: Sequence[str], group: str = "ASC-US+") -> Bools:
    """Which slides belong to a group, ``[N]``.

    Args:
        labels: Bethesda labels as people write them. group: a key of :data:`~stride_monai.bethesda.REPORT_GROUPS`.

    Raises:
        ConfigError: there is no such group.
        ManifestError: a text is no Bethesda label.
    """
    check_name("group", group, REPORT_GROUPS)
    written, places = np.unique(np.asarray(list(labels), str), return_inverse=True)
    of = np.array([parse_label(str(label)) in REPORT_GROUPS[group] for label in written], bool)
    return of[places] if len(of) else np.zeros(0, bool)


def score_of(probabilities: ArrayLike, group: str = "ASC-US+") -> Floats:
    """Summed probability of a group's slide classes, ``[N]``, of ``[N, C]`` in the order of ``SLIDE_CLASSES``.

    Of ``ASC-US+`` it is the binary score (:func:`stride_monai.metrics.slide.positive_scores`).
    """
    check_name("group", group, REPORT_GROUPS)
    classes = {slide_class_of(label) for label in REPORT_GROUPS[group] if label != NEGATIVE}
    columns = [k for k, name in enumerate(SLIDE_CLASSES) if name in classes]
    summed: Floats = np.asarray(probabilities, np.float64)[:, columns].sum(axis=1)
    return summed


def tasks(
    labels: Sequence[str],
    scores: ArrayLike,
    probabilities: ArrayLike | None = None,
    groups: Sequence[str] = tuple(REPORT_GROUPS),
) -> list[Task]:
    """Every way to cut the classes in two, with the score that orders the slides for it.

    Args:
        labels: ``[N]``, Bethesda labels. scores: ``[N]``, the binary score, which is always that of ``ASC-US+``.
        probabilities: ``[N, C]`` in the order of ``SLIDE_CLASSES``, where a system gives them.
        groups: keys of :data:`~stride_monai.bethesda.REPORT_GROUPS`.

    Returns:
        All groups, those without a positive (or negative) slide included: whoever judges them is told so.
    """
    made = []
    for group in groups:
        by_class = probabilities is not None and group != "ASC-US+"
        ordered = score_of(probabilities, group) if by_class else np.asarray(scores, np.float64)  # type: ignore[arg-type]
        made.append(Task(group, positive_from(labels, group), ordered, "classes" if by_class else "score"))
    return made


def at_sensitivities(
    scores: ArrayLike, positive: ArrayLike, targets: Sequence[float] = TARGETS, level: float = LEVEL
) -> list[AtSensitivity]:
    """Specificity at wanted sensitivities, by METHOD's rule: the highest threshold that is sensitive enough.

    Args:
        scores: ``[N]``. positive: ``[N]``, the truth. targets: sensitivities, above 0, at most 1.

    Raises:
        ManifestError: all slides are of one kind, or a score is not finite.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(positive, bool)
    cases, controls = sides(values, truth)
    _, low, high = rate_bounds(cases, controls, list(targets), level)
    found = []
    for k, target in enumerate(targets):
        point = specificity_at_sensitivity(values, truth, target)
        hits = round(point.sensitivity * len(cases))
        specificity = Interval(
            point.specificity, float(1 - high[k]), float(1 - low[k]), level, "MOVER of Wilson and threshold"
        )
        found.append(AtSensitivity(target, point, proportion(hits, len(cases), level), specificity))
    return found
