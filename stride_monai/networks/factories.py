"""Networks by name, as timm makes and lists its own.

Each ``create_*`` takes a name and the arguments of the network's class; each ``list_*`` gives the names, those that fit
a wildcard filter. An unknown name is refused with the nearest one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import timm
from torch import nn

from stride_monai.errors import check_name
from stride_monai.networks.detection.detector import YoloDetector
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.dtfd import DTFDHead
from stride_monai.networks.mil.pooling_heads import ABMILHead, BestCellsHead, MaxHead, MeanHead
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.transmil import TransMILHead
from stride_monai.networks.weights import load_into

__all__ = [
    "create_cell_encoder",
    "create_detector",
    "create_slide_head",
    "list_cell_encoders",
    "list_detectors",
    "list_slide_heads",
]

_HEADS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "stride": AttentionSlideHead,
        "mean": MeanHead,
        "max": MaxHead,
        "abmil": ABMILHead,
        "gated_abmil": partial(ABMILHead, gated=True),
        "transmil": TransMILHead,
        "dtfd": DTFDHead,
        "best_cells": BestCellsHead,
    }
)
"""STRIDE's own, the baselines it is compared with (METHOD section 5), and that of the tiny profile. Another head is a
``_target_`` of its own."""
_YOLO = {"yolov5": "nsmlx", "yolov8": "nsmlx", "yolo11": "nsmlx", "yolo12": "nsmlx", "yolo26": "nsmlx"}
_Weights = Path | str | Sequence[Path | str]
Network = TypeVar("Network", bound=nn.Module)


def create_slide_head(name: str, feature_dim: int, **kwargs: Any) -> nn.Module:
    """A slide head ``(features [B, K, D], mask [B, K], scores [B, K]) -> (logits [B, C], attention [B, K])``.

    Args:
        name: one of :func:`list_slide_heads`.
        feature_dim: D, width of the cell features.
        kwargs: of the head's class, e.g. ``dropout``, or ``score_input``, which all of them have.

    Raises:
        ConfigError: the name is unknown.
    """
    check_name("slide head", name, _HEADS)
    return _HEADS[name](feature_dim, **kwargs)


def list_slide_heads(filter: str = "") -> list[str]:
    """Names for :func:`create_slide_head`, those that fit a filter such as ``*abmil``."""
    return _fitting(_HEADS, filter)


def create_detector(name: str = "yolov5m", weights: _Weights | None = None, **kwargs: Any) -> nn.Module:
    """A detector of cells on tiles, see :class:`~stride_monai.networks.TileDetector`.

    Args:
        name: one of :func:`list_detectors`, or another of ultralytics'; ``fcos`` needs no extra.
        weights: a weights file, or a base and files of what differs from it; None for random ones.
        kwargs: of the detector's class, e.g. ``backbone`` of ``fcos``.

    Raises:
        BundleError: the weights cannot be read or do not fit.
        ConfigError: the name is unknown.
        MissingExtraError: a YOLO, and ultralytics is not installed.
    """
    if not name.startswith("yolo"):  # of these ultralytics knows which there are
        check_name("detector", name, list_detectors())
    return _with(FcosDetector(**kwargs) if name == "fcos" else YoloDetector(name, **kwargs), weights)


def list_detectors(filter: str = "") -> list[str]:
    """Names for :func:`create_detector`, those that fit a filter such as ``yolov5*``."""
    return _fitting(["fcos", *(family + size for family, sizes in _YOLO.items() for size in sizes)], filter)


def create_cell_encoder(
    name: str = "convnext_tiny",
    pretrained: bool | str | Path = False,
    weights: _Weights | None = None,
    **kwargs: Any,
) -> CellClassifier:
    """An image encoder with a linear head over the cell classes.

    Args:
        name: one of :func:`list_cell_encoders`.
        pretrained: what the encoder starts from: False, "timm", "imagenet" (extra ``imagenet``) or a file, see
            :class:`~stride_monai.networks.CellClassifier`.
        weights: as for :func:`create_detector`; of the whole classifier, whose batch normalisation is then frozen as
            that of a pretrained encoder is.
        kwargs: of :class:`~stride_monai.networks.CellClassifier` and of ``timm.create_model``.

    Raises:
        BundleError: the weights cannot be had or do not fit.
        ConfigError: the name, or what to start from, is unknown.
        MissingExtraError: the package of the ImageNet weights is not installed.
    """
    if weights is not None:  # they bring the statistics of their batch normalisation
        kwargs.setdefault("batch_norm", "frozen")
    return _with(CellClassifier(name, pretrained=pretrained, **kwargs), weights)


def list_cell_encoders(filter: str = "") -> list[str]:
    """Names for :func:`create_cell_encoder`: timm's, those that fit a filter such as ``convnext_*``."""
    names: list[str] = timm.list_models(filter)
    return names


def _fitting(names: Iterable[str], filter: str) -> list[str]:
    return [name for name in names if fnmatch(name, filter or "*")]


def _with(network: Network, weights: _Weights | None) -> Network:
    if weights is not None:
        load_into(network, weights)
    return network
