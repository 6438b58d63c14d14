"""Resampling with exact sub-pixel positions: area averages down, linear interpolation up.

Libraries' "box" filters weigh each source pixel 0 or 1; at the ratios between two pyramid levels (1.0 to 2) that shifts
edges by up to half a pixel. Here every source pixel counts by the share of it that an output pixel covers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from stride_monai.slides.protocol import Pixels

__all__ = ["resample"]

_EPSILON = 1e-6
_COARSE = 16.0  # source pixels per output pixel and axis, from which blocks are averaged first
_BLOCKS_LEFT = 4.0  # blocks per output pixel and axis that the exact part still sees, at least
_AT_A_TIME = 1 << 16  # values computed at a time, several times over
_ALL = slice(None)
_Floats = npt.NDArray[np.float32]
_Pick = Callable[[int, Any], Any]


def resample(
    source: Pixels, x0: float, y0: float, x1: float, y1: float, width: int, height: int, own: bool = False
) -> Pixels:
    """The part of ``source`` between ``(x0, y0)`` and ``(x1, y1)``, as ``width`` x ``height`` pixels.

    Coordinates are pixel edges of ``source`` (0 is the left edge of its first pixel) and may be fractional; outside the
    image its edge pixels go on.

    Args:
        source: uint8 ``[h, w, 3]``.

        own: it is the caller's own, and may be what is given back.

    Returns:
        uint8 ``[height, width, 3]``: the mean over the area of each output pixel where it is larger than a source
        pixel, linear interpolation at its centre where it is smaller. Memory of its own, to be written to: unless
        ``own``, the source may be read-only, or a reader's cache.
    """
    rows = _whole(y0, y1, height)
    columns = _whole(x0, x1, width)
    if rows == columns >= 1 and _inside(source, x0, y0, x1, y1):
        part = source[round(y0) : round(y1), round(x0) : round(x1)]
        if rows > 1:
            return _block_means(part, rows)
        return part if own and part.shape == source.shape else part.copy()
    step = min((x1 - x0) / width, (y1 - y0) / height)
    if step >= _COARSE:
        # Many source pixels per output pixel: whole blocks of them first, several times as fast. The exact part then
        # takes what it cuts off a block, at most a quarter of an output pixel wide, as even.
        side = int(step / _BLOCKS_LEFT)
        source = _block_means(source, side)
        x0, y0, x1, y1 = x0 / side, y0 / side, x1 / side, y1 / side
    down, across = _shares(y0, y1, height, source.shape[0]), _shares(x0, x1, width, source.shape[1]).of_channels()
    flat = source.reshape(source.shape[0], -1)
    out = np.empty((height, 3 * width), np.uint8)
    rows = max(1, _AT_A_TIME // max(flat.shape[1], out.shape[1]))
    for top in range(0, height, rows):  # what is computed in between stays in the processor's cache
        tall = down.part(top, top + rows).rows(flat)
        out[top : top + rows] = np.clip(across.columns(tall) + np.float32(0.5), 0, 255)
    return out.reshape(height, width, 3)


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


class _Shares(NamedTuple):
    """What each of the output pixels along an axis is made of.

    Attributes:
        sources: intp ``[n, count]``: the n-th source pixel of each.
        shares: float32 ``[n, count]``: how much it counts. For interpolation only the second of two has one: so much
            of the way from the first to it.
        linear: whether it is interpolation.
    """

    sources: npt.NDArray[np.intp]
    shares: _Floats
    linear: bool

    def part(self, first: int, last: int) -> _Shares:
        return self._replace(sources=self.sources[:, first:last], shares=self.shares[:, first:last])

    def of_channels(self) -> _Shares:
        """The same for pixels of three values, one behind the other."""
        sources = (3 * self.sources[..., None] + np.arange(3)).reshape(len(self.sources), -1)
        return self._replace(sources=sources, shares=self.shares.repeat(3, axis=1))

    def rows(self, flat: npt.NDArray[np.uint8]) -> _Floats:
        """``[n, m]`` to ``[count, m]``."""
        return self._sum(lambda n, some: flat[self.sources[n, some]], lambda n, some: self.shares[n, some, None], 0)

    def columns(self, flat: _Floats) -> _Floats:
        """``[m, n]`` to ``[m, count]``."""
        return self._sum(
            lambda n, some: flat.take(self.sources[n, some], axis=1), lambda n, some: self.shares[n, some], 1
        )

    def _sum(self, source: _Pick, share: _Pick, axis: int) -> _Floats:
        if self.linear:
            lower, upper = (source(n, _ALL).astype(np.float32) for n in (0, 1))
            upper -= lower
            upper *= share(1, _ALL)
            return np.asarray(upper + lower)
        out = np.asarray(source(0, _ALL) * share(0, _ALL))
        for n in range(1, len(self.sources)):
            some = np.flatnonzero(self.shares[n])  # few have the last one
            if 2 * len(some) > self.shares.shape[1]:
                out += source(n, _ALL) * share(n, _ALL)
            elif axis == 0:
                out[some] += source(n, some) * share(n, some)
            else:
                out[:, some] += source(n, some) * share(n, some)
        return out


def _shares(start: float, end: float, count: int, length: int) -> _Shares:
    """For ``count`` output pixels between two places of ``length`` source pixels."""
    step = (end - start) / count
    return _means(start, step, count, length) if step >= 1 - _EPSILON else _interpolation(start, step, count, length)


def _means(start: float, step: float, count: int, length: int) -> _Shares:
    """Area means: each source pixel counts by the share that it has of the output pixel."""
    edges = start + step * np.arange(count + 1)
    nearest = np.round(edges)
    edges = np.where(np.abs(edges - nearest) < _EPSILON, nearest, edges)
    lower, upper = edges[:-1], edges[1:]
    first = np.floor(lower).astype(np.int64)
    rows = first + np.arange(int((np.ceil(upper) - first).max()))[:, None]
    share = np.clip(np.minimum(upper, rows + 1) - np.maximum(lower, rows), 0, None) / (upper - lower)
    return _Shares(np.clip(rows, 0, length - 1), share.astype(np.float32), False)


def _interpolation(start: float, step: float, count: int, length: int) -> _Shares:
    """Linear interpolation at the centres of the output pixels."""
    centres = start + step * (np.arange(count) + 0.5) - 0.5
    floors = np.floor(centres).astype(np.int64)
    parts = (centres - floors).astype(np.float32)
    return _Shares(np.clip([floors, floors + 1], 0, length - 1), np.stack([1 - parts, parts]), True)
