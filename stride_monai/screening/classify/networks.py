"""The networks that classify single cells, loaded from the bundles of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import BundleError
from stride_monai.findings import Described
from stride_monai.inferers.describe import Explainer
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.screening.classify.config import CELL_CLASSIFIERS, ClassifyConfig
from stride_monai.screening.loaders import choose_device, load_explainer
from stride_monai.screening.models import TEXT_BUNDLE
from stride_monai.screening.store import About, BundleStore, Choice, Origin
from stride_monai.workflows.load import LoadedBundle

__all__ = ["CellNetworks", "load_cell_networks"]

_NOT_ASKED = "not asked for (--descriptions)"


@dataclass(frozen=True, slots=True)
class CellNetworks:
    """What classifies single cells, and describes them where asked.

    Attributes:
        network: the classifier, in eval mode on its device.
        describer: the network whose features the explainer knows: the same one, or the one that it was trained on.
        crop_px, crop_mpp: side of the crops in px, and their um/px.
        about: for people and for the files of results.
    """

    network: CellClassifier
    describer: CellClassifier
    explainer: Explainer
    crop_px: int
    crop_mpp: float
    device: str
    about: About


def load_cell_networks(config: ClassifyConfig) -> CellNetworks:
    """Load the classifier, and where cells are to be described text_align and the encoder that it knows.

    Raises:
        BundleError: a bundle or its weights are missing, or no encoder is the one that text_align was trained on.
        ConfigError: the device is not there.
    """
    device = choose_device(config.device)
    store = BundleStore.of(config, device)
    name, why = config.chosen
    loaded = store.load(name)
    network = _classifier_of(loaded, name)
    weights, notes = {name: loaded.weights_sha256}, [loaded.metadata.get("note", "")]
    origins = {name: Origin(store[name].how, loaded.files)}
    describer, explainer = network, Explainer(Described(False, _NOT_ASKED))
    if config.descriptions:
        other, describer, explainer = _describing(store, name, loaded, network)
        if other is not None:
            weights[other[0]] = other[1].weights_sha256
            origins[other[0]] = Origin(store[other[0]].how, other[1].files)
        weights[TEXT_BUNDLE] = explainer.weights
        assert explainer.origin is not None
        origins[TEXT_BUNDLE] = Origin(*explainer.origin)
        notes.append(explainer.note)
    note = " ".join(dict.fromkeys(note for note in notes if note))
    about = About(None, Choice(name, why), explainer.facts, weights, note, True, None, origins)
    crop_px, crop_mpp = _crops_of(loaded)
    return CellNetworks(network, describer, explainer, crop_px, crop_mpp, device.type, about)


def _describing(
    store: BundleStore, name: str, loaded: LoadedBundle, network: CellClassifier
) -> tuple[tuple[str, LoadedBundle] | None, CellClassifier, Explainer]:
    """The encoder that text_align was trained on, with its bundle where it is not the one that classifies.

    Raises:
        BundleError: there is none, or text_align cannot be used.
    """
    why = ""
    for other, bundle, encoder in _encoders(store, name, loaded, network):
        if _crops_of(bundle) != _crops_of(loaded):
            continue
        explainer = load_explainer(store, encoder, strict=False)
        if explainer.facts.made:
            explainer = replace(explainer, facts=replace(explainer.facts, why="as asked for"))
            return None if other == name else (other, bundle), encoder, explainer
        why = why or explainer.facts.why
    raise BundleError(
        f"cells cannot be described: {why}", "train text_align on the encoder in use, or leave out --descriptions"
    )


def _encoders(
    store: BundleStore, name: str, loaded: LoadedBundle, network: CellClassifier
) -> Iterator[tuple[str, LoadedBundle, CellClassifier]]:
    yield name, loaded, network
    for other in CELL_CLASSIFIERS:
        if other != name and (store[other].given or not store[other].lacks()):
            bundle = store.load(other)
            yield other, bundle, _classifier_of(bundle, other)


def _crops_of(loaded: LoadedBundle) -> tuple[int, float]:
    return int(loaded.numbers["crop_px"]), float(loaded.numbers["crop_mpp"])


def _classifier_of(loaded: LoadedBundle, name: str) -> CellClassifier:
    network: torch.nn.Module = loaded.network
    if isinstance(network, SlideClassifier):
        network = network.encoder
    if not isinstance(network, CellClassifier) or network.num_classes != len(CELL_CLASSES):
        what = f"network_def of {name}, a {type(network).__name__}, does not classify cells into {len(CELL_CLASSES)}"
        raise BundleError(what, "make it a CellClassifier or a SlideClassifier")
    return network.eval().requires_grad_(False)
