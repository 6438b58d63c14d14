"""Resampling with exact sub-pixel positions: area averages down, linear interpolation up.

Libraries' "box" filters weigh each source pixel 0 or 1; at the ratios between two pyramid levels (1.0 to 2) that shifts
edges by up to half a pixel. Here every source pixel counts by the share of it that an output pixel covers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from stride_monai.slides.protocol import Pixels

__all__ = ["resample"]

_EPSILON = 1e-6
_COARSE = 16.0  # source pixels per output pixel and axis, from which blocks are averaged first
_BLOCKS_LEFT = 4.0  # blocks per output pixel and axis that the exact part still sees, at least
_Floats = npt.NDArray[np.float32]


def resample(source: Pixels, x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Pixels:
    """The part of ``source`` between ``(x0, y0)`` and ``(x1, y1)``, as ``width`` x ``height`` pixels.

    Coordinates are pixel edges of ``source`` (0 is the left edge of its first pixel) and may be fractional; outside the
    image its edge pixels go on.

    Args:
        source: uint8 ``[h, w, 3]``.

    Returns:
        uint8 ``[height, width, 3]``: the mean over the area of each output pixel where it is larger than a source
        pixel, linear interpolation at its centre where it is smaller. Always memory of its own, to be written to:
        ``source`` may be read-only, or a reader's cache.
    """
    rows = _whole(y0, y1, height)
    columns = _whole(x0, x1, width)
    if rows == columns >= 1 and _inside(source, x0, y0, x1, y1):
        part = source[round(y0) : round(y1), round(x0) : round(x1)]
        return part.copy() if rows == 1 else _block_means(part, rows)
    step = min((x1 - x0) / width, (y1 - y0) / height)
    if step >= _COARSE:
        # Many source pixels per output pixel: whole blocks of them first, several times as fast. The exact part then
        # takes what it cuts off a block, at most a quarter of an output pixel wide, as even.
        side = int(step / _BLOCKS_LEFT)
        source = _block_means(source, side)
        x0, y0, x1, y1 = x0 / side, y0 / side, x1 / side, y1 / side
    # Rows first: that is one pass over contiguous memory, and leaves less for the strided pass over columns.
    tall = _along_rows(source, y0, y1, height)
    wide = _along_rows(np.ascontiguousarray(tall.transpose(1, 0, 2)), x0, x1, width)
    return np.asarray(np.clip(wide.transpose(1, 0, 2) + 0.5, 0, 255), np.uint8)


def _block_means(source: Pixels, side: int) -> Pixels:
    """Means of blocks of ``side`` x ``side`` pixels; edge pixels fill up the last ones."""
    missing = tuple(-n % side for n in source.shape[:2])
    if any(missing):
        source = np.pad(source, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return np.array(Image.fromarray(source).reduce(side))  # a copy: Pillow's own array is read-only


def _whole(start: float, end: float, count: int) -> int:
    """The ratio as an integer if the output pixels fall on whole source pixels, else 0."""
    ratio = (end - start) / count
    on_grid = abs(ratio - round(ratio)) * count < _EPSILON and abs(start - round(start)) < _EPSILON
    return round(ratio) if on_grid else 0


def _inside(source: Pixels, x0: float, y0: float, x1: float, y1: float) -> bool:
    return round(x0) >= 0 and round(y0) >= 0 and round(x1) <= source.shape[1] and round(y1) <= source.shape[0]


def _along_rows(source: npt.NDArray[np.uint8] | _Floats, start: float, end: float, count: int) -> _Floats:
    """Resample axis 0 of ``[n, m, 3]`` to ``[count, m, 3]``."""
    step = (end - start) / count
    shape = (count, *source.shape[1:])
    flat = source.reshape(source.shape[0], -1)
    out = _mean_rows(flat, start, step, count) if step >= 1 - _EPSILON else _linear_rows(flat, start, step, count)
    return out.reshape(shape)


def _mean_rows(flat: npt.NDArray[np.uint8] | _Floats, start: float, step: float, count: int) -> _Floats:
    """Area means: the n-th source row that each output row covers, times the share it has of it, summed over n."""
    edges = start + step * np.arange(count + 1)
    nearest = np.round(edges)
    edges = np.where(np.abs(edges - nearest) < _EPSILON, nearest, edges)
    lower, upper = edges[:-1], edges[1:]
    first = np.floor(lower).astype(np.int64)
    out = np.zeros((count, flat.shape[1]), np.float32)
    for n in range(int((np.ceil(upper) - first).max())):
        rows = first + n
        share = np.clip(np.minimum(upper, rows + 1) - np.maximum(lower, rows), 0, None) / (upper - lower)
        out += flat[np.clip(rows, 0, flat.shape[0] - 1)] * share.astype(np.float32)[:, None]
    return out


def _linear_rows(flat: npt.NDArray[np.uint8] | _Floats, start: float, step: float, count: int) -> _Floats:
    """Linear interpolation at the centres of the output rows."""
    last = flat.shape[0] - 1
    centres = start + step * (np.arange(count) + 0.5) - 0.5
    floors = np.floor(centres).astype(np.int64)
    parts = (centres - floors).astype(np.float32)[:, None]
    lower = flat[np.clip(floors, 0, last)].astype(np.float32)
    upper = flat[np.clip(floors + 1, 0, last)].astype(np.float32)
    return np.asarray(lower + (upper - lower) * parts)
