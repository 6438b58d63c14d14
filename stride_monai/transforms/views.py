"""Views of cells for self-supervised training: windows, turned, mirrored, recoloured, blurred; never rescaled.

The references (SimCLR, MoCo v2, DINO) cut a random part of a photograph and zoom it to a fixed size, jitter colours by
up to 0.2 turns of hue, turn pictures grey and blur them, and DINO inverts bright pixels ("solarise"). For stained
cells:

- **No zoom.** A network that learns that a nucleus and its enlarged copy are the same has unlearned the diagnostic
  variable. A view is a window of fixed um/px instead: a large part of the crop (global) or a small one (local).
- **Every window shows the point at which the detector found the cell.** A corner without it holds other cells or
  glass.
- **Hue turns little** (0.04 turns in ``strong``): 0.2 turns make a blue-green cytoplasm violet. The strength is that of
  supervised training (:data:`~stride_monai.transforms.augmentation.STRENGTHS`).
- **Grey seldom** (one view in ten): blue against pink tells how mature a cell is, but a centre's stain should not be
  all that a network sees.
- **Blur up to 1 px** at 0.5 um/px, as scanners and focus differ; the references' 2 px would wipe out the chromatin.
- **No solarising.** It makes dark nuclei bright, and hyperchromasia is a criterion.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch import Tensor
from torch.nn import functional

from stride_monai.errors import ConfigError
from stride_monai.transforms.augmentation import CellAugmentation, ScaleUint8, Strength, strength_of

__all__ = ["CellViews", "view_px"]

_LUMA = (0.299, 0.587, 0.114)


def view_px(crop_px: int, share: float, step: int = 16) -> int:
    """Side in px of views that show ``share`` of a crop's side, as a multiple of ``step``, the patch of a ViT."""
    return step * round(crop_px * share / step)


class CellViews(Randomizable, Transform):
    """Several views of each cell of a batch, every view and every cell with a draw of its own.

    A window's centre lies at random around the crop's centre, so far away that the window still holds it, and reaches
    over the crop's border (where the picture is mirrored) by no more than the shift of ``strength``.

    Args:
        crop_px: side of the crops in px.
        global_px: side of the large windows in px. local_px: of the small ones.
        global_views: how many large windows. local_views: how many small ones.
        strength: of turns, mirrors and colour, as for :class:`~stride_monai.transforms.CellAugmentation`.
        blur: largest standard deviation of the Gaussian blur in px. blur_share: share of the views that are blurred.
        grey_share: share of the views that lose their colour.

    Raises:
        ConfigError: a window is larger than the crop, or a share is no probability.

    Example::

        views = CellViews(224, local_views=8).set_random_state(seed=0)
        [view.shape[-1] for view in views(torch.zeros(64, 3, 224, 224, dtype=torch.uint8))]  # 2 x 192, 8 x 96
    """

    def __init__(
        self,
        crop_px: int = 224,
        global_px: int = 192,
        local_px: int = 96,
        global_views: int = 2,
        local_views: int = 0,
        strength: str | Strength = "strong",
        blur: float = 1.0,
        blur_share: float = 0.5,
        gray_share: float = 0.1,
    ) -> None:
        if not (0 <= blur_share <= 1 and 0 <= gray_share <= 1 and blur >= 0):
            raise ConfigError(f"blur {blur}, blur_share {blur_share}, grey_share {gray_share}", "shares are 0 to 1")
        self.blur, self.blur_share, self.gray_share = blur, blur_share, gray_share
        self.sizes = [global_px] * global_views + [local_px] * local_views
        self._windows = [CellAugmentation(_window(size, crop_px, strength), size) for size in self.sizes]
        self._drawn: list[tuple[Tensor, Tensor]] = []

    def randomize(self, data: int, rank: int = 0, world_size: int = 1) -> None:
        """Draw anew for ``data`` cells; of several processes each draws its share, as ``CellAugmentation`` does."""
        self._drawn = []
        for window in self._windows:
            window.set_random_state(state=self.R)
            window.randomize(data, rank, world_size)
            blurred, sigma, gray = self.R.uniform(size=(3, data * world_size))[:, rank::world_size]
            sigma = torch.as_tensor(np.where(blurred < self.blur_share, sigma * self.blur, 0.0)).float()
            self._drawn.append((sigma, torch.as_tensor(gray < self.gray_share)))

    def __call__(self, img: Any, randomize: bool = True) -> list[Tensor]:
        """Args:
            img: uint8 or float 0..1, ``[N, 3, S, S]``; on any device.
            randomize: False to repeat the last draw.

        Returns:
            For each view, large ones first, float32 0..1 ``[N, 3, size, size]`` on the device.

        Raises:
            ConfigError: the crops are not RGB or not square, or smaller than a window.
        """
        crops = ScaleUint8()(img)
        if randomize or not self._drawn:
            self.randomize(len(crops))
        return [
            _without_color(self._blurred(window(crops, randomize=False), sigma.to(crops.device)), gray.to(crops.device))
            for window, (sigma, gray) in zip(self._windows, self._drawn, strict=True)
        ]

    def _blurred(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Gaussian blur of ``[N, 3, H, W]``, each image with its own deviation ``[N]`` in px; 0 leaves it as it is."""
        radius = math.ceil(3 * self.blur)
        if radius == 0 or len(images) == 0:
            return images
        place = torch.arange(-radius, radius + 1, device=images.device)
        kernel = torch.exp(-0.5 * (place / sigma.clamp(min=1e-3).unsqueeze(1)) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
        # Each channel of each image is a group of its own: one convolution along rows, one along columns.
        stacked = functional.pad(images.reshape(1, -1, *images.shape[2:]), (radius,) * 4, mode="reflect")
        stacked = functional.conv2d(stacked, kernel[:, None, :, None], groups=len(kernel))
        return functional.conv2d(stacked, kernel[:, None, None, :], groups=len(kernel)).reshape(images.shape)


def _window(size: int, crop_px: int, strength: str | Strength) -> Strength:
    """The strength with the shift that windows of this size may make."""
    if not 0 < size <= crop_px:
        raise ConfigError(f"a view of {size} px cannot be cut from crops of {crop_px} px", "use smaller views")
    given = strength_of(strength)
    share = size / crop_px
    held = share / math.sqrt(8)  # half a window's side as a distance: in x and in y, whatever the turn
    return dataclasses.replace(given, shift=min(held, (1 - share) / 2 + given.shift))


def _without_color(images: Tensor, gray: Tensor) -> Tensor:
    """The luma of those images for which ``grey`` ``[N]`` is set."""
    if not bool(gray.any()):
        return images
    luma = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return torch.where(gray.view(-1, 1, 1, 1), luma, images)
