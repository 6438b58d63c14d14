"""What a scanner does to the image after the sensor: sharpening, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["sharpened", "sharpening_margin"]

_MARGIN = 3
_UNITS = 64


def sharpening_margin(amounts: Sequence[float]) -> int:
    """Pixels around a window that :func:`sharpened` needs to see."""
    return _MARGIN if any(round(amount * _UNITS) for amount in amounts) else 0


def sharpened(values: NDArray[np.uint8], amount: float, margin: int) -> NDArray[np.uint8]:
    """One channel with its detail raised (or lowered) by a share: unsharp masking, in integers.

    The blurred copy is a binomial filter (1 2 1) after (1 0 2 0 1), of standard deviation 1.6 px.

    Args:
        values: ``[h + 2 * margin, w + 2 * margin]``.
        amount: -1 (blurred) to 2.
        margin: what :func:`sharpening_margin` says for all channels.

    Returns:
        ``[h, w]``.
    """
    height, width = values.shape
    core = values[margin : height - margin, margin : width - margin]
    share = round(amount * _UNITS)
    if share == 0:
        return core
    total = values.astype(np.uint16)
    for gap in (1, 1, 2, 2):
        total = total[:-gap] + total[gap:]
    for gap in (1, 1, 2, 2):
        total = total[:, :-gap] + total[:, gap:]
    total += np.uint16(127)
    total >>= np.uint16(8)
    detail = core.astype(np.int16)
    detail -= total.view(np.int16)
    detail *= np.int16(share)
    detail += np.int16(_UNITS // 2)
    detail >>= np.int16(6)
    detail += core
    return np.clip(detail, 0, 255).astype(np.uint8)
