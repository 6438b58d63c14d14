"""The networks that screening runs, loaded once from their bundles, and whether they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stride_monai.bundle_workflow import bundle_root, load_bundle_network
from stride_monai.data.bag import chosen_by
from stride_monai.errors import BundleError, ConfigError
from stride_monai.findings import Described, OperatingPoint
from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker, load_reranker
from stride_monai.networks.detector import TileDetector
from stride_monai.networks.slide_classifier import SlideClassifier
from stride_monai.screening.choices import (
    CLASSIFIERS,
    Choice,
    Chosen,
    choose_detector,
    find_bundle,
    missing_weights,
    overlays_in,
)
from stride_monai.screening.explain import TEXT_BUNDLE, Explainer, load_explainer
from stride_monai.screening.options import Rerank

__all__ = [
    "Models",
    "Rerank",
    "choose_device",
    "join",
    "load_classifier",
    "load_detector",
    "load_models",
    "slide_classifier_of",
]

_NO_WORDS = Explainer(Described(False, "not asked for"))


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
        detector_choice: the detector's name and why it was chosen.
        classifier_choice: the bundle of the slide classifier and why it was chosen.
        numbers: the inference settings of both bundles, by bundle name.
        weights: SHA-256 of each bundle's weights file.
        note: what the weights say of themselves, and what is to be known of the threshold.
        reranker: chooses among the detector's cells; None for the detector's own order.
        explainer: describes the cells, or says why it does not.
    """

    detector: TileDetector
    detector_choice: Choice
    classifier: SlideClassifier
    classifier_choice: Choice
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    note: str
    device: torch.device
    reranker: CellReranker | None = None
    explainer: Explainer = _NO_WORDS


def load_models(
    bundles: Path | None,
    profile: str,
    device: torch.device,
    detector: str = "auto",
    rerank: Rerank | None = None,
    force: bool = False,
    classifier: str = "auto",
    descriptions: bool | None = None,
) -> Models:
    """Load detection, a slide classifier, text_align where there is one, and with ``rerank`` a cell classifier.

    Args:
        bundles: folder that holds the bundles; None takes those that came with the package.
        profile: ``tiny`` or ``paper``.
        detector: see :func:`~stride_monai.screening.choices.choose_detector`.
        rerank: None for the detector's own order.
        force: see :func:`join`.
        classifier: see :func:`load_classifier`.
        descriptions: see :func:`~stride_monai.screening.explain.load_explainer`. What came with the package never fails
            for a ``text_align`` of another encoder unless something was asked for: the cells are not described then.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size or on the
            cells of another detector, or text_align was trained on another image encoder.
        ConfigError: there is no such detector or classifier, or the classifier does not take such crops.
        MissingExtraError: the detector needs a package that is not installed.
    """
    home = bundle_root("detection") if bundles is None else bundles / "detection"
    detection = load_detector(home, profile, device, detector)
    reranker = None
    if rerank is not None:
        kept = detection.bundle.numbers["top_k"]
        reranker = load_reranker(kept, rerank.candidates, rerank.source, profile, device, bundles)
    slides = load_classifier(bundles, profile, device, detection, classifier, reranker, force)
    encoder = slide_classifier_of(slides).encoder
    strict = bundles is not None or classifier != "auto"
    explainer = load_explainer(bundles, profile, device, encoder, descriptions, strict)
    return join(detection, slides, reranker, device, force, explainer)


def load_detector(home: Path, profile: str, device: torch.device, detector: str = "auto") -> Chosen:
    """A bundle ``detection`` with the detector of that name; arguments and errors as for :func:`load_models`."""
    choice = choose_detector(detector, profile, home)
    return Chosen(choice, load_bundle_network(home, profile, device, overlays=overlays_in(home, profile, choice.name)))


