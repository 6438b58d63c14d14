"""FixMatch: what is sure of the weakly augmented cell is taught for the strongly augmented one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stride_monai.losses.semi_supervised import SemiSupervisedLoss, Unlabeled, check_share

__all__ = ["FixMatch"]


class FixMatch(SemiSupervisedLoss):
    """Loss of FixMatch (Sohn et al. 2020, https://arxiv.org/abs/2001.07685, equation 4).

    With class probabilities q of the student on the weak view, and logits s of the student on the strong one,

        loss = weight * 1/M * sum over m of [max q_m >= threshold] * CE(s_m, argmax q_m)

    The mean is over all M cells, accepted or not, and no gradient goes through q. Evaluated is the moving average of
    the weights with decay 0.999.

    Args:
        threshold: tau, least probability of a pseudo-label, 0-1.
        weight: of the loss, 0 or more.

    Raises:
        ConfigError: a number out of range.

    Example::

        loss = FixMatch(threshold=0.95)
        found = loss(student(strong_view), student(weak_view).detach(), index, step)
        (cross_entropy + found.loss).backward()
    """

    def __init__(self, threshold: float = 0.95, weight: float = 1.0) -> None:
        super().__init__()
        self.threshold = check_share("the threshold of pseudo-labels", threshold)
        self.weight = check_share("the weight of the unlabelled loss", weight, high=float("inf"))

    def probabilities(self, teacher: Tensor) -> Tensor:
        """What pseudo-labels are made from ``[M, C]``: the softmax of the teacher's logits."""
        return teacher.detach().float().softmax(1)

    def accept(self, confidence: Tensor, label: Tensor, index: Tensor) -> Tensor:
        """Which pseudo-labels count: bool ``[M]``."""
        return confidence >= self.threshold

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, step: int) -> Unlabeled:
        """As of the base."""
        confidence, label = self.probabilities(teacher).max(1)
        accepted = self.accept(confidence, label, index)
        losses = functional.cross_entropy(student.float(), label, reduction="none")
        loss = torch.where(accepted, losses, 0.0).mean()
        return Unlabeled(self.weight * loss, label, accepted)
