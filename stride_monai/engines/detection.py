"""Ignite engines of the detection bundle: training on tiles, evaluation on tiles, and slides to bag files.

Both tile engines take batches of :func:`stride_monai.data.collate.detection_collate`: ``image`` [B, 3, H, W] float 0-1
and ``boxes``, a list of B tensors [n, 4], xyxy in px.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import Tensor

from stride_monai.artifacts import sha256_of
from stride_monai.data.bag import BAG_SUFFIX, BagCell, BagHeader, encode_crop, write_bag
from stride_monai.errors import SlideError, StrideError
from stride_monai.inferers.slide_detection import SlideDetectionInferer, TileDetectionInferer
from stride_monai.networks.detector import TileDetector
from stride_monai.slides import open_slide
from stride_monai.transforms.topk_patches import TopKCellPatches
from stride_monai.units import Box

__all__ = ["DetectionEvaluator", "DetectionTrainer", "SlideBagMaker", "loss_parts"]

_log = logging.getLogger(__name__)


class DetectionTrainer(SupervisedTrainer):
    """Trains a detector with the network's own loss.

    The network is called with images and true boxes and returns the parts of its loss, ``loss`` among them, so that one
    call serves bare networks and those inside DistributedDataParallel. Mixed precision, gradient accumulation and the
    iteration events are MONAI's. ``engine.state.output`` holds ``image``, ``label`` (boxes), ``pred`` (the parts of the
    loss) and ``loss``.

    Args:
        as :class:`monai.engines.SupervisedTrainer`, less ``loss_function``, ``prepare_batch`` and ``decollate``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, loss_function=_summed_loss, prepare_batch=_images_with_boxes, decollate=False, **kwargs)


class DetectionEvaluator(SupervisedEvaluator):
    """Evaluates a detector on tiles. Output: ``pred``, detections of each tile, and ``label``, its true boxes.

    Args:
        inferer: default :class:`~stride_monai.inferers.slide_detection.TileDetectionInferer`.
        otherwise as :class:`monai.engines.SupervisedEvaluator`, less ``prepare_batch`` and ``decollate``.
    """

    def __init__(self, *args: Any, inferer: Any = None, **kwargs: Any) -> None:
        super().__init__(
            *args, inferer=inferer or TileDetectionInferer(), prepare_batch=_images_and_boxes, decollate=False, **kwargs
        )


def _images_and_boxes(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, list[Tensor]]:
    boxes = [b.to(device=device, non_blocking=non_blocking) for b in batch["boxes"]]
    return batch["image"].to(device=device, non_blocking=non_blocking, **kwargs), boxes


def _images_with_boxes(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, list[Tensor], tuple[list[Tensor]], dict[str, Any]]:
    images, boxes = _images_and_boxes(batch, device, non_blocking, **kwargs)
    return images, boxes, (boxes,), {}


def _summed_loss(parts: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
    """The loss over all processes: it is a sum over images, but gradients are averaged over processes."""
    return parts["loss"] * float(idist.get_world_size())


def loss_parts(output: Mapping[str, Any]) -> dict[str, float]:
    """Parts of the loss per image, from the output of :class:`DetectionTrainer`, as handlers print and plot them."""
    return {name: float(value) for name, value in output["pred"].items() if name != "loss"}


class SlideBagMaker(SupervisedEvaluator):
    """Slides in, bag files out: detects on each slide, crops the best cells, writes ``<slide_id>.bag.arrow``.

    A slide that fails is logged and the next one begins; when all are done the engine raises if any failed. Batches are
    lists of dictionaries with ``image`` (path), ``slide_id`` and optionally ``mpp`` and ``slide_class``. Output of an
    iteration: a list with, for each slide, ``slide_id``, ``cells`` (how many), ``error`` (None or text).

    Args:
        output_dir: where the bags go.
        crop_px, crop_mpp: side of the crops in their px, and um/px.
        weights: the detector's weights file, whose hash goes into every bag; None for none.
        overwrite: make again the bags that are there.
        inferer: a :class:`~stride_monai.inferers.slide_detection.SlideDetectionInferer`.
        otherwise as :class:`monai.engines.SupervisedEvaluator`.

    Raises:
        SlideError: at the end of the run, if slides failed.
    """

    def __init__(
        self,
        *args: Any,
        output_dir: Path | str,
        inferer: SlideDetectionInferer,
        crop_px: int = 224,
        crop_mpp: float = 0.5,
        weights: Path | str | None = None,
        overwrite: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, inferer=inferer, decollate=False, **kwargs)
        self.output_dir, self.overwrite = Path(output_dir), overwrite
        self.weights = None if weights is None else Path(weights)
        self._patches = TopKCellPatches(inferer.top_k, crop_px, crop_mpp)
        self._failed: list[str] = []
        self._count = 0
        self.add_event_handler(Events.STARTED, self._start)
        self.add_event_handler(Events.COMPLETED, self._end)

    def _start(self) -> None:
        self._failed, self._count = [], 0
        self._sha256 = sha256_of(self.weights) if self.weights else ""

    def _end(self) -> None:
        _log.info(
            "%d of %d slides have a bag in %s", self._count - len(self._failed), self._count, self.output_dir.name
        )
        if self._failed:
            raise SlideError(
                f"{len(self._failed)} of {self._count} slides failed ({', '.join(self._failed)})",
                "the log above says why; the bags of the others are complete",
            )

    def _iteration(self, engine: Any, batchdata: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self._one(slide) for slide in batchdata]

    def _one(self, item: Mapping[str, Any]) -> dict[str, Any]:
        slide_id = str(item["slide_id"])
        self._count += 1
        path = self.output_dir / f"{slide_id}{BAG_SUFFIX}"
        try:
            if path.exists() and not self.overwrite:
                _log.info("%s: the bag is there", slide_id)
                return {"slide_id": slide_id, "cells": None, "error": None}
            cells = self._make(item, path)
        except StrideError as error:
            _log.error("%s failed: %s", slide_id, error)
            self._failed.append(slide_id)
            return {"slide_id": slide_id, "cells": 0, "error": str(error)}
        return {"slide_id": slide_id, "cells": cells, "error": None}

    def _make(self, item: Mapping[str, Any], path: Path) -> int:
        with open_slide(item["image"], mpp=item.get("mpp")) as slide:
            detector: TileDetector = self.network.eval()
            found = self.inferer(slide, detector)
            bag = self._patches(slide, found.boxes, found.scores)
            mpp = slide.mpp
        cells = [
            BagCell(float(score), Box(*box), encode_crop(crop))
            for score, box, crop in zip(
                bag.scores[bag.mask].tolist(),
                bag.boxes[bag.mask].tolist(),
                bag.images[bag.mask].permute(0, 2, 3, 1).numpy(),
                strict=True,
            )
        ]
        header = BagHeader(
            slide_id=str(item["slide_id"]),
            slide_mpp=mpp,
            crop_mpp=self._patches.crop_mpp,
            crop_px=self._patches.crop_px,
            top_k=self._patches.k,
            detector_sha256=self._sha256,
            slide_class=item.get("slide_class"),
        )
        write_bag(path, header, cells)
        _log.info(
            "%s: %d cells from %d tiles, %d unreadable regions, %s",
            header.slide_id,
            len(cells),
            found.tiles_read,
            found.unreadable + bag.unreadable,
            ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.seconds.items()),
        )
        return len(cells)
