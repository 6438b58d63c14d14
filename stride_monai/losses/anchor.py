"""A loss that keeps an encoder's features near those of the weights that it started from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

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

    What frozen parts of the encoder (``frozen_parts`` of :class:`~stride_monai.networks.CellClassifier`) say of a
    picture is what they said before, so the anchor takes it over and costs only what comes after them.

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
        self._seen: tuple[Tensor, Tensor, dict[str, Tensor]] | None = None
        self._twins: dict[str, _Twin] = {}
        self._known: dict[str, Tensor] = {}
        if weight:
            # In a tuple, so that neither the anchor nor its weights become a part of what is trained or saved.
            self._anchor = (deepcopy(network.encoder).eval().requires_grad_(False),)
            for name, part in _frozen_parts(network.encoder):
                twin = self._twins[name] = _Twin(self._anchor[0].get_submodule(name))
                self._anchor[0].set_submodule(name, twin)
                part.register_forward_hook(partial(self._keep, name))
            network.encoder.register_forward_hook(self._note)

    def _keep(self, name: str, _: nn.Module, __: tuple[Any, ...], found: Any) -> None:
        if isinstance(found, Tensor) and not found.requires_grad:
            self._known[name] = found

    def _note(self, encoder: nn.Module, inputs: tuple[Any, ...], features: Tensor) -> None:
        known, self._known = self._known, {}
        if features.requires_grad and encoder.training:
            # One frozen part that says something else than it did changes what all after it say.
            alike = all(twin.is_like(encoder.get_submodule(name)) for name, twin in self._twins.items())
            self._seen = (inputs[0].detach(), features, known if alike and not _follows_chance(encoder) else {})

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of these arguments and of the last forward pass."""
        loss = self.loss(*args, **kwargs)
        if not self.weight or self._seen is None:
            return loss
        (images, features, known), self._seen = self._seen, None
        anchor = self._anchor[0].to(features.device)
        for name, twin in self._twins.items():
            twin.known = known.get(name)
        with torch.no_grad():
            before = anchor(images)
        for twin in self._twins.values():
            twin.known = None
        return loss + self.weight * (1 - functional.cosine_similarity(features, before, dim=1)).mean()


class _Twin(nn.Module):
    """The anchor's copy of a frozen part. It repeats what the part has just said, where that is known."""

    known: Tensor | None

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own, self.known = own, None
        self._compared: list[tuple[int, int]] = []
        self._alike = False

    def is_like(self, part: nn.Module) -> bool:
        """Whether the part has the anchor's values still (others may have been loaded); compared once a change."""
        values = [*part.parameters(), *part.buffers()]
        stamps = [(value.data_ptr(), value._version) for value in values]
        if stamps != self._compared:
            own = [*self.own.parameters(), *self.own.buffers()]
            self._alike = all(torch.equal(value, mine.to(value)) for value, mine in zip(values, own, strict=True))
            self._compared = stamps
        return self._alike

    def forward(self, *args: Any) -> Any:
        return self.own(*args) if self.known is None else self.known


def _frozen_parts(network: nn.Module, before: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The largest parts that have parameters of which none takes a gradient."""
    for key, part in network.named_children():
        gradients = [parameter.requires_grad for parameter in part.parameters()]
        if any(gradients):
            yield from _frozen_parts(part, f"{before}{key}.")
        elif gradients:
            yield f"{before}{key}", part


def _follows_chance(encoder: nn.Module) -> bool:
    """Whether something that is not trained says by chance, or by the batch, what it would not in evaluation mode."""
    return any(
        each.training
        and (isinstance(each, _BatchNorm) or getattr(each, "drop_prob", 0) or (isinstance(each, _DropoutNd) and each.p))
        and not any(parameter.requires_grad for parameter in each.parameters())
        for each in encoder.modules()
    )
