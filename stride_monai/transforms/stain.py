"""Stain of cells on tensors, batched on any device: dye amounts jittered, and a slide's stain brought to a common one.

Optical densities of dyes add, so a laboratory that stains more strongly multiplies the amount of a dye. Three channels
tell three dyes apart. Sources: unmixing, Ruifrok and Johnston 2001; jitter of dye amounts, Tellez et al.
(https://arxiv.org/abs/1902.06543); normalisation of means and deviations, Reinhard et al. 2001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.transforms.augmentation import CellAugmentation, DrawnViews, ScaleUint8, Strength

__all__ = ["DYES", "StainAugmentation", "StainNormalization", "StainViews", "stain_jitter"]

DYES: Mapping[str, tuple[tuple[float, float, float], ...]] = MappingProxyType(
    {
        "papanicolaou": ((0.74, 0.80, 0.42), (0.62, 0.34, 0.24), (0.06, 0.52, 0.34)),
        "hed": ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)),
    }
)
"""Optical density in red, green and blue of one unit of each dye: haematoxylin, light green and eosin as this project's
phantoms have them, so that on phantoms this jitter knows more of the stain than it would of a real laboratory's; and
the haematoxylin, eosin and DAB of Ruifrok and Johnston. Orange G and Bismarck brown of the Papanicolaou stain cannot be
told from these in three channels."""

COMMON_MEAN = (0.15, 0.21, 0.20)
COMMON_DEVIATION = (0.16, 0.18, 0.17)
"""Densities of red, green and blue that a normalised slide gets: about those of ten fields of CRIC Cervix."""

_FAINTEST = 1 / 255  # the darkest that a byte tells from black


def density(image: Tensor) -> Tensor:
    """Optical density (decadic) of RGB 0..1; black counts as the darkest grey of a byte."""
    return -torch.log10(image.clamp(min=_FAINTEST))


def stain_jitter(image: Tensor, factor: Tensor, offset: Tensor, dyes: str = "papanicolaou") -> Tensor:
    """Multiply the amount of each dye, and add to it.

    Args:
        image: float ``[N, 3, H, W]``, RGB 0..1.
        factor: ``[N, 3]``, of the amounts. offset: ``[N, 3]``, units of density that are added.
        dyes: a key of :data:`DYES`.

    Returns:
        ``[N, 3, H, W]``, RGB 0..1; clear glass stays clear where the offset is 0.
    """
    basis = torch.tensor(DYES[dyes], dtype=image.dtype, device=image.device)
    # Unmixing, jitter and mixing are one matrix of the channels' densities for each image.
    change = torch.linalg.inv(basis) @ (factor.unsqueeze(2) * basis)
    mixed = torch.einsum("nchw,ncd->ndhw", density(image), change) + (offset @ basis)[:, :, None, None]
    return torch.pow(10, -mixed).clamp(0, 1)


class StainViews(DrawnViews):
    """A :class:`StainAugmentation` whose random numbers are drawn, for a batch that is augmented part by part.

    As :class:`~stride_monai.transforms.DrawnViews`, with the factors and offsets ``[N, 3]`` of the dyes.
    """

    def __init__(self, base: DrawnViews, factor: Tensor, offset: Tensor, dyes: str) -> None:
        super().__init__(base._drawn, base._strength, base._size)
        self.factor, self.offset, self.dyes = factor, offset, dyes

    def __getitem__(self, chosen: Tensor | slice) -> StainViews:
        return StainViews(super().__getitem__(chosen), self.factor[chosen], self.offset[chosen], self.dyes)

    def __add__(self, other: StainViews) -> StainViews:  # type: ignore[override]  # of the same augmentation
        factor, offset = torch.cat((self.factor, other.factor)), torch.cat((self.offset, other.offset))
        return StainViews(super().__add__(other), factor, offset, self.dyes)

    def __call__(self, images: Tensor, place: slice = slice(None)) -> Tensor:
        moved = super().__call__(images, place)
        return stain_jitter(moved, self.factor[place].to(moved), self.offset[place].to(moved), self.dyes)


class StainAugmentation(CellAugmentation):
    """A :class:`~stride_monai.transforms.CellAugmentation` and a jitter of the dyes of each cell.

    Args:
        strength: of the augmentation that goes before: ``none``, ``weak``, ``strong``, ``domain``, or a ``Strength``.
        amount: largest change of a dye's amount, as a share of it, 0-1.
        offset: largest amount of a dye that is added or taken everywhere, glass included, 0-1.
        dyes: a key of :data:`DYES`.

    Raises:
        ConfigError: unknown dyes, or an amount or offset out of range.
    """

    def __init__(
        self,
        strength: str | Strength = "strong",
        amount: float = 0.3,
        offset: float = 0.02,
        dyes: str = "papanicolaou",
    ) -> None:
        if dyes not in DYES or not (0 <= amount <= 1 and 0 <= offset <= 1):
            raise ConfigError(
                f"stain jitter of {amount} and {offset} in the dyes '{dyes}'",
                f"amounts are 0 to 1, dyes {', '.join(DYES)}",
            )
        super().__init__(strength)
        self.amount, self.offset, self.dyes = amount, offset, dyes

    def drawn(self, count: int, share: slice | NDArray[np.int64] = slice(None)) -> StainViews:
        """As of the base."""
        base = super().drawn(count, share)
        factor, offset = torch.as_tensor(self.R.uniform(-1, 1, (2, count, 3))[:, share], dtype=torch.float32)
        return StainViews(base, 1 + self.amount * factor, self.offset * offset, self.dyes)


class StainNormalization(Transform):
    """Bring the stain of each slide to a common one, without a reference slide.

    Mean and standard deviation of the optical density of each channel, over what is stained of all cells of a slide,
    become fixed ones (Reinhard et al., in density rather than in their colour space, so that clear glass stays clear).
    A slide's shades keep their order.

    Args:
        mean, deviation: of the densities of red, green and blue that every slide gets.
        glass: a pixel whose densities are all below this is glass: it does not count, and is moved the less the
            clearer it is.
    """

    def __init__(
        self,
        mean: Sequence[float] = COMMON_MEAN,
        deviation: Sequence[float] = COMMON_DEVIATION,
        glass: float = 0.05,
    ) -> None:
        if len(mean) != 3 or len(deviation) != 3 or min(*mean, *deviation) <= 0 or glass <= 0:
            raise ConfigError(f"stain of mean {mean}, deviation {deviation}, glass {glass}", "give numbers above 0")
        self.mean, self.deviation, self.glass = torch.tensor(mean), torch.tensor(deviation), glass

    def __call__(self, img: Any) -> Tensor:
        """Args:
            img: the crops of a slide ``[K, 3, S, S]``, or of slides ``[B, K, 3, S, S]``; uint8 or float 0..1.

        Returns:
            float 0..1 of the same shape and device; a slide without stain comes back as it is.
        """
        image = ScaleUint8()(img)
        bags = image if image.ndim == 5 else image.unsqueeze(0)
        found = density(bags)
        stained = (found.amax(2, keepdim=True) > self.glass).to(found)
        axes = (1, 3, 4)
        count = stained.sum(axes, keepdim=True)
        mean = (found * stained).sum(axes, keepdim=True) / count.clamp(min=1)
        spread = (((found - mean) ** 2 * stained).sum(axes, keepdim=True) / count.clamp(min=1)).sqrt()
        shape = (1, 1, 3, 1, 1)
        target, deviation = self.mean.to(found).view(shape), self.deviation.to(found).view(shape)
        moved = (found - mean) / spread.clamp(min=1e-3) * deviation + target
        share = (found.amax(2, keepdim=True) / self.glass).clamp(max=1) * (count > 0)
        result = torch.pow(10, -(found + share * (moved - found))).clamp(0, 1)
        return torch.where(share > 0, result, bags).reshape(image.shape)
