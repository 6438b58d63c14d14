"""DTFD-MIL: pseudo-bags, distilled into a second tier (Zhang et al. 2022, https://arxiv.org/abs/2203.12081)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import ConfigError
from stride_monai.networks.exporting import is_scripting, recording
from stride_monai.networks.mil.slide_head import AttentionPooling, SlideHead

__all__ = ["DTFDHead"]


class _Tier1(nn.Module):
    """Reduction, gated attention within each pseudo-bag, and a classifier of the pseudo-bags."""

    def __init__(self, feature_dim: int, num_classes: int, embed: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Linear(feature_dim, embed, bias=False), nn.ReLU())
        self.pooling = AttentionPooling(embed, hidden, dropout=0.0, gated=True)
        self.classifier = nn.Linear(embed, num_classes)

    def forward(self, features: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled ``[B, P, E]``, logits ``[B, P, C]`` and attention ``[B, P, K]`` of ``[B, K, D]`` in ``[B, P, K]``."""
        reduced = self.reduce(features)
        scores = self.pooling.scores(reduced).unsqueeze(1).masked_fill(~groups, float("-inf"))
        # A pseudo-bag may be empty, and the softmax of nothing is nan: blanked here, masked in the second tier.
        empty = ~groups.any(dim=2, keepdim=True)
        attention = torch.softmax(scores.masked_fill(empty, 0.0), dim=2).masked_fill(~groups, 0.0)
        pooled = attention @ reduced
        return pooled, self.classifier(pooled), attention


class DTFDHead(SlideHead):
    """Double-tier feature distillation, with aggregated features (AFS) handed to the second tier.

    The cells of a slide are dealt out to ``pseudo_bags`` parts whose sizes differ by one at most: at random in
    training, in turn (cell k to part k mod P) in evaluation, so that a result can be repeated. The first tier pools
    each part by gated attention and is trained by its own loss on the slide's label; the second tier pools the parts.
    The loss of the second tier never reaches the parameters of the first, as in the authors' code, which zeroes those
    gradients; here one backward pass of the summed loss does it, and gradients reach the features through both tiers.
    The attention is the product of both tiers' attentions.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes.
        pseudo_bags: P, number of parts.
        embed: width of the reduced features. hidden: width of the attentions.
        score_input: take the detector's scores as well.

    Attributes:
        tier1_logits: logits ``[B, P, C]`` of the pseudo-bags at the last call in training mode, nan where one is empty;
            the loss of both tiers (``stride_monai.losses.DTFDLoss``) reads them.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int = len(SLIDE_CLASSES),
        pseudo_bags: int = 4,
        embed: int = 512,
        hidden: int = 128,
        score_input: bool = False,
    ) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        if pseudo_bags < 1:
            raise ConfigError(f"DTFD with {pseudo_bags} pseudo-bags", "use at least 1; the paper has 4")
        self.pseudo_bags = pseudo_bags
        self.tier1 = _Tier1(feature_dim, num_classes, embed, hidden)
        self.tier2 = AttentionPooling(embed, hidden, dropout=0.0, gated=True)
        self.classifier = nn.Linear(embed, num_classes)
        self.tier1_logits: Tensor | None = None

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        groups = self._groups(mask)
        filled = groups.any(dim=2)
        parts, within = self._parts(features, groups, filled)
        pooled, between = self.tier2(parts, filled)
        return self.classifier(pooled), torch.einsum("bp,bpk->bk", between, within)

    def _parts(self, features: Tensor, groups: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """The parts ``[B, P, E]`` for the second tier, and the attention ``[B, P, K]`` within them."""
        if is_scripting():
            parts, _, within = self.tier1(features, groups)
            return parts, within
        if recording():
            parts, _, within = self.tier1(features, groups)
            return parts, within
        if self.training:
            logits = self.tier1(features, groups)[1]
            self.tier1_logits = logits.masked_fill(~filled.unsqueeze(-1), float("nan"))
        fixed = {name: parameter.detach() for name, parameter in self.tier1.named_parameters()}
        parts, _, within = functional_call(self.tier1, fixed, (features, groups))
        return parts, within

    def _groups(self, mask: Tensor) -> Tensor:
        """Which cells ``[B, P, K]`` belong to each pseudo-bag."""
        place = mask.long().cumsum(dim=1) - 1
        if self.training:
            order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0)
            place = order.argsort(dim=1, stable=True).argsort(dim=1)
        parts = place.new_ones(self.pseudo_bags).cumsum(dim=0).view(1, -1, 1) - 1
        return (place.unsqueeze(1) % self.pseudo_bags == parts) & mask.unsqueeze(1)
