"""Slide heads: from the features of a slide's cells to its class (METHOD section 5).

Every head has the call of :class:`SlideHead`.
"""

import torch
from torch import Tensor, nn

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import BagError, ConfigError
from stride_monai.networks.exporting import is_scripting, recording

__all__ = [
    "AttentionPooling",
    "AttentionSlideHead",
    "DenseMLP",
    "ScoreEmbedding",
    "SlideHead",
    "blanked",
    "check_bag",
    "drop_cells",
]


def check_bag(features: Tensor, mask: Tensor | None) -> Tensor:
    """The mask ``[B, K]`` (bool) of a batch of bags, all true where none is given.

    Raises:
        BagError: the shapes do not fit, or a bag holds no cell.
    """
    if mask is None:
        mask = torch.ones_like(features[..., 0], dtype=torch.bool)  # a trace would keep a device that is named
    if is_scripting():
        assert bool(mask.any(dim=1).all()), "a bag without cells has no slide probability"
        return mask
    # A traced graph cannot branch on values; there the caller has made sure that no bag is empty.
    if recording():
        return mask
    if features.ndim != 3 or mask.shape != features.shape[:2]:
        raise BagError(
            f"features {tuple(features.shape)} and mask {tuple(mask.shape)} do not fit", "give [B, K, D] and [B, K]"
        )
    if features.shape[1] == 0 or not bool(mask.any(dim=1).all()):
        raise BagError("a bag without cells has no slide probability", "leave out slides in which no cell was found")
    return mask


def drop_cells(mask: Tensor, rate: float) -> Tensor:
    """The mask ``[B, K]`` with each cell dropped at probability ``rate``; a bag never loses its last cells."""
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= rate)
    return torch.where(kept.any(dim=1, keepdim=True), kept, mask)


def blanked(features: Tensor, mask: Tensor) -> Tensor:
    """Features ``[B, K, D]`` with zeros where there is no cell: padding may hold anything, and 0 * nan is nan."""
    return features.masked_fill(~mask.unsqueeze(-1), 0.0)


