"""Descriptions of cells in training and evaluation: the threshold on their cosine, and how good they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.handlers import from_engine
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray
from torch import Tensor

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS
from stride_monai.errors import BundleError, ManifestError
from stride_monai.files import sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.handlers.cell_figures import save_figure
from stride_monai.handlers.description_figures import scores_figure, threshold_figure
from stride_monai.metrics.descriptions import (
    agreement,
    best_threshold,
    exact_match,
    micro_scores,
    retrieval,
    text_scores,
    threshold_curve,
)
from stride_monai.networks.alignment.aligner import AlignmentStudent, DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["DescriptionF1", "DescriptionReport", "StoreTexts", "ThresholdTuner", "allowed_texts"]

SCHEMA_VERSION = "1.0"
_PRED_AND_LABEL = from_engine(["pred", "label"])
_CURVE_POINTS = 101
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def allowed_texts(texts: Sequence[str]) -> Bools:
    """Which of the texts each class lists: bool ``[cell classes, N]``."""
    return np.array([[text in DESCRIPTIONS_BY_CLASS[name] for text in texts] for name in CELL_CLASSES])


class _Gathered:
    """Columns of an epoch, batch by batch."""

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, ...]] = []

    def add(self, *columns: Tensor) -> None:
        self._rows.append(tuple(column.detach().cpu() for column in columns))

    def of_all_processes(self) -> tuple[NDArray[Any], ...]:
        columns = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        return tuple(evenly_divisible_all_gather(column).cpu().numpy() for column in columns)


class StoreTexts:
    """Brings the aligner up to date when an evaluator starts: what is validated then is what will be saved.

    Args:
        student: what is trained (not its data-parallel wrapper).
    """

    def __init__(self, student: AlignmentStudent) -> None:
        self.student = student

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.student.store()


class DescriptionF1(Metric):
    """Micro F1 of the descriptions over all cells of an epoch, of every process, as an Ignite metric.

    Args:
        aligner: judges at its stored threshold; None takes the best threshold for these cells.
        output_transform: from the engine's output to cosines (or logits) ``[B, N]`` and targets ``[B, N]``.
    """

    def __init__(
        self,
        aligner: DescriptionAligner | None = None,
        output_transform: Callable[[Any], Any] = _PRED_AND_LABEL,
        device: str = "cpu",
    ) -> None:
        self.aligner = aligner
        super().__init__(output_transform=output_transform, device=device)

    def reset(self) -> None:
        self._gathered = _Gathered()

    def update(self, output: Sequence[Any]) -> None:
        self._gathered.add(output[0].float(), output[1])

    def compute(self) -> float:
        similarity, target = self._gathered.of_all_processes()
        right = target == 1
        threshold = _tuned(similarity, right) if self.aligner is None else _stored(self.aligner)
        return micro_scores(similarity, right, threshold)[2]


def _tuned(similarity: Floats, right: Bools) -> float:
    try:
        return best_threshold(similarity, right)
    except ValueError as error:
        raise ManifestError(
            "no threshold can be tuned: no validation cell has a description, or the training has diverged",
            "describe validation cells; if they are, lower the learning rate",
        ) from error


def _stored(aligner: DescriptionAligner) -> float:
    threshold = float(aligner.threshold)
    if math.isnan(threshold):
        raise BundleError("the aligner has no threshold", "train text_align with validation cells, it sets one")
    return threshold


class ThresholdTuner:
    """Puts the threshold with the best micro F1 on the validation cells into the aligner after every validation.

    List it before the handler that saves the weights. ``threshold``, ``val_precision``, ``val_recall`` and
    ``val_exact_match`` join the engine's metrics.

    Args:
        aligner: holds the threshold.
        output_transform: from the engine's output to cosines and targets.
    """

    def __init__(self, aligner: DescriptionAligner, output_transform: Callable[[Any], Any] = _PRED_AND_LABEL) -> None:
        self.aligner = aligner
        self.output_transform = output_transform
        self._gathered = _Gathered()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._gathered = _Gathered()

    def _collect(self, engine: Engine) -> None:
        self._gathered.add(*self.output_transform(engine.state.output))

    def _finish(self, engine: Engine) -> None:
        similarity, target = self._gathered.of_all_processes()
        right = target == 1
        threshold = _tuned(similarity, right)
        self.aligner.threshold.fill_(threshold)
        precision, recall, _ = micro_scores(similarity, right, threshold)
        engine.state.metrics |= {
            "threshold": threshold,
            "val_precision": precision,
            "val_recall": recall,
            "val_exact_match": exact_match(similarity, right, threshold),
        }


class _Judged(NamedTuple):
    """What is judged: cosines, right texts, kept texts, class and predicted class of cells."""

    similarity: Floats
    right: Bools
    kept: Bools
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def of(self, chosen: Bools) -> _Judged:
        return _Judged(
            self.similarity[chosen], self.right[chosen], self.kept[chosen], self.truth[chosen], self.predicted[chosen]
        )


class DescriptionReport:
    """Writes ``description_report.json``, ``description_curves.png`` and ``description_scores.png``.

    The evaluator's network is the aligner and its ``image`` the features of the image encoder. ``val_macro_f1``,
    ``val_map`` (mean average precision of the texts), ``val_exact_match`` and ``val_class_agreement`` join the engine's
    metrics. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        aligner: what is judged, with its threshold.
        encoder: the cell classifier whose features are judged; its head gives the predicted class.
        weights: the aligner's file, whose hash goes into the report; None for none.
        split: name of what is judged, for the report.
        undescribed: what was done with cells without descriptions, for the report.

    Raises:
        BundleError: the aligner was trained on another encoder, or has no threshold.
    """

    def __init__(
        self,
        output_dir: Path | str,
        aligner: DescriptionAligner,
        encoder: CellClassifier,
        weights: Path | str | None = None,
        split: str = "",
        undescribed: str = "",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.aligner, self.encoder = aligner, encoder
        self.weights, self.split, self.undescribed = weights, split, undescribed
        self._allowed = allowed_texts(aligner.texts)
        self._gathered = _Gathered()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _check(self, engine: Engine) -> None:
        self.aligner.check_encoder(self.encoder)
        _stored(self.aligner)

    def _start(self, engine: Engine) -> None:
        self._gathered = _Gathered()

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        output = engine.state.output
        head = self.encoder.head
        predicted = head(output["image"].to(head.weight.device)).argmax(dim=1)
        truth = torch.as_tensor(engine.state.batch["label"])
        self._gathered.add(output["pred"].float(), output["label"], truth, predicted)

    def _finish(self, engine: Engine) -> None:
        similarity, target, truth, predicted = self._gathered.of_all_processes()
        threshold = _stored(self.aligner)
        judged = _Judged(similarity, target == 1, similarity > threshold, truth, predicted)
        curve = threshold_curve(similarity, judged.right, _thresholds(similarity))
        report = self._report(judged, threshold) | {"curve": _columns(curve), "disclaimer": DISCLAIMER}
        engine.state.metrics |= {
            "val_macro_f1": report["macro"]["f1"],
            "val_map": report["macro"]["average_precision"],
            "val_exact_match": report["exact_match"],
            "val_class_agreement": report["class_agreement"]["texts"] or 0.0,
        }
        if idist.get_rank() == 0:
            write_bytes(self.output_dir / "description_report.json", (json.dumps(report, indent=1) + "\n").encode())
            save_figure(threshold_figure(curve, threshold), self.output_dir / "description_curves.png")
            scores = text_scores(similarity, judged.right, threshold)
            save_figure(scores_figure(self.aligner.texts, scores), self.output_dir / "description_scores.png")

    def _report(self, judged: _Judged, threshold: float) -> dict[str, Any]:
        wrong = judged.truth != judged.predicted
        scores = text_scores(judged.similarity, judged.right, threshold)
        there = scores.support > 0
        return {
            "schema_version": SCHEMA_VERSION,
            "package_version": __version__,
            "weights_sha256": sha256_of(Path(self.weights)) if self.weights else None,
            "encoder_sha256": self.aligner.encoder_sha256,
            "split": self.split,
            "undescribed": self.undescribed,
            "threshold": threshold,
            **self._summary(judged, threshold),
            "macro": {
                name: _plain(np.nanmean(np.where(there, getattr(scores, name), np.nan)))
                for name in ("precision", "recall", "f1", "average_precision")
            },
            "descriptions": {
                text: {
                    "cells": int(scores.support[k]),
                    "kept": int(judged.kept[:, k].sum()),
                    **{
                        name: _plain(getattr(scores, name)[k])
                        for name in ("precision", "recall", "f1", "average_precision")
                    },
                }
                for k, text in enumerate(self.aligner.texts)
            },
            "classes": {
                name: self._summary(judged.of(judged.truth == k), threshold) for k, name in enumerate(CELL_CLASSES)
            },
            "right_class": self._summary(judged.of(~wrong), threshold),
            "wrong_class": self._summary(judged.of(wrong), threshold),
            "retrieval": _facts(retrieval(judged.similarity, judged.right)),
        }

    def _summary(self, judged: _Judged, threshold: float) -> dict[str, Any]:
        """What is said of all cells, of those of each class, and of those whose class is right or wrong."""
        precision, recall, f1 = micro_scores(judged.similarity, judged.right, threshold)
        return {
            "cells": len(judged.truth),
            "micro": {"precision": _plain(precision), "recall": _plain(recall), "f1": _plain(f1)},
            "exact_match": _plain(exact_match(judged.similarity, judged.right, threshold)),
            "class_agreement": _facts(agreement(judged.kept, self._allowed, judged.predicted)),
        }


def _thresholds(similarity: Floats) -> NDArray[np.float64]:
    """Where the curve is drawn: evenly between the least and the greatest cosine."""
    return np.linspace(float(similarity.min()), float(similarity.max()), _CURVE_POINTS)


def _columns(values: Any) -> dict[str, list[float | None]]:
    return {name: [_plain(value) for value in column] for name, column in values._asdict().items()}


def _facts(values: Any) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in values._asdict().items()}


def _plain(value: Any) -> float | None:
    """Six decimals; None for what is not defined, which JSON has no word for."""
    return round(float(value), 6) if math.isfinite(value) else None
