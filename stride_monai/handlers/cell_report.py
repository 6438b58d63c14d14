"""The evaluation of a cell classifier, written after an epoch; see :mod:`stride_monai.evaluation.cells`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.evaluation.cells import cell_confusion, cell_figures, cell_report
from stride_monai.evaluation.figures.confusion import confusion_figure
from stride_monai.evaluation.reports import save_figures, write_report
from stride_monai.handlers.epoch import PRED_AND_LABEL, EpochHandler, predictions

__all__ = ["CellReport", "ConfusionPicture"]


class CellReport(EpochHandler):
    """Writes ``cell_report.json``, ``confusion.png``, ``f1_by_count.png`` and ``reliability.png`` after an evaluation.

    ``accuracy``, ``ece`` (expected calibration error) and ``classwise_ece`` join the engine's metrics under the names
    ``val_...``. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        centres: centre of each slide by slide id; the batch's ``slide_id`` says of which slide a cell is.
        weights, training_counts, split, bins: as of :func:`~stride_monai.evaluation.cell_report`.
        output_transform: from the engine's output to logits ``[B, C]`` and class indices ``[B]``.
    """

    def __init__(
        self,
        output_dir: Path | str,
        weights: Path | str | None = None,
        centres: Mapping[str, str] | None = None,
        training_counts: Mapping[str, int] | None = None,
        split: str = "",
        bins: int = 15,
        output_transform: Callable[[Any], Any] = PRED_AND_LABEL,
    ) -> None:
        super().__init__(output_transform)
        self.output_dir, self.weights = Path(output_dir), weights
        self.centres = dict(centres or {})
        self.training_counts = dict(training_counts or {})
        self.split, self.bins = split, bins

    def collect(self, engine: Engine) -> None:
        logits, labels = self.output_transform(engine.state.output)
        slides = map(str, engine.state.batch["slide_id"]) if self.centres else [""] * len(labels)
        self.gathered.add(logits, labels, list(slides))

    def finish(self, engine: Engine) -> None:
        logits, labels, slides = self.gathered.columns()
        found = predictions(logits, labels)
        centres = [self.centres.get(slide_id) for slide_id in slides] if self.centres else ()
        report = cell_report(*found, centres, self.training_counts, self.split, self.bins, self.weights)
        engine.state.metrics.update(
            {
                "val_accuracy": report["accuracy"],
                "val_ece": report["calibration"]["ece"],
                "val_classwise_ece": report["calibration"]["classwise_ece"],
            }
        )
        if idist.get_rank() == 0:
            write_report(self.output_dir / "cell_report.json", report)
            save_figures(self.output_dir, cell_figures(*found, self.training_counts, self.split, self.bins))


class ConfusionPicture(EpochHandler):
    """Puts the confusion matrix of every validation into TensorBoard.

    Args:
        summary_writer: None on processes that do not write.
        output_transform: from the engine's output to logits ``[B, C]`` and class indices ``[B]``.
    """

    def __init__(self, summary_writer: Any, output_transform: Callable[[Any], Any] = PRED_AND_LABEL) -> None:
        super().__init__(output_transform)
        self.writer = summary_writer

    def finish(self, engine: Engine) -> None:
        found = predictions(*self.gathered.columns())  # every process has to take part
        if self.writer is not None:
            figure = confusion_figure(cell_confusion(*found), CELL_CLASSES)
            self.writer.add_figure("val_confusion", figure, engine.state.epoch)
