"""Pairs of cell pictures that show the same cell: recompressed, recoloured, mirrored, turned by quarters or cut a
little beside one another.

Two steps. A descriptor that does not move with the picture, the low frequencies of its amplitude spectrum, finds the
candidates by one matrix product for each turn. Then the candidates themselves are correlated over small shifts, in
details of 1 to 4 px only: what any two cells share, a dark nucleus amid a paler round, is coarser.

The thresholds were set on 242 cells of ten real fields. At 1 um/px every copy was found (JPEG of quality 30; quality 50
with a colour cast; cut 2, 4 or 6 um beside), and the correlation of cells of different fields was below 0.65. Of
crops of 18 um, in px of 0.25 um, 99 % of copies were found (JPEG of quality 30; cut 1 um beside, quality 70),
and that of different cells was below 0.88.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from skimage.feature import match_template

__all__ = ["THUMB_MPP", "THUMB_PX", "Twins", "find_twins", "to_gray"]

THUMB_PX = 64
THUMB_MPP = 1.0
"""A thumbnail shows 64 um, a cell and its neighbours; where images are smaller than that, pass finer ones."""

_COARSE = 2  # thumbnail px in a pixel of the descriptor's picture
_FREQUENCIES = 8
_MIN_COSINE = 0.75
_MIN_CORRELATION = 0.94
_BAND_PX = (1.0, 4.0)  # standard deviations of the two Gaussians whose difference is correlated
_MAX_SHIFT = 8  # thumbnail px
_MIN_CONTRAST = 3.0  # standard deviation of grey, 0-255; below it there is nothing to recognise
_BLOCK = 4096
_PAIRS = 1024
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_Floats = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.intp]


_TURNS: tuple[Callable[[_Bytes], _Bytes], ...] = (
    lambda pictures: pictures,
    lambda pictures: np.rot90(pictures, axes=(1, 2)),
    lambda pictures: pictures[:, :, ::-1],
    lambda pictures: pictures.transpose(0, 2, 1),
)
"""Turns and mirrorings, but for half a turn, by which amplitudes stay as they are."""


class Twins(NamedTuple):
    """Two pictures that show the same: their numbers, and their correlation at the best shift, up to 1."""

    first: int
    second: int
    correlation: float


def to_gray(pixels: _Bytes) -> _Bytes:
    """uint8 ``[..., 3]`` RGB as luminance ``[...]``."""
    return np.asarray(np.rint(pixels.astype(np.float32) @ _LUMA), np.uint8)


def find_twins(thumbs: _Bytes, parts: npt.NDArray[np.int64]) -> list[Twins]:
    """Pairs of pictures in different parts that show the same cell.

    Args:
        thumbs: grey, uint8 ``[N, 64, 64]``.
        parts: number of the part (train, test ...) of each, ``[N]``; only pairs of different parts are compared.

    Returns:
        Pairs, the lower part first, in order of their numbers. Copies that are turned by other angles than quarters, or
        scaled, are not found.
    """
    amplitudes, structured = _amplitudes(thumbs)
    known = amplitudes[structured] if structured.any() else amplitudes
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    vectors = _unit((amplitudes - mean) / spread)
    groups = [np.flatnonzero(structured & (parts == part)) for part in np.unique(parts)]
    found: dict[tuple[int, int], float] = {}
    for turn in _TURNS:
        turned = np.ascontiguousarray(turn(thumbs))
        others = _unit((_amplitudes(turned)[0] - mean) / spread)
        for ours, theirs in combinations(groups, 2):
            for first, second in _candidates(vectors, others, ours, theirs):
                upright = _correlation(thumbs[first], turned[second])
                match = np.maximum(upright, _correlation(thumbs[first], turned[second][:, ::-1, ::-1]))
                for k in np.flatnonzero(match >= _MIN_CORRELATION):
                    pair = int(first[k]), int(second[k])
                    found[pair] = max(found.get(pair, 0.0), float(match[k]))
    return sorted(Twins(first, second, correlation) for (first, second), correlation in found.items())


def _unit(vectors: _Floats) -> _Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6), np.float32)


def _amplitudes(thumbs: _Bytes) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """Roots of the amplitudes of low frequencies ``[N, 153]``, and which pictures have any structure."""
    side = THUMB_PX // _COARSE
    window = np.hanning(side + 2)[1:-1].astype(np.float32)
    vectors = np.zeros((len(thumbs), (2 * _FREQUENCIES + 1) * (_FREQUENCIES + 1)), np.float32)
    structured = np.zeros(len(thumbs), np.bool_)
    for start in range(0, len(thumbs), _BLOCK):
        block = thumbs[start : start + _BLOCK].reshape(-1, side, _COARSE, side, _COARSE)
        pictures = block.mean(axis=(2, 4), dtype=np.float32)
        pictures -= pictures.mean(axis=(1, 2), keepdims=True)
        contrast = pictures.std(axis=(1, 2), keepdims=True)
        pictures /= np.maximum(contrast, 1e-6)
        spectrum = np.abs(np.fft.rfft2(pictures * np.outer(window, window)))[:, :, : _FREQUENCIES + 1]
        low = np.concatenate([spectrum[:, : _FREQUENCIES + 1], spectrum[:, -_FREQUENCIES:]], axis=1)
        vectors[start : start + _BLOCK] = np.sqrt(low).reshape(len(pictures), -1)
        structured[start : start + _BLOCK] = contrast[:, 0, 0] >= _MIN_CONTRAST
    return vectors, structured


def _candidates(
    vectors: _Floats, others: _Floats, ours: _Numbers, theirs: _Numbers
) -> Iterator[tuple[_Numbers, _Numbers]]:
    """Numbers of pictures with similar vectors, some pairs at a time."""
    for start in range(0, len(ours), _BLOCK):
        for other in range(0, len(theirs), _BLOCK):
            rows, columns = ours[start : start + _BLOCK], theirs[other : other + _BLOCK]
            i, j = np.nonzero(vectors[rows] @ others[columns].T >= _MIN_COSINE)
            for at in range(0, len(i), _PAIRS):
                yield rows[i[at : at + _PAIRS]], columns[j[at : at + _PAIRS]]


def _correlation(first: _Bytes, second: _Bytes) -> _Floats:
    """Largest normalised correlation ``[n]`` of the middle of the second pictures with the first ones, over shifts."""
    templates = _details(second)[:, _MAX_SHIFT:-_MAX_SHIFT, _MAX_SHIFT:-_MAX_SHIFT]
    pairs = zip(_details(first), templates, strict=True)
    return np.array([match_template(picture, template).max() for picture, template in pairs], np.float32)


def _details(pictures: _Bytes) -> _Floats:
    """Difference of two Gaussians."""
    values = pictures.astype(np.float32)
    fine, coarse = (gaussian_filter(values, (0, sigma, sigma)) for sigma in _BAND_PX)
    return np.asarray(fine - coarse, np.float32)
