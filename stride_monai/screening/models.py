"""The networks that screening runs, loaded once from their bundles, and which detector it is.

``yolo`` is the detector of the paper, which the configurations of the bundle ``detection`` name. Any other is an
overlay of that bundle with a ``network_def`` of its own, and its file name is its name. With a profile goes the overlay
``<profile>_<detector>.json`` where a bundle has one: its weights and small numbers.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stride_monai.bundle_workflow import LoadedBundle, bundle_root, load_bundle_network
from stride_monai.errors import BagError, BundleError, ConfigError
from stride_monai.findings import OperatingPoint
from stride_monai.networks.detector import TileDetector
from stride_monai.networks.slide_classifier import SlideClassifier

__all__ = ["Choice", "Models", "choose_detector", "choose_device", "detectors_in", "load_models"]

_PAPER, _FREE = "yolo", "fcos"
_NO_OVERLAYS = {"train", "inference"}


class Choice(NamedTuple):
    """A detector's name, and in words why it was chosen."""

    name: str
    why: str


def detectors_in(detection: Path) -> list[str]:
    """The detectors that a ``detection`` bundle has, that of the paper first.

    Args:
        detection: folder of the bundle.
    """
    overlays = [path for path in sorted((detection / "configs").glob("*.json")) if path.stem not in _NO_OVERLAYS]
    return [_PAPER, *(path.stem for path in overlays if "network_def" in json.loads(path.read_text(encoding="utf-8")))]


def choose_detector(name: str, profile: str, detection: Path) -> Choice:
    """The detector of that name.

    ``auto`` is that of the paper. Of the shipped weights it is the more sensitive one, but its extra may not be there
    on purpose; then, in the tiny profile, it is the one that needs none. Which it was stands in the findings, in the
    index of the run and on the screen.

    Raises:
        ConfigError: the bundle has none of that name.
    """
    if name == "auto":
        if profile != "tiny":
            return Choice(_PAPER, f"default of the {profile} profile")
        if _installed("ultralytics"):
            return Choice(_PAPER, "default where the extra yolo is installed")
        return Choice(_FREE, "default where the extra yolo is not installed")
    if name not in (known := detectors_in(detection)):
        raise ConfigError(f"there is no detector '{name}'", f"use auto, {' or '.join(known)}")
    return Choice(name, "as asked for")


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def _overlays(root: Path, profile: str, detector: str) -> list[str]:
    names = (detector, f"{profile}_{detector}")
    return [name for name in names if (root / "configs" / f"{name}.json").is_file()]


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
        choice: the detector's name and why it was chosen.
        numbers: the inference settings of both bundles, by bundle name.
        weights: SHA-256 of each bundle's weights file.
        note: what the weights say of themselves.
    """

    detector: TileDetector
    choice: Choice
    classifier: SlideClassifier
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    note: str
    device: torch.device


def load_models(bundles: Path | None, profile: str, device: torch.device, detector: str = "auto") -> Models:
    """Load detection and swift_mil.

    Args:
        bundles: folder that holds the bundles; None takes those that came with the package.
        profile: ``tiny`` or ``paper``.
        detector: see :func:`choose_detector`.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size or on the
            cells of another detector.
        ConfigError: there is no such detector.
        MissingExtraError: the detector needs a package that is not installed.
    """
    homes = {name: bundle_root(name) if bundles is None else bundles / name for name in ("detection", "swift_mil")}
    chosen = choose_detector(detector, profile, homes["detection"])
    loaded = {
        name: load_bundle_network(home, profile, device, overlays=_overlays(home, profile, chosen.name))
        for name, home in homes.items()
    }
    for bundle in loaded.values():
        bundle.network.eval().requires_grad_(False)
    classifier = loaded["swift_mil"].network
    if not isinstance(classifier, SlideClassifier):
        raise BundleError(f"network_def of swift_mil is a {type(classifier).__name__}", "make it a SlideClassifier")
    network = loaded["detection"].network
    if not isinstance(network, TileDetector):
        raise BundleError(f"network_def of detection, a {type(network).__name__}, has no detect()", "give it one")
    notes = [bundle.metadata["note"] for bundle in loaded.values() if bundle.metadata.get("note")]
    weights = {name: bundle.weights_sha256 for name, bundle in loaded.items()}
    notes += _check_detector(classifier, chosen.name, weights["detection"])
    numbers = {name: bundle.numbers for name, bundle in loaded.items()}
    return Models(
        detector=network,
        choice=chosen,
        classifier=classifier,
        operating_point=_operating_point(classifier, loaded["swift_mil"]),
        numbers=numbers,
        weights=weights,
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


def _check_detector(classifier: SlideClassifier, name: str, sha256: str) -> list[str]:
    """What the reader of the findings has to know of the threshold and the detector; nothing if they belong together.

    Raises:
        BundleError: the threshold belongs to another detector.
    """
    try:
        classifier.check_detector(sha256)
    except BagError as error:
        raise BundleError(
            f"the slide head's threshold does not hold for the detector {name} ({error.what})",
            "set it anew: bags with this detector, then calibrate.json of swift_mil",
        ) from error
    if classifier.detector_sha256:
        return []
    return ["It is not known for which detector the slide head's threshold holds."]