class ScoreEmbedding(nn.Module):
    """What the detector's score of a cell adds to the features of the cell: ``w s_k``, with a learned vector w.

    ``s_k = logit(score_k)``, the score clipped to 0.001..0.999, so that s lies in -6.9..6.9, has about the spread of
    its features and does not depend on the other cells. w starts at 0: a new head gives what it would give without
    scores.

    Args:
        feature_dim: D, width of the cell features.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(feature_dim))
        self.least = 0.001  # the detector's own floor; beyond it, and as near to 1, a logit is rounding noise

    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """``[B, K, D]`` of scores ``[B, K]``, 0..1; what stands where ``mask`` is false does not matter."""
        if self.weight.dtype != torch.float64:
            scores = scores.float()  # half precision has no 0.999
        logits = torch.logit(scores.masked_fill(~mask, 0.5), eps=self.least)
        return logits.unsqueeze(-1) * self.weight


class SlideHead(nn.Module):
    """Base of the slide heads, which says what all of them share.

    With ``score_input`` a head sees of each cell the detector's score beside its features
    (:class:`ScoreEmbedding`): how sure the detector was, which heads that do not know the order of the cells throw away
    otherwise. Such weights hold for the detector that they were trained with, as a threshold does.

    Args:
        feature_dim: D, width of the cell features. num_classes: C, number of slide classes.
        score_input: take the detector's scores as well.
    """

    def __init__(self, feature_dim: int, num_classes: int, score_input: bool = False) -> None:
        super().__init__()
        self.feature_dim, self.num_classes = feature_dim, num_classes
        self.score_embedding = ScoreEmbedding(feature_dim) if score_input else None

    def forward(
        self, features: Tensor, mask: Tensor | None = None, scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Slide logits ``[B, C]`` and attention ``[B, K]``, 0 where masked; the sum of a bag's attention is 1.

        Args:
            features: cell features ``[B, K, D]``; what stands at masked places does not matter.
            mask: ``[B, K]`` bool, true where there is a cell; all true when None.
            scores: the detector's, ``[B, K]``, 0..1; a head without ``score_input`` does not look at them.

        Raises:
            BagError: a bag holds no cell. ConfigError: the head takes scores, and there are none.
        """
        mask = check_bag(features, mask)
        return self.judge(blanked(self.scored(features, mask, scores), mask), mask)

    def scored(self, features: Tensor, mask: Tensor, scores: Tensor | None) -> Tensor:
        """Features ``[B, K, D]`` with what the scores add to them, where the head takes scores."""
        if self.score_embedding is None:
            return features
        if scores is None:
            if is_scripting():
                assert scores is not None, "this slide head takes the detector's scores as well"
            raise ConfigError(
                "this slide head takes the detector's scores as well (score_input)",
                "give scores [B, K] beside features and mask; LoadBagd loads them",
            )
        added: Tensor = self.score_embedding(scores, mask)
        return features + added.to(features.dtype)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, of features that are 0 where masked, in bags that hold a cell."""
        raise NotImplementedError


class AttentionPooling(nn.Module):
    """Attention pooling, ``a_k = softmax_k(w . tanh(V z_k + b))`` and ``z = sum_k a_k z_k`` (Ilse et al. 2018, eq. 8).

    Gated, the score is ``w . (tanh(V z_k + b) * sigmoid(U z_k + c))`` (eq. 9). Dropout drops whole cells in training:
    the softmax then runs over the cells that remain, so that the attention still sums to 1.

    Args:
        feature_dim: D. hidden: width of V and U. dropout: probability of dropping a cell, 0..1. gated: use the gate.
    """

    def __init__(self, feature_dim: int, hidden: int = 128, dropout: float = 0.1, gated: bool = False) -> None:
        super().__init__()
        self.project = nn.Linear(feature_dim, hidden)
        self.gate = nn.Linear(feature_dim, hidden) if gated else None
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = dropout

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features ``[B, D]`` and attention ``[B, K]`` (0 where masked) of ``[B, K, D]`` under ``[B, K]``."""
        if self.training and self.dropout > 0:
            mask = drop_cells(mask, self.dropout)
        features = blanked(features, mask)
        attention = torch.softmax(self.scores(features).masked_fill(~mask, float("-inf")), dim=1)
        return torch.einsum("bk,bkd->bd", attention, features), attention

    def scores(self, features: Tensor) -> Tensor:
        """Scores before the softmax, ``[...]`` of features ``[..., D]``."""
        hidden = torch.tanh(self.project(features))
        if self.gate is not None:
            hidden = hidden * torch.sigmoid(self.gate(features))
        scores: Tensor = self.score(hidden).squeeze(-1)
        return scores


class DenseMLP(nn.Module):
    """Densely connected MLP: layer n sees the input and all earlier outputs; each is Linear -> LayerNorm -> GELU.

    Args:
        in_features: width of the input. hidden: width of each layer's output. layers: number of layers.
    """

    def __init__(self, in_features: int, hidden: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(in_features + n * hidden, hidden), nn.LayerNorm(hidden), nn.GELU())
            for n in range(layers)
        )
        self.out_features = in_features + layers * hidden

    def forward(self, x: Tensor) -> Tensor:
        """The input and all outputs side by side, ``[B, in_features + layers * hidden]``, of ``[B, in_features]``."""
        for block in self.blocks:
            x = torch.cat([x, block(x)], dim=1)
        return x


class AttentionSlideHead(SlideHead):
    """STRIDE's slide head: attention pooling, a densely connected MLP and a linear classifier on all its outputs.

    The result does not depend on the order of the cells.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes.
        hidden: width of the attention and of each MLP layer.
        layers: number of MLP layers.
        dropout: probability that training drops a cell from the attention, 0..1.
        score_input: take the detector's scores as well.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int = len(SLIDE_CLASSES),
        hidden: int = 128,
        layers: int = 4,
        dropout: float = 0.1,
        score_input: bool = False,
    ) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        self.pooling = AttentionPooling(feature_dim, hidden, dropout)
        self.mlp = DenseMLP(feature_dim, hidden, layers)
        self.classifier = nn.Linear(self.mlp.out_features, num_classes)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pooled, attention = self.pooling(features, mask)
        return self.classifier(self.mlp(pooled)), attention
