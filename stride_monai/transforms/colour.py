"""RGB to HSV and back on tensors, differentiable everywhere, grey included."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hsv_to_rgb", "jitter_hsv", "rgb_to_hsv"]


def rgb_to_hsv(image: Tensor) -> Tensor:
    """HSV of an RGB image.

    Args:
        image: float ``[..., 3, H, W]`` in 0..1.

    Returns:
        The same shape: hue, saturation, value, each in 0..1 (hue in turns, 0 is red). Grey has hue 0, and the hue's
        gradient is zero there; black has saturation 0.
    """
    red, green, blue = image.unbind(-3)
    value, lowest = image.amax(-3), image.amin(-3)
    chroma = value - lowest
    coloured = chroma > 0
    divisor = torch.where(coloured, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = torch.where(coloured, torch.remainder(sixth / 6, 1.0), 0.0)
    saturation = chroma / torch.where(value > 0, value, 1.0)
    return torch.stack((hue, saturation, value), -3)


def hsv_to_rgb(image: Tensor) -> Tensor:
    """RGB of an HSV image, the inverse of :func:`rgb_to_hsv`.

    Args:
        image: float ``[..., 3, H, W]``; saturation and value in 0..1, hue in turns and taken modulo 1.

    Returns:
        The same shape, RGB in 0..1.
    """
    hue, saturation, value = image.unbind(-3)
    chroma = saturation * value
    channels = []
    for offset in (5.0, 3.0, 1.0):
        place = torch.remainder(offset + hue * 6, 6.0)
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, -3)


def jitter_hsv(image: Tensor, hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Turn the hue, and scale saturation and value, of each image of a batch.

    Args:
        image: float ``[N, 3, H, W]``, RGB in 0..1.
        hue: ``[N]``, added to the hue, in turns.
        saturation: ``[N]``, factor; the result is clamped to 0..1.
        value: ``[N]``, factor; the result is clamped to 0..1.

    Returns:
        ``[N, 3, H, W]``, RGB in 0..1.
    """
    h, s, v = rgb_to_hsv(image).unbind(-3)
    per_image = (-1, 1, 1)
    h = h + hue.reshape(per_image)
    s = (s * saturation.reshape(per_image)).clamp(0, 1)
    v = (v * value.reshape(per_image)).clamp(0, 1)
    return hsv_to_rgb(torch.stack((h, s, v), -3))
