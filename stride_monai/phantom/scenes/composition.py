"""What is on a slide, and how much of it: lesions by label, and the patient's own cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stride_monai.bethesda import NEGATIVE
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.kinds import NORMAL
from stride_monai.phantom.scenes.streams import Draw, stream

__all__ = ["DEFOCUSED", "bank_of", "composition", "defocused", "lesion_counts"]

_FULL_SLIDE_CELLS = 80_000

_RANGES: Mapping[str, tuple[int, int, int]] = {
    "ASC-US": (1, 20, 6),
    "LSIL": (20, 500, 12),
    "ASC-H": (2, 30, 8),
    "HSIL": (20, 500, 16),
    "SCC": (20, 500, 16),
    "AGC": (1, 15, 3),
}
"""Lesions (AGC: groups) on a full slide, from and to, and the floor on a small deposit."""

_COMPANIONS: Mapping[str, Mapping[str, float]] = {
    "ASC-US": {},
    "LSIL": {"ASC-US": 0.35},
    "ASC-H": {"ASC-US": 0.4},
    "AGC": {"ASC-US": 0.3},
    "HSIL": {"LSIL": 0.25, "ASC-US": 0.12, "ASC-H": 0.15},
    "SCC": {"HSIL": 0.6, "LSIL": 0.1},
}
"""Lesser lesions that come with a label, relative to the number of its own."""

_MIX: Mapping[str, float] = {
    "superficial": 0.27,
    "intermediate": 0.5,
    "parabasal": 0.07,
    "metaplastic": 0.06,
    "columnar": 0.03,
}
_HARD_MIX: Mapping[str, float] = {
    "reactive": 0.02,
    "naked_nucleus": 0.015,
    "halo_only": 0.012,
    "rolled": 0.015,
    "clump": 0.006,
    "folded_sheet": 0.003,
    "mucus": 0.004,
    "candida": 0.012,
}
_CANDIDA_PATIENTS = 0.12
_MEMBERS: Mapping[str, int] = {"superficial": 56, "intermediate": 72, "red_cell": 16, "debris": 24}
_OTHER_MEMBERS = 32
"""Sprites of each normal kind."""

DEFOCUSED = 0.02
"""Share of the figures that float far out of the layer; the focus of all others is the scene's."""


def lesion_counts(label: str, cells: float, rng: np.random.Generator) -> dict[str, int]:
    """How many lesions of which label a deposit of so many epithelial cells holds.

    The number for a full slide of 80,000 cells is drawn log-uniformly from the ranges of :data:`_RANGES` and scaled by
    the number of cells. A small deposit keeps a floor (ASC-US 6, LSIL 12, ASC-H 8, HSIL and SCC 16, AGC 3 groups), or
    it would hold none at all.
    """
    if label == NEGATIVE:
        return {}
    low, high, floor = _RANGES[label]
    full = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    share = cells / _FULL_SLIDE_CELLS
    counts = {label: max(round(full * share), floor if share < 0.5 else low)}
    for other, ratio in _COMPANIONS[label].items():
        counts[other] = round(counts[label] * ratio * rng.uniform(0.3, 1.7))
    return {name: count for name, count in counts.items() if count > 0}


def composition(rng: np.random.Generator, epithelial: int) -> dict[str, int]:
    """Kinds of cells and their numbers for one patient; leucocytes and debris follow the epithelial cells."""
    names = [*_MIX, *_HARD_MIX]
    shares = np.array([*_MIX.values(), *_HARD_MIX.values()]) * rng.lognormal(0, 0.45, len(names))
    counts = np.rint(shares / shares.sum() * epithelial).astype(int).tolist()
    counts[names.index("candida")] *= int(rng.random() < _CANDIDA_PATIENTS)
    inflammation = float(np.clip(rng.lognormal(np.log(0.3), 0.7), 0.05, 1.2))
    dirt = float(np.clip(rng.lognormal(np.log(0.2), 0.6), 0.03, 1.0))
    blood = float(np.clip(rng.lognormal(np.log(0.02), 1.4), 0.0, 0.6))
    extra = {"neutrophil": inflammation, "debris": dirt, "red_cell": blood}
    more = {kind: round(share * epithelial) for kind, share in extra.items()}
    return {**dict(zip(names, counts, strict=True)), **more}


def defocused(figure: Figure, rng: np.random.Generator, chance: float, most: float) -> Figure:
    """The figure, or by ``chance`` one that floats up to ``most`` um out of the layer."""
    if rng.random() >= chance:
        return figure
    return replace(figure, defocus_um=rng.uniform(0.5, most))


def bank_of(counts: Mapping[str, int], seed: int, pinkness: float) -> tuple[tuple[Figure, ...], dict[str, range]]:
    """Figures of every normal kind, as far as there are cells to use them, from green to pink, and their indices."""
    figures: list[Figure] = []
    members = {}
    for k, (kind, maker) in enumerate(NORMAL.items()):
        size = min(max(counts[kind], 1), _MEMBERS.get(kind, _OTHER_MEMBERS))
        members[kind] = range(len(figures), len(figures) + size)
        mine = []
        for i in range(size):
            rng = stream(seed, Draw.BANK, k, i)
            mine.append(defocused(maker(rng, pinkness), rng, DEFOCUSED, 2.0))
        figures += sorted(mine, key=_redness)
    return tuple(figures), members


def _redness(figure: Figure) -> float:
    """Eosin and orange less green: what tells pink cells from blue ones."""
    return figure.cytoplasm[1] + figure.cytoplasm[3] - figure.cytoplasm[2]
