"""The empty glass of a slide: its colour, place by place, and the optical density of all else above it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stride_monai.slides.protocol import Pixels

__all__ = ["optical_density", "strongest_channel"]

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]

_BLOCKS_ACROSS = 10  # of the shorter side, at least
_BLOCK_SIDES = (8, 32)  # px
_BRIGHT_SHARE = (0.75, 0.95)  # of a block's pixels by brightness: glass if a quarter of the block is glass
_WHITE = float(np.log10(256))
_THRESHOLDS = (0.05, 0.12)  # optical density that separates cells from glass, depending on the noise


def optical_density(pixels: Pixels, readable: npt.NDArray[np.bool_]) -> tuple[_Floats, float]:
    """Optical density above the glass, and the density from which a pixel is not glass.

    The glass is what the bright pixels of every block of the picture look like; a smooth surface through those blocks
    gives its colour everywhere, under tissue too. So neither uneven nor tinted light counts as stain.

    Args:
        pixels: uint8 ``[h, w, 3]``, the whole slide at low resolution.
        readable: bool ``[h, w]``; elsewhere the density is 0.

    Returns:
        float32 ``[h, w, 3]`` (log10, not below 0) and a threshold between 0.05 and 0.12.
    """
    height, width = readable.shape
    low, high = _BLOCK_SIDES
    side = int(np.clip(min(height, width) // _BLOCKS_ACROSS, low, high))
    glass = _glass(_bright_colors(pixels, side))
    density = np.empty((height, width, 3), np.float32)
    for top in range(0, height, side):  # a row of blocks at a time: the intermediate arrays stay small
        rows = slice(top, min(top + side, height))
        background = _interpolated(glass, rows, width, side)
        density[rows] = background - np.log10(pixels[rows].astype(np.float32) + 1)
    noise = np.abs(strongest_channel(density)[readable])
    quiet = noise[noise < max(_THRESHOLDS)]
    spread = 1.4826 * float(np.median(quiet)) if quiet.size else 0.0
    density[~readable] = 0
    return np.maximum(density, 0, out=density), float(np.clip(5 * spread, *_THRESHOLDS))


def _bright_colors(pixels: Pixels, side: int) -> _Doubles:
    """log10 of the mean colour of the bright pixels of each block, ``[rows, columns, 3]``.

    A loop, not view_as_blocks: the last blocks are narrower, and padded ones would be of another colour.
    """
    height, width, _ = pixels.shape
    rows, columns = -(-height // side), -(-width // side)
    out = np.empty((rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            block = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(-1, 3)
            order = np.argsort(block.sum(axis=1, dtype=np.int32), kind="stable")
            first, last = (int(share * len(order)) for share in _BRIGHT_SHARE)
            out[row, column] = block[order[first : max(last, first + 1)]].mean(axis=0)
    return np.asarray(np.log10(out + 1))


def _glass(blocks: _Doubles) -> _Doubles:
    """log10 colour of the glass at every block: its own where it shows glass, else what the blocks around suggest."""
    rows, columns, _ = blocks.shape
    terms = _polynomial(rows, columns)
    flat = blocks.reshape(-1, 3)
    brightness = flat.mean(axis=1)
    surface = np.repeat(np.quantile(flat, 0.9, axis=0)[None], len(flat), axis=0)
    for tolerance in (0.2, 0.1, 0.05, 0.05):
        fit = np.abs(brightness - surface.mean(axis=1)) < tolerance
        if fit.sum() < 3 * terms.shape[1]:
            break
        surface = terms @ np.linalg.lstsq(terms[fit], flat[fit], rcond=None)[0]
    residual = flat - surface
    shows_glass = (np.abs(residual).max(axis=1) < 0.08) & (np.ptp(residual, axis=1) < 0.05)
    weight = ndimage.gaussian_filter(shows_glass.reshape(rows, columns).astype(float), 0.7, mode="nearest")
    local = np.where(shows_glass[:, None], residual, 0).reshape(rows, columns, 3)
    smooth = ndimage.gaussian_filter(local, (0.7, 0.7, 0), mode="nearest")
    glass = surface.reshape(rows, columns, 3) + smooth / (weight[..., None] + 0.02)
    return np.asarray(np.minimum(glass, _WHITE))  # the surface may rise beyond white where it is extrapolated


def _polynomial(rows: int, columns: int) -> _Doubles:
    """Terms of a parabolic surface over the blocks, ``[rows * columns, 6]``; a constant where there are few blocks."""
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    ones = np.ones_like(x)
    return np.stack([ones, x, y, x * x, x * y, y * y] if min(rows, columns) >= 4 else [ones], axis=1)


def _interpolated(glass: _Doubles, rows: slice, width: int, side: int) -> _Floats:
    """The glass colours at pixel resolution for some rows, linear between the centres of blocks."""
    tall = np.tensordot(_hats(np.arange(rows.start, rows.stop), side, glass.shape[0]), glass, axes=(1, 0))
    wide = np.tensordot(_hats(np.arange(width), side, glass.shape[1]), tall, axes=(1, 1))
    return wide.swapaxes(0, 1).astype(np.float32)


def _hats(pixels: npt.NDArray[np.int64], side: int, blocks: int) -> _Doubles:
    """Weights of linear interpolation at pixels between the centres of blocks, ``[pixels, blocks]``."""
    place = np.clip((pixels + 0.5) / side - 0.5, 0, blocks - 1)
    return np.asarray(np.clip(1 - np.abs(place[:, None] - np.arange(blocks)), 0, None))


def strongest_channel(density: _Floats) -> _Floats:
    """The greatest of the three densities of each pixel, ``[h, w]`` (numpy's own maximum is slow on a short axis)."""
    return np.maximum(np.maximum(density[..., 0], density[..., 1]), density[..., 2])
