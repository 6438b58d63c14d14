"""The student of SWIFT: labelled cells and bags of slides through one network in one forward pass (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stride_monai.networks.batch_norm import refuse_batch_norm
from stride_monai.networks.mil.slide_classifier import SlideClassifier

__all__ = ["SwiftOutput", "SwiftStudent", "View", "encode_in_parts"]

View = Callable[[Tensor, slice], Tensor]
"""Augmentation of a part of a batch: ``view(images[part], part)`` gives float 0..1 of uint8 crops ``[n, 3, S, S]``."""


class SwiftOutput(NamedTuple):
    """What the student says.

    Attributes:
        labelled: cell logits ``[N, cell classes]`` of the labelled cells.
        cells: cell logits ``[B, K, cell classes]`` of the cells of the bags; 0 where masked.
        slides: slide logits ``[B, C]``.
        attention: ``[B, K]``.
        features: ``[B, K, D]``, in the graph of the slide logits; 0 where masked.
    """

    labeled: Tensor
    cells: Tensor
    slides: Tensor
    attention: Tensor
    features: Tensor


def encode_in_parts(encode: Callable[[Tensor], Tensor], images: Tensor, view: View, part: int | None) -> Tensor:
    """Encode a batch part by part, so that memory is bounded by the part and not by the batch.

    Where a gradient is wanted, only the crops (uint8) and the features are kept; the views and all activations in
    between are computed again in the backward pass (one more forward pass, the same values).

    Args:
        encode: from float crops ``[n, 3, S, S]`` to features ``[n, D]``; each crop on its own, so no live BatchNorm.
        images: uint8 crops ``[N, 3, S, S]``.
        view: augments a part.
        part: number of crops at once; None for all in one pass without recomputation.
    """
    if part is None or (len(images) <= part and not torch.is_grad_enabled()):
        return encode(view(images, slice(0, len(images))))

    def one(crops: Tensor, place: slice) -> Tensor:
        return encode(view(crops, place))

    places = [slice(start, min(start + part, len(images))) for start in range(0, len(images), part)]
    run = partial(checkpoint, one, use_reentrant=False) if torch.is_grad_enabled() else one
    return torch.cat([run(images[place], place) for place in places])


class SwiftStudent(nn.Module):
    """A slide classifier that is trained end to end on both streams.

    Its ``forward`` is the one call of an iteration, so that data parallelism sees it whole.

    Args:
        classifier: encoder, cell head and slide head, with a free encoder.
        part: number of crops encoded at once, for a bag of any size in bounded memory (see :func:`encode_in_parts`);
            None encodes all in one pass.

    Raises:
        ConfigError: the encoder has live BatchNorm (the cells of one slide share statistics, and training collapses).
    """

    def __init__(self, classifier: SlideClassifier, part: int | None = None) -> None:
        super().__init__()
        refuse_batch_norm(classifier.encoder)
        self.classifier = classifier
        self.part = part

    def forward(
        self, labeled: Tensor, bags: Tensor, mask: Tensor, view: View, scores: Tensor | None = None
    ) -> SwiftOutput:
        """One pass over the labelled cells and all cells of the bags.

        Args:
            labelled: uint8 crops ``[N, 3, S, S]``.
            bags: uint8 crops ``[B, K, 3, S, S]``; masked places are not encoded.
            mask: ``[B, K]`` bool, true where there is a cell.
            view: strong augmentation of ``[N + cells, 3, S, S]``: the labelled cells first, then the cells of the bags.
            scores: the detector's, ``[B, K]``, 0..1, for a head with ``score_input``.

        Raises:
            BagError: a bag holds no cell.
        """
        encoder = self.classifier.encoder
        encoded = encode_in_parts(encoder.encode, torch.cat([labeled, bags[mask]]), view, self.part)
        cell_logits = encoder.head(encoded)
        # In full precision: class activations are gradients through the slide head, and in half precision they vanish.
        with torch.autocast(encoded.device.type, enabled=False):
            found = encoded[len(labeled) :]
            found = found if found.dtype == torch.float64 else found.float()
            features = found.new_zeros(*mask.shape, found.shape[-1]).index_put(mask.nonzero(as_tuple=True), found)
            if torch.is_grad_enabled() and not features.requires_grad:  # a frozen encoder: eq. 4 differentiates by them
                features.requires_grad_()
            slides, attention = self.classifier.judge(features, mask, scores)
        inner = cell_logits[len(labeled) :]
        cells = inner.new_zeros(*mask.shape, inner.shape[-1]).index_put(mask.nonzero(as_tuple=True), inner)
        return SwiftOutput(cell_logits[: len(labeled)], cells, slides, attention, features)
