"""Cells that are unlike those already read: a core-set of the features."""

from __future__ import annotations

import numpy as np

from stride_monai.active_learning.candidates import Array, Candidates, Indices
from stride_monai.errors import ConfigError

__all__ = ["by_diversity", "farthest_first"]


def by_diversity(
    candidates: Candidates, free: Indices, taken: Indices, count: int, draw: np.random.Generator
) -> Indices:
    """Greedy k-center on features scaled to unit length (so that distance is a matter of the angle alone).

    Raises:
        ConfigError: the candidates have no features.
    """
    if candidates.features is None:
        raise ConfigError(
            "the strategy diversity needs the features of the cells, and these candidates have none",
            "compute them with the cell encoder, or choose another strategy",
        )
    features = np.asarray(candidates.features, np.float64)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    first = int(draw.integers(len(free)))
    return free[farthest_first(unit[free], count, unit[taken], first)]


def farthest_first(points: Array, count: int, centers: Array | None = None, first: int = 0) -> Indices:
    """Greedy k-center: always the point that is farthest from all centers, which makes it one.

    Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set approach", Algorithm 1;
    its largest distance of a point to its center is at most twice the smallest possible (Gonzalez 1985).

    Args:
        points: float ``[n, D]``.
        count: how many to choose, at most n are.
        centers: float ``[m, D]``, which are there already.
        first: the point that begins where there is no center.

    Returns:
        Indices of points, int ``[min(count, n)]``, each once, in the order chosen; of equally far ones the earlier.
    """
    count = min(count, len(points))
    distance = np.full(len(points), np.inf)
    for center in [] if centers is None else centers:
        distance = np.minimum(distance, np.linalg.norm(points - center, axis=1))
    chosen: list[int] = []
    for _ in range(count):
        nearest = first if np.isposinf(distance[first]) else int(np.argmax(distance))
        chosen.append(nearest)
        distance = np.minimum(distance, np.linalg.norm(points - points[nearest], axis=1))
        distance[chosen] = -np.inf
    return np.array(chosen, dtype=np.intp)
