"""What a tile says of the slide's quality: sharpness, stain, number of nuclei. Quick estimates, a few ms a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["count_nuclei", "sharpness", "stain_density"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_NUCLEUS_UM2 = (12.0, 400.0)
"""Area of one nucleus: from a pyknotic one of 4 um across to an enlarged one of 22 um. Smaller is debris; a larger
clump, whose nuclei cannot be told apart, counts as one per 150 um2."""
_CLUMP_UM2 = 150.0
_BACKGROUND_UM = 14.0
_AROUND_UM = 18.0
_CONTRAST = 0.12
_CYTOPLASM = 0.05
_GLASS_AT_MOST = 0.06
_ENCLOSED = 0.8
_EVERY = 4
_LEAST_STAINED = 0.01
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def sharpness(tile: Pixels) -> float:
    """Variance of the Laplacian of luminance (0-255 scale) of a tile [H, W, 3]; low where it is out of focus."""
    gray = tile @ _WEIGHTS  # not ndimage.laplace: it adds in another order, and every focus would change
    inner = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner
    return float(laplacian.var()) if laplacian.size else 0.0


def count_nuclei(tile: Pixels, mpp: float, core: tuple[float, float, float, float] | None = None) -> int:
    """Estimated number of epithelial cells in a tile, by their nuclei.

    A nucleus is a compact spot of at least 12 um2 whose optical density in red, which haematoxylin absorbs, exceeds the
    mean over 14 um around it by 0.12, and whose surroundings (18 um) are cytoplasm for 80 % or more: mean density of
    red and green 0.05 above the glass. That leaves out leucocytes, which an adequate slide is not made of, and debris.
    On synthetic slides the estimate is within 10 % of the epithelial cells drawn. Worked out at twice the tile's um/px.

    Args:
        tile: [H, W, 3].
        mpp: um/px of the tile.
        core: x0, y0, x1, y1 in tile px; a nucleus counts where its centre lies inside. Default: the whole tile.
    """
    height, width = tile.shape[0] // 2 * 2, tile.shape[1] // 2 * 2
    if not height or not width:
        return 0
    red, green = (_density(tile[:height, :width, channel]) for channel in (0, 1))
    spots = red - _mean(red, _BACKGROUND_UM / mpp) > _CONTRAST
    labels, count = ndimage.label(spots, np.ones((3, 3)))
    if not count:
        return 0
    both = (red + green) / 2
    glass = min(float(np.percentile(both, 2)), _GLASS_AT_MOST)  # a tile may show no glass at all
    cytoplasm = _mean((both - glass > _CYTOPLASM) & ~spots, _AROUND_UM / mpp)
    enclosed = cytoplasm / np.maximum(_mean(~spots, _AROUND_UM / mpp), 1e-3)
    y, x = np.nonzero(labels)
    label = labels[y, x] - 1
    pixels = np.bincount(label, minlength=count)  # regionprops takes ten times as long
    cy, cx = (2 * np.bincount(label, place, count) / pixels + 1 for place in (y, x))
    around = np.bincount(label, enclosed[y, x], count) / pixels
    area = pixels * (2 * mpp) ** 2
    x0, y0, x1, y1 = core or (0, 0, tile.shape[1], tile.shape[0])
    counted = (area >= _NUCLEUS_UM2[0]) & (around >= _ENCLOSED) & (cx >= x0) & (cx < x1) & (cy >= y0) & (cy < y1)
    nuclei = np.where(area <= _NUCLEUS_UM2[1], 1, np.floor(area / _CLUMP_UM2))
    return int(nuclei[counted].sum())


def stain_density(tile: Pixels) -> tuple[float, float, float] | None:
    """Mean optical density of the stained pixels in red, green and blue, above white (255).

    Haematoxylin absorbs most in red, eosin in green, orange G in blue: the sum says how strong the stain is, the shares
    of what hue. Of every fourth pixel each way, those whose mean density is 0.05 above the glass.

    Args:
        tile: [H, W, 3].

    Returns:
        None where less than one in a hundred of them is stained.
    """
    density = -np.log10((tile[::_EVERY, ::_EVERY].reshape(-1, 3).astype(np.float32) + 1) / 256)
    if not len(density):
        return None
    mean = density.mean(axis=1)
    stained = mean - min(float(np.percentile(mean, 2)), _GLASS_AT_MOST) > _CYTOPLASM
    if stained.mean() < _LEAST_STAINED:
        return None
    red, green, blue = (float(value) for value in density[stained].mean(axis=0, dtype=np.float64))
    return red, green, blue


def _density(channel: Pixels) -> Floats:
    """Optical density at half the resolution, in a tenth of the time of scikit-image's downscale_local_mean."""
    bright = channel.astype(np.float32)
    total = bright[::2, ::2] + bright[1::2, ::2] + bright[::2, 1::2] + bright[1::2, 1::2]
    density: Floats = -np.log10((total / 4 + 1) / 256)
    return density


def _mean(values: NDArray[Any], size_px: float) -> Floats:
    """Mean over a square of ``size_px`` full-resolution px."""
    side = max(3, round(size_px / 2) | 1)
    mean: Floats = ndimage.uniform_filter(values.astype(np.float32), side, mode="nearest")
    return mean
