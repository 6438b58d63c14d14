"""What an evaluation says of a cell classifier: scores by class and centre, confusion, calibration; with figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import from_engine
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.files import sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.handlers.cell_figures import confusion_figure, f1_by_count_figure, reliability_figure, save_figure
from stride_monai.handlers.predictions import Predictions
from stride_monai.metrics.cell import (
    Reliability,
    brier_score,
    calibration_error,
    class_scores,
    confusion_matrix,
    reliability,
)

__all__ = ["CellReport", "ConfusionPicture"]

SCHEMA_VERSION = "1.0"
_PRED_AND_LABEL = from_engine(["pred", "label"])
Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


class CellReport:
    """Writes ``cell_report.json``, ``confusion.png``, ``f1_by_count.png`` and ``reliability.png`` after an evaluation.

    ``accuracy``, ``ece`` (expected calibration error) and ``classwise_ece`` join the engine's metrics under the names
    ``val_...``. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        weights: the weights file that is judged, whose hash goes into the report; None for none.
        centres: centre of each slide by slide id; the batch's ``slide_id`` says of which slide a cell is. Empty: the
            report has no table of centres.
        training_counts: number of training cells by class, for F1 against class count. Empty or all 0: the cells that
            are judged are counted instead, and the figure says so.
        split: name of what is judged, for the report.
        bins: of the reliability diagrams.
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
        output_transform: Callable[[Any], Any] = _PRED_AND_LABEL,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.weights = weights
        self.centres = dict(centres or {})
        self.training_counts = dict(training_counts or {})
        self.split, self.bins = split, bins
        self.output_transform = output_transform
        self._names = sorted(set(self.centres.values()))
        self._start()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._predictions = Predictions()
        self._places: list[int] = []

    def __call__(self, engine: Engine) -> None:
        self._predictions.add(*self.output_transform(engine.state.output))
        if self._names:
            slides = (self.centres.get(str(slide_id)) for slide_id in engine.state.batch["slide_id"])
            self._places += [-1 if name is None else self._names.index(name) for name in slides]

    def _finish(self, engine: Engine) -> None:
        probabilities, truth = self._predictions.of_all_processes()
        places = evenly_divisible_all_gather(torch.tensor(self._places, dtype=torch.int64)).numpy()
        report = self._report(probabilities, truth, places)
        engine.state.metrics.update(
            {
                "val_accuracy": report["accuracy"],
                "val_ece": report["calibration"]["ece"],
                "val_classwise_ece": report["calibration"]["classwise_ece"],
            }
        )
        if idist.get_rank() == 0:
            write_bytes(self.output_dir / "cell_report.json", (json.dumps(report, indent=1) + "\n").encode())
            self._draw(probabilities, truth)

    def _report(self, probabilities: Probabilities, truth: Labels, places: NDArray[np.int64]) -> dict[str, Any]:
        groups = [(name, places == k) for k, name in [*enumerate(self._names), (-1, "(no centre)")]]
        return {
            "schema_version": SCHEMA_VERSION,
            "package_version": __version__,
            "weights_sha256": sha256_of(Path(self.weights)) if self.weights else None,
            "split": self.split,
            **_summary(probabilities, truth),
            "classes": self._classes(probabilities, truth),
            "confusion": _confusion(probabilities, truth).tolist(),
            "calibration": self._calibration(probabilities, truth),
            "centres": {name: _summary(probabilities[of], truth[of]) for name, of in groups if of.any()},
            "disclaimer": DISCLAIMER,
        }

    def _classes(self, probabilities: Probabilities, truth: Labels) -> dict[str, Any]:
        scores = class_scores(_confusion(probabilities, truth))
        _, errors = calibration_error(probabilities, truth, self.bins)
        return {
            name: {
                "cells": int(scores.support[k]),
                "training_cells": self.training_counts.get(name),
                "precision": _plain(scores.precision[k]),
                "recall": _plain(scores.recall[k]),
                "f1": _plain(scores.f1[k]),
                "ece": _plain(errors[k]),
            }
            for k, name in enumerate(CELL_CLASSES)
        }

    def _calibration(self, probabilities: Probabilities, truth: Labels) -> dict[str, Any]:
        top, by_class = calibration_error(probabilities, truth, self.bins)
        curve = _top_class(probabilities, truth, self.bins)
        return {
            "bins": self.bins,
            "ece": _plain(top),
            "classwise_ece": _plain(float(by_class.mean())),
            "brier": _plain(brier_score(probabilities, truth)),
            "reliability": {
                "count": curve.number.tolist(),
                "confidence": [_plain(value) for value in curve.confidence],
                "accuracy": [_plain(value) for value in curve.accuracy],
            },
        }

    def _draw(self, probabilities: Probabilities, truth: Labels) -> None:
        confusion = _confusion(probabilities, truth)
        save_figure(confusion_figure(confusion, CELL_CLASSES), self.output_dir / "confusion.png")
        known = any(self.training_counts.values())
        judged = dict(zip(CELL_CLASSES, confusion.sum(axis=1).tolist(), strict=True))
        counts = {name: self.training_counts.get(name, 0) for name in CELL_CLASSES} if known else judged
        where = "training" if known else f"judged, {self.split}" if self.split else "judged"
        f1 = class_scores(confusion).f1.tolist()
        save_figure(f1_by_count_figure(f1, counts, where), self.output_dir / "f1_by_count.png")
        by_class = {
            name: reliability(probabilities[:, k], truth == k, self.bins) for k, name in enumerate(CELL_CLASSES)
        }
        figure = reliability_figure(_top_class(probabilities, truth, self.bins), by_class)
        save_figure(figure, self.output_dir / "reliability.png")


class ConfusionPicture:
    """Puts the confusion matrix of every validation into TensorBoard.

    Args:
        summary_writer: None on processes that do not write.
        output_transform: from the engine's output to logits ``[B, C]`` and class indices ``[B]``.
    """

    def __init__(self, summary_writer: Any, output_transform: Callable[[Any], Any] = _PRED_AND_LABEL) -> None:
        self.writer = summary_writer
        self.output_transform = output_transform
        self._start()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._predictions = Predictions()

    def __call__(self, engine: Engine) -> None:
        self._predictions.add(*self.output_transform(engine.state.output))

    def _finish(self, engine: Engine) -> None:
        probabilities, truth = self._predictions.of_all_processes()  # every process has to take part
        if self.writer is not None:
            figure = confusion_figure(_confusion(probabilities, truth), CELL_CLASSES)
            self.writer.add_figure("val_confusion", figure, engine.state.epoch)


def _confusion(probabilities: Probabilities, truth: Labels) -> NDArray[np.int64]:
    return confusion_matrix(probabilities.argmax(axis=1), truth, len(CELL_CLASSES))


def _top_class(probabilities: Probabilities, truth: Labels, bins: int) -> Reliability:
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, bins)


def _summary(probabilities: Probabilities, truth: Labels) -> dict[str, Any]:
    """What is said of all cells, and of those of each centre."""
    scores = class_scores(_confusion(probabilities, truth))
    return {
        "cells": len(truth),
        "f1_macro": _plain(float(np.nanmean(scores.f1))),
        "accuracy": _plain((probabilities.argmax(axis=1) == truth).mean()),
        "f1": {name: _plain(value) for name, value in zip(CELL_CLASSES, scores.f1, strict=True)},
    }


def _plain(value: float) -> float | None:
    """Six decimals; None for what is not defined, which JSON has no word for."""
    return round(float(value), 6) if math.isfinite(value) else None