def load_classifier(
    bundles: Path | None,
    profile: str,
    device: torch.device,
    detection: Chosen,
    name: str = "auto",
    reranker: CellReranker | None = None,
    force: bool = False,
) -> Chosen:
    """The slide classifier of that name.

    Args:
        bundles, profile: as for :func:`load_models`.
        detection: what finds the cells.
        name: ``auto``, ``coloradv`` or ``swift_mil``. ``auto`` is ``coloradv`` where it has weights, for the cells of
            this detector, and else ``swift_mil``.
        reranker: what chooses among the cells, if anything does.
        force: as for :func:`join`; weights for the cells of any detector will do.

    Raises:
        BundleError: the bundle or its weights are missing or do not fit together.
        ConfigError: there is no such classifier.
    """
    if name not in {"auto", *CLASSIFIERS}:
        raise ConfigError(f"there is no slide classifier '{name}'", f"use auto, {' or '.join(CLASSIFIERS)}")
    best, other = CLASSIFIERS
    home = find_bundle(best, bundles)
    if name != "auto":
        other, why = name, "as asked for"
    elif not (why := missing_weights(best, home, profile, _overlays(home, profile, detection))):
        chosen = _load_classifier(best, bundles, profile, device, detection, "default where it has weights")
        stored = slide_classifier_of(chosen).detector_sha256
        detector = detection.bundle.weights_sha256
        if force or stored in {"", detector, _chosen_by(detector, reranker)}:
            return chosen
        why = f"the threshold of {best} was set for another detector than {detection.choice.name}"
    return _load_classifier(other, bundles, profile, device, detection, why)


def _overlays(home: Path | None, profile: str, detection: Chosen) -> list[str]:
    return [] if home is None else overlays_in(home, profile, detection.choice.name)


def _load_classifier(
    name: str, bundles: Path | None, profile: str, device: torch.device, detection: Chosen, why: str
) -> Chosen:
    home = bundle_root(name) if bundles is None else bundles / name
    overlays = _overlays(home, profile, detection)
    return Chosen(Choice(name, why), load_bundle_network(home, profile, device, overlays=overlays))


def slide_classifier_of(slides: Chosen) -> SlideClassifier:
    """The network of a slide classifier's bundle.

    Raises:
        BundleError: it is another kind of network.
    """
    network = slides.bundle.network
    if not isinstance(network, SlideClassifier):
        raise BundleError(
            f"network_def of {slides.choice.name} is a {type(network).__name__}", "make it a SlideClassifier"
        )
    return network


def join(
    detection: Chosen,
    slides: Chosen,
    reranker: CellReranker | None,
    device: torch.device,
    force: bool = False,
    explainer: Explainer = _NO_WORDS,
) -> Models:
    """Networks that are to work together, if they can.

    Args:
        force: decide although the threshold was set for another K or on cells that were chosen in another way; the
            operating point's source says so.

    Raises:
        BundleError, ConfigError: as :func:`load_models`.
    """
    classifier, network = slide_classifier_of(slides), detection.bundle.network
    if not isinstance(network, TileDetector):
        raise BundleError(f"network_def of detection, a {type(network).__name__}, has no detect()", "give it one")
    parts = {"detection": detection.bundle, slides.choice.name: slides.bundle}
    weights = {name: bundle.weights_sha256 for name, bundle in parts.items()}
    notes = [bundle.metadata.get("note", "") for bundle in parts.values()]
    if reranker is not None:
        reranker.check_crops(slides.bundle.numbers["crop_size"], slides.bundle.numbers["crop_mpp"])
        weights[CELL_BUNDLE] = reranker.weights
        notes.append(reranker.note)
    if explainer.facts.made:
        weights[TEXT_BUNDLE] = explainer.weights
        notes.append(explainer.note)
    for part in (classifier, network):
        part.eval().requires_grad_(False)
    point = _operating_point(classifier, slides, force)
    point, caveat = _for_these_cells(point, classifier, detection.choice.name, weights["detection"], reranker, force)
    return Models(
        detector=network,
        detector_choice=detection.choice,
        classifier=classifier,
        classifier_choice=slides.choice,
        operating_point=point,
        numbers={name: bundle.numbers for name, bundle in parts.items()},
        weights=weights,
        note=" ".join(dict.fromkeys(note for note in [*notes, caveat] if note)),
        device=device,
        reranker=reranker,
        explainer=explainer,
    )


def _operating_point(classifier: SlideClassifier, slides: Chosen, force: bool) -> OperatingPoint:
    bundle = slides.bundle
    point = classifier.operating_point(bundle.metadata.get("operating_point", "stored with the weights"))
    wanted = bundle.numbers["bag_size"]
    if point.bag_size == wanted:
        return point
    if not force:
        raise BundleError(
            f"the slide head's threshold holds for bags of {point.bag_size} cells, the configuration asks for {wanted}",
            f"set bag_size to {point.bag_size}, or evaluate {slides.choice.name} at the new size",
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
    wanted = _chosen_by(detector, reranker)
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


def _chosen_by(detector: str, reranker: CellReranker | None) -> str:
    """SHA-256 that names what chooses the cells; see :func:`stride_monai.data.bag.chosen_by`."""
    return detector if reranker is None else chosen_by(detector, reranker.weights, reranker.candidates)
