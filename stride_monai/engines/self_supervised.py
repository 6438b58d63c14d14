"""Self-supervised training of cell encoders on MONAI's engines, and what is watched meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents

from stride_monai.engines.cell_training import CellTrainer
from stride_monai.errors import ConfigError
from stride_monai.networks.encoders.self_supervised import SelfSupervised, cosine

__all__ = ["FeatureEvaluator", "SelfSupervisedTrainer", "clip_each", "loss_of_views"]


def loss_of_views(loss: torch.Tensor, target: None) -> torch.Tensor:
    """The loss function of networks that make the loss themselves: what the network returned."""
    return loss


class SelfSupervisedTrainer(CellTrainer):
    """Trains a :class:`~stride_monai.networks.SelfSupervised` network on unlabelled cells.

    Batches hold ``image`` (uint8 ``[B, 3, S, S]``); ``augmentation`` makes the views of them on the device (a
    ``StepAugmentation`` of :class:`~stride_monai.transforms.CellViews`), the network makes the loss of the views.
    ``engine.state.output`` holds ``image`` (the views) and ``loss``.

    Args:
        clip_gradient: largest norm of the gradient of each parameter, as in DINO; None for no limit.
        final_weight_decay: to which the weight decay of those parameters that have any rises (or falls) along a cosine;
            None to leave it as it is.
        otherwise as :class:`~stride_monai.engines.CellTrainer`, with :func:`loss_of_views` as ``loss_function``.

    Raises:
        ConfigError: the loader has not one batch, or gradients are to be accumulated, which is not the same as a large
            batch here.
    """

    def __init__(
        self, *args: Any, clip_gradient: float | None = None, final_weight_decay: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if not self.state.epoch_length:
            raise ConfigError("there are fewer cells than one batch holds", "give more bags, or a smaller batch_size")
        if self.accumulation_steps > 1:
            raise ConfigError(
                "self-supervised losses compare the cells of a batch with each other: accumulation_steps has to be 1",
                "lower batch_size instead",
            )
        self.clip_gradient, self.final_weight_decay = clip_gradient, final_weight_decay
        inner: Any = getattr(self.network, "module", self.network)  # not its data-parallel wrapper
        self.method: SelfSupervised = inner
        self.add_event_handler(Events.ITERATION_STARTED, self._decay_weights)
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._before_step)
        self.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda: self.method.after_step(self.progress))

    @property
    def progress(self) -> float:
        """Share of the training that was done before this step."""
        return float((self.state.iteration - 1) / (self.state.max_epochs * self.state.epoch_length))

    def _decay_weights(self) -> None:
        if self.final_weight_decay is None:
            return
        for group in self.optimizer.param_groups:
            start = group.setdefault("initial_weight_decay", group["weight_decay"])
            if start:
                group["weight_decay"] = cosine(start, self.final_weight_decay, self.progress)

    def _before_step(self) -> None:
        if self.clip_gradient is not None:
            if self.amp and self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            clip_each([p.grad for p in self.method.parameters() if p.grad is not None], self.clip_gradient)
        self.method.before_step(self.state.epoch - 1)


@torch.no_grad()
def clip_each(gradients: list[torch.Tensor], limit: float) -> None:
    """Each gradient by its own norm, as the reference of DINO does; not all by the norm of all."""
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((limit / (norms + 1e-6)).clamp(max=1).unbind()))


class FeatureEvaluator(SupervisedEvaluator):
    """Features of labelled cells. ``network`` is a CellClassifier, of which only the encoder is used.

    ``engine.state.output`` holds ``pred`` (features ``[B, D]``), ``label`` ``[B]`` and ``slide_id`` (a list).

    Args:
        as :class:`monai.engines.SupervisedEvaluator`; the batches also hold ``slide_id``.
    """

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        images, labels = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        engine.state.output = {"image": images, "label": labels, "slide_id": batchdata["slide_id"]}
        with engine.mode(engine.network), torch.autocast("cuda", enabled=engine.amp, **engine.amp_kwargs):
            engine.state.output["pred"] = engine.network.encode(images).float()
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        output: dict[str, Any] = engine.state.output
        return output
