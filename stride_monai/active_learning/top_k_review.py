"""The model's top cells of each slide, for a reader to remove the false positives: the paper's way."""

from __future__ import annotations

import numpy as np

from stride_monai.active_learning.candidates import Candidates, Indices

__all__ = ["by_rank"]


def by_rank(candidates: Candidates, free: Indices, taken: Indices, count: int, draw: np.random.Generator) -> Indices:
    """The first cell of every slide, then the second of every slide, and so on; of one rank the higher score first.

    So no slide waits for another, and the cells of a slide are those of its gallery from the top.
    """
    ties = draw.random(len(free))
    order = np.lexsort((ties, -candidates.scores[free], candidates.ranks[free]))
    return free[order[:count]]
