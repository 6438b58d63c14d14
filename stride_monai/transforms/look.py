"""How a picture may look as if another laboratory had stained it and another scanner seen it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import imagecodecs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stride_monai.errors import ConfigError

__all__ = ["DOMAIN", "Look", "seen_anew"]

_FAINTEST = 1 / 255
_TYPICAL_DENSITY = 0.7
"""Absorbance (natural logarithm) of a well stained cytoplasm: what a change of contrast leaves as it is."""
_GRAIN_PX = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Look:
    """How far a tile may look as if another laboratory had stained it and another scanner seen it.

    Domain randomisation (Tobin et al., https://arxiv.org/abs/1703.06907) in optical density, where dyes add (stain
    augmentation: Tellez et al., https://arxiv.org/abs/1902.06543). Dyes are not unmixed: three channels cannot tell the
    five of Papanicolaou apart, so the channels' densities themselves are mixed anew. Each change happens to a tile
    with probability ``chance``; its amount is drawn evenly from what is allowed.

    Attributes:
        chance: of each change, 0-1.
        density: all densities times ``exp(u)``, ``|u|`` up to this: pale or dark staining.
        mixing: standard deviation of the entries added to the unit matrix that maps the densities of red, green and
            blue: other dyes, other sensors.
        contrast: densities to the power ``exp(u)``, ``|u|`` up to this, about that of well stained cytoplasm: nuclei
            far darker than their cytoplasm, or hardly.
        glass: largest change of each channel's clear glass, as a share; what exceeds white is clipped.
        grain: largest standard deviation of grains of 1, 2 or 4 px in the density, as a share of it.
        blur: largest standard deviation of blur, px.
        sharpen: largest share of detail added by unsharp masking.
        noise: largest standard deviation of the sensor's noise.
        jpeg: lowest quality of compression, 1-100; 100 for none.
        grey: chance of a tile without colour.
    """

    chance: float = 0.5
    density: float = 0.0
    mixing: float = 0.0
    contrast: float = 0.0
    glass: float = 0.0
    grain: float = 0.0
    blur: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.0
    jpeg: int = 100
    gray: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, limit = getattr(self, field.name), {"chance": 1, "gray": 1, "glass": 0.5, "jpeg": 100}
            if not 0 <= value <= limit.get(field.name, 4):
                raise ConfigError(f"{field.name} of a look is {value}", f"use 0 to {limit.get(field.name, 4)}")


DOMAIN = Look(
    density=0.5,
    mixing=0.18,
    contrast=0.5,
    glass=0.08,
    grain=0.15,
    blur=1.2,
    sharpen=1.0,
    noise=0.03,
    jpeg=40,
    gray=0.05,
)
"""Of the preset ``domain``, for training on synthetic slides and on few laboratories."""


def seen_anew(image: Tensor, look: Look, random: np.random.RandomState) -> Tensor:
    """Stained, then seen, by another laboratory. Every change draws its numbers, whether it happens or not.

    Args:
        image: float ``[3, H, W]``, RGB 0..1.
        look: how far it may go.
        random: what the numbers are drawn from.

    Returns:
        float ``[3, H, W]``, RGB 0..1.
    """

    def share() -> float:
        """0 where the change does not happen, else its amount as a share of the most."""
        amount, happens = random.uniform(0, 1, 2)
        return float(amount) if happens < look.chance else 0.0

    def either() -> float:
        return share() * float(random.choice((-1, 1)))

    torch_random = torch.Generator().manual_seed(int(random.randint(2**31 - 1)))
    dark, contrast, grain = either() * look.density, either() * look.contrast, share() * look.grain
    mixing = np.eye(3) + look.mixing * random.normal(size=(3, 3)) * (random.uniform() < look.chance)
    glass = 1 + look.glass * random.uniform(-1, 1, 3) * (random.uniform() < look.chance)
    grain_px = int(random.choice(_GRAIN_PX))
    density = -image.clamp(_FAINTEST, 1).log()
    density = torch.einsum("ij,jhw->ihw", torch.as_tensor(mixing, dtype=torch.float32), density).clamp(min=0)
    density *= math.exp(dark)
    if contrast:
        density = _TYPICAL_DENSITY * (density / _TYPICAL_DENSITY) ** math.exp(contrast)
    if grain:
        density *= (1 + grain * _grains(density, grain_px, torch_random)).clamp(min=0)
    seen = torch.as_tensor(glass, dtype=torch.float32).reshape(3, 1, 1) * (-density).exp()
    seen = _focused(seen, either(), look)
    noise, own = share() * look.noise, random.uniform()
    if noise:
        shared = torch.randn(seen.shape[1:], generator=torch_random)
        seen = seen + noise * (own * torch.randn(seen.shape, generator=torch_random) + (1 - own) * shared)
    gray, weights = random.uniform() < look.gray, random.dirichlet((1, 1, 1))
    if gray:
        seen = torch.einsum("c,chw->hw", torch.as_tensor(weights, dtype=torch.float32), seen).expand(3, -1, -1)
    seen, worse = seen.clamp(0, 1), share()
    return _compressed(seen, round(100 - worse * (100 - look.jpeg))) if worse and look.jpeg < 100 else seen


def _grains(like: Tensor, px: int, random: torch.Generator) -> Tensor:
    """Noise of standard deviation about 1, the same in all channels: ``[1, H, W]``."""
    height, width = like.shape[1:]
    coarse = torch.randn(1, 1, -(-height // px), -(-width // px), generator=random)
    return functional.interpolate(coarse, scale_factor=px, mode="bilinear")[0, :, :height, :width]


def _focused(image: Tensor, amount: float, look: Look) -> Tensor:
    """Sharper where ``amount`` is above 0, softer where it is below."""
    if amount > 0 and look.sharpen:
        return image + amount * look.sharpen * (image - _blurred(image, 1.2))
    if amount < 0 and look.blur:
        return _blurred(image, -amount * look.blur)
    return image


def _blurred(image: Tensor, sigma: float) -> Tensor:
    reach = max(math.ceil(2.5 * sigma), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(image.unsqueeze(0), (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernel, groups=3)
    return functional.conv2d(across, kernel.transpose(2, 3), groups=3)[0]


def _compressed(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
    jpeg = imagecodecs.jpeg8_encode(pixels, level=max(quality, 1), subsampling="420")
    seen = torch.from_numpy(imagecodecs.jpeg8_decode(jpeg)).permute(2, 0, 1).contiguous()
    return seen.to(image.device).float() / 255
