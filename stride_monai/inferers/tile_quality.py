"""What a tile says of the slide's quality: sharpness, detail, stain, number of nuclei, in a few ms each.

Pixels in, numbers out: any thread may measure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["TileQuality", "count_nuclei", "fine_detail", "measure_tile", "sharpness", "stain_density"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_NUCLEUS_UM2 = (8.0, 400.0)
"""Area of one nucleus: from a pyknotic one of 3 um across to an enlarged one of 22 um. Smaller is debris; a larger
clump, whose nuclei cannot be told apart, counts as one per 150 um2."""
_CLUMP_UM2 = 150.0
_BACKGROUND_UM = 14.0
_AROUND_UM = 18.0
_CONTRAST = 0.12
_RELATIVE_CONTRAST = 0.5
_CYTOPLASM = 0.05
_GLASS_AT_MOST = 0.06
_ENCLOSED = 0.8
_EVERY = 4
_LEAST_STAINED = 0.01
_LEAST_DETAIL = 4.0  # gray levels squared: less is the noise of an empty place
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
_DENSITY: Floats = -np.log10((np.arange(4 * 255 + 1, dtype=np.float32) / 4 + 1) / 256)
"""Optical density of the mean of four values 0-255, by their sum: a table is quicker than so many logarithms."""


class TileQuality(NamedTuple):
    """What one tile says.

    Attributes:
        sharpness: see :func:`sharpness`.
        detail: see :func:`fine_detail`; None where too little is stained to tell.
        stain: see :func:`stain_density`.
        nuclei: see :func:`count_nuclei`.
    """

    sharpness: float
    detail: float | None
    stain: tuple[float, float, float] | None
    nuclei: int

    def blurred(self, limit: float) -> bool:
        """Whether it is out of focus: its fine detail is known and below a limit."""
        return self.detail is not None and self.detail < limit


def measure_tile(tile: Pixels, mpp: float, core: tuple[float, float, float, float] | None = None) -> TileQuality:
    """All measures of a tile [H, W, 3]; arguments as of :func:`count_nuclei`."""
    gray, stain = _gray(tile), stain_density(tile)
    sharp = _laplacian_variance(gray)
    return TileQuality(
        sharp, None if stain is None else _fine_detail(gray, sharp), stain, count_nuclei(tile, mpp, core)
    )


def sharpness(tile: Pixels) -> float:
    """Variance of the Laplacian of luminance (0-255 scale) of a tile [H, W, 3]; low where it is out of focus.

    It grows with the stain and the number of cells too: good for one laboratory's slides over time.
    """
    return _laplacian_variance(_gray(tile))


def fine_detail(tile: Pixels) -> float | None:
    """How much of the detail at 4 um there is at 2 um too: the ratio of the two variances of the Laplacian.

    White noise of the camera, as it shows at 1 um, is taken off both. Whatever the stain and however many the cells:
    0.26 and more in focus, 0.18 to 0.31 under a blur with a standard deviation of 1 um, 0.13 to 0.20 under 1.5 um, less
    than 0.15 under 2 um (synthetic slides, 60 liquid-based and 10 conventional fields of real ones).

    Args:
        tile: [H, W, 3] at about 1 um/px.

    Returns:
        None where there is no detail to judge by.
    """
    gray = _gray(tile)
    return _fine_detail(gray, _laplacian_variance(gray))


def _fine_detail(gray: Floats, finest: float) -> float | None:
    half = _halved(gray)
    coarse = _laplacian_variance(_halved(half)) - finest / 16  # noise has a quarter of the variance at each halving
    return (_laplacian_variance(half) - finest / 4) / coarse if coarse > _LEAST_DETAIL else None


def _gray(tile: Pixels) -> Floats:
    """Luminance, 0-255."""
    return np.asarray(tile @ _WEIGHTS, np.float32)


def _laplacian_variance(gray: Floats) -> float:
    inner = gray[1:-1, 1:-1]  # not ndimage.laplace: it adds in another order, and every focus would change
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner
    return float(laplacian.var()) if laplacian.size else 0.0


def _halved(gray: Floats) -> Floats:
    """At half the resolution, in a tenth of the time of scikit-image's downscale_local_mean."""
    even = gray[: gray.shape[0] // 2 * 2, : gray.shape[1] // 2 * 2]
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4, np.float32)


