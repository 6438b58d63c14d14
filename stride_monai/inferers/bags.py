"""Inferers for bags of cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from torch import Tensor

from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier

__all__ = ["BagInferer", "CellInferer", "DescriptionInferer", "Similarities"]


class CellInferer(Inferer):
    """Cell logits of whole bags, a bounded number of cells at a time.

    Args:
        chunk: number of cells in one forward pass.
    """

    def __init__(self, chunk: int = 256) -> None:
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, it must be at least 1")
        self.chunk = chunk

    def __call__(
        self, inputs: Tensor, network: CellClassifier, mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Logits ``[B, K, classes]`` of crops ``[B, K, 3, H, W]`` (0..1 or uint8); 0 where ``mask`` is false."""
        if mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        found = torch.cat([network(part) for part in torch.split(inputs[mask], self.chunk)])
        logits = found.new_zeros(*mask.shape, found.shape[-1])
        logits[mask] = found
        return logits


class BagInferer(Inferer):
    """Slide logits of bags.

    Args:
        top_k: K to which the bags were cut; another than the operating point's is refused.
        force: the operating point is to hold for it all the same.
    """

    def __init__(self, top_k: int, force: bool = False) -> None:
        self.top_k, self.force = top_k, force

    def __call__(
        self,
        inputs: Tensor,
        network: SlideClassifier,
        mask: Tensor | None = None,
        scores: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Slide logits ``[B, C]`` of ``[B, K, 3, H, W]`` crops or ``[B, K, D]`` features.

        Raises:
            BagError: K is not the operating point's, or a bag is empty.
        """
        # Under data parallelism the network is wrapped; its methods are those of the module inside.
        plain: SlideClassifier = getattr(network, "module", network)
        SlideClassifier.check_top_k(plain, self.top_k, self.force)  # of an exported network, which has K alone
        given = (inputs, mask, scores) if getattr(plain, "takes_scores", False) else (inputs, mask)
        logits: Tensor = plain(*given)
        return logits


class Similarities(NamedTuple):
    """What is said of the cells of a batch of bags, zeros where masked.

    Attributes:
        similarity: cosines with the texts ``[B, K, N]``.
        cell_logits: ``[B, K, cell classes]``, of the image encoder's own head.
    """

    similarity: Tensor
    cell_logits: Tensor


class DescriptionInferer(Inferer):
    """Runs the image encoder and the aligner on bags of crops, a bounded number of cells at a time.

    Args:
        encoder: the cell classifier that the aligner was trained on.
        device: where to run it.
        chunk: number of cells in one forward pass.
    """

    def __init__(self, encoder: CellClassifier, device: torch.device | str = "cpu", chunk: int = 256) -> None:
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, it must be at least 1")
        self.encoder = encoder.to(device).eval()
        self.chunk = chunk

    @torch.no_grad()
    def __call__(
        self, inputs: Tensor, network: DescriptionAligner, mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Similarities:
        """What is said of crops ``[B, K, 3, H, W]`` (0..1 or uint8)."""
        if mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        views = CellViews(self.encoder, network.levels)
        features = torch.cat([views.encode(part) for part in torch.split(inputs[mask], self.chunk)])
        found = (network(features), self.encoder.head(features[:, : self.encoder.feature_dim]))
        columns = [part.new_zeros(*mask.shape, part.shape[-1]).index_put((mask,), part) for part in found]
        return Similarities(*columns)
