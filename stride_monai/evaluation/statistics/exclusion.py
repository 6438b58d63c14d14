"""Safe exclusion: how many slides nobody need look at, and which lesions would be lost with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stride_monai.bethesda import LABELS, NEGATIVE, parse_label
from stride_monai.errors import ManifestError
from stride_monai.evaluation.reports import plain
from stride_monai.evaluation.statistics.intervals import LEVEL, Proportion, proportion
from stride_monai.evaluation.statistics.thresholds import positive_from
from stride_monai.metrics.slide import specificity_at_sensitivity

__all__ = ["ExclusionCurve", "SafeExclusion", "exclusion_curve", "safe_exclusion"]

Floats = NDArray[np.float64]


class ExclusionCurve(NamedTuple):
    """What is excluded and lost as the threshold rises; a slide is excluded where its score is below it.

    Attributes:
        threshold: ``[T]``, ascending: at the first nothing is excluded, at the last everything.
        excluded: ``[T]``, share of all slides. Among patients it depends on how many are negative:
        negatives: ``[T]``, share of the NILM slides (the specificity); NaN without any.
        lost: by label in order of severity, for each lesion that occurs, ``[T]``, share of its slides.
    """

    threshold: Floats
    excluded: Floats
    negatives: Floats
    lost: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class SafeExclusion:
    """What is excluded where a share of the lesions of a group must not be lost.

    Attributes:
        group: of lesions. target: sensitivity for it. threshold: METHOD's for that, on these slides.
        excluded: share of all slides. negatives: share of the NILM slides.
        lost: by label in order of severity, share of the slides of each lesion that occurs.
    """

    group: str
    target: float
    threshold: float
    excluded: Proportion
    negatives: Proportion
    lost: dict[str, Proportion]

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "group": self.group,
            "target": self.target,
            "threshold": plain(self.threshold),
            "excluded": self.excluded.as_json(),
            "negatives": self.negatives.as_json(),
            "lost": {label: share.as_json() for label, share in self.lost.items()},
        }


def exclusion_curve(scores: ArrayLike, labels: Sequence[str], points: int = 1001) -> ExclusionCurve:
    """The curve of safe exclusion.

    Args:
        scores: ``[N]``. labels: ``[N]``, Bethesda labels.
        points: most thresholds; of more different scores every so many-th is taken, so each point is exact.

    Raises:
        ManifestError: there is no slide, a score is not finite, or a text is no Bethesda label.
    """
    values, graded = _checked(scores, labels)
    known = np.unique(values)
    known = np.append(known, np.nextafter(known[-1], np.inf))
    threshold = known[np.unique(np.linspace(0, len(known) - 1, points).round().astype(int))]

    def below(of: NDArray[np.bool_]) -> Floats:
        found: Floats = np.searchsorted(np.sort(values[of]), threshold, side="left") / max(of.sum(), 1)
        return found if of.any() else np.full(len(threshold), np.nan)

    lost = {label: below(graded == label) for label in LABELS if label != NEGATIVE and (graded == label).any()}
    return ExclusionCurve(threshold, below(np.ones(len(values), bool)), below(graded == NEGATIVE), lost)


def safe_exclusion(
    scores: ArrayLike, labels: Sequence[str], group: str = "HSIL+", target: float = 0.99, level: float = LEVEL
) -> SafeExclusion:
    """Slides excluded at the highest threshold that keeps a share ``target`` of the lesions of a group.

    The threshold is chosen on the slides that are counted, so the group's own loss is what was asked for, no finding.

    Raises:
        ManifestError: no slide is of the group, or all are; a score is not finite, or a text is no Bethesda label.
    """
    values, graded = _checked(scores, labels)
    threshold = specificity_at_sensitivity(values, positive_from(graded.tolist(), group), target).threshold
    out = values < threshold

    def share(of: NDArray[np.bool_]) -> Proportion:
        return proportion(int((out & of).sum()), int(of.sum()), level)

    lost = {label: share(graded == label) for label in LABELS if label != NEGATIVE and (graded == label).any()}
    return SafeExclusion(group, target, threshold, share(np.ones(len(out), bool)), share(graded == NEGATIVE), lost)


def _checked(scores: ArrayLike, labels: Sequence[str]) -> tuple[Floats, NDArray[np.str_]]:
    values = np.asarray(scores, np.float64)
    written, places = np.unique(np.asarray(list(labels), str), return_inverse=True)
    if values.ndim != 1 or values.shape != places.shape:
        raise ValueError(f"expected two equal lists, got {values.shape}, {places.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise ManifestError("there is no slide, or a score that is not finite", "leave such slides out")
    return values, np.array([parse_label(str(label)) for label in written])[places]
