"""The cell classifier: a timm image encoder and a linear head over the five cell classes (METHOD section 4)."""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import ConfigError

__all__ = ["CellClassifier"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class CellClassifier(nn.Module):
    """Encoder ``z = encode(x)`` and head ``logits = head(z)`` for crops of single cells.

    Networks with LayerNorm are meant: with BatchNorm the cells of one slide share statistics, and training end to end
    on bags collapses (METHOD section 4).

    Args:
        name: a timm model, e.g. ``convnext_tiny``, ``convnext_atto`` or ``vit_small_patch16_224``.
        num_classes: number of cell classes.
        pretrained: start from timm's weights (needs a network connection the first time).
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
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"{name.split('_')[0]}*")[:5]
            raise ConfigError(f"timm has no model '{name}'", f"try one of {', '.join(near)}" if near else "")
        if name.startswith(("vit_", "deit")):
            kwargs.setdefault("dynamic_img_size", True)
        self.encoder: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **kwargs)
        self.feature_dim = int(cast(int, self.encoder.num_features))
        self.num_classes = num_classes
        self.head = nn.Linear(self.feature_dim, num_classes)
        # Constants, not state: they stay out of the checkpoint but follow the module's device and precision.
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    def encode(self, image: Tensor) -> Tensor:
        """Features ``[B, D]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8."""
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return cast(Tensor, self.encoder((image - self.mean) / self.std))

    def forward(self, image: Tensor) -> Tensor:
        """Class logits ``[B, num_classes]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8."""
        return cast(Tensor, self.head(self.encode(image)))
