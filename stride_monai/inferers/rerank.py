"""Re-ranking: a cell classifier chooses, among more cells than K that the detector proposes, the K best.

STRIDE, methods ("we can further distill top-K with a better cell classifier for higher top-K recall"): the detector
looks at tiles at 1.0 um/px with a small network and has to find; the classifier looks at each cell at 0.5 um/px.

Both have a say: the cells are ranked by the product of the two probabilities (ours). The classifier alone says of a
normal cell beside a lesion, which is in its field of view, what is the lesion's.
Measured in `benchmarks/cric_left_out.py` and `benchmarks/rerank_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.data.datasets.tensors import padded
from stride_monai.data.ranking import rank_boxes
from stride_monai.errors import BagError, ConfigError
from stride_monai.inferers.cpu import over_crops
from stride_monai.transforms.topk_patches import CellBag

__all__ = ["CANDIDATES_PER_CELL", "CELL_BUNDLE", "RULE", "CellReranker", "proposed"]

CELL_BUNDLE = "cell_cls"
RULE = "detector x lesion"
"""What cells are ranked by; a threshold on the slide score holds for cells that were chosen so."""
CANDIDATES_PER_CELL = 4
"""Cells proposed for each that is kept, unless said otherwise. The paper names no number (ours): with K = 1024 the
detector proposes 4,096 of the about 80,000 cells of a slide."""


def proposed(top_k: int, reranker: CellReranker | None) -> int:
    """Cells that the detector is to propose: the candidates of what re-ranks them, else those that are kept."""
    return top_k if reranker is None else reranker.candidates


class CellReranker:
    """Keeps the ``top_k`` cells of a bag with the highest product of detector score and lesion probability.

    The lesion probability is one minus that of NILM, by a cell classifier. Ties break by the detector's score, then by
    place, so that a classifier that says what the detector says, or the same of all cells, changes nothing.

    Args:
        network: cell classifier, crops ``[B, 3, H, W]`` (0..1) -> logits ``[B, cell classes]``, in eval mode.
        weights: SHA-256 of its weights file.
        top_k: cells to keep.
        candidates: cells that the detector is to propose; None for ``CANDIDATES_PER_CELL * top_k``.
        crop_px: side of the crops that the network expects; of larger ones it gets the middle. None for all of it.
        crop_mpp: um/px that it expects; None for any.
        name: for people.
        note: what the weights file says of itself.

    Raises:
        ConfigError: fewer candidates than ``top_k``.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str,
        top_k: int,
        candidates: int | None = None,
        crop_px: int | None = None,
        crop_mpp: float | None = None,
        name: str = CELL_BUNDLE,
        note: str = "",
    ) -> None:
        self.network, self.top_k = network, top_k
        self.candidates = CANDIDATES_PER_CELL * top_k if candidates is None else candidates
        self.crop_px, self.crop_mpp, self.name, self.weights, self.note = crop_px, crop_mpp, name, weights, note
        self._shared: tuple[Callable[[Tensor], Tensor], int] | None = None
        if self.candidates < top_k:
            raise ConfigError(
                f"{self.candidates} candidates for {top_k} cells", f"let the detector propose {top_k} or more"
            )

    def check_crops(self, crop_px: int, crop_mpp: float) -> None:
        """Refuse crops that the classifier cannot be given; they are never resized.

        Raises:
            ConfigError: they are smaller, or of another um/px, than what it was trained on.
        """
        px, mpp = self.crop_px or crop_px, self.crop_mpp or crop_mpp
        if px > crop_px or abs(mpp - crop_mpp) > 1e-6:
            raise ConfigError(
                f"the re-ranking classifier {self.name} takes crops of {px} px at {mpp} um/px, "
                f"the bags have {crop_px} px at {crop_mpp} um/px",
                "use a classifier that was trained on such crops, or the profile that fits",
            )

    def settings(self) -> dict[str, Any]:
        """All that decides the choice beside the detector, as plain values."""
        used = {"name": self.name, "candidates": self.candidates, "crop_px": self.crop_px, "weights": self.weights}
        return {**used, "rule": RULE}

    def sharing(self, features: Callable[[Tensor], Tensor], width: int) -> Self:
        """The same re-ranker, which leaves the features of the cells that it keeps in the bag.

        For a :class:`~stride_monai.networks.CellClassifier` whose encoder is that of the slide classifier: no cell is
        looked at twice.

        Args:
            features: crops ``[B, 3, H, W]`` -> ``[B, width]``, those of the network's own ``encode`` first.
        """
        head = cast("nn.Linear", self.network.get_submodule("head"))
        own = head.in_features

        def both(crops: Tensor) -> Tensor:
            found = features(crops)
            return torch.cat([found, head(found[:, :own])], dim=1)

        other = copy(self)
        other._shared = both, width
        return other

    def scores(self, crops: Tensor) -> Tensor:
        """Lesion probabilities, float64 ``[n]`` on the CPU, of uint8 crops ``[n, 3, H, W]``."""
        return self.judged(crops)[0]

    def judged(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        """Lesion probabilities as :meth:`scores`, and the features ``[n, width]`` where they are shared."""
        side = self.crop_px or crops.shape[-1]
        margin = (crops.shape[-1] - side) // 2
        crops = crops[:, :, margin : margin + side, margin : margin + side]
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        forward, width = (self.network, 0) if self._shared is None else self._shared
        features, logits = over_crops(forward, crops, device, width + len(CELL_CLASSES)).tensor_split([width], dim=1)
        if logits.shape[1] != len(CELL_CLASSES):
            raise ConfigError(f"{self.name} gives {logits.shape[1]} classes", f"it must know the {len(CELL_CLASSES)}")
        positive = [index for index, name in enumerate(CELL_CLASSES) if name != NEGATIVE]
        return logits.double().softmax(dim=1)[:, positive].sum(dim=1).cpu(), features if width else None

    def __call__(self, bag: CellBag, slide_id: str) -> CellBag:
        """The best cells of a bag of candidates, as a bag of ``top_k`` with ``rerank_scores``, the products.

        Args:
            bag: the candidates that could be read, as :class:`~stride_monai.transforms.TopKCellPatches`
                gives them.
            slide_id: for messages.

        Raises:
            BagError: the classifier gives a score that is no number.
        """
        count = int(bag.mask.sum())
        lesion, features = self.judged(bag.images[:count])
        scores = lesion * bag.scores[:count].double()
        if not bool(scores.isfinite().all()):
            raise BagError(f"slide '{slide_id}': {self.name} gives a cell a non-finite score", "check its weights")
        order = rank_boxes(bag.boxes[:count].numpy(), scores.numpy(), bag.scores[:count].numpy())[: self.top_k]
        return bag._replace(
            images=padded(bag.images.numpy()[order], self.top_k),
            boxes=padded(bag.boxes.numpy()[order], self.top_k),
            scores=padded(bag.scores.numpy()[order], self.top_k),
            mask=torch.arange(self.top_k) < len(order),
            indices=padded(bag.indices.numpy()[order].astype(np.int64), self.top_k, fill=-1),
            rerank_scores=padded(scores.numpy()[order], self.top_k),
            features=None if features is None else features[torch.from_numpy(order.copy()).to(features.device)],
        )
