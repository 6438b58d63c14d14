"""Mean Teacher: the student agrees with the moving average of itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.losses.semi_supervised import SemiSupervisedLoss, Unlabeled

__all__ = ["MeanTeacher"]


class MeanTeacher(SemiSupervisedLoss):
    """Consistency loss of Mean Teacher (Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780).

    With class probabilities p of the student and q of the teacher, each on a draw of its own of the same augmentation,

        loss = weight * r(t) * mean over cells and classes of (p - q)^2,    r(t) = exp(-5 (1 - min(t, T) / T)^2)

    The teacher is the moving average of the student's weights, with decay min(1 - 1 / (t + 1), 0.999), and is what is
    evaluated (:class:`stride_monai.networks.EmaModel`). Only unlabelled cells are compared; the authors' code
    compares the labelled ones too. Ours is a teacher in evaluation mode, with the student's BatchNorm statistics
    copied: the authors' runs in training mode, with dropout and the statistics of its batch, which it is not evaluated
    with.

    Args:
        weight: of the loss once it has risen, 0 or more; the authors' 100 for this form of the loss.
        rampup_steps: T, steps over which it rises; 0 for none. The authors' 30 epochs.

    Raises:
        ConfigError: a negative number.

    Example::

        loss = MeanTeacher(weight=100.0, rampup_steps=1000)
        found = loss(student(view_a), ema(view_b).detach(), index, step)
        (cross_entropy + found.loss).backward()
    """

    teacher = "ema"
    student_view = "weak"
    teacher_view = "weak"

    def __init__(self, weight: float = 100.0, rampup_steps: float = 0) -> None:
        super().__init__()
        if weight < 0 or rampup_steps < 0:
            raise ConfigError(f"Mean Teacher has weight {weight:g} and ramp {rampup_steps:g}", "use 0 or more")
        self.weight, self.rampup_steps = weight, rampup_steps

    def ramp(self, step: int) -> float:
        """r(t): exp(-5) at step 0, 1 from ``rampup_steps`` on."""
        if not self.rampup_steps:
            return 1.0
        return math.exp(-5 * (1 - min(step, self.rampup_steps) / self.rampup_steps) ** 2)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, step: int) -> Unlabeled:
        """As of the base; every cell counts as accepted."""
        target = teacher.detach().float().softmax(1)
        difference = torch.nn.functional.mse_loss(student.float().softmax(1), target)
        label = target.argmax(1)
        return Unlabeled(self.weight * self.ramp(step) * difference, label, torch.ones_like(label, dtype=torch.bool))
