"""Slide heads by name, as bundles choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from stride_monai.errors import ConfigError
from stride_monai.networks.mil.dtfd import DTFDHead
from stride_monai.networks.mil.pooling_heads import ABMILHead, MaxHead, MeanHead
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.transmil import TransMILHead

__all__ = ["SLIDE_HEADS", "slide_head"]

SLIDE_HEADS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "stride": AttentionSlideHead,
        "mean": MeanHead,
        "max": MaxHead,
        "abmil": ABMILHead,
        "gated_abmil": partial(ABMILHead, gated=True),
        "transmil": TransMILHead,
        "dtfd": DTFDHead,
    }
)
"""STRIDE's own and the baselines it is compared with (METHOD section 5). Another head is a ``_target_`` of its own."""


def slide_head(name: str, feature_dim: int, **kwargs: Any) -> nn.Module:
    """A slide head ``(features [B, K, D], mask [B, K]) -> (logits [B, C], attention [B, K])``.

    Args:
        name: one of :data:`SLIDE_HEADS`.
        feature_dim: D, width of the cell features.
        kwargs: of the head's class, e.g. ``dropout``.

    Raises:
        ConfigError: there is no head of that name.
    """
    if name not in SLIDE_HEADS:
        raise ConfigError(f"there is no slide head '{name}'", f"use one of {', '.join(SLIDE_HEADS)}")
    return SLIDE_HEADS[name](feature_dim, **kwargs)
