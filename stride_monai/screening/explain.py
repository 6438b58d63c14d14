"""The bundle ``text_align`` that describes the cells of a slide classifier."""

from __future__ import annotations

import math

import torch

from stride_monai.errors import BundleError
from stride_monai.findings import Described
from stride_monai.inferers.describe import Explainer
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.screening.store import BundleStore, Origin

__all__ = ["TEXT_BUNDLE", "load_explainer"]

TEXT_BUNDLE = "text_align"


def load_explainer(
    store: BundleStore,
    encoder: CellClassifier,
    wanted: bool | None = None,
    strict: bool = True,
) -> Explainer:
    """The bundle ``text_align`` for the image encoder of a slide classifier.

    Args:
        store: where ``text_align`` comes from.
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
        aligner.similarities(torch.zeros((1, encoder.feature_dim), device=aligner.threshold.device))
    except RuntimeError as error:
        raise BundleError(
            f"{TEXT_BUNDLE} does not take the {encoder.feature_dim} features of the image encoder",
            "use the profile that fits, or screen with --no-descriptions",
        ) from error
    if math.isnan(float(aligner.threshold)):
        raise BundleError(
            f"{TEXT_BUNDLE} holds no threshold",
            "train it with validation cells, it sets one; or screen with --no-descriptions",
        )
