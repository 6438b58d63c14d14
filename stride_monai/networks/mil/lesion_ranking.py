"""The cells of a bag in the order of a cell classifier's lesion probability, for heads that look at the first few."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.networks.exporting import is_scripting, is_tracing, recording

__all__ = ["LESIONS", "LesionRanking", "RankedCells", "by_lesion", "lesion_probability", "shares"]


LESIONS = [index for index, name in enumerate(CELL_CLASSES) if name != NEGATIVE]


class RankedCells(NamedTuple):
    """What a cell classifier says of the cells of a batch of bags.

    Attributes:
        probabilities: ``[B, K, cell classes]``, float32 (or float64); masked places hold something.
        lesion: one minus the probability of NILM, ``[B, K]``, -1 where masked.
        order: indices ``[B, K]`` by falling lesion probability, masked places last; of equal cells the earlier first,
            which in a bag is the one that the detector ranks higher.
    """

    probabilities: Tensor
    lesion: Tensor
    order: Tensor


class LesionRanking:
    """Ranks cells from their features by a classifier that is trained elsewhere and stays as it is.

    No ``nn.Module``, on purpose: a slide head that holds it has the classifier neither among its parameters nor in its
    state, where they would stand a second time.

    Args:
        cell_head: features ``[..., D]`` to cell logits ``[..., cell classes]``; the ``head`` of a
            :class:`~stride_monai.networks.CellClassifier` whose features the slide head gets.
    """

    def __init__(self, cell_head: nn.Module) -> None:
        self.cell_head = cell_head

    @torch.no_grad()
    def __call__(self, features: Tensor, mask: Tensor) -> RankedCells:
        """Args:
        features: ``[B, K, D]``, finite, also where masked.
        mask: ``[B, K]`` bool, true where there is a cell.
        """
        # In full precision: rounded to 16 bits, the surest cells all tie.
        with torch.autocast(features.device.type, enabled=False):
            features = features if features.dtype == torch.float64 else features.float()
            probabilities = torch.softmax(self.cell_head(features), dim=-1)
        lesion = lesion_probability(probabilities, mask, LESIONS)
        return RankedCells(probabilities, lesion, by_lesion(lesion))


def lesion_probability(probabilities: Tensor, mask: Tensor, lesions: list[int]) -> Tensor:
    """Sum of the probabilities of the classes ``lesions``, ``[B, K]`` of ``[B, K, cell classes]``; -1 where masked."""
    ill = torch.cat([probabilities[..., k : k + 1] for k in lesions], dim=-1)
    return ill.sum(dim=-1).masked_fill(~mask, -1.0)


def by_lesion(lesion: Tensor) -> Tensor:
    """Indices ``[B, K]`` by falling lesion probability, of equal cells the earlier first."""
    if not is_scripting() and recording() and not is_tracing():  # ONNX has no stable sort, but takes the earlier first
        return lesion.topk(lesion.shape[1], dim=1).indices
    return torch.sort(lesion, dim=1, descending=True, stable=True).indices


def shares(places: Tensor, used: Tensor, mask: Tensor) -> Tensor:
    """The attention ``[B, K]`` of a head that looks at some cells and cannot say which counted more: 1/n for each.

    Args:
        places: indices ``[B, n]`` of cells. used: ``[B, n]`` bool, which of them were there. mask: ``[B, K]``.
    """
    weights = used.float() / used.sum(dim=1, keepdim=True)
    return weights.new_zeros(mask.shape).scatter(1, places, weights)