def count_nuclei(tile: Pixels, mpp: float, core: tuple[float, float, float, float] | None = None) -> int:
    """Estimated number of epithelial cells in a tile, by their nuclei.

    A nucleus is a spot of 8 um2 or more whose optical density in red, which haematoxylin absorbs, exceeds the mean over
    14 um around it by 0.12 and by half of that mean, so that a fold of strong cytoplasm is none; and whose
    surroundings (18 um) are cytoplasm for 80 % or more: mean density of red and green 0.05 above the glass. That leaves
    out most leucocytes, which an adequate slide is not made of, and debris. How far it is from the truth says
    :class:`~stride_monai.inferers.QualityRules`. Worked out at twice the tile's um/px.

    Args:
        tile: [H, W, 3].
        mpp: um/px of the tile.
        core: x0, y0, x1, y1 in tile px; a nucleus counts where its centre lies inside. Default: the whole tile.
    """
    height, width = tile.shape[0] // 2 * 2, tile.shape[1] // 2 * 2
    if not height or not width:
        return 0
    red, green = (_density(tile[:height, :width, channel]) for channel in (0, 1))
    both = (red + green) / 2
    glass = min(float(np.percentile(both, 2)), _GLASS_AT_MOST)  # a tile may show no glass at all
    around = _mean(red, _BACKGROUND_UM / mpp)
    spots = red - around > np.maximum(_CONTRAST, _RELATIVE_CONTRAST * (around - glass))
    labels, count = ndimage.label(spots, np.ones((3, 3)))
    if not count:
        return 0
    cytoplasm = _mean((both - glass > _CYTOPLASM) & ~spots, _AROUND_UM / mpp)
    enclosed = cytoplasm / np.maximum(_mean(~spots, _AROUND_UM / mpp), 1e-3)
    y, x = np.nonzero(labels)
    label = labels[y, x] - 1
    pixels = np.bincount(label, minlength=count)  # regionprops takes ten times as long
    cy, cx = (2 * np.bincount(label, place, count) / pixels + 1 for place in (y, x))
    inside = np.bincount(label, enclosed[y, x], count) / pixels
    area = pixels * (2 * mpp) ** 2
    x0, y0, x1, y1 = core or (0, 0, tile.shape[1], tile.shape[0])
    counted = (area >= _NUCLEUS_UM2[0]) & (inside >= _ENCLOSED) & (cx >= x0) & (cx < x1) & (cy >= y0) & (cy < y1)
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
    density = np.asarray(_DENSITY[4 * tile[::_EVERY, ::_EVERY].reshape(-1, 3).astype(np.uint16)], np.float32)
    if not len(density):
        return None
    mean = density.mean(axis=1)
    stained = mean - min(float(np.percentile(mean, 2)), _GLASS_AT_MOST) > _CYTOPLASM
    if stained.mean() < _LEAST_STAINED:
        return None
    red, green, blue = (float(value) for value in density[stained].mean(axis=0, dtype=np.float64))
    return red, green, blue


def _density(channel: Pixels) -> Floats:
    """Optical density at half the resolution."""
    bright = channel.astype(np.uint16)
    total = bright[::2, ::2] + bright[1::2, ::2] + bright[::2, 1::2] + bright[1::2, 1::2]
    return np.asarray(_DENSITY[total], np.float32)


def _mean(values: NDArray[Any], size_px: float) -> Floats:
    """Mean over a square of ``size_px`` full-resolution px."""
    side = max(3, round(size_px / 2) | 1)
    mean: Floats = ndimage.uniform_filter(values.astype(np.float32), side, mode="nearest")
    return mean
