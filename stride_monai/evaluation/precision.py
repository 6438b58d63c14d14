"""Whether slides that were screened in a lower precision are judged as well as in float32: on marked, labeled slides.

Two figures decide, each beside that of float32 on the same slides: the share of the marked lesion cells that are among
the K cells of their slide, and the AUC of the slide score. Either may be lower by half a point. Fewer slides or lesions
than make half a point worth more than one of them say nothing, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.data.cells import CellRecord
from stride_monai.errors import ManifestError
from stride_monai.evaluation.found_cells import COVERED, FoundCells, read_found_cells
from stride_monai.evaluation.inputs.joining import JudgedCohort, join_truth
from stride_monai.evaluation.inputs.predictions import read_predictions
from stride_monai.evaluation.inputs.truth import Truth
from stride_monai.metrics.detection import box_cover
from stride_monai.metrics.detection_curves import ranks_of_truth
from stride_monai.metrics.slide import auc

__all__ = ["ALLOWED", "PrecisionJudgement", "judge_precision", "lesions_found", "refuse_too_few"]

ALLOWED = 0.005
"""By so much a figure may be below that of float32."""
_COVER = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """AUC of the slide score, share of the lesions that are found, and how many are: of all, and by cell class."""

    auc: float
    recall: float
    found: int
    found_by_class: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PrecisionJudgement:
    """What a lower precision costs.

    Attributes:
        slides, positives, lesions: that were judged. lesions_by_class: of each cell class.
        float32, other: what each precision reaches.
        score_change: of the slide score, the mean and the largest.
    """

    precision: str
    slides: int
    positives: int
    lesions: int
    lesions_by_class: Mapping[str, int]
    float32: Figures
    other: Figures
    score_change: tuple[float, float]

    @property
    def lost(self) -> list[str]:
        """In words, what is lower than is allowed."""
        pairs = {
            "AUC of the slide score": (self.float32.auc, self.other.auc),
            "recall of lesion cells among the K best": (self.float32.recall, self.other.recall),
        }
        return [
            f"{name} {other:.4f}, in float32 {wanted:.4f}"
            for name, (wanted, other) in pairs.items()
            if not other >= wanted - ALLOWED
        ]

    def report(self) -> dict[str, Any]:
        """Plain JSON types; fields: docs/artifacts.md."""
        return {**asdict(self), "allowed": ALLOWED, "rule": COVERED, "lost": self.lost}


def judge_precision(
    precision: str, reference: Path, other: Path, truth: Truth, cells: Sequence[CellRecord]
) -> PrecisionJudgement:
    """Judge what ``screen`` said in a lower precision by what it said in float32.

    Args:
        reference, other: results folders, of float32 and of the other, of the same slides.
        truth: labels of the slides. cells: marked cells.

    Raises:
        ManifestError: slides are judged in one alone; or slides or lesions are too few; or results are damaged.
    """
    # A slide with too few cells to be called counts by its score: whether it is called may differ by the precision.
    one, two = (join_truth(read_predictions(folder), truth, unsatisfactory=True) for folder in (reference, other))
    _refuse_others(one, two, precision)
    labels = dict(zip(one.slide_id.tolist(), one.label.tolist(), strict=True))
    found = [read_found_cells(folder, cells, labels) for folder in (reference, other)]
    classes = [str(cell.cell_class) for slide in found[0] for cell in slide.lesions]
    refuse_too_few(one.positive, len(classes))
    changes = np.abs(two.score - one.score)
    return PrecisionJudgement(
        precision=precision,
        slides=len(one),
        positives=int(one.positive.sum()),
        lesions=len(classes),
        lesions_by_class={name: classes.count(name) for name in sorted(set(classes))},
        float32=_figures(one, found[0]),
        other=_figures(two, found[1]),
        score_change=(float(changes.mean()), float(changes.max())),
    )


def refuse_too_few(positive: NDArray[np.bool_], lesions: int) -> None:
    """Refuse to judge what cannot be judged; to be asked before slides are screened for it.

    Args:
        positive: of the slides ``[N]``. lesions: marked on them.

    Raises:
        ManifestError: slides or lesions are too few.
    """
    positives, least = int(positive.sum()), round(1 / ALLOWED)
    negatives = len(positive) - positives
    if positives * negatives < least:
        raise ManifestError(
            f"{positives} positive and {negatives} negative slides are too few: one pair of them is worth more than "
            f"the {ALLOWED:g} of AUC that are allowed",
            f"give more labeled slides: positives times negatives are to be {least} or more",
        )
    if lesions < least:
        raise ManifestError(
            f"{lesions} marked lesion cells are too few: one is worth more than the {ALLOWED:g} of recall that are "
            "allowed",
            f"mark {least} or more on the slides that are screened",
        )


def _refuse_others(one: JudgedCohort, two: JudgedCohort, precision: str) -> None:
    mine, other = set(one.slide_id.tolist()), set(two.slide_id.tolist())
    if mine != other:
        which = ", ".join(sorted(mine ^ other)[:5])
        raise ManifestError(
            f"{len(mine ^ other)} slides are judged in float32 or in {precision} alone ({which})",
            "see in both results folders why they are not in the other",
        )


def _figures(cohort: JudgedCohort, slides: Sequence[FoundCells]) -> Figures:
    found = lesions_found(slides)
    by_class = {name: found.count(name) for name in sorted(set(found))}
    lesions = sum(len(slide.lesions) for slide in slides)
    return Figures(auc(cohort.score, cohort.positive), len(found) / lesions, len(found), by_class)


def lesions_found(slides: Sequence[FoundCells]) -> list[str]:
    """The cell class of every marked lesion that one of the K cells of its slide lies on (:data:`COVERED`)."""
    found = []
    for slide in slides:
        boxes = np.array([cell.box for cell in slide.lesions], np.float64).reshape(-1, 4)
        ranks = ranks_of_truth(slide.boxes, boxes, _COVER, box_cover)
        found += [str(cell.cell_class) for cell, rank in zip(slide.lesions, ranks, strict=True) if np.isfinite(rank)]
    return found
