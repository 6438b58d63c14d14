"""Detector and cell encoder in bfloat16 by torch's automatic mixed precision: convolutions in it, sums in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.detection.detector import TileDetections, TileDetector

__all__ = ["HalfDetector", "half_features"]


class HalfDetector:
    """A :class:`~stride_monai.networks.TileDetector` in bfloat16, on the device that it is on."""

    def __init__(self, detector: TileDetector) -> None:
        self._detector = detector

    def parameters(self) -> Iterator[nn.Parameter]:
        """Tell what device it is on."""
        return iter(getattr(self._detector, "parameters", tuple)())

    def detect(
        self, image: Tensor, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5
    ) -> list[TileDetections]:
        """See :func:`~stride_monai.networks.detect_on_tiles`."""
        with torch.autocast(image.device.type, torch.bfloat16):
            return self._detector.detect(image, min_score, max_per_tile, nms_iou)


def half_features(views: CellViews) -> Callable[[Tensor], Tensor]:
    """:meth:`CellViews.encode` in bfloat16; the features themselves are float32."""

    def encode(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return views.encode(images).float()

    return encode
