"""Agreement of readers beyond chance: Cohen's kappa of two, Fleiss' kappa of any number, in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cohen_kappa", "fleiss_kappa", "kappa_weights"]

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating] | NDArray[np.integer]
_NO_ROOM = 1e-12
"""Chance that is this near to agreeing always leaves nothing to measure: 0 / 0."""


def kappa_weights(classes: int, kind: str = "none") -> Floats:
    """Weight of agreement ``[C, C]``: 1 for the same class, 0 for the farthest; ``none``, ``linear``, ``quadratic``."""
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) / max(classes - 1, 1)
    if kind == "none":
        return np.eye(classes)
    weights: Floats = 1 - (apart if kind == "linear" else apart**2)
    return weights


def cohen_kappa(table: Numbers, weights: Floats | None = None) -> Floats:
    """Cohen's kappa of tables of counts ``[..., C, C]``, one reader's classes by the other's (Cohen 1960, 1968).

    Args:
        weights: ``[C, C]`` of :func:`kappa_weights`; None for the unweighted kappa.

    Returns:
        ``[...]``, -1 to 1; NaN where both say one and the same class of everything.
    """
    counts = np.asarray(table, np.float64)
    weights = kappa_weights(counts.shape[-1]) if weights is None else weights
    share = counts / counts.sum(axis=(-2, -1), keepdims=True)
    seen = (share * weights).sum(axis=(-2, -1))
    chance = (share.sum(axis=-1)[..., :, None] * share.sum(axis=-2)[..., None, :] * weights).sum(axis=(-2, -1))
    return _beyond(seen, chance)


def fleiss_kappa(counts: Numbers) -> float:
    """Fleiss' kappa of items that were read by equally many readers, two or more, whoever these were (Fleiss 1971).

    Args:
        counts: ``[items, C]``, how many readers gave the item the class.

    Returns:
        -1 to 1; NaN where all say one and the same class of everything.
    """
    counts = np.asarray(counts, np.float64)
    readers = counts[0].sum()
    agreeing = (counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))
    chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    return float(_beyond(agreeing.mean(), chance))


def _beyond(seen: Floats | np.float64, chance: Floats | np.float64) -> Floats:
    room = np.asarray(1 - chance)
    known = room > _NO_ROOM
    value: Floats = np.where(known, (seen - chance) / np.where(known, room, 1.0), np.nan)
    return value
