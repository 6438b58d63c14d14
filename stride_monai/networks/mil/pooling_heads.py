"""Slide heads that pool the cells in one step: mean, maximum, attention (ABMIL), gated attention; and the best cells.

The first are baselines of METHOD section 5; the last is ours. None depends on the order of the cells.
"""

import torch
from torch import Tensor, nn

from stride_monai.bethesda import SLIDE_CLASSES, slide_to_cell_indices
from stride_monai.errors import ConfigError
from stride_monai.networks.mil.slide_head import AttentionPooling, SlideHead

__all__ = ["ABMILHead", "BestCellsHead", "MaxHead", "MeanHead"]


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


class BestCellsHead(SlideHead):
    """The slide is what its most suspicious cells are: classes of cells, averaged over the ``best`` of them (ours).

    Each cell has class logits ``l_k = W z_k + b`` and a lesion margin ``g_k``, the log odds of any lesion. Over the
    cells with the greatest margins, ``G`` is the mean margin and ``q_c`` the mean probability of lesion class c among
    the lesion classes. The slide is positive with probability ``sigmoid(scale * G + shift)``, and of class c with
    that times ``q_c``. The attention of the chosen cells is equal, that of all others 0.

    It has no more to learn than a linear layer, and a cell classifier knows that one already (:meth:`start_from`):
    where slides are few or all from one source, heads with more freedom learn them by heart. Several cells decide, not
    one: of 64 cells of a negative slide one or two often look like a lesion.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes, the negative one first.
        best: cells that decide; a bag with fewer is decided by all.
        score_input: take the detector's scores as well.

    Raises:
        ConfigError: no cell is to decide.
    """

    def __init__(
        self, feature_dim: int, num_classes: int = len(SLIDE_CLASSES), best: int = 5, score_input: bool = False
    ) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        if best < 1:
            raise ConfigError(f"best is {best}", "let one cell or more decide")
        self.best, self.least = best, 1e-6
        self.cells = nn.Linear(feature_dim, num_classes)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))

    @torch.no_grad()
    def start_from(self, cell_head: nn.Linear) -> None:
        """Begin with the last layer of a cell classifier; slide classes that share a cell class share its probability.

        Args:
            cell_head: of D features and the cell classes, in the order of ``CELL_CLASSES``.
        """
        rows = slide_to_cell_indices()
        shared = torch.tensor([float(rows.count(row)) for row in rows], device=self.cells.bias.device)
        self.cells.weight.copy_(cell_head.weight[list(rows)])
        self.cells.bias.copy_(cell_head.bias[list(rows)] - shared.log())

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.cells(features)
        # As many empty places as are chosen: there is enough to choose from whatever K is.
        empty = torch.zeros_like(logits[:, :1]).expand(-1, self.best, -1)
        logits = torch.cat([logits, empty], dim=1)
        there = torch.cat([mask, torch.zeros_like(empty[..., 0], dtype=torch.bool)], dim=1)
        margins = torch.logsumexp(logits[..., 1:], dim=2) - logits[..., 0]
        places = margins.masked_fill(~there, float("-inf")).topk(self.best, dim=1).indices
        chosen = there.gather(1, places).to(margins.dtype)  # of mixed precision the wider
        share = chosen / chosen.sum(dim=1, keepdim=True)
        margin = (margins.gather(1, places) * share).sum(dim=1, keepdim=True)
        kinds = logits[..., 1:].softmax(dim=2).gather(1, places.unsqueeze(-1).expand(-1, -1, logits.shape[2] - 1))
        kind = (share.unsqueeze(-1) * kinds).sum(dim=1).clamp_min(self.least).log()
        half = (self.scale * margin + self.shift) / 2
        attention = torch.zeros_like(margins).scatter(1, places, share)
        return torch.cat([-half, half + kind], dim=1), attention[:, : mask.shape[1]]
