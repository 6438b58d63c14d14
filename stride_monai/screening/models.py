"""The networks that screening runs, loaded once from their bundles, and which detector it is.

``yolo`` is the detector of the paper, which the configurations of the bundle ``detection`` name. Any other is an
overlay of that bundle with a ``network_def`` of its own, and its file name is its name. With a profile goes the overlay
``<profile>_<detector>.json`` where a bundle has one: its weights and small numbers.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stride_monai.bundle_workflow import LoadedBundle, bundle_root, load_bundle_network
from stride_monai.data.bag import chosen_by
from stride_monai.errors import BundleError, ConfigError
from stride_monai.findings import OperatingPoint
from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker, load_reranker
from stride_monai.networks.detector import TileDetector
from stride_monai.networks.slide_classifier import SlideClassifier

__all__ = [
    "Choice",
    "Models",
    "Rerank",
    "choose_detector",
    "choose_device",
    "detectors_in",
    "join",
    "load_detector",
    "load_models",
]

_PAPER, _FREE = "yolo", "fcos"
_NO_OVERLAYS = {"train", "inference"}


class Choice(NamedTuple):
    """A detector's name, and in words why it was chosen."""

    name: str
    why: str


class Rerank(NamedTuple):
    """That a cell classifier is to choose among more cells than K, and which; see ``load_reranker``."""

    source: Path | str = CELL_BUNDLE
    candidates: int | None = None


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
        note: what the weights say of themselves, and what is to be known of the threshold.
        reranker: chooses among the detector's cells; None for the detector's own order.
    """

    detector: TileDetector
    choice: Choice
    classifier: SlideClassifier
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    note: str
    device: torch.device
    reranker: CellReranker | None = None


def load_models(
    bundles: Path | None,
    profile: str,
    device: torch.device,
    detector: str = "auto",
    rerank: Rerank | None = None,
    force: bool = False,
) -> Models:
    """Load detection and swift_mil, and with ``rerank`` a cell classifier.

    Args:
        bundles: folder that holds the bundles; None takes those that came with the package.
        profile: ``tiny`` or ``paper``.
        detector: see :func:`choose_detector`.
        rerank: None for the detector's own order.
        force: see :func:`join`.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size or on the
            cells of another detector.
        ConfigError: there is no such detector, or the classifier does not take such crops.
        MissingExtraError: the detector needs a package that is not installed.
    """
    homes = {name: bundle_root(name) if bundles is None else bundles / name for name in ("detection", "swift_mil")}
    chosen, detection = load_detector(homes["detection"], profile, device, detector)
    overlays = _overlays(homes["swift_mil"], profile, chosen.name)
    swift = load_bundle_network(homes["swift_mil"], profile, device, overlays=overlays)
    reranker = None
    if rerank is not None:
        reranker = load_reranker(detection.numbers["top_k"], rerank.candidates, rerank.source, profile, device, bundles)
    return join(chosen, detection, swift, reranker, device, force)


def load_detector(
    home: Path, profile: str, device: torch.device, detector: str = "auto"
) -> tuple[Choice, LoadedBundle]:
    """A bundle ``detection`` with the detector of that name; arguments and errors as for :func:`load_models`."""
    chosen = choose_detector(detector, profile, home)
    return chosen, load_bundle_network(home, profile, device, overlays=_overlays(home, profile, chosen.name))


def join(
    chosen: Choice,
    detection: LoadedBundle,
    swift: LoadedBundle,
    reranker: CellReranker | None,
    device: torch.device,
    force: bool = False,
) -> Models:
    """Networks that are to work together, if they can.

    Args:
        force: decide although the threshold was set for another K or on cells that were chosen in another way; the
            operating point's source says so.

    Raises:
        BundleError, ConfigError: as :func:`load_models`.
    """
    classifier, network = swift.network, detection.network
    if not isinstance(classifier, SlideClassifier):
        raise BundleError(f"network_def of swift_mil is a {type(classifier).__name__}", "make it a SlideClassifier")
    if not isinstance(network, TileDetector):
        raise BundleError(f"network_def of detection, a {type(network).__name__}, has no detect()", "give it one")
    numbers = {"detection": detection.numbers, "swift_mil": swift.numbers}
    weights = {"detection": detection.weights_sha256, "swift_mil": swift.weights_sha256}
    notes = [bundle.metadata.get("note", "") for bundle in (detection, swift)]
    if reranker is not None:
        reranker.check_crops(swift.numbers["crop_size"], swift.numbers["crop_mpp"])
        weights[CELL_BUNDLE] = reranker.weights
        notes.append(reranker.note)
    for part in (classifier, network):
        part.eval().requires_grad_(False)
    point = _operating_point(classifier, swift, force)
    point, caveat = _for_these_cells(point, classifier, chosen.name, weights["detection"], reranker, force)
    return Models(
        detector=network,
        choice=chosen,
        classifier=classifier,
        operating_point=point,
        numbers=numbers,
        weights=weights,
        note=" ".join(dict.fromkeys(note for note in [*notes, caveat] if note)),
        device=device,
        reranker=reranker,
    )


def _operating_point(classifier: SlideClassifier, bundle: LoadedBundle, force: bool) -> OperatingPoint:
    point = classifier.operating_point(bundle.metadata.get("operating_point", "stored with the weights"))
    wanted = bundle.numbers["bag_size"]
    if point.bag_size == wanted:
        return point
    if not force:
        raise BundleError(
            f"the slide head's threshold holds for bags of {point.bag_size} cells, the configuration asks for {wanted}",
            f"set bag_size to {point.bag_size}, or evaluate swift_mil at the new size",
        )
    return replace(point, source=f"{point.source}; forced on bags of {wanted} cells")


def _for_these_cells(
    point: OperatingPoint,
    classifier: SlideClassifier,
    name: str,
    detector: str,
    reranker: CellReranker | None,
    force: bool,
) -> tuple[OperatingPoint, str]:
    """The operating point as far as it holds for the cells of this detector, and what a reader has to know of it.

    A threshold of the same detector without re-ranking does not hold for re-ranked cells: the slide is screened, scored
    and explained, but not called.

    Raises:
        BundleError: the threshold belongs to another detector.
    """
    stored = classifier.detector_sha256
    if not stored:
        return point, "It is not known for which detector the slide head's threshold holds."
    wanted = detector if reranker is None else chosen_by(detector, reranker.weights, reranker.candidates)
    if stored == wanted:
        return point, ""
    if force:
        return replace(point, source=f"{point.source}; forced on cells that were chosen in another way"), (
            "The slide head's threshold was set on cells that were chosen in another way; using it was forced."
        )
    if reranker is not None and stored == detector:
        return replace(point, holds=False, source=f"{point.source}; set without re-ranking"), (
            "The slide head's threshold was set without re-ranking and does not hold for re-ranked cells: no call is "
            "made. To set it, make bags with re-ranking and run calibrate.json of swift_mil on them."
        )
    how = name if reranker is None else f"{name} with re-ranking"
    raise BundleError(
        f"the slide head's threshold does not hold for the detector {how} ({wanted[:12]}; it was set for {stored[:12]},"
        " and a detector with re-ranking counts as another)",
        "choose cells as it was set for, or set it anew: bags with this detector, then calibrate.json of swift_mil",
    )
