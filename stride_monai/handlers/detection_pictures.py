"""Pictures of tiles with what the detector found and what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import draw_bounding_boxes, make_grid

from stride_monai.files import write_bytes

__all__ = ["FOUND_COLOR", "IGNORED_COLOR", "TRUTH_COLOR", "DetectionPictures", "draw_tile"]

TRUTH_COLOR = (0, 160, 60)
IGNORED_COLOR = (150, 150, 150)
FOUND_COLOR = (220, 30, 30)


def draw_tile(image: Tensor, found: Any, truth: Any, min_score: float) -> Tensor:
    """A tile with boxes: green what is there, grey what the border cuts, red with its score what was found.

    Args:
        image: [3, H, W], float 0-1.
        found: with ``boxes`` [d, 4] and ``scores`` [d].
        truth: with ``boxes`` [t, 4] and ``ignored`` [t].
        min_score: detections below it are not drawn; a detector that is asked for recall has hundreds of them.

    Returns:
        uint8 [3, H, W] on the CPU.
    """
    picture = (image.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    ignored = truth.ignored.cpu()
    picture = _drawn(picture, truth.boxes.cpu()[ignored], IGNORED_COLOR)
    picture = _drawn(picture, truth.boxes.cpu()[~ignored], TRUTH_COLOR)
    shown = found.scores >= min_score
    labels = [f"{score:.2f}" for score in found.scores[shown].tolist()]
    return _drawn(picture, found.boxes[shown].float().cpu(), FOUND_COLOR, labels)


def _drawn(picture: Tensor, boxes: Tensor, color: tuple[int, int, int], labels: list[str] | None = None) -> Tensor:
    if not len(boxes):
        return picture
    # A detector may give a box of no width at first; torchvision draws none with its corners swapped.
    ordered = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)
    drawn: Tensor = draw_bounding_boxes(picture, ordered, labels=labels, colors=[color] * len(boxes), width=2)
    return drawn


class DetectionPictures:
    """Draws the first tiles that show a lesion, the same ones at every validation.

    Goes to an evaluator whose output is that of :class:`~stride_monai.engines.DetectionEvaluator`. The
    pictures go to TensorBoard as ``predictions``, and with ``path`` into a PNG file, which is replaced every time.

    Args:
        count: tiles to draw.
        min_score: least score of a detection to draw.
        summary_writer: None for none.
        path: of the PNG file; None for none.
    """

    def __init__(
        self,
        count: int = 8,
        min_score: float = 0.25,
        summary_writer: SummaryWriter | None = None,
        path: Path | str | None = None,
    ) -> None:
        self.count, self.min_score = count, min_score
        self.writer = summary_writer
        self.path = None if path is None else Path(path)
        self._pictures: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        if self.count > 0 and (self.writer is not None or self.path is not None):
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._pictures = []

    def __call__(self, engine: Engine) -> None:
        output = engine.state.output
        tiles: Sequence[Any] = list(zip(output["image"], output["pred"], output["label"], strict=True))
        for image, found, truth in tiles:
            if len(self._pictures) < self.count and len(truth.boxes):
                self._pictures.append(draw_tile(image, found, truth, self.min_score))

    def _finish(self, engine: Engine) -> None:
        if not self._pictures:
            return
        grid = make_grid(self._pictures, nrow=4, pad_value=255)
        if self.writer is not None:
            self.writer.add_image("predictions", grid, engine.state.epoch)
            self.writer.flush()
        if self.path is not None:
            write_bytes(self.path, bytes(imagecodecs.png_encode(grid.permute(1, 2, 0).contiguous().numpy())))
