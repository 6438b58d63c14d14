"""A cell seen at several scales: the features that its class is read from, and what lies in the middle below them.

An encoder that learnt classes pools the whole crop into one vector and keeps what tells classes apart. Its earlier
stages, looked at about the middle of the crop, still hold how dark, coarse, smooth or wide the nucleus is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["CellViews", "described_dim"]

_RADII_PX = (12.0, 28.0)
"""Of the crop: 6 and 14 um at 0.5 um/px, about a nucleus and about a small cell."""
_NUMBERS = 2 * len(_RADII_PX)  # mean and deviation within each


class CellViews:
    """Features of crops as :meth:`CellClassifier.encode` gives them, followed by those of earlier stages.

    Of each channel of a stage: mean and standard deviation, weighted by a Gaussian about the middle of the crop, of a
    radius of 12 and of 28 px. The class features are computed as ever and are the same to the last bit.

    Args:
        encoder: the cell classifier that looks.
        levels: stages of its image encoder, 0 the finest; none gives the class features alone.

    Raises:
        ConfigError: the encoder has no such stage, or stages that are no pictures (vision transformers).
    """

    def __init__(self, encoder: CellClassifier, levels: Sequence[int] = ()) -> None:
        self.encoder, self.levels = encoder, tuple(levels)
        self.feature_dim = described_dim(encoder, self.levels)

    @property
    def training(self) -> bool:
        """Of the encoder."""
        return self.encoder.training

    def to(self, device: torch.device) -> Self:
        """Move the encoder."""
        self.encoder.to(device)
        return self

    def train(self, mode: bool = True) -> Self:
        """Of the encoder."""
        self.encoder.train(mode)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Features ``[B, feature_dim]`` of crops ``[B, 3, S, S]``, the class features first."""
        if not self.levels:
            return self.encoder.encode(images)
        # Nothing is hooked: several threads look through one encoder.
        network: Any = self.encoder.encoder
        last, maps = network.forward_intermediates(self.encoder.normalized(images), indices=list(self.levels))
        parts = [_about_the_middle(found, images.shape[-1]) for found in maps]
        return torch.cat([network.forward_head(last), *parts], dim=1)


def described_dim(encoder: CellClassifier, levels: Sequence[int] = ()) -> int:
    """Length of the features that :class:`CellViews` makes.

    Raises:
        ConfigError: the encoder has no such stages.
    """
    known = _stages(encoder) if levels else []
    if any(level not in range(len(known)) for level in levels) or sorted(set(levels)) != list(levels):
        raise ConfigError(
            f"the image encoder has no stages {list(levels)} to look at",
            f"give levels of 0 to {len(known) - 1}, in order" if known else "give no levels",
        )
    return encoder.feature_dim + _NUMBERS * sum(int(known[level]["num_chs"]) for level in levels)


def _stages(encoder: CellClassifier) -> list[dict[str, Any]]:
    if not hasattr(encoder.encoder, "forward_intermediates"):
        return []
    found: Any = getattr(encoder.encoder, "feature_info", None)
    stages: list[dict[str, Any]] = found.info if hasattr(found, "info") else list(found or [])
    # Transformers list their blocks, all of one scale.
    return stages if len({stage.get("reduction") for stage in stages}) == len(stages) else []


def _about_the_middle(found: Tensor, side: int) -> Tensor:
    """Numbers ``[B, 4 C]`` of a stage ``[B, C, h, w]`` of crops of ``side`` px."""
    height, width = found.shape[-2:]
    y = (torch.arange(height, device=found.device) - (height - 1) / 2) * (side / height)
    x = (torch.arange(width, device=found.device) - (width - 1) / 2) * (side / width)
    distance = y[:, None] ** 2 + x[None, :] ** 2
    numbers = []
    for radius in _RADII_PX:
        weight = torch.exp(-distance / radius**2)
        weight = (weight / weight.sum()).to(found.dtype)
        mean = (found * weight).sum((2, 3))
        spread = ((found - mean[:, :, None, None]) ** 2 * weight).sum((2, 3))
        numbers += [mean, spread.clamp_min(1e-12).sqrt()]
    return torch.cat(numbers, dim=1)
