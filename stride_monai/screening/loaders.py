"""The networks of screening, loaded from the bundles of a :class:`~stride_monai.screening.BundleStore`."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch

from stride_monai.errors import BundleError, ConfigError, MissingExtraError, StrideError
from stride_monai.files import sha256_of
from stride_monai.findings import Described
from stride_monai.inferers.describe import Explainer
from stride_monai.inferers.rerank import CELL_BUNDLE
from stride_monai.inferers.threshold import GivenPoint
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.alignment.views import described_dim
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.operating_point import read_operating_point
from stride_monai.runtimes.choice import PRECISIONS, check_precision, choose_runtime
from stride_monai.screening.compiled import compiled, int8_home, int8_of
from stride_monai.screening.config import CLASSIFIERS, ScreeningConfig
from stride_monai.screening.models import TEXT_BUNDLE, Models, cells_of, join, slide_classifier_of
from stride_monai.screening.recognize import RECOGNIZED
from stride_monai.screening.reranking import Reranking, share_encoder
from stride_monai.screening.store import BundleStore, Choice, Chosen, Origin

__all__ = [
    "choose_device",
    "given_point",
    "load_classifier",
    "load_detector",
    "load_explainer",
    "load_models",
]

_log = logging.getLogger(__name__)


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


def load_models(config: ScreeningConfig) -> Models:
    """Load detection, a slide classifier, text_align where there is one, and a cell classifier where it re-ranks.

    What came with the package never fails for a ``text_align`` of another encoder unless something was asked for: the
    cells are not described then.

    Raises:
        BundleError: a bundle or its weights are missing, or the operating point was set for another bag size or on the
            cells of another detector, or text_align was trained on another image encoder.
        ConfigError: the detector is unknown, the device is not there, or the classifier does not take such crops.
        MissingExtraError: the runtime or the detector needs a package that is not installed.
    """
    device = choose_device(config.device)
    store = BundleStore.of(config, device)
    given = given_point(config)
    detection = load_detector(store, config.detector)
    reranking = Reranking(store, config, detection)
    name = _classifier_name(config, given)
    slides = load_classifier(store, detection, name, reranking, config.force)
    held = slide_classifier_of(slides).detector_sha256 if given is None else given.point.holds_for.cells_chosen_by
    reranker = reranking.fitting(held)
    if name != config.classifier:
        slides = slides._replace(choice=Choice(name, "the operating point names it"))
    words = store[TEXT_BUNDLE]
    # Refused where it does not fit, not passed over: what was named, and a set of bundles that contradicts itself.
    strict = words.given != () or (words.how == slides.how and (words.how != "shipped" or config.classifier != "auto"))
    explainer = load_explainer(store, slide_classifier_of(slides).encoder, config.descriptions, strict)
    runtime = choose_runtime(config.runtime, device.type)
    check_precision(config.precision, runtime.name)
    precision, int8 = PRECISIONS[config.precision], int8_of(config)
    models = join(detection, slides, reranker, device, config, explainer, given, precision, int8)
    if reranker is not None:
        models = replace(models, origins={**models.origins, CELL_BUNDLE: reranking.origin})
    return share_encoder(compiled(models, runtime, int8_home(config)))


def given_point(config: ScreeningConfig) -> GivenPoint | None:
    """The operating point of the user's file, if there is one.

    Raises:
        ConfigError: the file cannot be read, or is none.
    """
    path = config.operating_point
    return None if path is None else GivenPoint(read_operating_point(path), path.name, sha256_of(path))


def _classifier_name(config: ScreeningConfig, given: GivenPoint | None) -> str:
    """Of the slide classifier: that of the operating point's file, where nothing else says which."""
    if given is None or config.classifier != "auto" or set(CLASSIFIERS) & set(config.weights):
        return config.classifier
    named = given.point.holds_for.classifier
    return named if named in CLASSIFIERS else config.classifier


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
    reranking: Reranking | None = None,
    force: bool = False,
) -> Chosen:
    """The slide classifier of that name.

    Args:
        name: ``auto``, ``coloradv`` or ``swift_mil``. ``auto`` is the one whose weights were named; else, of those of
            the user's bundles where there are such, ``coloradv`` where it has weights, for the cells of this detector,
            and else ``swift_mil``.
        reranking: what may choose among the cells.
        force: as for :func:`join`; weights for the cells of any detector will do.

    Raises:
        BundleError: the bundle or its weights are missing or do not fit together.
    """
    (best, other), finder = CLASSIFIERS, detection.choice.name

    def load(name: str, why: str) -> Chosen:
        bundle = store.load(name, finder)
        own = bundle.metadata.get(RECOGNIZED)
        return Chosen(Choice(name, f"{why}; {own}" if own else why), bundle, store[name].how)

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
        cells = cells_of(detection, None if reranking is None else reranking.fitting(stored))
        if force or stored in {"", cells.detector, cells.sha256}:
            return chosen
        why = f"the threshold of {best} was set for another detector than {finder}"
    return load(other, why)


