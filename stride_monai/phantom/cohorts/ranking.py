"""Which cells of a plan a detector would rank first: a model of the detector, not a detector.

Bags made without slides need a ranking without pixels. Every cell gets the logit

    mean of its sort + spread * noise + the slide's own offset

and the score ``1 / (1 + exp(-logit))``. The means stand in the tables below: lesions by label, hard negatives and
normal cells by kind. They are set so that on a full slide the best of a thousand hard negatives outrank many lesions,
as they do for a real detector; a small share of the lesions is missed, which means ranked like a normal cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError
from stride_monai.phantom.render import truth_of
from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.scenes.truth import TruthCell
from stride_monai.units import Box

__all__ = ["HARD_LOGITS", "LESION_LOGITS", "NORMAL_LOGITS", "RankedCell", "RankingModel", "rank_cells"]

LESION_LOGITS: Mapping[str, float] = {"ASC-US": 1.4, "LSIL": 2.6, "ASC-H": 1.8, "AGC": 1.9, "HSIL": 2.5, "SCC": 3.0}
"""Mean logit of the lesions of a label."""

HARD_LOGITS: Mapping[str, float] = {
    "reactive": 0.0,
    "swollen_nucleus": -0.2,
    "halo_only": -0.4,
    "clump": -0.5,
    "folded_sheet": -1.0,
    "rolled": -1.5,
    "naked_nucleus": -1.8,
    "candida": -3.0,
    "mucus": -3.5,
}
"""Mean logit of the hard negatives of a kind; others have :data:`_OTHER_HARD`."""

NORMAL_LOGITS: Mapping[str, float] = {
    "metaplastic": -3.4,
    "parabasal": -3.6,
    "columnar": -3.8,
    "intermediate": -5.0,
    "superficial": -5.5,
    "neutrophil": -8.0,
    "red_cell": -9.0,
    "debris": -9.0,
}
"""Mean logit of the abundant kinds; others have :data:`_OTHER_NORMAL`."""

_OTHER_HARD = -1.0
_OTHER_NORMAL = -6.0
_MISSED = -4.5


@dataclass(frozen=True, slots=True)
class RankingModel:
    """How good the detector is.

    Attributes:
        spread: standard deviation of a cell's logit around the mean of its sort.
        missed: share of the lesions that are ranked like a normal cell, 0-1.
        slide_spread: standard deviation of the offset that all cells of a slide share (stain, focus).
        jitter_um: standard deviation of a box's place around the cell.

    Raises:
        ConfigError: a share is not in 0-1, or a spread is negative.
    """

    spread: float = 1.0
    missed: float = 0.03
    slide_spread: float = 0.3
    jitter_um: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.missed <= 1 or not min(self.spread, self.slide_spread, self.jitter_um) >= 0:
            raise ConfigError(f"invalid ranking {self}", "give spreads of 0 or more and a missed share in 0-1")


class RankedCell(NamedTuple):
    """A cell as the detector shows it.

    Attributes:
        score: 0-1.
        box: level-0 px, on whole pixels, its centre too.
    """

    score: float
    box: Box
    truth: TruthCell


def rank_cells(plan: Plan, top_k: int, model: RankingModel | None = None) -> list[RankedCell]:
    """The ``top_k`` best cells of a plan, best first; the same for the same plan and model.

    Only the figures of the cells that are returned are made.
    """
    model = model or RankingModel()
    rng = stream(plan.seed, Draw.RANKING)
    means = _means(plan, model, rng)
    logits = means + model.spread * rng.standard_normal(len(means)) + model.slide_spread * rng.standard_normal()
    shifts = rng.normal(0, model.jitter_um / plan.mpp, (len(means), 2))
    ranked: list[RankedCell] = []
    # Stable, so that cells of equal score keep the plan's order.
    for index in np.argsort(-logits, kind="stable").tolist():
        if len(ranked) == top_k:
            break
        truth = truth_of(plan, index)
        if truth.box.width > 1 and truth.box.height > 1:
            score = float(1 / (1 + np.exp(-logits[index])))
            ranked.append(RankedCell(score, _moved(truth.box, *shifts[index].tolist()), truth))
    return ranked


def _means(plan: Plan, model: RankingModel, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mean logit of every cell: lesions and hard negatives, then the common cells."""
    missed = rng.random(len(plan.unique)) < model.missed
    unique = [
        HARD_LOGITS.get(cell.kind, _OTHER_HARD)
        if cell.hard
        else _MISSED
        if lost
        else LESION_LOGITS.get(cell.figure.label, _OTHER_HARD)
        for cell, lost in zip(plan.unique, missed.tolist(), strict=True)
    ]
    bank = np.array([NORMAL_LOGITS.get(figure.kind, _OTHER_NORMAL) for figure in plan.bank])
    return np.concatenate([np.array(unique, float), bank[plan.common.member]])


def _moved(box: Box, dx: float, dy: float) -> Box:
    """The box shifted, with sides of an even number of px about a whole px."""
    x, y = (round(value + shift) for value, shift in zip(box.center, (dx, dy), strict=True))
    half_width, half_height = max(round(box.width / 2), 1), max(round(box.height / 2), 1)
    return Box(float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height))
