"""A loss that keeps an encoder's features near those of the weights that it started from."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from stride_monai.errors import ConfigError

__all__ = ["AnchoredLoss"]


class _HasEncoder(Protocol):
    encoder: nn.Module


class AnchoredLoss(nn.Module):
    """A loss plus ``weight * (1 - cos(z, z0))``, the mean over the batch.

    z are the features of the encoder that is trained, z0 those of the encoder as it was when this was made, of the same
    pictures. Few cells of few laboratories then bend what was learnt of many pictures (ImageNet) and do not replace it.
    After "Learning without Forgetting" (Li and Hoiem, https://arxiv.org/abs/1606.09282), with features, scale left
    free, in place of outputs.

    Each call speaks of the encoder's last forward pass in training mode; passes without gradient (a teacher's, of
    validation) do not count.

    Args:
        loss: of outputs and targets.
        network: has the ``encoder``, with the weights to stay near to.
        weight: 0 or more; 0 costs nothing and is the loss alone.

    Raises:
        ConfigError: a negative weight.

    Example::

        loss = AnchoredLoss(torch.nn.CrossEntropyLoss(), classifier, weight=2.0)
        loss(classifier(image), label).backward()
    """

    def __init__(self, loss: Callable[..., Tensor], network: _HasEncoder, weight: float = 0.0) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"anchor_weight is {weight}", "use 0 or more")
        self.loss, self.weight = loss, weight
        self._seen: tuple[Tensor, Tensor] | None = None
        if weight:
            # In a tuple, so that neither the anchor nor its weights become a part of what is trained or saved.
            self._anchor = (deepcopy(network.encoder).eval().requires_grad_(False),)
            network.encoder.register_forward_hook(self._note)

    def _note(self, encoder: nn.Module, inputs: tuple[Any, ...], features: Tensor) -> None:
        if features.requires_grad and encoder.training:
            self._seen = (inputs[0].detach(), features)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of these arguments and of the last forward pass."""
        loss = self.loss(*args, **kwargs)
        if not self.weight or self._seen is None:
            return loss
        (images, features), self._seen = self._seen, None
        anchor = self._anchor[0].to(features.device)
        with torch.no_grad():
            before = anchor(images)
        return loss + self.weight * (1 - functional.cosine_similarity(features, before, dim=1)).mean()
