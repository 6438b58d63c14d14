"""The networks that screening runs together, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch

from stride_monai.errors import BundleError
from stride_monai.findings import Described, OperatingPoint
from stride_monai.inferers.describe import Explainer
from stride_monai.inferers.rerank import CELL_BUNDLE, RULE, CellReranker
from stride_monai.inferers.threshold import ChosenCells, GivenPoint, threshold_for
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.operating_point import HoldsFor
from stride_monai.runtimes.choice import RuntimeChoice, choose_runtime
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.store import About, Choice, Chosen, Origin

__all__ = ["TEXT_BUNDLE", "Models", "cells_of", "join", "slide_classifier_of"]

TEXT_BUNDLE = "text_align"
_THRESHOLD = "threshold"
_NO_WORDS = Explainer(Described(False, "not asked for"))


@dataclass(frozen=True, slots=True)
class Models:
    """Detector and slide classifier (cell encoder, cell head, slide head), ready to run.

    Attributes:
        detector, detector_choice: its name and why it was chosen; None where cells come from bag files.
        classifier_choice: the bundle of the slide classifier and why it was chosen.
        numbers: the inference settings of both bundles, by bundle name.
        weights: SHA-256 of each bundle's weights file.
        reranker: chooses among the detector's cells; None for the detector's own order.
        explainer: describes the cells, or says why it does not.
        origins: where the weights of each bundle were taken from.
        given_point: the operating point that the user gave as a file; None for the stored one.
        threshold_source: where the stored threshold comes from, in words.
        notes: what the weights of each bundle say of themselves, and what concerns the threshold.
        runtime: what computes detector and cell encoder.
        features: computes the features of cells in the place of torch; None for torch.
        precision: in which it computes: ``float32``, ``bfloat16`` or ``int8``.
        int8: of int8 the SHA-256 of each network's files.
    """

    detector: TileDetector | None
    detector_choice: Choice | None
    classifier: SlideClassifier
    classifier_choice: Choice
    operating_point: OperatingPoint
    numbers: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    device: torch.device
    reranker: CellReranker | None = None
    explainer: Explainer = _NO_WORDS
    origins: Mapping[str, Origin] = field(default_factory=dict)
    given_point: GivenPoint | None = None
    threshold_source: str = "stored with the weights"
    notes: Mapping[str, str] = field(default_factory=dict)
    runtime: RuntimeChoice = field(default_factory=lambda: choose_runtime("torch", "cpu"))
    features: Callable[[torch.Tensor], torch.Tensor] | None = None
    precision: str = "float32"
    int8: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What the weights say of themselves, and what is to be known of the threshold."""
        return " ".join(dict.fromkeys(note for note in self.notes.values() if note))

    @property
    def held_for(self) -> HoldsFor:
        """What an operating point of these networks holds for, as far as it does not depend on the cells."""
        return _held_for(self.classifier_choice.name, self.weights, self.numbers, self.precision, self.int8)

    @property
    def about(self) -> About:
        """What is to be said of these networks."""
        again = self.reranker
        return About(
            self.detector_choice,
            self.classifier_choice,
            self.explainer.facts,
            dict(self.weights),
            self.note,
            self.operating_point.holds,
            None if again is None else (again.name, again.top_k, again.candidates),
            dict(self.origins),
            "" if self.given_point is None else self.given_point.source,
            f"{self.runtime.in_words()}, {self.precision}",
        )

    def without_detector(self) -> Models:
        """Those that judge cells of bag files, each of which says what chose them; nothing of what finds cells."""
        finding = {"detection", CELL_BUNDLE, _THRESHOLD}
        return replace(
            self,
            detector=None,
            detector_choice=None,
            reranker=None,
            weights={name: sha256 for name, sha256 in self.weights.items() if name not in finding},
            origins={name: origin for name, origin in self.origins.items() if name not in finding},
            notes={name: note for name, note in self.notes.items() if name not in finding},
        )


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
    config: ScreeningConfig | None = None,
    explainer: Explainer = _NO_WORDS,
    given: GivenPoint | None = None,
    precision: str = "float32",
    int8: Mapping[str, str] = MappingProxyType({}),
) -> Models:
    """Networks that are to work together, if they can.

    Args:
        detection: None where cells come from bag files, each of which says what chose them.
        config: with ``force`` the threshold decides although it was set for another K or on cells that were chosen in
            another way, and the operating point's source says so. Where it says whether to re-rank and the threshold
            does not hold for such cells, no call is made.
        given: the operating point that decides in place of the stored one.
        precision, int8: in which detector and cell encoder are to be computed, see :class:`Models`.

    Raises:
        BundleError, ConfigError: as :func:`load_models`.
    """
    config = config or ScreeningConfig()
    classifier, slides = slide_classifier_of(slides), _with_own_top_k(slides, config.force, given)
    parts = {**({"detection": detection} if detection else {}), slides.choice.name: slides}
    weights = {name: chosen.bundle.weights_sha256 for name, chosen in parts.items()}
    origins = {name: Origin(chosen.how, chosen.bundle.files) for name, chosen in parts.items()}
    notes = {name: chosen.bundle.metadata.get("note", "") for name, chosen in parts.items()}
    if reranker is not None:
        reranker.check_crops(slides.bundle.numbers["crop_px"], slides.bundle.numbers["crop_mpp"])
        weights[CELL_BUNDLE] = reranker.weights
        notes[CELL_BUNDLE] = reranker.note
    if explainer.facts.made:
        weights[TEXT_BUNDLE] = explainer.weights
        if explainer.origin is not None:
            origins[TEXT_BUNDLE] = Origin(*explainer.origin)
        notes[TEXT_BUNDLE] = explainer.note
    for chosen in parts.values():
        chosen.bundle.network.eval().requires_grad_(False)
    source = slides.bundle.metadata.get("operating_point", "stored with the weights")
    put_together = detection is None or "given" in {detection.how, slides.how} or detection.how != slides.how
    mixed = put_together or config.reranks is not None
    cells = cells_of(detection, reranker)
    numbers = {name: chosen.bundle.numbers for name, chosen in parts.items()}
    name = slides.choice.name
    now = _held_for(name, weights, numbers, precision, int8)
    point, caveat = threshold_for(
        classifier, numbers[name]["top_k"], cells, source, config.force, mixed, name, given, now
    )
    if detection is not None:  # else it depends on the bag
        notes[_THRESHOLD] = caveat
    return Models(
        detector=None if detection is None else _detector_of(detection),
        detector_choice=None if detection is None else detection.choice,
        classifier=classifier,
        classifier_choice=slides.choice,
        operating_point=point,
        numbers=numbers,
        weights=weights,
        device=device,
        reranker=reranker,
        explainer=explainer,
        origins=origins,
        given_point=given,
        threshold_source=source,
        notes=notes,
        precision=precision,
        int8=int8,
    )


