"""Cells by lot: what every other strategy is held against."""

from __future__ import annotations

import numpy as np

from stride_monai.active_learning.candidates import Candidates, Indices

__all__ = ["at_random"]


def at_random(candidates: Candidates, free: Indices, taken: Indices, count: int, draw: np.random.Generator) -> Indices:
    """Every free cell is as likely as another, without replacement."""
    return draw.permutation(free)[:count]
