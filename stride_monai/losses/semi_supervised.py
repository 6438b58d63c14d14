"""What a semi-supervised method is: a loss on unlabelled cells, as a module with a state.

:class:`stride_monai.engines.SemiSupervisedTrainer` shows each batch of unlabelled cells twice, to a
student and to a teacher, and gives the logits of both to the method. A further method is one class of this kind and one
line of a configuration.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from stride_monai.errors import ConfigError

__all__ = ["SemiSupervisedLoss", "Unlabeled", "check_share"]


class Unlabeled(NamedTuple):
    """What a method makes of a batch of M unlabelled cells.

    Attributes:
        loss: scalar, to be added to the loss of the labelled cells.
        label: the teacher's class of each cell ``[M]``.
        accepted: bool ``[M]``, which of these labels the loss took for true.
    """

    loss: Tensor
    label: Tensor
    accepted: Tensor


class SemiSupervisedLoss(nn.Module):
    """Base of the methods.

    Attributes:
        teacher: whose predictions teach: ``ema``, the moving average of the student, or the ``student`` itself.
        student_view: strength of the augmentation of what the student learns from
            (:data:`stride_monai.transforms.augmentation.STRENGTHS`).
        teacher_view: likewise of what the teacher sees. The two views of a cell are drawn apart.
    """

    teacher: str = "student"
    student_view: str = "strong"
    teacher_view: str = "weak"

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, step: int) -> Unlabeled:
        """Args:
            student: logits ``[M, C]`` of the student's view, with gradient.
            teacher: logits ``[M, C]`` of the teacher's view; no gradient goes through them.
            index: int64 ``[M]``, which cells of the unlabelled stream these are, always the same for a cell.
            step: steps of the optimiser so far, from 0.

        Returns:
            The loss and what it took for true. It is finite and zero where nothing was accepted.
        """
        raise NotImplementedError


def check_share(name: str, value: float, high: float = 1.0) -> float:
    """The value, if it lies in 0 to ``high``; else a ``ConfigError``."""
    if not 0 <= value <= high:
        raise ConfigError(f"{name} is {value:g}", f"use 0 to {high:g}")
    return value
