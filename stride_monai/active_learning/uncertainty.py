"""Cells of which the model does not know what they are, or on which it and its teacher disagree."""

from __future__ import annotations

import numpy as np

from stride_monai.active_learning.candidates import Array, Candidates, Indices

__all__ = ["by_uncertainty", "disagreement", "entropy"]


def entropy(probabilities: Array) -> Array:
    """Shannon entropy of each row, in nats: 0 where one class is sure, ``log C`` where all are as likely.

    Args:
        probabilities: float ``[n, C]``, rows sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    surprise: Array = -np.log(p, out=np.zeros_like(p), where=p > 0)
    total: Array = (p * surprise).sum(axis=1)
    return total


def disagreement(student: Array, teacher: Array) -> Array:
    """Jensen-Shannon divergence of each row from the teacher's, in nats: 0 where both say the same, at most ``log 2``.

    Lin 1991, "Divergence measures based on the Shannon entropy". It is the mutual information between the class and
    the question which of the two speaks: BALD (Houlsby 2011) for a committee of two.

    Args:
        student, teacher: float ``[n, C]``, rows sum to 1.
    """
    alone = (entropy(student) + entropy(teacher)) / 2
    divergence: Array = np.maximum(entropy(_mean(student, teacher)) - alone, 0.0)  # below 0 by rounding alone
    return divergence


def by_uncertainty(
    candidates: Candidates, free: Indices, taken: Indices, count: int, draw: np.random.Generator
) -> Indices:
    """The highest entropy first; with a teacher, that of the mean of both.

    The entropy of the mean is the mean of both entropies and their disagreement: a cell comes early where neither
    knows, and where each is sure of another class.
    """
    said = candidates.probabilities[free]
    if candidates.teacher is not None:
        said = _mean(said, candidates.teacher[free])
    order = np.lexsort((draw.random(len(free)), -entropy(said)))
    return free[order[:count]]


def _mean(student: Array, teacher: Array) -> Array:
    mean: Array = (np.asarray(student, np.float64) + np.asarray(teacher, np.float64)) / 2
    return mean
