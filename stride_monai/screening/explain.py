"""Why each cell is suspicious: the diagnostic descriptions that apply to it (METHOD section 7).

The bundle ``text_align`` puts the features of the slide classifier's image encoder and the texts of the vocabulary into
one space. A text applies to a cell if the cosine of the two is above the threshold that was set on validation cells. It
takes the features that the classifier has anyway, so it costs next to nothing and changes no probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stride_monai.errors import BundleError, SlideError
from stride_monai.findings import Described, Description
from stride_monai.inferers.cpu import one_thread
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.screening.recognize import load_source
from stride_monai.screening.sources import Origin, Source

__all__ = ["TEXT_BUNDLE", "Explainer", "load_explainer"]

TEXT_BUNDLE = "text_align"
_ROWS = 64
"""Cells per product. Always as many, the last ones padded: kernels are chosen by shape, so what is said of a cell does
not depend on how many other cells the slide has."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Describes cells, or says why it does not.

    Attributes:
        facts: for the findings.
        aligner: None where cells are not described.
        weights: SHA-256 of its weights file, empty likewise.
        origin: where they were taken from, None likewise.
        note: what the weights say of themselves.
    """

    facts: Described
    aligner: DescriptionAligner | None = None
    weights: str = ""
    note: str = ""
    origin: Origin | None = None

    def __call__(
        self, features: Tensor, classes: Sequence[str], slide: str = "the slide"
    ) -> list[tuple[Description, ...]]:
        """Descriptions of each cell, the most similar first; equals in the order of the vocabulary.

        Args:
            features: of the image encoder ``[n, D]``.
            classes: the class that each cell was called, n of them.
            slide: its name, for the message.

        Raises:
            SlideError: a similarity is no number.
        """
        if self.aligner is None:
            return [()] * len(classes)
        cosines = _similarities(self.aligner, features)
        if not bool(cosines.isfinite().all()):
            raise SlideError(f"{slide}: {TEXT_BUNDLE} gives similarities that are no numbers", "check its weights")
        keep = self.aligner.keep(cosines).tolist()
        return [
            _descriptions(name, self.aligner.texts, row, kept)
            for name, row, kept in zip(classes, cosines.double().tolist(), keep, strict=True)
        ]


@one_thread()
@torch.inference_mode()
def _similarities(aligner: DescriptionAligner, features: Tensor) -> Tensor:
    """Cosines ``[n, texts]`` on the CPU."""
    parts = [torch.zeros((0, len(aligner.texts)))]
    for part in torch.split(features, _ROWS) if len(features) else ():
        full = torch.zeros((_ROWS, features.shape[1]), dtype=features.dtype, device=features.device)
        full[: len(part)] = part
        parts.append(aligner.similarities(full)[: len(part)].float().cpu())
    return torch.cat(parts)


def _descriptions(
    cell_class: str, texts: Sequence[str], cosines: Sequence[float], keep: Sequence[bool]
) -> tuple[Description, ...]:
    order = sorted((k for k in range(len(texts)) if keep[k]), key=lambda k: -cosines[k])
    return tuple(Description.of(cell_class, texts[k], cosines[k]) for k in order)


def load_explainer(
    source: Source,
    profile: str,
    device: torch.device,
    encoder: CellClassifier,
    wanted: bool | None = None,
    strict: bool = True,
) -> Explainer:
    """The bundle ``text_align`` for the image encoder of a slide classifier.

    Args:
        source: where ``text_align`` comes from.
        profile: ``tiny`` or ``paper``.
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
    if not source.given and (lacking := source.lacks(profile)):
        if wanted:
            raise BundleError(f"cells cannot be described: {lacking}", "train text_align, or screen without words")
        return Explainer(Described(False, lacking))
    loaded = load_source(source, profile, device)
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
