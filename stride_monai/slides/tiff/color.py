"""Samples of a TIFF as it stores them -> 8-bit RGB on white."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stride_monai.slides.protocol import Pixels
from stride_monai.slides.tiff.decode import Samples
from stride_monai.slides.tiff.directory import TiffError
from stride_monai.slides.tiff.page import JPEG, Page

__all__ = ["Colors", "highest_value"]

_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_APERIO_YCBCR = 33003
_OWN_COLORS = JPEG | {34927, 34933, 34934, 50001, 50002, 52546}  # their decoders give RGB
_PREMULTIPLIED, _ALPHA = 1, 2
_PIXELS_AT_A_TIME = 2**23  # what is computed in between takes several times a strip's memory


def highest_value(page: Page, significant_bits: int | None = None) -> int | None:
    """The sample value that is white (or full colour), as the tags state it; None for 16-bit samples without such tags.

    Args:
        significant_bits: what OME-XML says.
    """
    bits = page.bits[0]
    if bits != 16:
        return (1 << bits) - 1
    if significant_bits is not None and 8 <= significant_bits <= 16:
        return (1 << significant_bits) - 1
    stated = [page.directory.number(tag, 0) for tag in (281, 341)]
    # Some programs write the brightest value of the picture there; only a power of two less one is a statement.
    whole = [n for n in stated if n.bit_length() >= 8 and n & (n + 1) == 0]
    return whole[0] if whole else None


class Colors:
    """How the samples of one page become RGB.

    Args:
        page: of a supported kind.
        white: see :func:`highest_value`.

    Raises:
        TiffError: the page's palette is damaged.
    """

    def __init__(self, page: Page, white: int) -> None:
        self._page = page
        self._scale = _scale(page, white)
        self._palette = _palette(page) if page.photometric == _PALETTE else None

    def rgb(self, samples: Samples) -> Pixels:
        """uint8 ``[h, w, 3]`` from samples ``[h, w, n]``."""
        rows = max(1, _PIXELS_AT_A_TIME // samples.shape[1])
        if len(samples) <= rows:
            return self._rgb(samples)
        out = np.empty((*samples.shape[:2], 3), np.uint8)
        for top in range(0, len(samples), rows):
            out[top : top + rows] = self._rgb(samples[top : top + rows])
        return out

    def _rgb(self, samples: Samples) -> Pixels:
        page = self._page
        if self._palette is not None:
            return np.asarray(self._palette[np.minimum(samples[..., 0], len(self._palette) - 1)])
        if self._scale is not None:
            samples = self._scale[samples]
        if page.photometric == _CMYK:
            return _from_cmyk(samples)
        colors = 3 if samples.shape[2] >= 3 else 1
        image = samples[..., :colors]
        if page.compression == _APERIO_YCBCR or (page.photometric == _YCBCR and page.compression not in _OWN_COLORS):
            image = _from_ycbcr(image)
        if page.photometric == _WHITE_IS_ZERO:
            image = 255 - image
        if samples.shape[2] > colors and page.extra[:1] in ((_PREMULTIPLIED,), (_ALPHA,)):
            image = _on_white(image, samples[..., colors:], page.extra[0] == _PREMULTIPLIED)
        return np.repeat(image, 3, axis=2) if colors == 1 else np.ascontiguousarray(image)


def _scale(page: Page, white: int) -> Pixels | None:
    """Table from a sample to 8 bits; None where they are 8 bits already."""
    if white == 255 and page.bits[0] == 8:
        return None
    values = np.arange(256 if page.bits[0] <= 8 else 65536, dtype=np.uint32)
    return np.asarray(np.minimum((values * 255 * 2 + white) // (2 * white), 255), np.uint8)


def _palette(page: Page) -> Pixels:
    table = page.directory.integers(320, 3 << page.bits[0]).reshape(3, -1).T
    if not len(table):
        raise TiffError("the TIFF directory is damaged (no palette)")
    # The standard has 16 bits; some programs wrote 8.
    return np.asarray(table if table.max(initial=0) < 256 else table >> 8, np.uint8)


def _on_white(image: Pixels, alpha: Pixels, premultiplied: bool) -> Pixels:
    cover = alpha.astype(np.uint16)
    color = image.astype(np.uint16) * (255 if premultiplied else cover)
    return np.asarray(np.minimum((color + 255 * (255 - cover) + 127) // 255, 255), np.uint8)


def _from_cmyk(image: Samples) -> Pixels:
    """Each ink, and black over it, takes its part of the light."""
    light = 255 - image.astype(np.uint16)
    return np.asarray((light[..., :3] * light[..., 3:] + 127) // 255, np.uint8)


def _from_ycbcr(image: npt.NDArray[Any]) -> Pixels:
    """JFIF YCbCr to RGB; JPEG decoders do it themselves, the others leave it to us."""
    y, cb, cr = (image[..., i].astype(np.float32) for i in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.asarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))
