"""What the user asked of screening. Imports nothing heavy: a wrong word is refused before networks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Options", "Rerank"]


class Rerank(NamedTuple):
    """That a cell classifier is to choose among more cells than K, and which; see ``load_reranker``."""

    source: Path | str = "cell_cls"
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        mpp: um/px that wins over the file's own; a manifest's value for one slide wins over this.
        bundles: folder with bundles of the user's, some or all; None for those of the package.
        detector: ``auto`` for that of the profile, or the name of one (:mod:`stride_monai.screening.models`).
        rerank: a cell classifier chooses the best K of more cells than K; None for the detector's own order.
        activation: how much a cell speaks for the slide class, see
            :func:`stride_monai.networks.class_activation`; None for that of the slide classifier's bundle.
        force: make a call although the threshold was set for another K or on cells that were chosen in another way.
        classifier: bundle of the slide classifier; ``auto`` for coloradv where it has weights, else swift_mil.
        descriptions: whether cells are described in words; None for where the bundle text_align has weights.
        weights: by stage (:data:`stride_monai.screening.sources.STAGES`) the weights files to use: one, or a base and
            files of what differs from it. What is not named here is in the bundles.
        image, plane: which of several in a file, see :func:`stride_monai.slides.open_slide`.
    """

    mpp: float | None = None
    reader: str = "auto"
    device: str = "auto"
    profile: str = "tiny"
    bundles: Path | None = None
    detector: str = "auto"
    rerank: Rerank | None = None
    activation: str | None = None
    force: bool = False
    classifier: str = "auto"
    descriptions: bool | None = None
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    image: int | None = None
    plane: int | None = None
