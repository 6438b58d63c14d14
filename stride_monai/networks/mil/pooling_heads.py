"""Slide heads that pool the cells in one step: mean, maximum, attention (ABMIL) and gated attention.

Baselines of METHOD section 5. None depends on the order of the cells.
"""

import torch
from torch import Tensor, nn

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.networks.mil.slide_head import AttentionPooling, SlideHead

__all__ = ["ABMILHead", "MaxHead", "MeanHead"]


class _LinearHead(SlideHead):
    """A linear classifier on what is pooled of the features; arguments as of the base."""

    def __init__(self, feature_dim: int, num_classes: int = len(SLIDE_CLASSES), score_input: bool = False) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        self.classifier = nn.Linear(feature_dim, num_classes)


class MeanHead(_LinearHead):
    """A linear classifier on the mean of the features; the attention is 1/n for each of a bag's n cells."""

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        attention = mask.to(features.dtype) / mask.sum(dim=1, keepdim=True)
        pooled = torch.einsum("bk,bkd->bd", attention, features)
        return self.classifier(pooled), attention


class MaxHead(_LinearHead):
    """A linear classifier on the maximum of each feature over the cells.

    The attention of a cell is the share of the D features whose maximum it gives; of equal cells the first.
    """

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pooled, place = features.masked_fill(~mask.unsqueeze(-1), float("-inf")).max(dim=1)
        attention = torch.zeros_like(features[..., 0]).scatter_add(1, place, torch.ones_like(pooled))
        return self.classifier(pooled), attention / features.shape[-1]


class ABMILHead(SlideHead):
    """Attention-based MIL, plain or gated (Ilse, Tomczak, Welling 2018, https://arxiv.org/abs/1802.04712).

    ``h_k = relu(W z_k)``, attention pooling of the ``h_k`` (:class:`AttentionPooling`), a linear classifier.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes.
        embed: width of h.
        hidden: width of the attention.
        gated: use gated attention (eq. 9 of the paper) instead of eq. 8.
        dropout: probability that training drops a cell from the attention, 0..1; the paper has none.
        score_input: take the detector's scores as well.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int = len(SLIDE_CLASSES),
        embed: int = 512,
        hidden: int = 128,
        gated: bool = False,
        dropout: float = 0.0,
        score_input: bool = False,
    ) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        self.embed = nn.Sequential(nn.Linear(feature_dim, embed), nn.ReLU())
        self.pooling = AttentionPooling(embed, hidden, dropout, gated)
        self.classifier = nn.Linear(embed, num_classes)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pooled, attention = self.pooling(self.embed(features), mask)
        return self.classifier(pooled), attention
