"""Ignite engines of the detection bundle on tiles: training and evaluation.

Both take batches of :func:`stride_monai.data.detection_collate`: ``image`` [B, 3, H, W] float 0-1, ``boxes``, a
list of B tensors [n, 4], xyxy in px, and optionally ``visible``, B lists of the share of each cell that the tile shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ignite import distributed as idist
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor

from stride_monai.inferers.slide_detection import TileDetectionInferer

__all__ = ["DetectionEvaluator", "DetectionTrainer", "TileTruth", "loss_parts"]


class TileTruth(NamedTuple):
    """What an evaluation knows of a tile: ``boxes`` [n, 4] xyxy in px, and ``ignored`` [n] bool: cells that the tile's
    border cuts, which are neither asked for nor wrong to find."""

    boxes: Tensor
    ignored: Tensor


class DetectionTrainer(SupervisedTrainer):
    """Trains a detector with the network's own loss.

    The network is called with images and true boxes and returns the parts of its loss, ``loss`` among them, so that one
    call serves bare networks and those inside DistributedDataParallel. Mixed precision, gradient accumulation and the
    iteration events are MONAI's. ``engine.state.output`` holds ``image``, ``label`` (boxes), ``pred`` (the parts of the
    loss, per image) and ``loss``, both over the whole batch of all processes.

    On several processes the gradient is that of the whole batch: the network gives each process's share of the loss,
    the shares are to be added, and DistributedDataParallel averages, so each share is multiplied by their number.

    Args:
        as :class:`monai.engines.SupervisedTrainer`, less ``loss_function``, ``prepare_batch`` and ``decollate``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, loss_function=_scaled_loss, prepare_batch=_images_with_boxes, decollate=False, **kwargs)

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        output: dict[str, Any] = super()._iteration(engine, batchdata)
        output[CommonKeys.PRED] = _of_all_processes(output[CommonKeys.PRED])
        output[CommonKeys.LOSS] = output[CommonKeys.PRED]["loss"]
        return output


class DetectionEvaluator(SupervisedEvaluator):
    """Evaluates a detector on tiles. Output: ``pred``, detections of each tile, and ``label``, its :class:`TileTruth`.

    Args:
        inferer: default :class:`~stride_monai.inferers.TileDetectionInferer`.
        otherwise as :class:`monai.engines.SupervisedEvaluator`, less ``prepare_batch`` and ``decollate``.
    """

    def __init__(self, *args: Any, inferer: Any = None, **kwargs: Any) -> None:
        super().__init__(
            *args, inferer=inferer or TileDetectionInferer(), prepare_batch=_images_and_truth, decollate=False, **kwargs
        )


def _images_and_boxes(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, list[Tensor]]:
    boxes = [b.to(device=device, non_blocking=non_blocking) for b in batch["boxes"]]
    return batch["image"].to(device=device, non_blocking=non_blocking, **kwargs), boxes


def _images_and_truth(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, list[TileTruth]]:
    images, boxes = _images_and_boxes(batch, device, non_blocking, **kwargs)
    visible = batch.get("visible") or [[1.0] * len(b) for b in boxes]
    return images, [TileTruth(b, torch.as_tensor(v).reshape(-1) < 1) for b, v in zip(boxes, visible, strict=True)]


def _images_with_boxes(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, list[Tensor], tuple[list[Tensor]], dict[str, Any]]:
    images, boxes = _images_and_boxes(batch, device, non_blocking, **kwargs)
    return images, boxes, (boxes,), {}


def _scaled_loss(parts: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
    """This process's share, such that the average over the processes is the loss of the whole batch."""
    return parts["loss"] * float(idist.get_world_size())


def _of_all_processes(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The loss and its parts of the whole batch, detached."""
    values = torch.stack([part.detach().float().reshape(()) for part in parts.values()])
    if idist.get_world_size() > 1:
        values = idist.all_reduce(values)
    return dict(zip(parts, values, strict=True))


def loss_parts(output: Mapping[str, Any]) -> dict[str, float]:
    """Parts of the loss per image, from the output of :class:`DetectionTrainer`, as handlers print and plot them."""
    return {name: float(value) for name, value in output["pred"].items() if name != "loss"}
