"""Slide heads that pool the cells in one step: mean, maximum, attention (ABMIL) and gated attention.

Baselines of METHOD section 5, with the call of every slide head: ``(features [B, K, D], mask [B, K]) -> (logits [B, C],
attention [B, K])``. None depends on the order of the cells; a bag without a cell is a ``BagError``.
"""

import torch
from torch import Tensor, nn

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.networks.mil.slide_head import AttentionPooling, blanked, check_bag

__all__ = ["ABMILHead", "MaxHead", "MeanHead"]


class MeanHead(nn.Module):
    """A linear classifier on the mean of the features; the attention is 1/n for each of a bag's n cells.

    Args:
        feature_dim: D, width of the cell features. num_classes: C, number of slide classes.
    """

    def __init__(self, feature_dim: int, num_classes: int = len(SLIDE_CLASSES)) -> None:
        super().__init__()
        self.feature_dim, self.num_classes = feature_dim, num_classes
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slide logits ``[B, C]`` and attention ``[B, K]`` of ``[B, K, D]`` under ``[B, K]``."""
        mask = check_bag(features, mask)
        attention = mask.to(features.dtype) / mask.sum(dim=1, keepdim=True)
        pooled = torch.einsum("bk,bkd->bd", attention, blanked(features, mask))
        return self.classifier(pooled), attention


class MaxHead(nn.Module):
    """A linear classifier on the maximum of each feature over the cells.

    The attention of a cell is the share of the D features whose maximum it gives; of equal cells the first.

    Args:
        feature_dim: D, width of the cell features. num_classes: C, number of slide classes.
    """

    def __init__(self, feature_dim: int, num_classes: int = len(SLIDE_CLASSES)) -> None:
        super().__init__()
        self.feature_dim, self.num_classes = feature_dim, num_classes
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slide logits ``[B, C]`` and attention ``[B, K]`` of ``[B, K, D]`` under ``[B, K]``."""
        mask = check_bag(features, mask)
        pooled, place = features.masked_fill(~mask.unsqueeze(-1), float("-inf")).max(dim=1)
        attention = torch.zeros_like(features[..., 0]).scatter_add(1, place, torch.ones_like(pooled))
        return self.classifier(pooled), attention / features.shape[-1]


class ABMILHead(nn.Module):
    """Attention-based MIL, plain or gated (Ilse, Tomczak, Welling 2018, https://arxiv.org/abs/1802.04712).

    ``h_k = relu(W z_k)``, attention pooling of the ``h_k`` (:class:`AttentionPooling`), a linear classifier.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes.
        embed: width of h.
        hidden: width of the attention.
        gated: use gated attention (eq. 9 of the paper) instead of eq. 8.
        dropout: probability that training drops a cell from the attention, 0..1; the paper has none.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int = len(SLIDE_CLASSES),
        embed: int = 512,
        hidden: int = 128,
        gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_dim, self.num_classes = feature_dim, num_classes
        self.embed = nn.Sequential(nn.Linear(feature_dim, embed), nn.ReLU())
        self.pooling = AttentionPooling(embed, hidden, dropout, gated)
        self.classifier = nn.Linear(embed, num_classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slide logits ``[B, C]`` and attention ``[B, K]`` of ``[B, K, D]`` under ``[B, K]``."""
        mask = check_bag(features, mask)
        pooled, attention = self.pooling(self.embed(blanked(features, mask)), mask)
        return self.classifier(pooled), attention
