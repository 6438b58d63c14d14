"""Choose the operating point of a slide classifier on validation slides, by the rules of the room ``metrics``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.statistics.intervals import clopper_pearson
from stride_monai.metrics.slide import Threshold, at_threshold, conformal_threshold, specificity_at_sensitivity
from stride_monai.operating_point import RULES, ChosenOn, HoldsFor, OperatingPointFile, Share

__all__ = ["CONFIDENCE", "choose_operating_point", "chosen_shares", "refuse_rule", "share"]

CONFIDENCE = 0.95
"""Of the conformal bound, and of every interval."""
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def choose_operating_point(
    scores: Floats,
    positive: Bools,
    chosen_on: ChosenOn,
    holds_for: HoldsFor,
    target: float = 0.95,
    rule: str = "plain",
    step: float = 0.0,
) -> OperatingPointFile:
    """The operating point by a rule, what it achieves, and what the other rule would have given.

    Args:
        scores: of the validation slides ``[N]``, 0-1. positive: ``[N]``, the truth.
        target: sensitivity, (0, 1]; below 1 for the conformal bound.
        rule: ``plain``, METHOD's (:func:`~stride_monai.metrics.specificity_at_sensitivity`); or ``conformal``
            (:func:`~stride_monai.metrics.conformal_threshold`).
        step: scores were rounded to multiples of it (a findings file has six decimals). The threshold lies half a step
            below the score that it was taken from, so that the very slide is called positive again.

    Raises:
        ConfigError: target or rule is unknown.
        ManifestError: slides of one kind only, or too few positive ones for the conformal bound.
    """
    _check_rule(rule, target)
    found = _by_rule(rule, scores, positive, target)
    sensitivity, specificity = chosen_shares(scores, positive, found.threshold)
    return OperatingPointFile(
        threshold=_between(found.threshold, step),
        rule=rule,
        target=target,
        confidence=CONFIDENCE if rule == "conformal" else None,
        sensitivity=sensitivity,
        specificity=specificity,
        chosen_on=chosen_on,
        holds_for=holds_for,
        date=datetime.now(UTC).date().isoformat(),
        others={other: _other(other, scores, positive, target, step) for other in RULES if other != rule},
    )


def refuse_rule(rule: str, target: float, positive: Bools) -> None:
    """Refuse what :func:`choose_operating_point` would refuse of slides ``[N]``, before they have scores.

    Raises:
        ConfigError, ManifestError: as there.
    """
    _check_rule(rule, target)
    _by_rule(rule, np.zeros(len(positive)), positive, target)


def _check_rule(rule: str, target: float) -> None:
    if not 0 < target <= 1 or (rule == "conformal" and target == 1):
        raise ConfigError(f"invalid target {target:g}", "give a sensitivity above 0 and below 1, such as 0.95")
    if rule not in RULES:
        raise ConfigError(f"unknown rule '{rule}'", f"use one of {', '.join(RULES)}")


def chosen_shares(scores: Floats, positive: Bools, threshold: float) -> tuple[Share, Share]:
    """Sensitivity and specificity at a threshold, each with its Clopper-Pearson interval.

    The interval of the sensitivity holds although the threshold was taken from the same slides: the rules take the k-th
    smallest score of the positive ones with a k that is fixed beforehand, and the sensitivity there has the law that
    the interval is made of, Beta(n - k + 1, k).

    Raises:
        ManifestError: slides of one kind only.
    """
    at_threshold(scores, positive, threshold)  # refuses slides of one kind
    called = scores >= threshold
    return share(called[positive]), share(~called[~positive])


def share(found: Bools) -> Share:
    """The share of True with its 95 % interval (Clopper-Pearson)."""
    interval = clopper_pearson(int(found.sum()), len(found), CONFIDENCE)
    return Share(interval.estimate, interval.low, interval.high, int(found.sum()), len(found))


def _by_rule(rule: str, scores: Floats, positive: Bools, target: float) -> Threshold:
    if rule == "conformal":
        return conformal_threshold(scores, positive, target, CONFIDENCE)
    return specificity_at_sensitivity(scores, positive, target)


def _other(rule: str, scores: Floats, positive: Bools, target: float, step: float) -> dict[str, Any]:
    if rule == "conformal" and target == 1:
        return {"why_not": "no sample proves a sensitivity of 1"}
    try:
        found = _by_rule(rule, scores, positive, target)
    except ManifestError as error:
        return {"why_not": str(error)}
    return found._replace(threshold=_between(found.threshold, step))._asdict()


def _between(threshold: float, step: float) -> float:
    """Half a step below a rounded score; what rounded to it lies above, whatever its last bits."""
    return float(min(max(threshold - step / 2 - step * 1e-6, 0.0), 1.0)) if step else threshold
