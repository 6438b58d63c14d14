"""Where randomness comes from: a stream for each purpose of a slide, all named here so that none serves two."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Draw", "stream"]


class Draw(IntEnum):
    """What is drawn. The numbers decide every pixel: they never change, and a new purpose takes a new one."""

    PATIENT = 0
    BANK = 1
    COMMON = 2
    LESION = 3
    HARD = 4
    PLACES = 5
    TEXTURE = 6
    FIELDS = 7
    ARTEFACTS = 8
    LESION_COUNTS = 9
    FIELD_LESIONS = 10
    PINNED = 11
    SAMPLED_TRUTH = 12
    COUNTERFACTUAL = 14
    RANKING = 30


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent generator for one purpose of a slide; the same on every machine and in any order of use."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
