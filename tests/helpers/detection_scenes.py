"""Scenes of true boxes and what a detector might find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stride_monai.metrics.detection import TileResult


def scene(seed: int, tiles: int = 4, most: int = 12) -> list[TileResult]:
    """Tiles with noisy copies of the true boxes, strays and tied scores."""
    random = np.random.default_rng(seed)
    results = []
    for _ in range(tiles):
        count = random.integers(0, most)
        corner = random.uniform(0, 80, (count, 2))
        truth = np.hstack([corner, corner + random.uniform(8, 30, (count, 2))])
        copies = truth[random.integers(0, count, random.integers(0, 2 * count))] if count else truth
        noisy = copies + random.normal(0, 2, copies.shape)
        corner = random.uniform(0, 80, (random.integers(0, 6), 2))
        boxes = np.concatenate([noisy, np.hstack([corner, corner + 15])])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        results.append(TileResult(boxes, random.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(boxes)), truth))
    return results


def with_ignored(results: Sequence[TileResult], seed: int) -> list[TileResult]:
    """The scenes with about a third of the true boxes cut by the tile's border."""
    random = np.random.default_rng(seed)
    return [r._replace(ignored=random.random(len(r.truth)) < 0.3) for r in results]
