"""The loss of the two tiers of DTFD-MIL (Zhang et al. 2022, https://arxiv.org/abs/2203.12081)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DTFDLoss", "TwoTiers", "slide_loss"]


@runtime_checkable
class TwoTiers(Protocol):
    """A slide head whose first tier has logits of its own, as :class:`stride_monai.networks.DTFDHead` keeps them.

    Attributes:
        tier1_logits: ``[B, P, C]`` of the pseudo-bags at the last call in training mode, nan where one is empty.
    """

    training: bool
    tier1_logits: Tensor | None


class DTFDLoss(nn.Module):
    """Cross-entropy of the slide plus the mean cross-entropy of its pseudo-bags, each with the slide's label.

    Args:
        head: the head whose last call it judges.
    """

    def __init__(self, head: TwoTiers) -> None:
        super().__init__()
        self._head = [head]  # in a list: the head is not a part of the loss

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar of slide logits ``[B, C]`` and class indices ``[B]``; outside training the slide's loss alone."""
        loss = functional.cross_entropy(logits, label)
        tier1 = self._head[0].tier1_logits
        if not self._head[0].training or tier1 is None:
            return loss
        filled = ~tier1.isnan().any(dim=2)
        labels = label.unsqueeze(1).expand(filled.shape)
        return loss + functional.cross_entropy(tier1[filled], labels[filled])


def slide_loss(head: nn.Module) -> nn.Module:
    """The loss of slide logits ``[B, C]`` and labels ``[B]`` that trains a head: cross-entropy, and what DTFD adds."""
    return DTFDLoss(head) if isinstance(head, TwoTiers) else nn.CrossEntropyLoss()
