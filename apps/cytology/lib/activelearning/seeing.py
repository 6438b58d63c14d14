"""What the cell classifier sees in proposed cells: their classes and features, and the classes that its teacher gives.

The teacher is the moving average of the network that its training kept (``teacher.json`` of the bundle ``cell_cls``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lib.workbench import Workbench
from stride_monai.active_learning import Candidates
from stride_monai.inferers import classify_crops
from stride_monai.screening import CellsClassifier
from stride_monai.transforms import LoadCellCropd

_AT_ONCE = 64  # crops in memory


class Sight(NamedTuple):
    """One row for each candidate: probabilities ``[n, C]`` and features ``[n, D]``."""

    probabilities: NDArray[np.float64]
    features: NDArray[np.float64]


class Seeing:
    """Looks at each cell once with each network; a box that was moved is another cell."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._known: dict[tuple[object, ...], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def by_network(self, candidates: Candidates) -> Sight:
        """By the network in use."""
        with self.bench.busy:
            return self._sight(candidates, self.bench.classifier())

    def by_teacher(self, candidates: Candidates) -> Sight | None:
        """By the moving average of the network in use; None where it has none."""
        with self.bench.busy:
            teacher = self.bench.teacher()
            return None if teacher is None else self._sight(candidates, teacher)

    def _sight(self, candidates: Candidates, classifier: CellsClassifier) -> Sight:
        weights = tuple(sorted(classifier.networks.about.weights.items()))
        keys = [(weights, *key, *map(float, box)) for key, box in zip(candidates.keys, candidates.boxes, strict=True)]
        fresh = [row for row, key in enumerate(keys) if key not in self._known]
        for start in range(0, len(fresh), _AT_ONCE):
            rows = fresh[start : start + _AT_ONCE]
            evidence = classify_crops(self._crops(candidates, rows, classifier), classifier.networks.network)
            said, seen = evidence.probabilities.astype(np.float32), evidence.features.float().cpu().numpy()
            self._known |= {keys[row]: (said[place], seen[place]) for place, row in enumerate(rows)}
        known = [self._known[key] for key in keys]
        probabilities, features = (np.stack([pair[part] for pair in known]).astype(np.float64) for part in (0, 1))
        return Sight(probabilities, features)

    def _crops(self, candidates: Candidates, rows: Sequence[int], classifier: CellsClassifier) -> torch.Tensor:
        networks, mpp = classifier.networks, self.bench.place.mpp
        load = LoadCellCropd("image", networks.crop_px, networks.crop_mpp, own_background=True)
        crops = []
        for row in rows:
            x0, y0, x1, y1 = candidates.boxes[row]
            path = self.bench.slides.path_of(candidates.slide_ids[row])
            crops.append(load({"image": path, "centre": ((x0 + x1) / 2, (y0 + y1) / 2), "mpp": mpp})["image"])
        return torch.stack(crops)
