"""Features of proposed cells by the cell classifier's encoder, for the strategy that wants unlike ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lib.workbench import Workbench
from stride_monai.active_learning import Candidates
from stride_monai.inferers import classify_crops
from stride_monai.transforms import LoadCellCropd


def features_of(bench: Workbench, candidates: Candidates) -> NDArray[np.float64]:
    """One row for each cell, ``[n, D]``."""
    with bench.busy:
        networks = bench.classifier().networks
        rows: list[NDArray[np.float64]] = []
        load = LoadCellCropd("image", networks.crop_px, networks.crop_mpp)
        for slide_id, box in zip(candidates.slide_ids, candidates.boxes, strict=True):
            path = bench.slides.path_of(slide_id)
            center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            crop = load({"image": path, "centre": center, "mpp": bench.place.mpp})["image"]
            found = classify_crops(torch.stack([crop]), networks.network)
            rows.append(np.asarray(found.features, dtype=np.float64).reshape(-1))
    return np.stack(rows)
