"""The slide classifier: cell encoder, cell head and slide head as one network that carries its operating point."""

import copy
import math
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn

from stride_monai.errors import BagError, BundleError, ConfigError
from stride_monai.findings import OperatingPoint
from stride_monai.networks.batch_norm import refuse_batch_norm
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.exporting import is_scripting, recording
from stride_monai.networks.mil.activation import class_activation

__all__ = ["SlideClassifier"]

_SHA256_BYTES = 32
_UNKNOWN = "00" * _SHA256_BYTES


class SlideClassifier(nn.Module):
    """``slide_head(encoder.encode(cells))`` with the operating point in three buffers, so that any checkpoint has it.

    A threshold on the slide score holds for one number of cells per bag and for one detector, the one that chose the
    cells; both are stored with it. K is ``top_k`` everywhere but in files that outlive a version: weights, and
    the operating point of ``findings.json``, call the K of their threshold ``bag_size``.

    Args:
        encoder: the cell classifier.
        slide_head: ``(features [B, K, D], mask [B, K]) -> (logits [B, C], attention [B, K])``; one with
            ``score_input`` gets the detector's scores ``[B, K]`` as well.
        top_k: K, number of cells per bag in training and at inference.
        freeze_encoder: the two-stage baseline: the encoder takes no gradient and stays in eval mode, whatever
            ``train()`` says.
        chunk: number of cells encoded at once; bounds the memory, not the result.

    Raises:
        ConfigError: the encoder is to be trained and normalises by batch (:func:`refuse_batch_norm`). Frozen it may.
    """

    threshold: Tensor
    bag_size: Tensor
    detector: Tensor
    takes_scores: Final[bool]
    __jit_unused_properties__ = ("detector_sha256",)

    def __init__(
        self,
        encoder: CellClassifier,
        slide_head: nn.Module,
        top_k: int = 256,
        freeze_encoder: bool = True,
        chunk: int = 256,
    ) -> None:
        super().__init__()
        if top_k < 1 or chunk < 1:
            raise ValueError(f"top_k ({top_k}) and chunk ({chunk}) must be at least 1")
        self.encoder = encoder
        self.slide_head = slide_head
        self.takes_scores = getattr(slide_head, "score_embedding", None) is not None
        self.freeze_encoder = freeze_encoder
        self.chunk = chunk
        self.register_buffer("threshold", torch.tensor(math.nan))
        self.register_buffer("bag_size", torch.tensor(top_k, dtype=torch.int64))
        self.register_buffer("detector", torch.zeros(_SHA256_BYTES, dtype=torch.uint8))
        if freeze_encoder:
            self.encoder.requires_grad_(False)
            self.encoder.eval()
        else:
            refuse_batch_norm(encoder)

    def __prepare_scriptable__(self) -> nn.Module:
        """A copy for ``torch.jit.script``, which puts what it compiles in the place of a slide head."""
        script = copy.copy(self)
        script._modules = dict(self._modules)
        return script

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Features ``[B, K, D]`` of cell crops ``[B, K, 3, H, W]`` (float 0..1 or uint8), ``chunk`` crops at a time."""
        flat = images.flatten(0, 1)
        if is_scripting():
            parts = [self.encoder.encode(part) for part in torch.split(flat, self.chunk)]
            return torch.cat(parts).view(images.shape[0], images.shape[1], -1)
        if recording():  # in one piece: a recording would keep the number of pieces of its example
            whole = self.encoder.encode(flat)
            return whole.view(images.shape[0], images.shape[1], whole.shape[1])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            parts = [self.encoder.encode(part) for part in torch.split(flat, self.chunk)]
        return torch.cat(parts).view(images.shape[0], images.shape[1], -1)

    def _features(self, bag: Tensor) -> Tensor:
        if bag.ndim == 5:
            return self.encode(bag)
        if is_scripting():
            assert bag.ndim == 3, "a batch of bags is [B, K, 3, H, W] or [B, K, D]"
            return bag
        if bag.ndim == 3:
            return bag
        raise BagError(f"a batch of bags of shape {tuple(bag.shape)}", "give [B, K, 3, H, W] or [B, K, D]")

    def forward(self, bag: Tensor, mask: Tensor | None = None, scores: Tensor | None = None) -> Tensor:
        """Slide logits ``[B, C]``.

        Args:
            bag: cell crops ``[B, K, 3, H, W]``, float in 0..1 or uint8, or their features ``[B, K, D]``.
            mask: ``[B, K]`` bool, true where there is a cell; all true when None.
            scores: the detector's, ``[B, K]``, 0..1; only a head with ``score_input`` looks at them.

        Raises:
            BagError: the shape is neither, or a bag holds no cell. ConfigError: the head takes scores, and there are
                none.
        """
        return self.judge(self._features(bag), mask, scores)[0]

    def judge(
        self, features: Tensor, mask: Tensor | None = None, scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Slide logits ``[B, C]`` and attention ``[B, K]`` of features ``[B, K, D]``; see :meth:`forward`."""
        if self.takes_scores:
            logits, attention = self.slide_head(features, mask, scores)
        else:
            logits, attention = self.slide_head(features, mask)
        return logits, attention

    def decide(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        activation: str = "grad_x_feature",
        scores: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slide logits ``[B, C]``, attention and class activation ``[B, K]`` of features ``[B, K, D]``, graph-free.

        The activation is that of the most probable slide class: how much each cell speaks for what is called. It is
        the part of the cell's features; what its score adds (``score_input``) moves attention and logits alone.

        Args:
            mask: ``[B, K]`` bool, true where there is a cell; all true when None.
            activation: see :func:`stride_monai.networks.class_activation`.
            scores: the detector's, as for :meth:`forward`.

        Raises:
            ConfigError: the slide head has no gradient (trees), and the activation asks for one.
        """
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        with torch.enable_grad():  # of the slide head alone; evaluators have it off
            given = features.detach().clone().requires_grad_()
            logits, attention = self.judge(given, mask, scores)
            if activation != "attention" and not logits.requires_grad:
                raise ConfigError(
                    f"a {type(self.slide_head).__name__} has no gradient for the class activation '{activation}'",
                    "set activation to attention",
                )
            cam = class_activation(logits, given, attention, logits.argmax(dim=1), mask, activation)
        return logits.detach(), attention.detach(), cam

    def set_operating_point(self, threshold: float, top_k: int | None = None, detector: str = "") -> None:
        """Store the threshold on the slide score and what it holds for.

        Args:
            threshold: 0..1.
            top_k: K; None leaves it as it is.
            detector: what chose the cells, a SHA-256 (:func:`stride_monai.data.bags.bag.chosen_by`): that of the
                detector's weights, another where its cells were re-ranked; empty if not known.

        Raises:
            ValueError: ``detector`` is no SHA-256.
        """
        sha256 = bytes.fromhex(detector or _UNKNOWN)
        if len(sha256) != _SHA256_BYTES:
            raise ValueError(f"invalid SHA-256 '{detector}'")
        stored = np.float32(threshold)
        if float(stored) > threshold:  # rounding up would exclude the very slide that the threshold was taken from
            stored = np.nextafter(stored, np.float32(-1))
        self.threshold.fill_(float(stored))
        if top_k is not None:
            self.bag_size.fill_(top_k)
        self.detector.copy_(torch.tensor(list(sha256), dtype=torch.uint8))

    @property
    def detector_sha256(self) -> str:
        """What chose the cells that the operating point holds for, see :meth:`set_operating_point`; or empty."""
        sha256 = bytes(self.detector.tolist()).hex()
        return "" if sha256 == _UNKNOWN else sha256

    def operating_point(self, source: str = "stored with the weights") -> OperatingPoint:
        """The stored operating point.

        Args:
            source: in words, where it comes from.

        Raises:
            BundleError: none is stored, the network was never validated.
        """
        threshold = float(self.threshold)
        if math.isnan(threshold):
            raise BundleError(
                "the slide classifier has no operating point", "train swift_mil with validation slides, it sets one"
            )
        return OperatingPoint(threshold=threshold, bag_size=int(self.bag_size), source=source)

    def check_top_k(self, top_k: int, force: bool = False) -> None:
        """Refuse another K than the one that the operating point holds for (METHOD section 5), unless forced.

        A bag with fewer cells than K is padded and masked, which is not another K.

        Raises:
            BagError: ``top_k`` differs from the stored one.
        """
        stored = int(self.bag_size)
        if top_k != stored and not force:
            raise BagError(
                f"bags of {top_k} cells, but the slide classifier's operating point holds for {stored}",
                f"use top_k {stored}, or force it and expect other figures",
            )
