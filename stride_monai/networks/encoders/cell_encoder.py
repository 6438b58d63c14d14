"""The cell classifier: a timm image encoder and a linear head over the five cell classes (METHOD section 4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import timm
import timm.data
import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import BundleError, ConfigError, check_name
from stride_monai.networks.batch_norm import check_batch_norm, hold_statistics
from stride_monai.networks.exporting import unit_range
from stride_monai.networks.imagenet import load_imagenet
from stride_monai.networks.weights import UnfitWeightsError, load_into

__all__ = ["CellClassifier"]

_PARTS = ("", "encoder", "encoder.encoder")
"""Where an encoder is in its own file, in that of a cell classifier and in that of a slide classifier."""


class CellClassifier(nn.Module):
    """Encoder ``z = encode(x)`` and head ``logits = head(z)`` for crops of single cells.

    Any timm network classifies single cells; training end to end on bags needs one without batch normalisation, or
    with its statistics frozen (:func:`~stride_monai.networks.refuse_batch_norm`). Colors are normalised by mean and
    standard deviation of timm's data configuration of the model.

    Args:
        name: a timm model, e.g. ``convnext_tiny``, ``convnext_atto`` or ``vit_small_patch16_224``.
        num_classes: number of cell classes.
        pretrained: what the encoder starts from: False or "" for random weights; True or "timm" for timm's (needs a
            network connection the first time); "imagenet" for those of a package
            (:func:`~stride_monai.networks.imagenet_models`, extra ``imagenet``); or a weights file of an encoder, a
            cell classifier or a slide classifier.
        frozen_parts: parts of timm's network, by name, that take no gradient, e.g. ``("conv_stem", "blocks.0")``: what
            they see of edges and colors is kept, and a step costs less.
        freeze_encoder: linear probing: the encoder takes no gradient and stays in eval mode, whatever ``train()`` says.
        batch_norm: "frozen": batch normalisation uses its running statistics, which never move, so that a cell does not
            depend on its neighbours; weight and bias are trained. "live": as usual. None is "frozen" where the encoder
            is pretrained.
        kwargs: further arguments of ``timm.create_model``. Vision transformers get ``dynamic_img_size=True`` unless
            it is given, so that any crop size whose side is a multiple of the patch works.

    Raises:
        ConfigError: timm has no model or the model no part of that name, or ``pretrained`` is neither a file nor known
            for the model.
        MissingExtraError: the package of the ImageNet weights is not installed.
        BundleError: the weights cannot be had, or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "convnext_tiny",
        num_classes: int = len(CELL_CLASSES),
        pretrained: bool | str | Path = False,
        frozen_parts: Sequence[str] = (),
        freeze_encoder: bool = False,
        batch_norm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            check_name("model of timm", name, timm.list_models())
        if name.startswith(("vit_", "deit")):
            kwargs.setdefault("dynamic_img_size", True)
        # Channels last: EfficientNet-Lite0 takes a third of the time on a CPU, ConvNeXt the same.
        self.encoder = _encoder(name, pretrained, **kwargs).to(memory_format=torch.channels_last)
        self.feature_dim = int(cast(int, self.encoder.num_features))
        self.num_classes = num_classes
        self.head = nn.Linear(self.feature_dim, num_classes)
        self.freeze_encoder = freeze_encoder
        self.batch_norm = check_batch_norm(batch_norm, pretrained)
        if freeze_encoder:
            self.encoder.requires_grad_(False)
        parts = dict(self.encoder.named_modules())
        for part in frozen_parts:
            check_name("part of the encoder", part, parts)
            parts[part].requires_grad_(False)
        # Constants, not state: they stay out of the checkpoint but follow the module's device and precision.
        colors = timm.data.resolve_model_data_config(self.encoder)
        for part in ("mean", "std"):
            self.register_buffer(part, torch.tensor(colors[part]).view(3, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As usual, but a frozen encoder and frozen batch normalisation stay in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        elif self.batch_norm == "frozen":
            hold_statistics(self.encoder)
        return self

    def encode(self, image: Tensor) -> Tensor:
        """Features ``[B, D]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8 in 0..255."""
        features: Tensor = self.encoder(self.normalized(image))
        return features

    def normalized(self, image: Tensor) -> Tensor:
        """What the encoder takes: crops of mean 0 and deviation 1 by the colors that it was trained with."""
        return (unit_range(image, self.mean) - self.mean) / self.std

    def forward(self, image: Tensor) -> Tensor:
        """Class logits ``[B, num_classes]`` of RGB crops ``[B, 3, H, W]``, float in 0..1 or uint8 in 0..255."""
        logits: Tensor = self.head(self.encode(image))
        return logits


def _encoder(name: str, pretrained: bool | str | Path, **kwargs: Any) -> nn.Module:
    from_hub = pretrained is True or pretrained == "timm"
    try:
        encoder: nn.Module = timm.create_model(name, pretrained=from_hub, num_classes=0, **kwargs)
    except (OSError, RuntimeError) as error:
        if not from_hub:
            raise
        raise BundleError(
            f"timm's weights of {name} cannot be had ({' '.join(str(error).split())[:200]})",
            "check the network connection, or give pretrained as imagenet or a weights file",
        ) from error
    if pretrained == "imagenet":
        load_imagenet(encoder, name)
    elif pretrained and not from_hub:
        _load_file(encoder, Path(str(pretrained)))
    return encoder


def _load_file(encoder: nn.Module, path: Path) -> None:
    if not path.suffix and not path.exists():
        raise ConfigError(f"unknown pretrained weights '{path}'", "give imagenet, timm or a weights file")
    for source in _PARTS:
        try:
            load_into(encoder, path, source)
            return
        except UnfitWeightsError as error:
            unfit = error
    raise unfit
