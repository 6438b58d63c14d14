"""The cell classifier: a timm image encoder and a linear head over the five cell classes (METHOD section 4)."""

from typing import Any, Self, cast

import timm
import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import ConfigError, check_name
from stride_monai.networks.exporting import unit_range

__all__ = ["CellClassifier", "refuse_batch_norm"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class CellClassifier(nn.Module):
    """Encoder ``z = encode(x)`` and head ``logits = head(z)`` for crops of single cells.

    Any timm network classifies single cells. For training end to end on bags see :func:`refuse_batch_norm`.

    Args:
        name: a timm model, e.g. ``convnext_tiny``, ``convnext_atto`` or ``vit_small_patch16_224``.
        num_classes: number of cell classes.
        pretrained: start from timm's weights (needs a network connection the first time).
        freeze_encoder: linear probing: the encoder takes no gradient and stays in eval mode, whatever ``train()`` says.
        kwargs: further arguments of ``timm.create_model``. Vision transformers get ``dynamic_img_size=True`` unless
            it is given, so that any crop size whose side is a multiple of the patch works.

    Raises:
        ConfigError: timm has no model of that name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "convnext_tiny",
        num_classes: int = len(CELL_CLASSES),
        pretrained: bool = False,
        freeze_encoder: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            check_name("model of timm", name, timm.list_models())
        if name.startswith(("vit_", "deit")):
            kwargs.setdefault("dynamic_img_size", True)
        self.encoder: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **kwargs)
        self.feature_dim = int(cast(int, self.encoder.num_features))
        self.num_classes = num_classes
        self.head = nn.Linear(self.feature_dim, num_classes)
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)
            self.encoder.eval()
        # Constants, not state: they stay out of the checkpoint but follow the module's device and precision.
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, image: Tensor) -> Tensor:
        """Features ``[B, D]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8 in 0..255."""
        features: Tensor = self.encoder((unit_range(image, self.mean) - self.mean) / self.std)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Class logits ``[B, num_classes]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8 in 0..255."""
        logits: Tensor = self.head(self.encode(image))
        return logits


def refuse_batch_norm(network: nn.Module, purpose: str = "training end to end on bags") -> None:
    """Refuse a network with batch normalisation.

    All cells of a bag are of one slide and share stain, focus and class, so the statistics of a batch are those of the
    slide, not of cells: trained end to end such networks collapse at inference (METHOD section 4). For single cells,
    drawn from all slides, they are fine.

    Raises:
        ConfigError: the network has such a layer; the message names the first.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"the encoder normalises by batch ('{name}' is a {type(module).__name__}), refused for {purpose}: the "
                "cells of one slide share their statistics, so it collapses",
                "choose an encoder with LayerNorm, e.g. convnext_tiny or vit_small_patch16_224",
            )
