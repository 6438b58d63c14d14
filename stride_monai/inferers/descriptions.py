"""Descriptions of whole bags of cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from torch import Tensor

from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["Described", "DescriptionInferer"]


class Described(NamedTuple):
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
    ) -> Described:
        """What is said of crops ``[B, K, 3, H, W]`` (0..1 or uint8)."""
        if mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        features = torch.cat([self.encoder.encode(part) for part in torch.split(inputs[mask], self.chunk)])
        found = (network(features), self.encoder.head(features))
        columns = [part.new_zeros(*mask.shape, part.shape[-1]).index_put((mask,), part) for part in found]
        return Described(*columns)
