"""Whether a picture is one of a stained slide in bright field: what else can be opened would be screened as one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stride_monai.errors import SlideError
from stride_monai.slides.protocol import Pixels

__all__ = ["check_background", "check_colors"]

_BLACK = 3
"""Up to this brightness (0-255) a pixel was not scanned: some exports are black beyond the slide."""

_LEAST_SCANNED = 0.02  # of the pixels; those of the border are mixed with the white beyond it

_DARK = 64
"""Median brightness. Of 139 real fields of Papanicolaou slides (CRIC, liquid-based, atlas crops) the least is 110."""

_COLORFUL = 6
"""Greatest less smallest colour value of a pixel. In a grey picture it is 0, and at most 3 after JPEG; of the same
fields the 95 % quantile of the stained pixels is 28 or more."""

_ENOUGH = 25  # stained pixels; fewer say nothing about colours
_FEW = 2  # pixels: what a lone cell leaves at low resolution, beside any amount of black ink


def check_background(name: str, pixels: Pixels, readable: npt.NDArray[np.bool_]) -> None:
    """Refuse fluorescence and dark field, where what is empty is dark.

    Args:
        name: of the file, for the message.
        pixels: uint8 ``[h, w, 3]``, the whole slide at low resolution.
        readable: bool ``[h, w]``; elsewhere nothing is known.

    Raises:
        SlideError: the picture is dark, but for what was not scanned.
    """
    brightness = pixels[readable].mean(axis=1)
    scanned = brightness[brightness > _BLACK]
    black = scanned.size < _LEAST_SCANNED * brightness.size
    if black or np.median(scanned) < _DARK:
        kind = "is black" if black else "is dark where it is empty, as fluorescence and dark field are"
        raise SlideError(f"{name}: the picture {kind}; only bright-field slides are screened", "give the stained slide")


def check_colors(name: str, pixels: Pixels, stained: npt.NDArray[np.bool_]) -> None:
    """Refuse a picture without colours: the stain is what cells are found and judged by.

    Args:
        stained: bool ``[h, w]``, where the picture is darker than the glass.

    Raises:
        SlideError: what is stained is grey.
    """
    colors = pixels[stained]
    colors = colors[colors.max(axis=1) > _BLACK]
    if len(colors) < _ENOUGH:
        return
    colorful = colors.max(axis=1) - colors.min(axis=1) >= _COLORFUL
    if np.count_nonzero(colorful) < _FEW:
        what = f"{name}: the picture is grey; slides are found and judged by the colours of the Papanicolaou stain"
        raise SlideError(what, "give the slide in colour, not a grey copy or a single channel")
