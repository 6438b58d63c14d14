"""Training of cell classifiers: batches reach the device as uint8 and are augmented there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from monai.engines import SupervisedTrainer, default_prepare_batch
from monai.transforms import Randomizable
from torch import Tensor

from stride_monai.transforms.augmentation import CellAugmentation, DrawnViews, ScaleUint8

__all__ = ["CellTrainer", "StepAugmentation"]


class StepAugmentation:
    """Augments whole batches on their device; the draw is a function of the seed and the step alone.

    So a run that is resumed at a step goes on with the same pictures, and the processes of a distributed run together
    draw what one process with the whole batch draws: process r of w has images r, r + w, r + 2w, ... of it.

    Args:
        strength: as for :class:`~stride_monai.transforms.CellAugmentation`; or an augmentation of the same
            interface, such as :class:`~stride_monai.transforms.CellViews`.
        seed: of the run.
        stream: tells apart the views of a batch, each of which needs draws of its own.
    """

    def __init__(self, strength: Any = "strong", seed: int = 0, stream: int = 0) -> None:
        self._augment = strength if isinstance(strength, Randomizable) else CellAugmentation(strength)
        self.seed, self.stream = seed, stream

    def __call__(self, images: Tensor, step: int) -> Any:
        """Args:
            images: uint8 or float 0..1 ``[N, 3, S, S]``.
            step: number of the iteration.

        Returns:
            float32 0..1 of the same shape and device; or what another augmentation makes of them.
        """
        self._seed(step)
        self._augment.randomize(len(images), idist.get_rank(), idist.get_world_size())
        return self._augment(images, randomize=False)

    def drawn(self, step: int, count: int, group: int = 1) -> DrawnViews:
        """The draws of a step, for a batch that is augmented part by part.

        Args:
            step: number of the iteration.
            count: number of images of this process.
            group: so many images belong together (the cells of a bag): process r of w has groups r, r + w, ...
        """
        self._seed(step)
        rank, world = idist.get_rank(), idist.get_world_size()
        groups = np.arange(rank, count // group * world, world)
        share = (groups[:, None] * group + np.arange(group)).reshape(-1)
        views: DrawnViews = self._augment.drawn(count * world, share)
        return views

    def _seed(self, step: int) -> None:
        entropy = np.random.SeedSequence((self.seed, self.stream, step)).generate_state(4)
        self._augment.set_random_state(state=np.random.RandomState(entropy))


class CellTrainer(SupervisedTrainer):
    """Trains a cell classifier on batches with ``image`` (uint8 ``[B, 3, S, S]``) and ``label`` ``[B]``.

    The batch is augmented on the device, each cell with parameters of its own. ``engine.state.output`` holds ``image``
    as the network saw it, ``label``, ``pred`` and ``loss``; of several processes the mean loss of all, which is that of
    one process with the whole batch.

    Args:
        augmentation: called with the images and the number of the iteration; None only scales them to 0..1.
        otherwise as :class:`monai.engines.SupervisedTrainer`, less ``decollate``.
    """

    def __init__(
        self,
        *args: Any,
        augmentation: StepAugmentation | None = None,
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        **kwargs: Any,
    ) -> None:
        self.augmentation = augmentation
        self._prepare_plain = prepare_batch
        super().__init__(*args, prepare_batch=self._prepare, decollate=False, **kwargs)

    def augmented(self, images: Tensor) -> Any:
        """A batch on the device as the network is to see it: float32 0..1."""
        with torch.no_grad():
            if self.augmentation is None:
                return ScaleUint8()(images)
            return self.augmentation(images, self.state.iteration)

    def _prepare(self, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        image, *rest = self._prepare_plain(batch, *args, **kwargs)
        return (self.augmented(image), *rest)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        output: dict[str, Any] = super()._iteration(engine, batchdata)
        processes = idist.get_world_size()
        if processes > 1:
            output["loss"] = idist.all_reduce(output["loss"].detach().clone()) / processes
        return output
