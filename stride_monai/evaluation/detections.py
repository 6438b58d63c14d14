"""How well a detector finds cells, on tiles and on whole slides: curves as numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.data.tables import table_text
from stride_monai.evaluation.reports import header, new_axes, plain, plain_list
from stride_monai.metrics.detection import TileResult
from stride_monai.metrics.detection_curves import (
    FROC_RATES,
    Froc,
    SlideResult,
    froc,
    precision_recall,
    ranks_of_truth,
    top_k_recall,
)

__all__ = ["SlideEvaluation", "TileEvaluation", "evaluate_slides", "evaluate_tiles"]

SCHEMA_VERSION = "1.0"
Floats = NDArray[np.float64]


class TileEvaluation(NamedTuple):
    """Curves over tiles.

    Attributes:
        results: of each tile. max_detections: of each tile.
        precision_recall: (recall, precision) by the name of an IoU threshold.
        froc: at the IoU threshold ``iou``.
    """

    results: Sequence[TileResult]
    max_detections: int
    precision_recall: Mapping[str, tuple[Floats, Floats]]
    froc: Froc
    iou: float

    def report(self) -> dict[str, Any]:
        """The content of ``tile_curves.json``; fields: docs/artifacts.md."""
        return {
            **header(SCHEMA_VERSION),
            "tiles": len(self.results),
            "cells": sum(result.wanted for result in self.results),
            "max_detections": self.max_detections,
            "precision_recall": {
                name: {"recall": plain_list(recall), "precision": plain_list(precision)}
                for name, (recall, precision) in self.precision_recall.items()
            },
            "froc": _froc_record(self.froc, self.iou),
        }

    def figures(self) -> dict[str, Figure]:
        """``precision_recall`` and ``tile_froc``."""
        return {
            "precision_recall": _precision_recall_figure(self.precision_recall),
            "tile_froc": _froc_figure(f"tiles, IoU {self.iou:.2f}", self.froc),
        }


def evaluate_tiles(results: Sequence[TileResult], ious: Sequence[float], max_detections: int) -> TileEvaluation:
    """Precision against recall at each IoU threshold, and FROC at the first.

    Args:
        results: of each tile. ious: thresholds. max_detections: the best so many of each tile.
    """
    curves = {f"IoU {iou:.2f}": precision_recall(results, iou, max_detections) for iou in ious}
    return TileEvaluation(results, max_detections, curves, froc(results, ious[0], max_detections), ious[0])


class SlideEvaluation(NamedTuple):
    """Curves over whole slides.

    Attributes:
        slides: what was found. ranks: of their lesions. ks: 1, 2, 4 ... K.
        recall: within the best of each k, by slide class and for ``all``.
        froc: with false positives of NILM slides alone. iou: threshold.
    """

    slides: Sequence[SlideResult]
    ranks: Sequence[Floats]
    ks: list[int]
    recall: Mapping[str, Floats]
    froc: Froc
    iou: float

    def report(self) -> dict[str, Any]:
        """The content of ``slide_curves.json``; fields: docs/artifacts.md."""
        return {
            **header(SCHEMA_VERSION),
            "slides": len(self.ranks),
            "lesions": sum(map(len, self.ranks)),
            "iou": self.iou,
            "top_k_recall": {"k": self.ks, **{name: plain_list(values) for name, values in self.recall.items()}},
            "froc": _froc_record(self.froc, self.iou),
        }

    def tables(self) -> dict[str, bytes]:
        """``top_k_recall`` and ``slides``, as CSV."""
        names = list(self.recall)
        by_k = [[str(k), *(f"{self.recall[name][row]:.6f}" for name in names)] for row, k in enumerate(self.ks)]
        of_slides = [
            [s.slide_id, s.slide_class, *map(str, (len(r), (r <= self.ks[-1]).sum(), len(s.result.boxes)))]
            for s, r in zip(self.slides, self.ranks, strict=True)
        ]
        return {
            "top_k_recall": table_text(["k", *names], by_k),
            "slides": table_text(["slide_id", "slide_class", "lesions", "found", "boxes"], of_slides),
        }

    def figures(self) -> dict[str, Figure]:
        """``top_k_recall`` and ``slide_froc``."""
        return {
            "top_k_recall": _top_k_figure(self.ks, self.recall),
            "slide_froc": _froc_figure(f"slides, IoU {self.iou:.2f}", self.froc),
        }


def evaluate_slides(slides: Sequence[SlideResult], top_k: int, iou: float = 0.5) -> SlideEvaluation:
    """Recall within the K best boxes of a slide, and FROC whose false positives are those of NILM slides: on the others
    a lesion may not be marked (CAMELYON16's rule).

    Args:
        slides: boxes best first. top_k: the most boxes that a slide keeps.
        iou: least intersection over union of a box with the lesion that it finds.
    """
    ranks = [ranks_of_truth(s.result.boxes, s.result.truth, iou) for s in slides]
    ks = _powers(top_k)
    free = froc([s.result for s in slides], iou, top_k, background=[s.negative for s in slides])
    recall = top_k_recall([s.slide_class for s in slides], ranks, ks)
    return SlideEvaluation(slides, ranks, ks, recall, free, iou)


def _powers(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    return [*(2**n for n in range((most - 1).bit_length())), most] if most > 1 else [1]


def _froc_record(free: Froc, iou: float) -> dict[str, Any]:
    return {
        "iou": iou,
        "score": plain(free.score),
        "false_positives_per_image": plain_list(free.rates),
        "sensitivity": plain_list(free.sensitivity),
    }


def _precision_recall_figure(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Precision against recall; ``curves`` holds (recall, precision) by name."""
    figure, axes = new_axes("Recall", "Precision", xlim=(0, 1), ylim=(0, 1.02))
    for name, (recall, precision) in curves.items():
        axes.plot(recall, precision, label=name)
    axes.legend(loc="lower left")
    return figure


def _froc_figure(name: str, curve: Froc) -> Figure:
    """Sensitivity against false positives per image (logarithmic); dots where the score is read."""
    figure, axes = new_axes("False positives per image", "Sensitivity", xscale="log")
    most = 16.0
    if len(curve.rates):
        (line,) = axes.plot(curve.rates, curve.sensitivity, label=f"{name}: score {curve.score:.3f}")
        read = np.interp(FROC_RATES, curve.rates, curve.sensitivity)
        axes.plot(FROC_RATES, read, "o", color=line.get_color(), markersize=4)
        axes.legend(loc="lower right")
        most = max(most, float(curve.rates[-1]))
    axes.set(xlim=(0.05, most), ylim=(0, 1.02))
    return figure


def _top_k_figure(ks: list[int], recall: Mapping[str, Floats]) -> Figure:
    """Share of the lesions within the K best boxes of a slide against K (logarithmic), by slide class."""
    figure, axes = new_axes("K, best boxes of a slide", "Lesions found")
    for name, values in recall.items():
        style = {"color": "black", "linewidth": 2.5} if name == "all" else {}
        axes.plot(ks, values, label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set(xlim=(1, max(2, *ks)), ylim=(0, 1.02))
    if recall:
        axes.legend(loc="lower right")
    return figure
