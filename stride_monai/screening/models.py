"""The networks that screening runs, loaded once from their bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stride_monai.bundle_workflow import LoadedBundle, bundle_root, load_bundle_network
from stride_monai.errors import BundleError, ConfigError
from stride_monai.findings import OperatingPoint
from stride_monai.networks.detector import TileDetector
from stride_monai.networks.slide_classifier import SlideClassifier

__all__ = ["Models", "choose_device", "load_models"]


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU if there is one, else the CPU; any other name must exist.

    Raises:
        ConfigError: the device is unknown or absent; nothing falls back in silence.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"'{name}' is no device", "use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here", "use --device cpu, or see stride-monai doctor")
    return device


@dataclass(frozen=True, slots=True)
class Models:
    """Detector and slide classifier (cell encoder, cell head, slide head), ready to run.

    Attributes:
        numbers: the inference settings of both bundles, by bundle name.
        weights: SHA-256 of each bundle's weights file.
        note: what the weights say of themselves.
    """

    detector: TileDetector
    classifier: SlideClassifier
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    note: str
    device: torch.device


def load_models(bundles: Path | None, profile: str, device: torch.device) -> Models:
    """Load detection and swift_mil.

    Args:
        bundles: folder that holds the bundles; None takes those that came with the package.
        profile: ``tiny`` or ``paper``.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size.
    """
    homes = {name: bundle_root(name) if bundles is None else bundles / name for name in ("detection", "swift_mil")}
    loaded = {name: load_bundle_network(home, profile=profile, device=device) for name, home in homes.items()}
    for bundle in loaded.values():
        bundle.network.eval().requires_grad_(False)
    classifier = loaded["swift_mil"].network
    if not isinstance(classifier, SlideClassifier):
        raise BundleError(f"network_def of swift_mil is a {type(classifier).__name__}", "make it a SlideClassifier")
    detector = loaded["detection"].network
    if not isinstance(detector, TileDetector):
        raise BundleError(f"network_def of detection, a {type(detector).__name__}, has no detect()", "give it one")
    notes = [bundle.metadata["note"] for bundle in loaded.values() if bundle.metadata.get("note")]
    numbers = {name: bundle.numbers for name, bundle in loaded.items()}
    return Models(
        detector=detector,
        classifier=classifier,
        operating_point=_operating_point(classifier, loaded["swift_mil"]),
        numbers=numbers,
        weights={name: bundle.weights_sha256 for name, bundle in loaded.items()},
        note=" ".join(dict.fromkeys(notes)),
        device=device,
    )


def _operating_point(classifier: SlideClassifier, bundle: LoadedBundle) -> OperatingPoint:
    point = classifier.operating_point(bundle.metadata.get("operating_point", "stored with the weights"))
    wanted = bundle.numbers["bag_size"]
    if point.bag_size != wanted:
        raise BundleError(
            f"the slide head's threshold holds for bags of {point.bag_size} cells, the configuration asks for {wanted}",
            f"set bag_size to {point.bag_size}, or evaluate swift_mil at the new size",
        )
    return point
