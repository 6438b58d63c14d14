"""Detectors for tests."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from stride_monai.networks.detection.detector import TileDetections, YoloDetector

__all__ = ["DarkSpots", "GroupNormYolo"]


class GroupNormYolo(YoloDetector):
    """A YOLO without batch normalisation, which on a CPU cannot be synchronised between processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in list(self.yolo.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    groups = 8 if child.num_features % 8 == 0 else 1
                    setattr(module, name, nn.GroupNorm(groups, child.num_features))


class DarkSpots(nn.Module):
    """Finds dark pixels on a coarse grid; slowly, if asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.zeros(1))

    def detect(
        self, image: Tensor, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5
    ) -> list[TileDetections]:
        time.sleep(self.seconds)
        return [self._tile(tile.float().mean(0) / 255, max_per_tile) for tile in image]

    def _tile(self, gray: Tensor, most: int) -> TileDetections:
        rows, columns = torch.nonzero(gray[::16, ::16] < 0.5, as_tuple=True)
        corner = torch.stack([columns, rows], 1).float() * 16
        boxes = torch.cat([corner, corner + 16], 1)[:most]
        return TileDetections(boxes, torch.linspace(0.9, 0.5, len(boxes)))
