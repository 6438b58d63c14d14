"""Equation 5: a cell is drawn to the texts that describe it, and pushed from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from stride_monai.errors import ConfigError

__all__ = ["AlignmentLoss"]


class AlignmentLoss(nn.Module):
    """Symmetric binary cross-entropy of STRIDE (arXiv:2407.19512, equation 5).

    With cosines ``cos(V, T) [B, N]`` of B cells and N texts and multi-hot targets ``Y``,

        loss = BCE(sigmoid(cos(V, T)), Y) + BCE(sigmoid(cos(T, V)), Y^T)

    each a mean over all B x N pairs. The second term goes over the same pairs as the first, so under the mean the two
    are equal: the loss is twice the first. It is written out all the same.

    A pair with a negative target does not count and adds nothing; the mean stays that over B x N, so that the mean over
    the shares of several processes is the loss of the whole batch.

    Example::

        loss = AlignmentLoss()(aligner.logits(cosines), targets)  # both [B, N]
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Args:
            logits: ``[B, N]``, the cosines themselves or what a learnt scale and bias make of them.
            target: ``[B, N]``: 1 where the text describes the cell, 0 where not, negative where it does not count.

        Returns:
            Scalar.

        Raises:
            ConfigError: the shapes differ.
        """
        if logits.shape != target.shape:
            raise ConfigError(
                f"logits {tuple(logits.shape)} and descriptions {tuple(target.shape)} differ in shape",
                "give a column for each text of the vocabulary",
            )
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return _mean(logits, target) + _mean(logits.mT, target.mT)


def _mean(logits: Tensor, target: Tensor) -> Tensor:
    wanted = target.clamp_min(0).to(logits.dtype)
    losses = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return torch.where(target < 0, 0.0, losses).mean()
