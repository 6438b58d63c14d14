"""Periodic noise fields with a physical grain, from which every cell takes a window."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

__all__ = ["SIZE", "textures", "window"]

SIZE = 1024

_GRAIN_UM: Mapping[str, float] = {"fine": 0.30, "granular": 0.45, "coarse": 0.7, "patchy": 2.2, "cloud": 7.0}
"""Correlation length (standard deviation of the Gaussian filter) of each field."""


@lru_cache(maxsize=8)
def textures(mpp: float) -> Mapping[str, NDArray[np.float32]]:
    """Periodic fields ``[SIZE, SIZE]`` of mean 0 and variance 1 at ``mpp`` um/px, the same in every process.

    ``fine``, ``granular``, ``coarse``, ``patchy`` and ``cloud`` are smoothed noise of growing grain; ``ridges`` is 0-1
    and marks thin winding lines (wrinkles, fibrils); ``dots`` is 0-1 and marks scattered granules.
    """
    rng = np.random.default_rng(20_240)
    frequency = np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.rfftfreq(SIZE)[None, :] ** 2
    fields = {}
    for name, grain in _GRAIN_UM.items():
        sigma = max(grain / mpp, 0.5)
        fields[name] = _smooth(rng.standard_normal((SIZE, SIZE), np.float32), frequency, sigma)
    wandering = _smooth(rng.standard_normal((SIZE, SIZE), np.float32), frequency, 4.0 / mpp)
    broken = _smooth(rng.standard_normal((SIZE, SIZE), np.float32), frequency, 3.0 / mpp)
    fields["ridges"] = (np.exp(-((wandering / 0.07) ** 2)) * np.clip(0.3 + broken, 0, 1)).astype(np.float32)
    # Only the peaks of a fine grain, and more of them in some places than in others.
    grains = fields["fine"] + 0.6 * fields["patchy"] + 0.5 * fields["cloud"]
    fields["dots"] = np.clip((grains - 1.9) * 1.1, 0, 1.0).astype(np.float32)
    for field in fields.values():
        field.setflags(write=False)
    return fields


def _smooth(noise: NDArray[np.float32], frequency_squared: NDArray[np.float64], sigma: float) -> NDArray[np.float32]:
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * frequency_squared).astype(np.float32)
    field = irfft2(rfft2(noise) * kernel, noise.shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def window(field: NDArray[np.float32], rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A random window ``[height, width]`` of a periodic field."""
    top, left = int(rng.integers(SIZE)), int(rng.integers(SIZE))
    if top + height <= SIZE and left + width <= SIZE:
        return field[top : top + height, left : left + width]
    if height > SIZE or width > SIZE:
        rows, columns = (top + np.arange(height)) % SIZE, (left + np.arange(width)) % SIZE
        return field[np.ix_(rows, columns)]
    # At most four slices, several times as fast as indices.
    made = np.empty((height, width), np.float32)
    upper, before = min(SIZE - top, height), min(SIZE - left, width)
    made[:upper, :before] = field[top : top + upper, left : left + before]
    made[:upper, before:] = field[top : top + upper, : width - before]
    made[upper:, :before] = field[: height - upper, left : left + before]
    made[upper:, before:] = field[: height - upper, : width - before]
    return made
