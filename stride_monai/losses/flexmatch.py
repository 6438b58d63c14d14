"""FlexMatch: FixMatch whose threshold is lower for classes that are learnt less well."""

from __future__ import annotations

import torch
from ignite import distributed as idist
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.losses.fixmatch import FixMatch

__all__ = ["FlexMatch"]


class FlexMatch(FixMatch):
    """Loss of FlexMatch (Zhang et al. 2021, https://arxiv.org/abs/2110.08263, equations 5 to 11).

    As :class:`~stride_monai.losses.FixMatch` with a threshold for each class,

        threshold_c = threshold * b_c / (2 - b_c),    b_c = sigma_c / max(max sigma, unused)

    sigma_c counts the unlabelled cells whose latest sure label (probability >= ``threshold``) is c; ``unused`` counts
    those that never had one. So a class of which nothing is learnt yet takes every label, also at the very start, and
    thresholds rise as the stream becomes known. Thresholds of a batch are those before the batch is counted.

    Args:
        population: number of cells in the unlabelled stream; indices of a batch are 0 to population - 1.
        num_classes: C.
        threshold: tau, 0-1, that of a class that is learnt best.
        weight: of the loss, 0 or more.

    The latest labels are part of the state dict. Processes of a distributed run tell each other theirs.

    Raises:
        ConfigError: a number out of range.

    Example::

        loss = FlexMatch(population=len(cells), num_classes=5)
        found = loss(student(strong_view), student(weak_view).detach(), index, step)
    """

    latest: Tensor

    def __init__(self, population: int, num_classes: int, threshold: float = 0.95, weight: float = 1.0) -> None:
        super().__init__(threshold, weight)
        if population < 1 or num_classes < 2:
            raise ConfigError(
                f"FlexMatch of {population} cells and {num_classes} classes", "give the size of the unlabelled stream"
            )
        self.num_classes = num_classes
        self.register_buffer("latest", torch.full((population,), -1, dtype=torch.int64))

    def thresholds(self) -> Tensor:
        """Threshold of each class, float64 ``[C]``."""
        sigma = torch.bincount(self.latest[self.latest >= 0], minlength=self.num_classes).double()
        unused = len(self.latest) - sigma.sum()
        learnt = sigma / torch.maximum(sigma.max(), unused)
        return self.threshold * learnt / (2 - learnt)

    def accept(self, confidence: Tensor, label: Tensor, index: Tensor) -> Tensor:
        """As of the base; the labels that are sure are remembered."""
        # As float32, so that a class that is learnt best has FixMatch's own comparison, to the last bit.
        accepted = confidence >= self.thresholds().to(confidence.dtype)[label]
        # All cells, for processes have to gather equally many; those with -1 leave what is known.
        sure = torch.where(confidence >= self.threshold, label, -1)
        both: Tensor = torch.stack((index.to(label.device), sure), dim=1)
        if idist.get_world_size() > 1:
            both = idist.all_gather(both)
        both = both[both[:, 1] >= 0]
        self.latest[both[:, 0]] = both[:, 1]
        return accepted
