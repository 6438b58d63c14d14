"""The networks of screening as a runtime computes them: the detector, and the features of cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stride_monai.errors import ConfigError
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.detection.detector import TileDetections, TileDetector, best_boxes
from stride_monai.runtimes.choice import RuntimeChoice
from stride_monai.runtimes.compiling import compile_network
from stride_monai.runtimes.int8 import DETECTION, load_int8, quantize_network
from stride_monai.runtimes.protocol import Run

__all__ = [
    "CompiledDetector",
    "compile_detector",
    "compile_features",
    "int8_detector",
    "quantize_detector",
]


class CompiledDetector:
    """A :class:`~stride_monai.networks.TileDetector` on a CPU, tile by tile: what it finds depends on no other tile.

    Args:
        run: from [1, 3, tile_px, tile_px] to [1, 4 + classes, A], see :func:`~stride_monai.networks.detect_on_tiles`.
    """

    def __init__(self, run: Run, tile_px: int) -> None:
        self._run, self.tile_px = run, tile_px

    def detect(
        self, image: Tensor, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5
    ) -> list[TileDetections]:
        """See :func:`~stride_monai.networks.detect_on_tiles`.

        Raises:
            ConfigError: tiles of another size than the detector was compiled for.
        """
        if image.shape[-2:] != (self.tile_px, self.tile_px):
            height, width = image.shape[-2:]
            raise ConfigError(
                f"tiles of {height} x {width} px, but the detector was compiled for {self.tile_px} px",
                "use --runtime torch",
            )
        tiles = image if image.is_floating_point() else image.float() / 255
        found = (torch.from_numpy(self._run(tile[None].contiguous().numpy()))[0] for tile in tiles)
        return [best_boxes(tile, min_score, max_per_tile, nms_iou) for tile in found]


class _Features(nn.Module):
    def __init__(self, views: CellViews) -> None:
        super().__init__()
        self.encoder, self._views = views.encoder, views

    def forward(self, image: Tensor) -> Tensor:
        return self._views.encode(image)

    def extra_repr(self) -> str:
        return f"levels={self._views.levels}"


def compile_detector(detector: TileDetector, tile_px: int, choice: RuntimeChoice) -> CompiledDetector:
    """Arguments and errors as for :func:`~stride_monai.runtimes.compile_network`.

    Raises:
        ConfigError: also where the detector is no network of torch.
    """
    network = _network_of(detector, choice.name)
    return CompiledDetector(compile_network(network, (1, 3, tile_px, tile_px), choice), tile_px)


def compile_features(views: CellViews, batch: int, crop_px: int, choice: RuntimeChoice) -> Callable[[Tensor], Tensor]:
    """:meth:`CellViews.encode` for exactly ``batch`` crops, float 0-1 ``[batch, 3, crop_px, crop_px]``."""
    run = compile_network(_Features(views), (batch, 3, crop_px, crop_px), choice)
    return lambda images: torch.from_numpy(run(images.numpy()))


def quantize_detector(detector: TileDetector, tiles: NDArray[np.uint8], home: Path) -> None:
    """Quantize the detector, for :func:`int8_detector`.

    Args:
        tiles: ``[n, 3, H, W]``, RGB 0-255, that it is calibrated on.
        home: of the networks in int8.

    Raises:
        ConfigError: as of :func:`~stride_monai.runtimes.quantize_network`, or the detector is no network of torch.
        OutputError: as of that.
    """
    quantize_network(_network_of(detector, "int8"), tiles, 1, home / DETECTION)


def int8_detector(detector: TileDetector, tile_px: int, home: Path) -> CompiledDetector:
    """The detector as :func:`quantize_detector` kept it. Errors as for :func:`~stride_monai.runtimes.load_int8`."""
    network = _network_of(detector, "int8")
    return CompiledDetector(load_int8(home / DETECTION, network, (1, 3, tile_px, tile_px)), tile_px)


def _network_of(detector: TileDetector, what_for: str) -> nn.Module:
    if not isinstance(detector, nn.Module):
        raise ConfigError(f"a {type(detector).__name__} cannot be compiled for {what_for}", "use --runtime torch")
    return detector
