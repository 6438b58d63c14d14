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
    "ACTIVATIONS",
    "NEGATIVE_BAGS",
    "SOURCES",
    "PseudoLabels",
    "class_activation",
    "masked_cross_entropy",
    "refine_labels",
]

ACTIVATIONS = ("grad_x_feature", "eq4", "attention")
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


def class_activation(
    logits: Tensor,
    features: Tensor,
    attention: Tensor,
    slide_label: Tensor,
    mask: Tensor,
    kind: str = "grad_x_feature",
) -> Tensor:
    """How much each cell speaks for the true class c of its slide: the activation beta of eq. 4, made comparable.

    - ``eq4``, literally: ``beta_k = mean_d dY^c / dz_kd``. It is the derivative along the vector of ones, which is zero
      through a LayerNorm, whose output does not change when all inputs grow alike.
    - ``grad_x_feature``: ``beta_k = mean_d z_kd * dY^c / dz_kd``, the first-order share of the cell in the logit.
    - ``attention``: ``beta_k = a_k``, the weight of the cell in the pooling.

    Then negative values become 0 and each bag is divided by its maximum. No second-order graph is built.

    Args:
        logits: slide logits ``[B, C]``, computed from ``features``.
        features: ``[B, K, D]``, in the graph of the logits.
        attention: ``[B, K]``.
        slide_label: ``[B]``, true slide class.
        mask: ``[B, K]`` bool, true where there is a cell.
        kind: one of :data:`ACTIVATIONS`.

    Returns:
        float32 ``[B, K]`` in 0..1, without a graph; 0 where masked, and in a bag where no cell speaks for the class.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in ACTIVATIONS:
        raise ConfigError(f"'{kind}' is no class activation", f"use one of {', '.join(ACTIVATIONS)}")
    if kind == "attention":
        beta = attention.detach()
    else:
        true_logits = logits.gather(1, slide_label.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(true_logits, features, retain_graph=True)
        beta = (gradient if kind == "eq4" else gradient * features.detach()).mean(dim=2)
    beta = torch.where(mask, beta, 0).clamp_min(0)
    largest = beta.amax(dim=1, keepdim=True)
    # eq. 4 through a LayerNorm is rounding noise about zero; a bag without any activation stays at zero.
    beta = torch.where(largest > 0, beta / largest, 0)
    return beta if beta.dtype == torch.float64 else beta.float()


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
        activation: ``[B, K]`` in 0..1, see :func:`class_activation`.
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
        raise ConfigError(f"negative_bags is '{negative_bags}'", f"use one of {', '.join(NEGATIVE_BAGS)}")
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
