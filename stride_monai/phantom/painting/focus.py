"""How far from the focal plane the cells of a slide lie, and how much that blurs them.

The focal plane of a scan follows the slide only roughly: it tilts and waves over millimetres and fails in patches, and
the cells lie at their own depth in the layer. All lengths are um; the blur is quantised so that sprites can be shared.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.phantom.scenes.streams import Draw, stream

__all__ = ["LEVELS_UM", "FocusField", "blur_per_um", "defocus_levels"]

LEVELS_UM: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0, 1.5, 2.2, 3.2, 4.6)
"""Standard deviations of the blur that defocus adds."""

_EDGES = np.array([(a + b) / 2 for a, b in pairwise(LEVELS_UM)])
_INDEX = 1.515
_DEEPEST = 2.5
_PATCH_SHARE = 0.12

FloatArray = NDArray[np.float64]


def blur_per_um(aperture: float) -> float:
    """Standard deviation of the blur, um per um out of focus.

    A point out of focus becomes a disc as wide as the cone of light that the objective takes in; the standard
    deviation of a disc along one axis is half its radius.
    """
    sine = min(aperture / _INDEX, 0.98)
    return float(0.5 * sine / np.sqrt(1 - sine**2))


class FocusField:
    """Height of the focal plane above the layer's middle, a smooth random function of the place.

    Args:
        focus_um: root mean square over a large slide.
        width_um, height_um: of the slide.
    """

    def __init__(self, focus_um: float, width_um: float, height_um: float, rng: np.random.Generator) -> None:
        waves = 7
        length = np.exp(rng.uniform(np.log(1_500), np.log(25_000), waves))
        angle, self._phase = rng.uniform(0, 2 * np.pi, (2, waves))
        self._wave = 2 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])
        amount = rng.uniform(0.4, 1.0, waves)
        self._amount = amount / np.sqrt((amount**2).sum() / 2) * focus_um * np.sqrt(1 - _PATCH_SHARE)
        # Failed patches: few and far out, with a share of the variance that does not depend on their number.
        self._sigma = rng.uniform(250, 900, 400)
        expected = 0.25 * width_um * height_um / 1e6
        patches = min(int(rng.poisson(expected)), 400)
        self._sigma = self._sigma[:patches]
        self._x, self._y = rng.uniform(0, width_um, patches), rng.uniform(0, height_um, patches)
        self._peak = rng.choice((-1, 1), patches) * rng.uniform(0.6, 1.6, patches) * 2.0 * focus_um * _PATCH_SHARE**0.5

    def at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """um, at places in um."""
        total = np.zeros(np.broadcast(x, y).shape)
        for (kx, ky), phase, amount in zip(self._wave.T, self._phase, self._amount, strict=True):
            total += amount * np.cos(kx * x + ky * y + phase)
        for px, py, sigma, peak in zip(self._x, self._y, self._sigma, self._peak, strict=True):
            total += peak * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
        return total


def defocus_levels(
    plan: Plan, z_um: float = 0.0, *, unique: bool, only: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """Index into :data:`LEVELS_UM` for the common or the unique cells of a plan.

    Args:
        z_um: height of the stage above the best focus.
        only: indices of the cells asked for; None for all.
    """
    mpp, centre, region = plan.mpp, plan.centre, plan.region
    if unique:
        cells = plan.unique if only is None else [plan.unique[int(i)] for i in only]
        x, y = np.array([cell.x for cell in cells], float), np.array([cell.y for cell in cells], float)
    else:
        x, y = (v.astype(float) if only is None else v[only].astype(float) for v in (plan.common.x, plan.common.y))
    depth = _depths(plan.seed, unique, len(plan.unique) if unique else len(plan.common.x))
    depth = centre.depth_um * (depth if only is None else depth[only])
    field = _field(plan.seed, centre.focus_um, region.width * mpp, region.height * mpp)
    blur = blur_per_um(centre.aperture) * np.abs(field.at(x * mpp, y * mpp) + depth - z_um)
    return np.searchsorted(_EDGES, blur).astype(np.uint8)


@lru_cache(maxsize=8)
def _depths(seed: int, unique: bool, count: int) -> FloatArray:
    """Depth of every cell in standard deviations."""
    depth = np.clip(stream(seed, Draw.FIELDS, 5 if unique else 4).standard_normal(count), -_DEEPEST, _DEEPEST)
    depth.setflags(write=False)
    return depth


@lru_cache(maxsize=4)
def _field(seed: int, focus_um: float, width_um: float, height_um: float) -> FocusField:
    return FocusField(focus_um, width_um, height_um, stream(seed, Draw.FIELDS, 3))
