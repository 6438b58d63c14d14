"""The evaluation of a detector, written after an epoch; see :mod:`stride_monai.evaluation.detections`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import torch
from ignite import distributed as idist
from ignite.engine import Engine
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import draw_bounding_boxes, make_grid

from stride_monai.evaluation.detections import evaluate_slides, evaluate_tiles
from stride_monai.evaluation.reports import save_figures, write_report
from stride_monai.files import write_bytes
from stride_monai.handlers.epoch import EpochHandler
from stride_monai.handlers.metrics import gathered_results, tile_results
from stride_monai.metrics.detection import TileResult
from stride_monai.metrics.detection_curves import SlideResult

__all__ = ["DetectionPictures", "SlideCurves", "TileCurves"]

TRUTH_COLOR = (0, 160, 60)
IGNORED_COLOR = (150, 150, 150)
FOUND_COLOR = (220, 30, 30)


class TileCurves(EpochHandler):
    """Precision against recall and FROC over the tiles of an evaluation.

    Writes ``tile_curves.json``, ``precision_recall.png`` and ``tile_froc.png``, and adds ``val_froc`` (mean sensitivity
    at 1/4 to 8 false positives per tile) to the engine's metrics.

    Args:
        output_dir: folder of the files; process 0 writes.
        ious: IoU thresholds of the precision-recall curves; FROC takes the first.
        max_detections: of each tile.
    """

    def __init__(self, output_dir: Path | str, ious: Sequence[float] = (0.5, 0.75), max_detections: int = 500) -> None:
        self.output_dir = Path(output_dir)
        self.ious, self.max_detections = tuple(ious), max_detections

    def start(self, engine: Engine) -> None:
        self._results: list[TileResult] = []

    def collect(self, engine: Engine) -> None:
        self._results += tile_results(engine.state.output["pred"], engine.state.output["label"])

    def finish(self, engine: Engine) -> None:
        found = evaluate_tiles(gathered_results(self._results), self.ious, self.max_detections)
        engine.state.metrics["val_froc"] = found.froc.score
        if idist.get_rank() == 0:
            write_report(self.output_dir / "tile_curves.json", found.report(), indent=None)
            save_figures(self.output_dir, found.figures())


class SlideCurves(EpochHandler):
    """Recall within the K best boxes of a slide, by slide class, and FROC over whole slides.

    False positives of the FROC are those of NILM slides: on the others a lesion may not be marked (CAMELYON16's rule).
    Writes ``top_k_recall.csv`` and ``.png``, ``slide_froc.png``, ``slide_curves.json`` and ``slides.csv``, and adds
    ``top_k_recall`` (at the largest K) and ``slide_froc`` to the engine's metrics.

    Args:
        output_dir: folder of the files.
        top_k: the most boxes that the inferer keeps.
        iou: least intersection over union of a box with the lesion that it finds.
    """

    def __init__(self, output_dir: Path | str, top_k: int, iou: float = 0.5) -> None:
        self.output_dir = Path(output_dir)
        self.top_k, self.iou = top_k, iou

    def start(self, engine: Engine) -> None:
        self._slides: list[SlideResult] = []

    def collect(self, engine: Engine) -> None:
        self._slides += engine.state.output

    def finish(self, engine: Engine) -> None:
        found = evaluate_slides(self._slides, self.top_k, self.iou)
        recall = found.recall.get("all")
        engine.state.metrics["top_k_recall"] = float("nan") if recall is None else float(recall[-1])
        engine.state.metrics["slide_froc"] = found.froc.score
        for name, table in found.tables().items():
            write_bytes(self.output_dir / f"{name}.csv", table)
        write_report(self.output_dir / "slide_curves.json", found.report(), indent=None)
        save_figures(self.output_dir, found.figures())


class DetectionPictures(EpochHandler):
    """Draws the first tiles that show a lesion, the same ones at every validation: green what is there, gray what the
    tile's border cuts, red with its score what was found.

    Goes to an evaluator whose output is that of :class:`~stride_monai.engines.DetectionEvaluator`. The
    pictures go to TensorBoard as ``predictions``, and with ``path`` into a PNG file, which is replaced every time.

    Args:
        count: tiles to draw.
        min_score: least score of a detection to draw; a detector that is asked for recall has hundreds of them.
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

    def attach(self, engine: Engine) -> None:
        if self.count > 0 and (self.writer is not None or self.path is not None):
            super().attach(engine)

    def start(self, engine: Engine) -> None:
        self._pictures: list[Tensor] = []

    def collect(self, engine: Engine) -> None:
        if len(self._pictures) >= self.count:
            return
        output = engine.state.output
        for image, result in zip(output["image"], tile_results(output["pred"], output["label"]), strict=True):
            if len(self._pictures) < self.count and len(result.truth):
                pixels = (image.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
                self._pictures.append(_drawn(pixels, result, self.min_score))

    def finish(self, engine: Engine) -> None:
        if not self._pictures:
            return
        grid = make_grid(self._pictures, nrow=4, pad_value=255)
        if self.writer is not None:
            self.writer.add_image("predictions", grid, engine.state.epoch)
            self.writer.flush()
        if self.path is not None:
            write_bytes(self.path, bytes(imagecodecs.png_encode(grid.permute(1, 2, 0).contiguous().numpy())))


def _drawn(tile: Tensor, result: TileResult, min_score: float) -> Tensor:
    """A tile ``[3, H, W]`` with the boxes of its result."""
    shown = result.scores >= min_score
    parts = (
        (result.truth[~result.asked], IGNORED_COLOR, None),
        (result.truth[result.asked], TRUTH_COLOR, None),
        (result.boxes[shown], FOUND_COLOR, [f"{score:.2f}" for score in result.scores[shown]]),
    )
    for boxes, color, labels in parts:
        if len(boxes):
            corners = torch.from_numpy(boxes).view(-1, 2, 2)  # an untrained detector may give them swapped
            ordered = torch.cat((corners.amin(1), corners.amax(1)), 1)
            tile = draw_bounding_boxes(tile, ordered, labels, [color] * len(boxes), width=2)
    return tile
