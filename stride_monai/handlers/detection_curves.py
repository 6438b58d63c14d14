"""Curves of a detector after an evaluation: the numbers as JSON and CSV, and figures of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite import distributed as idist
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from stride_monai import __version__
from stride_monai.data.tables import table_text
from stride_monai.engines.slide_recall import SlideResult
from stride_monai.files import write_bytes
from stride_monai.handlers.detection_figures import froc_figure, precision_recall_figure, top_k_figure
from stride_monai.handlers.metrics import gathered_results, tile_results
from stride_monai.metrics.detection import TileResult
from stride_monai.metrics.detection_curves import (
    Froc,
    SlideRanks,
    froc,
    precision_recall,
    ranks_of_truth,
    top_k_recall,
)

__all__ = ["SlideCurves", "TileCurves"]

SCHEMA_VERSION = "1.0"


class TileCurves:
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
        self._results: list[TileResult] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._results = []

    def __call__(self, engine: Engine) -> None:
        self._results += tile_results(engine.state.output["pred"], engine.state.output["label"])

    def _finish(self, engine: Engine) -> None:
        results = gathered_results(self._results)
        curves = {f"IoU {iou:.2f}": precision_recall(results, iou, self.max_detections) for iou in self.ious}
        free = froc(results, self.ious[0], self.max_detections)
        engine.state.metrics["val_froc"] = free.score
        if idist.get_rank() > 0:
            return
        content = {
            "tiles": len(results),
            "cells": sum(result.wanted for result in results),
            "max_detections": self.max_detections,
            "precision_recall": {
                name: {"recall": _plain(recall), "precision": _plain(precision)}
                for name, (recall, precision) in curves.items()
            },
            "froc": _froc_record(free, self.ious[0]),
        }
        _write_json(self.output_dir / "tile_curves.json", content)
        precision_recall_figure(self.output_dir / "precision_recall.png", curves)
        froc_figure(self.output_dir / "tile_froc.png", {f"tiles, IoU {self.ious[0]:.2f}": free})


class SlideCurves:
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
        self._slides: list[SlideResult] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._slides = []

    def __call__(self, engine: Engine) -> None:
        self._slides += engine.state.output

    def _finish(self, engine: Engine) -> None:
        ranks = [
            SlideRanks(s.slide_class, ranks_of_truth(s.result.boxes, s.result.truth, self.iou)) for s in self._slides
        ]
        ks = _powers(self.top_k)
        recall = top_k_recall(ranks, ks)
        free = froc(
            [s.result for s in self._slides], self.iou, self.top_k, background=[s.negative for s in self._slides]
        )
        engine.state.metrics["top_k_recall"] = float(recall["all"][-1]) if "all" in recall else float("nan")
        engine.state.metrics["slide_froc"] = free.score
        self._write(ks, recall, ranks, free)

    def _write(
        self, ks: list[int], recall: Mapping[str, NDArray[np.float64]], ranks: Sequence[SlideRanks], free: Froc
    ) -> None:
        folder, names = self.output_dir, list(recall)
        table = [[str(k), *(f"{recall[name][row]:.6f}" for name in names)] for row, k in enumerate(ks)]
        write_bytes(folder / "top_k_recall.csv", table_text(["k", *names], table))
        per_slide = [
            [s.slide_id, s.slide_class, *map(str, (len(r.ranks), (r.ranks <= self.top_k).sum(), len(s.result.boxes)))]
            for s, r in zip(self._slides, ranks, strict=True)
        ]
        header = ["slide_id", "slide_class", "lesions", "found", "boxes"]
        write_bytes(folder / "slides.csv", table_text(header, per_slide))
        content = {
            "slides": len(ranks),
            "lesions": sum(len(r.ranks) for r in ranks),
            "iou": self.iou,
            "top_k_recall": {"k": ks, **{name: _plain(values) for name, values in recall.items()}},
            "froc": _froc_record(free, self.iou),
        }
        _write_json(folder / "slide_curves.json", content)
        top_k_figure(folder / "top_k_recall.png", ks, recall)
        froc_figure(folder / "slide_froc.png", {f"slides, IoU {self.iou:.2f}": free})


def _powers(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    return [*(2**n for n in range((most - 1).bit_length())), most] if most > 1 else [1]


def _plain(values: Iterable[float]) -> list[float | None]:
    """Six decimals; None for what is not a number, which JSON has no word for."""
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]


def _froc_record(free: Froc, iou: float) -> dict[str, Any]:
    score = _plain([free.score])[0]
    return {
        "iou": iou,
        "score": score,
        "false_positives_per_image": _plain(free.rates),
        "sensitivity": _plain(free.sensitivity),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    record = {"schema_version": SCHEMA_VERSION, "package_version": __version__, **content}
    write_bytes(path, (json.dumps(record) + "\n").encode())
