"""Cells painted on focal planes, and a detector that finds them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from stride_monai.networks.detection.detector import TileDetections

__all__ = ["SIZE", "DarkNuclei", "cell"]

SIZE = (1100, 900)
"""Rows and columns of a plane."""


def cell(image: NDArray[np.uint8], x: int, y: int) -> None:
    """A cell of 40 px with a nucleus of 12 px, whose chromatin is coarse."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(columns - x, rows - y)
    image[away < 20] = (170, 190, 200)
    nucleus = away < 6
    image[nucleus] = np.where(((rows + columns)[nucleus] % 2 == 0)[:, None], (20, 10, 60), (60, 40, 110))


class DarkNuclei(nn.Module):
    """Finds what is darker than a nucleus out of focus ever is."""

    def detect(self, image: Tensor, *_: object, **__: object) -> list[TileDetections]:
        found = []
        for tile in image:
            labels, _count = ndimage.label(tile.float().mean(0).numpy() < 90)
            boxes = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
            found.append(TileDetections(torch.tensor(boxes).reshape(-1, 4).float(), torch.ones(len(boxes))))
        return found