def load_explainer(
    store: BundleStore,
    encoder: CellClassifier,
    wanted: bool | None = None,
    strict: bool = True,
) -> Explainer:
    """The bundle ``text_align`` for the image encoder of a slide classifier.

    Args:
        encoder: the image encoder whose features it will be given.
        wanted: True: cells must be described; False: they are not; None: where the bundle has weights.
        strict: with None, refuse weights that were trained on another image encoder. Otherwise cells are not described
            then, and the explainer says so.

    Raises:
        BundleError: it is wanted and has no weights; or it was trained on another image encoder; or it holds no
            threshold or is of another kind.
    """
    if wanted is False:
        return Explainer(Described(False, "switched off"))
    source = store[TEXT_BUNDLE]
    if not source.given and (lacking := source.lacks()):
        if wanted:
            raise BundleError(f"cells cannot be described: {lacking}", "train text_align, or screen without words")
        return Explainer(Described(False, lacking))
    loaded = store.load(source)
    aligner = loaded.network.eval().requires_grad_(False)
    if not isinstance(aligner, DescriptionAligner):
        raise BundleError(f"network_def of {TEXT_BUNDLE} is a {type(aligner).__name__}", "make it a DescriptionAligner")
    try:
        aligner.check_encoder(encoder)
    except BundleError as error:
        if wanted or strict:
            advice = "use the slide classifier that it was trained on, train text_align on this one, or screen with"
            raise BundleError(error.what, f"{advice} --no-descriptions") from error
        return Explainer(Described(False, error.what))
    _refuse_unusable(aligner, encoder)
    known = "" if aligner.encoder_sha256 else f"It is not known on which image encoder {TEXT_BUNDLE} was trained."
    note = " ".join(part for part in (loaded.metadata.get("note", ""), known) if part)
    default = f"default where {TEXT_BUNDLE} has weights"
    why = "as asked for" if wanted else "its weights were given" if source.given else default
    origin = Origin(source.how, loaded.files)
    return Explainer(Described(True, why, float(aligner.threshold)), aligner, loaded.weights_sha256, note, origin)


def _refuse_unusable(aligner: DescriptionAligner, encoder: CellClassifier) -> None:
    try:
        given = described_dim(encoder, aligner.levels)
        aligner(torch.zeros((1, given), device=aligner.threshold.device))
    except (RuntimeError, ConfigError) as error:
        raise BundleError(
            f"{TEXT_BUNDLE} does not take the {encoder.feature_dim} features of the image encoder",
            "use the profile that fits, or screen with --no-descriptions",
        ) from error
    if math.isnan(float(aligner.threshold)):
        raise BundleError(
            f"{TEXT_BUNDLE} holds no threshold",
            "train it with validation cells, it sets one; or screen with --no-descriptions",
        )
