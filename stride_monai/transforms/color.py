"""RGB to HSV and back on tensors, differentiable everywhere: at a kink the gradient is that of one smooth piece beside.

Which piece, is said by each function. Torch's own rules would do otherwise: its ``clamp`` has gradient 0 at its bounds,
its ``amax`` shares the gradient among equals, and the kinks of three channels would be decided one by one, so that the
gradient would be that of no side.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hsv_to_rgb", "jitter_hsv", "rgb_to_hsv", "stopped"]


def stopped(values: Tensor) -> Tensor:
    """Values held in 0..1, with the gradient of the inner side at 0 and 1: 1 there and between, 0 outside."""
    return torch.where((values >= 0) & (values <= 1), values, values.clamp(0, 1).detach())


def rgb_to_hsv(image: Tensor) -> Tensor:
    """HSV of an RGB image.

    Args:
        image: float ``[..., 3, H, W]`` in 0..1.

    Returns:
        The same shape: hue, saturation, value, each in 0..1 (hue in turns, 0 is red). Grey has hue 0, and the hue's
        gradient is zero there; black has saturation 0. Of equal channels red counts as the larger and blue as the
        smaller one.
    """
    red, green, blue = image.unbind(-3)
    value = torch.where(red >= torch.maximum(green, blue), red, torch.where(green >= blue, green, blue))
    lowest = torch.where(blue <= torch.minimum(green, red), blue, torch.where(green <= red, green, red))
    chroma = value - lowest
    colored = chroma > 0
    divisor = torch.where(colored, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = torch.where(colored, torch.remainder(sixth / 6, 1.0), 0.0)
    saturation = chroma / torch.where(value > 0, value, 1.0)
    return torch.stack((hue, saturation, value), -3)


def hsv_to_rgb(image: Tensor) -> Tensor:
    """RGB of an HSV image, the inverse of :func:`rgb_to_hsv`.

    Args:
        image: float ``[..., 3, H, W]``; saturation and value in 0..1, hue in turns and taken modulo 1.

    Returns:
        The same shape, RGB in 0..1. Where two channels are equal, the gradient of the hue is that of turning onwards
        (to a larger hue).
    """
    hue, saturation, value = image.unbind(-3)
    chroma = saturation * value
    # The sixth of the circle, one for all three channels. A hue that rounding left just before a sixth is in it.
    sixth = torch.remainder(torch.floor(hue.detach() * 6 + 16 * torch.finfo(image.dtype).eps), 6.0)
    nothing = hue - hue.detach()  # 0, with the gradient of the hue
    channels = []
    for offset, falls, rises in ((5.0, 1, 4), (3.0, 3, 0), (1.0, 5, 2)):
        place = torch.remainder(offset + hue.detach() * 6, 6.0)
        slope = 6.0 * ((sixth == falls).to(hue) - (sixth == rises).to(hue))
        channels.append(value - chroma * (torch.minimum(place, 4 - place).clamp(0, 1) + slope * nothing))
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
