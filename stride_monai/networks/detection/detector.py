"""Lesion-cell detectors: any ultralytics YOLO by name, behind one small interface (METHOD section 3).

The screening code knows :class:`TileDetector` only: tiles in, boxes and scores out. Another detector takes part by
implementing its one method; :mod:`stride_monai.networks.detection.fcos` is one without code under the AGPL.

Paper: YOLOv5m (https://doi.org/10.5281/zenodo.3908559), one class. ultralytics builds ``yolov5*.yaml`` with its
anchor-free head (known as YOLOv5u): the YOLOv5 backbone and neck, a decoupled head without anchor boxes, trained with
task-aligned assignment (TOOD, https://arxiv.org/abs/2108.07755), CIoU and distribution focal loss.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from ignite import distributed as idist
from monai.networks.utils import eval_mode
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.networks.exporting import recording, unit_range

__all__ = ["BoxDetector", "TileDetections", "TileDetector", "YoloDetector", "best_boxes", "detect", "detect_on_tiles"]

LOSS_GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
"""Weights of the parts of the loss: the defaults of the network's authors."""
_PLAIN_HEADS = {"Detect", "v10Detect"}
"""Heads of ultralytics that give boxes and nothing else."""


class TileDetections(NamedTuple):
    """Detections of one tile, best first: ``boxes`` [n, 4] xyxy in tile px and ``scores`` [n] in 0-1, both float32."""

    boxes: Tensor
    scores: Tensor


@runtime_checkable
class TileDetector(Protocol):
    """All that the slide inferer asks of a detector."""

    def detect(
        self, image: Tensor, min_score: float = ..., max_per_tile: int = ..., nms_iou: float = ...
    ) -> list[TileDetections]:
        """Detections of each tile of ``image`` [B, 3, H, W], RGB: uint8 0-255 or float 0-1."""
        ...


@torch.no_grad()
def detect_on_tiles(
    network: nn.Module, image: Tensor, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5
) -> list[TileDetections]:
    """Detections of each tile, duplicates removed within the tile.

    Args:
        network: from [B, 3, H, W], float 0-1, to [B, 4 + classes, A]: box xyxy in px and probability of each class.
        image: [B, 3, H, W], RGB; uint8 0-255 or float 0-1.
        min_score: least probability.
        max_per_tile: at most so many per tile; a dense tile holds more than a hundred cells.
        nms_iou: of two boxes with at least this intersection over union the less probable goes.
    """
    image = unit_range(image, next(network.parameters()))
    with eval_mode(network):
        prediction = network(image).float()
    return [best_boxes(tile, min_score, max_per_tile, nms_iou) for tile in prediction]


def detect(
    network: TileDetector | nn.Module, image: Tensor, min_score: float, max_per_tile: int, nms_iou: float
) -> list[TileDetections]:
    """Detections by a detector, or by a plain network with a detector's output, e.g. one exported to TorchScript.

    Args:
        network, image, min_score, max_per_tile, nms_iou: as of :func:`detect_on_tiles`.
    """
    if isinstance(network, TileDetector):
        return network.detect(image, min_score, max_per_tile, nms_iou)
    found: list[TileDetections] = detect_on_tiles(network, image, min_score, max_per_tile, nms_iou)
    return found


