"""SWIFT: pseudo-labels of a slide's cells from class activation and from a teacher (STRIDE, Algorithm 1 and eq. 4).

Paper: https://arxiv.org/abs/2407.19512. A cell that drives the true class of its slide takes that class; otherwise a
cell of which the teacher is sure takes the teacher's class; all others are left out of the loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE, SLIDE_CLASSES, slide_to_cell_indices
from stride_monai.errors import ConfigError

__all__ = [
    "NEGATIVE_BAGS",
    "SOURCES",
    "PseudoLabels",
    "masked_cross_entropy",
    "refine_labels",
]

NEGATIVE_BAGS = ("all_nilm", "paper")
SOURCES = ("masked", "activation", "teacher", "negative_slide")
"""Where a pseudo-label comes from, by the index that stands in :attr:`PseudoLabels.source`."""


class PseudoLabels(NamedTuple):
    """Refined labels of the cells of a batch of bags.

    Attributes:
        label: ``[B, K]``, index into CELL_CLASSES; 0 where there is none.
        chosen: ``[B, K]`` bool, the cell has a label and counts in the loss (m of Algorithm 1).
        source: ``[B, K]``, index into :data:`SOURCES`.
    """

    label: Tensor
    chosen: Tensor
    source: Tensor


def refine_labels(
    activation: Tensor,
    teacher: Tensor,
    slide_label: Tensor,
    mask: Tensor,
    activation_threshold: float = 0.5,
    teacher_threshold: float = 0.9,
    negative_bags: str = "all_nilm",
) -> PseudoLabels:
    """Lines 11 to 18 of Algorithm 1.

    Args:
        activation: ``[B, K]`` in 0..1, see :func:`stride_monai.networks.class_activation`.
        teacher: the teacher's cell probabilities ``[B, K, cell classes]``.
        slide_label: ``[B]``, true slide class.
        mask: ``[B, K]`` bool, true where there is a cell.
        activation_threshold: tau 1; an activation above it gives the cell the class of its slide.
        teacher_threshold: tau 2; a largest probability above it gives the cell the teacher's class.
        negative_bags: ``all_nilm``: every cell of a NILM slide is NILM, which is true by the definition of the slide
            class; ``paper``: NILM slides are treated as all others.

    Raises:
        ConfigError: an unknown treatment of negative bags.
    """
    if negative_bags not in NEGATIVE_BAGS:
        raise ConfigError(f"unknown negative_bags '{negative_bags}'", f"use one of {', '.join(NEGATIVE_BAGS)}")
    to_cell = torch.tensor(slide_to_cell_indices(), device=slide_label.device)
    confidence, guess = teacher.max(dim=2)
    by_activation = (activation > activation_threshold) & mask
    by_teacher = (confidence > teacher_threshold) & mask & ~by_activation
    of_slide = to_cell[slide_label].unsqueeze(1).expand_as(guess)
    label = torch.where(by_activation, of_slide, torch.where(by_teacher, guess, 0))
    source = by_activation * SOURCES.index("activation") + by_teacher * SOURCES.index("teacher")
    if negative_bags == "all_nilm":
        negative = (slide_label == SLIDE_CLASSES.index(NEGATIVE)).unsqueeze(1) & mask
        label = torch.where(negative, CELL_CLASSES.index(NEGATIVE), label)
        source = torch.where(negative, SOURCES.index("negative_slide"), source)
    return PseudoLabels(label, source > 0, source)


def masked_cross_entropy(logits: Tensor, label: Tensor, chosen: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the chosen cells, as a mean over all cells of the batch, chosen or not.

    So a batch with few sure cells says little, as in FixMatch, and a single one does not weigh as much as the whole
    labelled stream. 0, with a gradient of 0, where none is chosen.

    Args:
        logits: ``[B, K, cell classes]``. label: ``[B, K]``. chosen: ``[B, K]`` bool. mask: ``[B, K]`` bool, the cells.
    """
    loss = functional.cross_entropy(logits[mask], label[mask], reduction="none")
    return torch.where(chosen[mask], loss, 0).mean()