def _held_for(
    classifier: str,
    weights: Mapping[str, str],
    numbers: Mapping[str, Mapping[str, Any]],
    precision: str,
    int8: Mapping[str, str],
) -> HoldsFor:
    tile_mpp, crop_mpp = numbers.get("detection", {}).get("tile_mpp"), numbers[classifier]["crop_mpp"]
    return HoldsFor(classifier, weights, tile_mpp=tile_mpp, crop_mpp=crop_mpp, precision=precision, int8=int8)


def _detector_of(detection: Chosen) -> TileDetector:
    network = detection.bundle.network
    if not isinstance(network, TileDetector):
        raise BundleError(f"network_def of detection, a {type(network).__name__}, has no detect()", "give it one")
    return network


def _with_own_top_k(slides: Chosen, force: bool, given: GivenPoint | None) -> Chosen:
    """The classifier with its threshold's K, where its weights were named: those know their K."""
    bundle = slides.bundle
    if slides.how != "given" or force:
        return slides
    network = slide_classifier_of(slides)
    own = network.operating_point().bag_size if given is None else int(network.bag_size)
    return slides._replace(bundle=bundle._replace(numbers={**bundle.numbers, "top_k": own}))


def cells_of(detection: Chosen | None, reranker: CellReranker | None) -> ChosenCells:
    if detection is None:
        return ChosenCells("")
    cells = ChosenCells(detection.bundle.weights_sha256, name=detection.choice.name)
    if reranker is None:
        return cells
    return cells._replace(reranker=reranker.weights, candidates=reranker.candidates, rule=RULE)