class BoxDetector(nn.Module):
    """Base of the detectors that are trained here: their calls, and what follows from them."""

    def forward(self, image: Tensor, boxes: Sequence[Tensor] | None = None) -> Tensor | dict[str, Tensor]:
        """Predictions; or, given the true ``boxes`` of each image, the parts of the loss (see :meth:`training_loss`).

        The loss is reached through ``forward`` so that DistributedDataParallel sees it. On several processes the loss
        and its parts are this process's share: summed over the processes they are those of the whole batch.
        """
        raise NotImplementedError

    def training_loss(self, image: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's own detection loss.

        Args:
            image: [B, 3, H, W], float 0-1 or uint8 0-255.
            boxes: for each image [n, 4] xyxy in px; n may be 0. All of class 0.

        Returns:
            the scalar to minimise, summed over the batch (so that the learning rate of METHOD, given for a batch of
            64, means what it meant there), and its detached parts per image.
        """
        parts: dict[str, Tensor] = self(image, boxes)
        return parts.pop("loss"), parts

    def detect(
        self, image: Tensor, min_score: float = 0.001, max_per_tile: int = 500, nms_iou: float = 0.5
    ) -> list[TileDetections]:
        """See :func:`detect_on_tiles`."""
        return detect_on_tiles(self, image, min_score, max_per_tile, nms_iou)


class YoloDetector(BoxDetector):
    """A YOLO of ultralytics as a plain network: no trainer, no callbacks, no settings file, no network access.

    Args:
        name: an architecture of ultralytics, e.g. ``yolov5m`` (the paper's) or ``yolov5n``.
        num_classes: classes of cells to tell apart; the paper merges all positive classes into one.
        channels_last: keep weights and activations in channels-last order, about a fifth faster on CPU and, with mixed
            precision, on GPU. Changes no value that is saved.

    Shapes:
        image [B, 3, H, W], float 0-1 or uint8 0-255, H and W multiples of 32. Output
        [B, 4 + num_classes, A]: for each of the A = HW/64 + HW/256 + HW/1024 places the box (x0, y0, x1, y1 in px) and
        the probability of each class.

    Its loss is ultralytics' own; the parts are ``box``, ``cls`` and ``dfl`` (``l1`` where the network predicts
    distances, no distribution over them).

    Raises:
        MissingExtraError: ultralytics is not installed.
        ConfigError: ultralytics knows no such architecture, or it is no plain detector; when called, an image whose
            sides the network cannot halve as often as it has to.
    """

    def __init__(self, name: str = "yolov5m", num_classes: int = 1, channels_last: bool = True) -> None:
        super().__init__()
        self.name = name
        self.num_classes = num_classes
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.yolo = _build(name, num_classes).to(memory_format=self.memory_format)

    def forward(self, image: Tensor, boxes: Sequence[Tensor] | None = None) -> Tensor | dict[str, Tensor]:
        image = self._input(image)
        self._check_size(image)
        if boxes is not None:
            return self._loss(image, boxes)
        output = self.yolo(image)
        if isinstance(output, dict):  # in training mode ultralytics leaves the boxes undecoded
            output = self.yolo.model[-1]._inference(output)
        prediction: Tensor = output
        return prediction

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` takes instead of ultralytics' code, which does not compile."""
        return _Traced(self)

    def _input(self, image: Tensor) -> Tensor:
        return unit_range(image, next(self.yolo.parameters())).contiguous(memory_format=self.memory_format)

    def _check_size(self, image: Tensor) -> None:
        if recording():
            return
        (height, width), stride = image.shape[-2:], int(max(self.yolo.stride.tolist()))
        if height % stride or width % stride:
            raise ConfigError(
                f"{self.name} cannot take tiles of {height} x {width} px",
                f"choose a tile_px that is a multiple of {stride}",
            )

    def _loss(self, image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        if len(boxes) != len(image):
            raise ValueError(f"{len(image)} images but {len(boxes)} sets of boxes")
        if getattr(self.yolo, "criterion", None) is None or self.yolo.criterion.device != image.device:
            self.yolo.criterion = self.yolo.init_criterion()  # it keeps tensors on the device it was made on
            self.yolo.criterion.assigner.register_forward_hook(self._note_targets)
        total, parts = self.yolo.loss(_targets(image, boxes))
        named = {key.removesuffix("_loss"): value for key, value in parts.items()}
        share, images = self._share_of_all(len(boxes))
        return {"loss": total.sum() * share * images / len(boxes), **{key: part * share for key, part in named.items()}}

    def _note_targets(self, _module: nn.Module, _inputs: Any, outputs: tuple[Tensor, ...]) -> None:
        self._target_sum = outputs[2].detach().sum()

    def _share_of_all(self, count: int) -> tuple[Tensor | float, Tensor | float]:
        """What the parts of the loss are to be multiplied by, and the images of all processes.

        The parts were divided by the sum of this process's targets; in one process it would have been that of all.
        """
        if idist.get_world_size() == 1:
            return 1.0, float(count)
        own = torch.stack([self._target_sum.float(), torch.full_like(self._target_sum, count).float()])
        targets, images = idist.all_reduce(own.clone())
        return own[0].clamp(min=1) / targets.clamp(min=1), images


class _Traced(nn.Module):
    """The predictions of a :class:`YoloDetector` in evaluation mode, as a trace in a module that can be compiled."""

    like: Tensor

    def __init__(self, network: "YoloDetector") -> None:
        super().__init__()
        like = next(network.parameters()).detach()
        self.register_buffer("like", like.new_zeros(0), persistent=False)
        with eval_mode(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that a trace would keep: the head makes its grid anew
            example = like.new_zeros(1, 3, 64, 64)
            self.yolo = torch.jit.trace(network.yolo, example)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        prediction: Tensor = self.yolo(unit_range(image, self.like))
        return prediction


def best_boxes(prediction: Tensor, min_score: float, max_per_tile: int, nms_iou: float) -> TileDetections:
    """Detections of one tile from a network's output [4 + classes, A], see :func:`detect_on_tiles`."""
    scores, label = prediction[4:].max(dim=0)
    found = scores >= min_score
    boxes, scores, label = prediction[:4, found].T, scores[found], label[found]
    # One class of duplicates: a cell that two classes claim is one cell.
    keep = batched_nms(boxes, scores, torch.zeros_like(label), nms_iou)[:max_per_tile]
    return TileDetections(boxes[keep].contiguous(), scores[keep])


def _targets(image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
    height, width = image.shape[-2:]
    flat = torch.cat([b.reshape(-1, 4).to(image.device, torch.float32) for b in boxes])
    index = torch.repeat_interleave(
        torch.arange(len(boxes), device=image.device),
        torch.tensor([b.numel() // 4 for b in boxes], device=image.device),
    )
    scale = torch.tensor([width, height, width, height], device=image.device, dtype=torch.float32)
    return {
        "img": image,
        "batch_idx": index.float(),
        "cls": torch.zeros(len(flat), 1, device=image.device),
        "bboxes": box_convert(flat, "xyxy", "cxcywh") / scale,
    }


def _build(name: str, num_classes: int) -> Any:
    with _quiet_ultralytics():
        try:
            from ultralytics.nn.tasks import DetectionModel
            from ultralytics.utils import LOGGER
        except ImportError as error:
            raise MissingExtraError("ultralytics", "yolo", f"the detector {name}") from error
        LOGGER.setLevel("ERROR")
        try:
            model = DetectionModel(f"{name}.yaml", nc=num_classes, verbose=False)
        except (FileNotFoundError, KeyError) as error:
            raise ConfigError(
                f"unknown detector '{name}' of ultralytics", "use for example yolov5m or yolov5n"
            ) from error
    model.args = SimpleNamespace(**LOSS_GAINS)
    head = model.model[-1]
    if type(head).__name__ not in _PLAIN_HEADS:
        raise ConfigError(f"'{name}' is no plain detector of boxes", "use for example yolov5m or yolov5n")
    head.xyxy = True
    head.export = True  # one plain tensor in eval mode
    head.dynamic = True  # no grid kept from an earlier image size, which would be baked into a trace
    # Newer YOLOs have a second branch, which keeps one candidate of each cell. The one that keeps every candidate is
    # all that trains and detects here, so that recall is ours to choose.
    for branch in ("one2one_cv2", "one2one_cv3"):
        if hasattr(head, branch):
            delattr(head, branch)
    return model


@contextmanager
def _quiet_ultralytics() -> Iterator[None]:
    """Import ultralytics without traces.

    Left alone it writes settings into the home folder, asks a name server whether it is online, installs packages,
    sets OMP_NUM_THREADS for every child process, and replaces ``torch.save`` and ``PIL.Image.open`` (a file that is no
    image then makes it install a package). Its settings go to a folder that is removed at once; the rest is put back.
    """
    environment, save, open_image = dict(os.environ), torch.save, Image.open
    with tempfile.TemporaryDirectory(prefix="stride-monai-") as folder:
        os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
        os.environ.setdefault("YOLO_CONFIG_DIR", folder)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            torch.save, Image.open = save, open_image
