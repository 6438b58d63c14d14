"""Which detector without AGPL code: the candidates trained from scratch at equal cost, and their speed.

    python benchmarks/detector_candidates.py [--seconds 150] [--cohort benchmarks/work/detection/train]

Every candidate gets as many seconds of one core's processor time on the training tiles of a synthetic cohort (that of
`detection_phantom.py`, which renders it) with the same order of tiles, augmentation and optimizer; the cohort's
validation tiles judge. All but the YOLO share an encoder, a pyramid and their widths, so the rows compare heads,
matching and loss:

- `fcos`: the project's :class:`stride_monai.networks.FcosDetector`, task-aligned assignment;
- `torchvision FCOS`: torchvision's head, matching by size and centre, focal and GIoU loss;
- `MONAI RetinaNet`: MONAI's head and detector, three anchor sizes a level, ATSS matching, smooth L1 loss;
- `yolov5n`: for comparison.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection_phantom import render
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGenerator as MonaiAnchors
from record import Record, make_parser
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import sigmoid_focal_loss

from stride_monai.data.datalists import detection_tiles
from stride_monai.metrics.detection import TileResult, detection_recall, mean_average_precision
from stride_monai.networks.detection.detector import TileDetections, YoloDetector, detect_on_tiles
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.transforms.loading import LoadSlideRegiond
from stride_monai.transforms.tile_augmentation import DetectionAugmentation

STRIDES, WIDTH = (8, 16), 64
ANCHORS = ((12, 20, 32), (48, 72, 110))  # px at 1 um/px, of each level
TILE_PX, BATCH, RATE, WARMUP = 256, 16, 0.002, 30
Tile = tuple[Tensor, Tensor]


class Pyramid(nn.Module):
    """Encoder and pyramid of the project's detector, as the other libraries' detectors take them."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__()
        parts = FcosDetector(strides=STRIDES, width=WIDTH)
        self.backbone, self.pyramid = parts.backbone, parts.pyramid

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        image = (image.contiguous(memory_format=torch.channels_last) - 0.5) / 0.25
        levels: dict[str, Tensor] = self.pyramid({str(k): level for k, level in enumerate(self.backbone(image))})
        return levels


