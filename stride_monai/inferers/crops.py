"""Single cells, classified from their crops alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import BundleError
from stride_monai.inferers.cpu import over_crops
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["CropEvidence", "classify_crops"]


class CropEvidence(NamedTuple):
    """What a cell classifier says of n crops.

    Attributes:
        features: of its encoder, and of the levels that were asked for, float32 ``[n, D]`` on its device.
        probabilities: of the cell classes, ``[n, cell classes]``.
    """

    features: Tensor
    probabilities: NDArray[np.float64]

    @property
    def classes(self) -> list[str]:
        """The most probable class of each cell."""
        return [CELL_CLASSES[index] for index in self.probabilities.argmax(axis=1)]


def classify_crops(crops: Tensor, network: CellClassifier, levels: Sequence[int] = ()) -> CropEvidence:
    """Classify uint8 crops ``[n, 3, H, W]``; what is said of one does not depend on the others.

    Args:
        network: in eval mode, on the device that it is to run on.
        levels: of the encoder, to be kept for descriptions (:class:`~stride_monai.networks.CellViews`).

    Raises:
        BundleError: it gives non-finite values.
    """

    views = CellViews(network, levels)

    def forward(images: Tensor) -> Tensor:
        features = views.encode(images)
        return torch.cat([features, network.head(features[:, : network.feature_dim])], dim=1)

    width = views.feature_dim + network.num_classes
    found = over_crops(forward, crops, next(network.parameters()).device, width)
    features, logits = found[:, : views.feature_dim], found[:, views.feature_dim :]
    if not bool(found.isfinite().all()):
        raise BundleError("the cell classifier gives non-finite values", "check its weights")
    return CropEvidence(features, logits.double().softmax(dim=1).cpu().numpy())
