"""ColorAdv: each step of SWIFT also on the same slides in the colours that they are read worst in.

STRIDE, equations 7 and 8 (https://arxiv.org/abs/2407.19512); METHOD section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Average
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from stride_monai.engines.swift import SwiftTrainer
from stride_monai.errors import ConfigError
from stride_monai.losses.swift import PseudoLabels
from stride_monai.networks.mil.swift import SwiftOutput, View
from stride_monai.transforms.augmentation import DrawnViews
from stride_monai.transforms.color_perturbation import SPACES, AdversarialColorPerturbation

__all__ = ["ColorAdvTrainer"]

_COLORS = 3  # stream of the random numbers, after those of SWIFT


class ColorAdvTrainer(SwiftTrainer):
    """SWIFT's iteration, and the loss of the slides in adversarial colours added to its loss (equation 7).

    The shift of a slide is ``rho * g / |g|`` (equation 8), where ``g`` is the gradient of the loss of the slides with
    respect to a shift of 0. Since a shift of 0 changes nothing, that loss is the clean one, and its one backward pass
    gives both ``g`` and the clean gradient of the parameters: a step costs two passes, not three. The second pass is of
    the slides alone (the labelled cells belong to no slide, so they have no colour of a slide to shift), with the same
    views and the pseudo-labels of the clean pass, and its gradients are added before the optimizer's step. The loss of
    the slides is that of SWIFT less the labelled cells: ``slide_weight * CE(slides) + semi_weight * masked CE(cells)``.

    ``engine.state.output`` has, beside SWIFT's, ``adversarial_loss`` (its mean is a metric of the epoch) and
    ``color_shift`` ``[B, 3]``; ``loss`` stays the clean one.

    Args:
        spaces: ``rgb``, ``hsv`` or both, one drawn for each step.
        rho_rgb, rho_hsv: length of the shift, for colours 0..1.
        adversarial_weight: weight of the second loss; 0 is SWIFT.
        adversarial_steps: gradients taken for a shift, from 1; each above the first costs one more pass.
        random_start: begin each search at a random shift; costs one more pass.
        otherwise as :class:`~stride_monai.engines.SwiftTrainer`.

    Raises:
        ConfigError: an unknown space, a negative length or weight, no step, or a loss that no colour can change.
    """

    def __init__(
        self,
        *args: Any,
        spaces: str | Sequence[str] = SPACES,
        rho_rgb: float = 0.1,
        rho_hsv: float = 0.1,
        adversarial_weight: float = 1.0,
        adversarial_steps: int = 1,
        random_start: bool = False,
        seed: int = 0,
        train_handlers: Sequence[Any] | None = None,
        additional_metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.attack = AdversarialColorPerturbation(spaces, rho_rgb, rho_hsv, adversarial_steps, random_start)
        if adversarial_weight < 0:
            raise ConfigError(f"adversarial_weight is {adversarial_weight}", "weights are 0 or more")
        self.adversarial_weight, self._color_seed = adversarial_weight, seed
        if adversarial_weight:
            train_handlers = [_AfterBackward(self._adversarial_pass), *(train_handlers or [])]
            mean = Average(itemgetter("adversarial_loss"))
            additional_metrics = {"adversarial_loss": mean, **(additional_metrics or {})}
        super().__init__(
            *args, seed=seed, train_handlers=train_handlers, additional_metrics=additional_metrics, **kwargs
        )
        if adversarial_weight and not (self.slide_weight or self.semi_weight):
            raise ConfigError(
                "slide_weight and semi_weight are both 0, so no colour of a slide can be worse than another",
                "weigh one of them, or set adversarial_weight to 0",
            )

    def _view(self, strong: DrawnViews, mask: Tensor) -> View:
        """The clean view, in which a shift of 0 waits for its gradient."""
        if not self.adversarial_weight:
            return strong
        mixed = np.random.SeedSequence((self._color_seed, self.step, _COLORS)).generate_state(1)
        self.attack.set_random_state(seed=int(mixed[0]))
        self.attack.randomize()
        labeled = len(strong) - int(mask.sum())
        self._strong_bags = strong[labeled:]
        self._shift = torch.zeros(len(mask), 3, device=mask.device, requires_grad=True)
        return self._shifted(strong, self._shift, labeled)

    def _shifted(self, strong: View, shift: Tensor, labeled: int) -> View:
        """The strong view of a batch that begins with so many labelled cells, with the cells of each bag shifted."""
        slide_of = self._bags.mask.nonzero()[:, 0]

        def view(images: Tensor, place: slice) -> Tensor:
            seen = strong(images, place)
            plain = min(max(labeled - place.start, 0), len(seen))
            slides = slide_of[max(place.start - labeled, 0) : max(place.stop - labeled, 0)]
            moved = self.attack.perturb(seen[plain:], shift[slides])
            return torch.cat([seen[:plain], moved]) if plain else moved

        return view

    def _loss(self, found: SwiftOutput, targets: tuple[Tensor, Tensor]) -> Tensor:
        self._slide_label = targets[1]
        return super()._loss(found, targets)

    def _pseudo_labels(self, found: SwiftOutput, slide_label: Tensor) -> PseudoLabels:
        self._pseudo = super()._pseudo_labels(found, slide_label)
        return self._pseudo

    def _adversarial_pass(self) -> None:
        """Between the clean backward pass and the optimizer's step: the shift, and the gradients of the second loss."""
        assert self._shift.grad is not None, "the clean pass has just been through the shift"
        # Data parallelism waits for gradients of parameters, which a search does not take.
        bare: Any = getattr(self.network, "module", self.network)
        shift = self.attack(lambda shift: self._loss_of_slides(shift, bare), self._shift.detach(), self._shift.grad)
        loss = self._loss_of_slides(shift, self.network)
        weighted = self.adversarial_weight * loss / self.accumulation_steps
        (self.scaler.scale(weighted) if self.scaler is not None else weighted).backward()
        self.state.output |= {"adversarial_loss": loss.detach(), "color_shift": shift}

    def _loss_of_slides(self, shift: Tensor, network: nn.Module) -> Tensor:
        images, mask, scores = self._bags.images, self._bags.mask, self._bags.scores
        view = self._shifted(self._strong_bags, shift, 0)
        # As MONAI's iteration does it.
        precision = torch.autocast("cuda", **self.amp_kwargs) if self.amp and self.scaler is not None else nullcontext()
        with precision:
            found: SwiftOutput = self.inferer(
                images.new_zeros(0, *images.shape[2:]), network, images, mask, view, scores
            )
            loss: Tensor = self.slide_weight * self._slide_loss(found.slides, self._slide_label)
            loss = loss + 0 * found.cells.sum()  # data parallelism waits for every parameter, the cell head's as well
            if self.semi_weight:
                loss = loss + self.semi_weight * self._semi_loss(found.cells, self._pseudo)
        return loss


class _AfterBackward:
    """A handler that runs right after the backward pass; the first of a list comes before those that clip."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._action)