class Candidate(nn.Module):
    """What the candidates of other libraries share with the project's detectors: the loss, and tiles to boxes."""

    def parts(self, image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """The means over the batch of the parts of the loss."""
        raise NotImplementedError

    def training_loss(self, image: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        parts = self.parts(image, boxes)
        return torch.stack(list(parts.values())).sum() * len(image), parts

    def detect(self, image: Tensor, min_score: float = 0.001) -> list[TileDetections]:
        return detect_on_tiles(self, image, min_score)


class TorchvisionFcos(Candidate):
    def __init__(self) -> None:
        super().__init__()
        anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
        head = FCOSHead(WIDTH, 1, 1, num_convs=2)
        self.fcos = FCOS(Pyramid(), num_classes=1, anchor_generator=anchors, head=head, center_sampling_radius=1.5)

    def _outputs(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        levels = list(self.fcos.backbone(image).values())
        sizes = [(image.shape[2], image.shape[3])] * len(image)
        anchors = self.fcos.anchor_generator(ImageList(image, sizes), levels)
        return self.fcos.head(levels), anchors, [level.shape[2] * level.shape[3] for level in levels]

    def forward(self, image: Tensor) -> Tensor:
        outputs, anchors, _ = self._outputs(image)
        scores = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
        boxes = self.fcos.box_coder.decode(outputs["bbox_regression"], torch.stack(anchors))
        return torch.cat([boxes, scores], 2).transpose(1, 2)

    def parts(self, image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs, anchors, counts = self._outputs(image)
        targets = [{"boxes": b.to(image), "labels": torch.zeros(len(b), dtype=torch.long)} for b in boxes]
        losses: dict[str, Tensor] = self.fcos.compute_loss(targets, outputs, anchors, counts)
        return losses


class MonaiRetina(Candidate):
    def __init__(self) -> None:
        super().__init__()
        network = RetinaNet(
            spatial_dims=2,
            num_classes=1,
            num_anchors=len(ANCHORS[0]),
            feature_extractor=Pyramid(),
            size_divisible=STRIDES[-1],
        )
        self.detector = RetinaNetDetector(network, MonaiAnchors(ANCHORS, ((1.0,),) * len(STRIDES)))
        self.detector.set_atss_matcher(num_candidates=4, center_in_gt=True)
        self.detector.set_target_keys("boxes", "labels")
        self.detector.set_cls_loss(FocalLoss())
        self.detector.set_box_regression_loss(nn.SmoothL1Loss(beta=1 / 9), encode_gt=True, decode_pred=False)

    def _outputs(self, image: Tensor) -> tuple[dict[str, Any], list[int]]:
        outputs = self.detector.network(image)
        places = [level.shape[2] * level.shape[3] for level in outputs["classification"]]
        self.detector.generate_anchors(image, outputs)
        for key in ("classification", "box_regression"):
            outputs[key] = self.detector._reshape_maps(outputs[key])
        return outputs, places

    def forward(self, image: Tensor) -> Tensor:
        outputs, _ = self._outputs(image)
        offsets = outputs["box_regression"].flatten(0, 1)
        boxes = self.detector.box_coder.decode_single(offsets, torch.cat(self.detector.anchors))
        return torch.cat([boxes.view(len(image), -1, 4), outputs["classification"].sigmoid()], 2).transpose(1, 2)

    def parts(self, image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs, places = self._outputs(image)
        targets = [{"boxes": b.to(image), "labels": torch.zeros(len(b), dtype=torch.long)} for b in boxes]
        losses: dict[str, Tensor] = self.detector.compute_loss(outputs, targets, self.detector.anchors, places)
        return losses


class FocalLoss(nn.Module):
    """Focal loss for each positive anchor."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return sigmoid_focal_loss(logits, target, reduction="sum") / target.sum().clamp(min=1)


CANDIDATES: dict[str, Callable[[], Any]] = {
    "fcos": lambda: FcosDetector(strides=STRIDES, width=WIDTH),
    "torchvision FCOS": TorchvisionFcos,
    "MONAI RetinaNet": MonaiRetina,
    "yolov5n": lambda: YoloDetector("yolov5n"),
}


def tiles_of(cohort: Path, split: str) -> list[Tile]:
    """Tiles, uint8 [3, 256, 256], and the lesions of each."""
    load = LoadSlideRegiond(keys="image", mpp=1.0)
    items = detection_tiles(cohort, split, TILE_PX)
    return [
        (
            torch.as_tensor(np.asarray(load(item)["image"])),
            torch.as_tensor(item["boxes"], dtype=torch.float32).reshape(-1, 4),
        )
        for item in items
    ]


def trained(network: Any, tiles: Sequence[Tile], seconds: float, seed: int) -> int:
    """Train until so many seconds of processor time are spent, the rate falling to nothing; gives the iterations."""
    random = np.random.default_rng(seed)
    augment = DetectionAugmentation("strong").set_random_state(seed)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    network.train()
    order: list[int] = []
    iteration, start = 0, time.process_time()
    while (spent := (time.process_time() - start) / seconds) < 1:
        if len(order) < BATCH:
            order = random.permutation(len(tiles)).tolist()
        chosen, order = order[:BATCH], order[BATCH:]
        images, boxes = zip(*(augment(tiles[i][0].numpy().copy(), tiles[i][1].numpy()) for i in chosen), strict=True)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((iteration + 1) / WARMUP, 1.0) * (1 - spent)
        loss, _ = network.training_loss(torch.stack(images), list(boxes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        iteration += 1
    return iteration


def judged(network: Any, tiles: Sequence[Tile]) -> list[float]:
    """Recall at confidence 0.001 and IoU 0.5, mAP, AP50."""
    results = []
    for image, boxes in tiles:
        (found,) = network.detect(image[None], min_score=0.001)
        results.append(TileResult(found.boxes.double().numpy(), found.scores.double().numpy(), boxes.double().numpy()))
    return [
        detection_recall(results),
        mean_average_precision(results, 500),
        mean_average_precision(results, 500, (0.5,)),
    ]


def milliseconds(networks: dict[str, Any], rounds: int = 12) -> dict[str, float]:
    """Median time of a tile of 512 px, the candidates in turn, so that other work on the machine falls on all."""
    image = torch.rand(1, 3, 512, 512)
    spent: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            network.eval()
            start = time.perf_counter()
            with torch.no_grad():
                network(image)
            spent[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(times[2:])) for name, times in spent.items()}  # the first ones warm up


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--cohort", type=Path, default=Path("benchmarks/work/detection/train"))
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if not (arguments.cohort / "manifest.csv").exists():
        render(arguments.cohort.parent)
    train, validation = (tiles_of(arguments.cohort, split) for split in ("train", "validation"))
    figures = Record("detector_candidates", "Detectors without AGPL code: the trial that chose one")
    lesions = sum(len(boxes) for _, boxes in validation)
    caption = f"{arguments.seconds:g} s on {len(train)} tiles; judged on {len(validation)} with {lesions} lesions."
    table = figures.table("candidate", "recall at 0.001, IoU 0.5", "mAP", "AP50", "iterations", caption=caption)
    networks: dict[str, Any] = {}
    for name, make in CANDIDATES.items():
        torch.manual_seed(arguments.seed)
        networks[name] = make().to(memory_format=torch.channels_last)
        iterations = trained(networks[name], train, arguments.seconds, arguments.seed)
        table.row(name, *(f"{figure:.3f}" for figure in judged(networks[name], validation)), iterations)
    table = figures.table("candidate", "ms for a tile of 512 px")
    for name, time_of_one in milliseconds(networks).items():
        table.row(name, f"{time_of_one:.0f}")
    figures.write([arguments.seed])


if __name__ == "__main__":
    main()
