"""Why each cell is suspicious: the diagnostic descriptions that apply to it (METHOD section 7).

The bundle ``text_align`` puts the features of the slide classifier's image encoder and the texts of the vocabulary into
one space. A text applies to a cell if the cosine of the two is above the threshold that was set on validation cells. It
takes the features that the classifier has anyway, so it costs next to nothing and changes no probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stride_monai.errors import SlideError
from stride_monai.findings import Described, Description
from stride_monai.inferers.cpu import one_thread
from stride_monai.networks.alignment.aligner import DescriptionAligner

__all__ = ["Explainer"]

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
        origin: how they were found, and their files; None likewise.
        note: what the weights say of themselves.
    """

    facts: Described
    aligner: DescriptionAligner | None = None
    weights: str = ""
    note: str = ""
    origin: tuple[str, tuple[Path, ...]] | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """Stages of the image encoder that it looks at besides the class features."""
        return () if self.aligner is None else self.aligner.levels

    def describe(
        self, features: Tensor, classes: Sequence[str], slide: str = "the slide"
    ) -> list[tuple[Description, ...]]:
        """Descriptions of each cell, the most similar first; equals in the order of the vocabulary.

        Args:
            features: of the image encoder and of :attr:`levels` ``[n, D]``.
            classes: the class that each cell was called, n of them.
            slide: its name, for the message.

        Raises:
            SlideError: a similarity is no number.
        """
        if self.aligner is None:
            return [()] * len(classes)
        cosines = _similarities(self.aligner, features)
        if not bool(cosines.isfinite().all()):
            raise SlideError(f"{slide}: text_align gives non-finite similarities", "check its weights")
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
        parts.append(aligner(full)[: len(part)].float().cpu())
    return torch.cat(parts)


def _descriptions(
    cell_class: str, texts: Sequence[str], cosines: Sequence[float], keep: Sequence[bool]
) -> tuple[Description, ...]:
    order = sorted((k for k in range(len(texts)) if keep[k]), key=lambda k: -cosines[k])
    return tuple(Description.of(cell_class, texts[k], cosines[k]) for k in order)
