"""The networks that screening runs, loaded once from their bundles, and whether they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from stride_monai.errors import BundleError, ConfigError, MissingExtraError, StrideError
from stride_monai.findings import Described, OperatingPoint
from stride_monai.inferers.describe import Explainer
from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.screening.config import CLASSIFIERS, ScreeningConfig
from stride_monai.screening.explain import TEXT_BUNDLE, load_explainer
from stride_monai.screening.reranking import reranker_from
from stride_monai.screening.store import BundleStore, Choice, Chosen, Origin

__all__ = [
    "Models",
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
        raise ConfigError(f"unknown device '{name}'", "use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here", "use --device cpu, or see stride-monai doctor")
    return device


@dataclass(frozen=True, slots=True)
class Models:
    """Detector and slide classifier (cell encoder, cell head, slide head), ready to run.

    Attributes:
        detector, detector_choice: its name and why it was chosen; None where cells come from bag files.
        classifier_choice: the bundle of the slide classifier and why it was chosen.
        numbers: the inference settings of both bundles, by bundle name.
        weights: SHA-256 of each bundle's weights file.
        note: what the weights say of themselves, and what is to be known of the threshold.
        reranker: chooses among the detector's cells; None for the detector's own order.
        explainer: describes the cells, or says why it does not.
        origins: where the weights of each bundle were taken from.
        threshold_source: where the stored threshold comes from, in words.
    """

    detector: TileDetector | None
    detector_choice: Choice | None
    classifier: SlideClassifier
    classifier_choice: Choice
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    note: str
    device: torch.device
    reranker: CellReranker | None = None
    explainer: Explainer = _NO_WORDS
    origins: Mapping[str, Origin] = field(default_factory=dict)
    threshold_source: str = "stored with the weights"


def load_models(config: ScreeningConfig) -> Models:
    """Load detection, a slide classifier, text_align where there is one, and with ``rerank`` a cell classifier.

    What came with the package never fails for a ``text_align`` of another encoder unless something was asked for: the
    cells are not described then.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size or on the
            cells of another detector, or text_align was trained on another image encoder.
        ConfigError: the detector is unknown, the device is not there, or the classifier does not take such crops.
        MissingExtraError: the detector needs a package that is not installed.
    """
    device = choose_device(config.device)
    store = BundleStore.of(config, device)
    detection = load_detector(store, config.detector)
    reranker, again = None, store[CELL_BUNDLE]
    if config.rerank:
        top_k = detection.bundle.numbers["top_k"]
        reranker, again = reranker_from(store, top_k, config.candidates, config.reranker)
    slides = load_classifier(store, detection, config.classifier, reranker, config.force)
    words = store[TEXT_BUNDLE]
    # Refused where it does not fit, not passed over: what was named, and a set of bundles that contradicts itself.
    strict = words.given != () or (words.how == slides.how and (words.how != "shipped" or config.classifier != "auto"))
    explainer = load_explainer(store, slide_classifier_of(slides).encoder, config.descriptions, strict)
    models = join(detection, slides, reranker, device, config.force, explainer)
    if reranker is None:
        return models
    return replace(models, origins={**models.origins, CELL_BUNDLE: Origin(again.how, tuple(again.files()))})


def load_detector(store: BundleStore, detector: str = "auto") -> Chosen:
    """The detector of that name (:meth:`~stride_monai.screening.BundleStore.choose_detector`) with its weights.

    Where its weights were named and it was not, it is the one that they fit. Errors as for :func:`load_models`.
    """
    source, choice = store["detection"], store.choose_detector(detector)
    choices = [choice]
    if detector == "auto" and source.how != "shipped":
        others = [name for name in source.detectors() if name != choice.name]
        choices += [Choice(name, "the one that its weights fit") for name in others]
    refused: StrideError | None = None
    for choice in choices:
        try:
            return Chosen(choice, store.load(source, choice.name), source.how)
        except (BundleError, MissingExtraError) as error:
            refused = refused or error
    assert refused is not None
    raise refused


def load_classifier(
    store: BundleStore,
    detection: Chosen,
    name: str = "auto",
    reranker: CellReranker | None = None,
    force: bool = False,
) -> Chosen:
    """The slide classifier of that name.

    Args:
        store: where the stages come from.
        detection: what finds the cells.
        name: ``auto``, ``coloradv`` or ``swift_mil``. ``auto`` is the one whose weights were named; else, of those of
            the user's bundles where there are such, ``coloradv`` where it has weights, for the cells of this detector,
            and else ``swift_mil``.
        reranker: what chooses among the cells, if anything does.
        force: as for :func:`join`; weights for the cells of any detector will do.

    Raises:
        BundleError: the bundle or its weights are missing or do not fit together.
    """
    (best, other), finder = CLASSIFIERS, detection.choice.name

    def load(name: str, why: str) -> Chosen:
        return Chosen(Choice(name, why), store.load(name, finder), store[name].how)

    if name != "auto":
        return load(name, "as asked for")
    if named := [name for name in CLASSIFIERS if name in store.weights]:
        return load(named[0], "its weights were given")
    own = [name for name in CLASSIFIERS if store[name].own]
    if len(own) == 1 and not store[own[0]].lacks(finder):
        return load(own[0], "the one in the bundles that were given")
    if not (why := store[best].lacks(finder)):
        chosen = load(best, "default where it has weights")
        stored = slide_classifier_of(chosen).detector_sha256
        cells = _chosen_by(detection, reranker)
        if force or stored in {"", cells.detector, cells.sha256}:
            return chosen
        why = f"the threshold of {best} was set for another detector than {finder}"
    return load(other, why)


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
    detection: Chosen | None,
    slides: Chosen,
    reranker: CellReranker | None,
    device: torch.device,
    force: bool = False,
    explainer: Explainer = _NO_WORDS,
) -> Models:
    """Networks that are to work together, if they can.

    Args:
        detection: None where cells come from bag files, each of which says what chose them.
        force: decide although the threshold was set for another K or on cells that were chosen in another way; the
            operating point's source says so.

    Raises:
        BundleError, ConfigError: as :func:`load_models`.
    """
    classifier, slides = slide_classifier_of(slides), _with_own_top_k(slides, force)
    parts = {**({"detection": detection} if detection else {}), slides.choice.name: slides}
    weights = {name: chosen.bundle.weights_sha256 for name, chosen in parts.items()}
    origins = {name: Origin(chosen.how, chosen.bundle.files) for name, chosen in parts.items()}
    notes = [chosen.bundle.metadata.get("note", "") for chosen in parts.values()]
    if reranker is not None:
        reranker.check_crops(slides.bundle.numbers["crop_px"], slides.bundle.numbers["crop_mpp"])
        weights[CELL_BUNDLE] = reranker.weights
        notes.append(reranker.note)
    if explainer.facts.made:
        weights[TEXT_BUNDLE] = explainer.weights
        if explainer.origin is not None:
            origins[TEXT_BUNDLE] = Origin(*explainer.origin)
        notes.append(explainer.note)
    for chosen in parts.values():
        chosen.bundle.network.eval().requires_grad_(False)
    source = slides.bundle.metadata.get("operating_point", "stored with the weights")
    mixed = detection is None or "given" in {detection.how, slides.how} or detection.how != slides.how
    cells = _chosen_by(detection, reranker)
    point, caveat = threshold_for(
        classifier, slides.bundle.numbers["top_k"], cells, source, force, mixed, slides.choice.name
    )
    if detection is not None:  # else it depends on the bag
        notes.append(caveat)
    return Models(
        detector=None if detection is None else _detector_of(detection),
        detector_choice=None if detection is None else detection.choice,
        classifier=classifier,
        classifier_choice=slides.choice,
        operating_point=point,
        numbers={name: chosen.bundle.numbers for name, chosen in parts.items()},
        weights=weights,
        note=" ".join(dict.fromkeys(note for note in notes if note)),
        device=device,
        reranker=reranker,
        explainer=explainer,
        origins=origins,
        threshold_source=source,
    )


def _detector_of(detection: Chosen) -> TileDetector:
    network = detection.bundle.network
    if not isinstance(network, TileDetector):
        raise BundleError(f"network_def of detection, a {type(network).__name__}, has no detect()", "give it one")
    return network


def _with_own_top_k(slides: Chosen, force: bool) -> Chosen:
    """The classifier with its threshold's K, where its weights were named: those know their K."""
    bundle = slides.bundle
    if slides.how != "given" or force:
        return slides
    own = slide_classifier_of(slides).operating_point().bag_size
    return slides._replace(bundle=bundle._replace(numbers={**bundle.numbers, "top_k": own}))


def _chosen_by(detection: Chosen | None, reranker: CellReranker | None) -> ChosenCells:
    if detection is None:
        return ChosenCells("")
    cells = ChosenCells(detection.bundle.weights_sha256, name=detection.choice.name)
    return cells if reranker is None else cells._replace(reranker=reranker.weights, candidates=reranker.candidates)
