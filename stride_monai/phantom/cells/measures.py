"""The numbers a cytologist reads off a cell, computed from the geometry that is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stride_monai.phantom.cells.figures import Figure, Nucleus, Part

__all__ = [
    "A0",
    "IRREGULAR_FROM",
    "NORMAL_DENSITY",
    "contour_irregularity",
    "measures",
    "moments",
]

A0 = 42.0
"""Reference nuclear area, um2: that of a normal intermediate cell, the yardstick of Bethesda."""

NORMAL_DENSITY = 0.6
"""Haematoxylin density of a normal intermediate nucleus."""

IRREGULAR_FROM = 0.03
"""Contour irregularity from which an observer would call a nuclear outline irregular."""


def measures(figure: Figure) -> dict[str, float]:
    """What was drawn, in numbers; an entry is absent where there is nothing to measure.

    - ``cells``, ``nuclei``, ``nucleoli``: counts; the lobes of a leucocyte count as nuclei.
    - ``nuclear_area_um2``: mean area of a nucleus; ``nuclear_area_ratio``: relative to :data:`A0`;
      ``nuclear_area_cv``: standard deviation over mean, of two nuclei and more.
    - ``cell_area_um2``: mean visible area of a cell.
    - ``nc_ratio``: diameter of the disc as large as a cell's nuclei together, over that of the cell; median over cells.
    - ``halo``: 1 when a nucleus lies in a distinct cleared zone, else 0; ``vacuoles``: number of others.
    - ``coarse_chromatin``, ``raisinoid``: share of the nuclei, 0-1.
    - ``nuclear_density_ratio``: mean stain of the nuclei relative to :data:`NORMAL_DENSITY`.
    - ``contour_irregularity``: mean of :func:`contour_irregularity` over the nuclei.
    """
    nuclei, cells = figure.nuclei(), [part for part in figure.parts if part.cell is not None]
    found = {"cells": float(len(cells)), "nuclei": float(len(nuclei))}
    if cells:
        found["cell_area_um2"] = float(np.mean([part.cell.area for part in cells if part.cell is not None]))
        haloes = [_haloes(part) for part in cells]
        found["halo"] = float(any(around for around, _ in haloes))
        found["vacuoles"] = float(sum(empty for _, empty in haloes))
    if nuclei:
        areas = np.array([nucleus.outline.area for nucleus in nuclei])
        found["nuclear_area_um2"] = float(areas.mean())
        found["nuclear_area_ratio"] = float(areas.mean() / A0)
        if len(nuclei) > 1:
            found["nuclear_area_cv"] = float(areas.std() / areas.mean())
        found["nucleoli"] = float(sum(len(nucleus.nucleoli) for nucleus in nuclei))
        found["coarse_chromatin"] = float(np.mean([nucleus.coarse for nucleus in nuclei]))
        found["raisinoid"] = float(np.mean([bool(nucleus.creases) for nucleus in nuclei]))
        found["nuclear_density_ratio"] = float(np.mean([nucleus.density for nucleus in nuclei]) / NORMAL_DENSITY)
        found["contour_irregularity"] = _irregularity(nuclei)
    ratios = [_nc_ratio(part) for part in cells if part.nuclei]
    if ratios:
        found["nc_ratio"] = float(np.median(ratios))
    return found


def _irregularity(nuclei: Sequence[Nucleus]) -> float:
    return float(np.mean([contour_irregularity(nucleus.outline.polygon()) for nucleus in nuclei]))


def contour_irregularity(points: NDArray[np.float64]) -> float:
    """How far a closed polygon ``[n, 2]`` departs from an ellipse: 0 for any ellipse, about 0.1 for a deep notch.

    The polygon is mapped so that the ellipse of the same second moments becomes the unit circle; returned is the
    standard deviation of the distance of its vertices from the middle, over its mean.
    """
    middle, spread = moments(points)
    round_ = (points - middle) @ np.linalg.inv(np.linalg.cholesky(spread)).T
    radius = np.hypot(round_[:, 0], round_[:, 1])
    return float(radius.std() / radius.mean())


def moments(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle ``[2]`` of a closed polygon's area and the mean ``[2, 2]`` of ``p p'`` over it, from the middle."""
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    middle = ((points + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    a, b = points - middle, following - middle
    cross = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    products = a[:, :, None] * a[:, None, :] + b[:, :, None] * b[:, None, :] + (a + b)[:, :, None] * (a + b)[:, None, :]
    return middle, (products * cross[:, None, None]).sum(axis=0) / (12 * cross.sum())


def _haloes(part: Part) -> tuple[int, int]:
    """Distinct cleared zones of a cell: those that hold a nucleus, and the others."""
    around = empty = 0
    for halo in part.vacuoles:
        if not halo.distinct:
            continue
        x = np.array([nucleus.outline.x for nucleus in part.nuclei], np.float32)
        y = np.array([nucleus.outline.y for nucleus in part.nuclei], np.float32)
        if bool((halo.outline.depth(x, y) > 0).any()):
            around += 1
        else:
            empty += 1
    return around, empty


def _nc_ratio(part: Part) -> float:
    assert part.cell is not None
    return float(np.sqrt(sum(nucleus.outline.area for nucleus in part.nuclei) / part.cell.area))
