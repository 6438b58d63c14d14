"""What a validation or an evaluation says of a slide classifier: scores by centre, confusion, ROC, slide features."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.utils import evenly_divisible_all_gather, string_list_all_gather
from numpy.typing import NDArray
from torch import Tensor

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES, NEGATIVE, SLIDE_CLASSES
from stride_monai.evaluation.cells import confusion_figure
from stride_monai.evaluation.reports import save_figures
from stride_monai.files import sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.handlers.slide_figures import roc_figure
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.metrics.slide import (
    Threshold,
    at_threshold,
    auc,
    f1_macro,
    positive_scores,
    roc_curve,
    specificity_at_sensitivity,
)
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.spreadsheet import harmless

__all__ = ["SlidePictures", "SlideReport"]

SCHEMA_VERSION = "1.0"
Labels = NDArray[np.int64]


class _Found(NamedTuple):
    """What an evaluator found, of every process.

    Attributes:
        slide_id: ``[N]``. probabilities: ``[N, C]``. label: ``[N]``.
        features: ``[N, D]``, the mean of a bag's cell features, weighted by the attention.
        cells: confusion matrix ``[cell classes, cell classes]`` of the cells whose class is known, rows the truth.
    """

    slide_id: list[str]
    probabilities: NDArray[np.float64]
    label: Labels
    features: Tensor
    cells: Labels

    @property
    def scores(self) -> NDArray[np.float64]:
        return positive_scores(self.probabilities)

    @property
    def positive(self) -> NDArray[np.bool_]:
        positive: NDArray[np.bool_] = self.label != SLIDE_CLASSES.index(NEGATIVE)
        return positive

    @property
    def both_kinds(self) -> bool:
        return bool(self.positive.any() and not self.positive.all())

    def figures(self, point: Threshold | None = None) -> dict[str, Figure]:
        """By name: ``confusion`` of slides, ``cell_confusion`` if cells are known, ``roc`` if it is defined."""
        slides = confusion_matrix(self.probabilities.argmax(axis=1), self.label, len(SLIDE_CLASSES))
        drawn = {"confusion": confusion_figure(slides, SLIDE_CLASSES)}
        if self.cells.sum():
            drawn["cell_confusion"] = confusion_figure(self.cells, CELL_CLASSES)
        if self.both_kinds:
            name = f"positive or not: AUC {auc(self.scores, self.positive):.3f}, {len(self.label):,} slides"
            points = {} if point is None else {"threshold": point}
            drawn["roc"] = roc_figure({name: roc_curve(self.scores, self.positive)}, points)
        return drawn


class _Collector:
    """Collects during an evaluation what :class:`_Found` holds, whatever the inferer returns of it.

    Cell features and attention are what goes into the slide head and comes out of it, so they are taken there and the
    bag is not encoded twice. Batches hold ``slide_id``, ``label``, ``mask`` and, optionally, ``truth`` ``[B, K]``.

    Args:
        network: the slide classifier that is evaluated.
    """

    def __init__(self, network: SlideClassifier) -> None:
        self.network = network
        self._hook: Any = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._complete)

    def finish(self, engine: Any, found: _Found) -> None:
        raise NotImplementedError

    def _start(self) -> None:
        self._unhook()
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._slides: list[str] = []
        self._cells = torch.zeros(len(CELL_CLASSES), len(CELL_CLASSES), dtype=torch.int64)
        self._hook = self.network.slide_head.register_forward_hook(self._passed)

    def _passed(self, head: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        self._last = (inputs[0].detach(), outputs[0].detach(), outputs[1].detach())

    def _collect(self, engine: Any) -> None:
        features, logits, attention = self._last
        pooled = torch.einsum("bk,bkd->bd", attention.float(), features.float())
        self._parts.append((logits.float(), engine.state.output["label"].flatten().long(), pooled))
        self._slides += [str(slide_id) for slide_id in engine.state.batch["slide_id"]]
        truth = engine.state.batch.get("truth")
        known = None if truth is None else truth.to(features.device) >= 0
        if known is not None and known.any():
            with torch.no_grad():
                said = self.network.encoder.head(features[known].float()).argmax(dim=1)
            pairs = truth[known.to(truth.device)].to(said.device) * len(CELL_CLASSES) + said
            self._cells += torch.bincount(pairs, minlength=self._cells.numel()).view_as(self._cells).cpu()

    def _complete(self, engine: Engine) -> None:
        self._unhook()
        logits, label, features = (
            evenly_divisible_all_gather(torch.cat(parts)).cpu() for parts in zip(*self._parts, strict=True)
        )
        cells = self._cells
        if idist.get_world_size() > 1:
            cells = idist.all_reduce(cells.to(idist.device())).cpu()
        found = _Found(
            string_list_all_gather(self._slides),
            torch.softmax(logits.double(), dim=1).numpy(),
            label.numpy(),
            features,
            cells.numpy(),
        )
        self.finish(engine, found)

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


class SlidePictures(_Collector):
    """Puts the validation of the best weights so far into TensorBoard: confusion of slides and of the cells whose class
    is known, ROC, and the slide features for its projector, which computes t-SNE.

    Only when the key metric is a new best, so that pictures and the weights that are kept belong together, and a long
    training does not fill the disk. A slide's feature is the mean of its cells' features, weighted by the attention.

    Args:
        network: the slide classifier that is evaluated.
        summary_writer: None on processes that do not write.
        most_slides: so many slides go to the projector, evenly spaced; a browser cannot turn many more.
    """

    def __init__(self, network: SlideClassifier, summary_writer: Any, most_slides: int = 2000) -> None:
        super().__init__(network)
        self.writer, self.most_slides = summary_writer, most_slides

    def finish(self, engine: Any, found: _Found) -> None:
        epoch = engine.state.epoch
        if self.writer is None or engine.state.best_metric_epoch != epoch:
            return
        point = specificity_at_sensitivity(found.scores, found.positive) if found.both_kinds else None
        for name, figure in found.figures(point).items():
            self.writer.add_figure(f"val_{name}", figure, epoch)
        shown = np.unique(np.linspace(0, len(found.label) - 1, self.most_slides).round().astype(int)).tolist()
        self.writer.add_embedding(
            found.features[shown],
            metadata=[[found.slide_id[k], SLIDE_CLASSES[found.label[k]]] for k in shown],
            metadata_header=["slide_id", "class"],
            global_step=epoch,
            tag="slide_features",
        )


class SlideReport(_Collector):
    """Writes ``slide_report.json``, ``slides.csv``, ``confusion.png``, ``roc.png`` and, where bags know the classes of
    cells, ``cell_confusion.png`` after an evaluation. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        network: the slide classifier that is evaluated; its threshold is judged.
        weights: the weights file that is judged, whose hash goes into the report; None for none.
        centres: centre of each slide by slide id. Empty: the report has no table of centres.
        split: name of what is judged, for the report.
        sensitivity: the specificity at this sensitivity is reported beside that at the stored threshold.
    """

    def __init__(
        self,
        output_dir: Path | str,
        network: SlideClassifier,
        weights: Path | str | None = None,
        centres: Mapping[str, str] | None = None,
        split: str = "",
        sensitivity: float = 0.95,
    ) -> None:
        super().__init__(network)
        self.output_dir, self.weights = Path(output_dir), weights
        self.centres, self.split, self.sensitivity = dict(centres or {}), split, sensitivity

    def finish(self, engine: Any, found: _Found) -> None:
        if idist.get_rank() != 0:
            return
        threshold = self.network.operating_point().threshold
        write_bytes(self.output_dir / "slide_report.json", (json.dumps(self._report(found), indent=1) + "\n").encode())
        write_bytes(self.output_dir / "slides.csv", self._table(found, threshold))
        point = at_threshold(found.scores, found.positive, threshold) if found.both_kinds else None
        save_figures(self.output_dir, found.figures(point))

    def _report(self, found: _Found) -> dict[str, Any]:
        places = np.array([self.centres.get(slide_id, "") for slide_id in found.slide_id])
        cells = class_scores(found.cells)
        slides = confusion_matrix(found.probabilities.argmax(axis=1), found.label, len(SLIDE_CLASSES))
        return {
            "schema_version": SCHEMA_VERSION,
            "package_version": __version__,
            "weights_sha256": sha256_of(Path(self.weights)) if self.weights else None,
            "split": self.split,
            **self._summary(found, np.ones(len(places), bool)),
            "classes": {
                name: {"slides": int((found.label == k).sum()), "f1": _plain(float(f1))}
                for k, (name, f1) in enumerate(zip(SLIDE_CLASSES, class_scores(slides).f1, strict=True))
            },
            "confusion": slides.tolist(),
            "cells": {
                "known": int(found.cells.sum()),
                "f1": {name: _plain(float(f1)) for name, f1 in zip(CELL_CLASSES, cells.f1, strict=True)},
                "confusion": found.cells.tolist(),
            },
            "centres": {
                str(name) or "(no centre)": self._summary(found, places == name)
                for name in (np.unique(places) if self.centres else [])
            },
            "disclaimer": DISCLAIMER,
        }

    def _summary(self, found: _Found, of: NDArray[np.bool_]) -> dict[str, Any]:
        """Of all slides, or of those of one centre; what is not defined without slides of both kinds is None."""
        scores, positive = found.scores[of], found.positive[of]
        summary: dict[str, Any] = {
            "slides": int(of.sum()),
            "positive": int(positive.sum()),
            "f1_macro": _plain(f1_macro(found.probabilities[of].argmax(axis=1), found.label[of])),
        }
        if not positive.any() or positive.all():
            return {**summary, "auc": None, "at_sensitivity": None, "at_threshold": None}
        judged = {
            "at_sensitivity": specificity_at_sensitivity(scores, positive, self.sensitivity),
            "at_threshold": at_threshold(scores, positive, self.network.operating_point().threshold),
        }
        points = {
            name: {key: _plain(value) for key, value in point._asdict().items()} for name, point in judged.items()
        }
        return {**summary, "auc": _plain(auc(scores, positive)), **points}

    def _table(self, found: _Found, threshold: float) -> bytes:
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(
            ["slide_id", "centre", "label", "class", "score", "call", *(f"p_{name}" for name in SLIDE_CLASSES)]
        )
        for slide_id, label, p, score in sorted(
            zip(found.slide_id, found.label.tolist(), found.probabilities, found.scores.tolist(), strict=True),
            key=lambda row: row[0],
        ):
            table.writerow(
                [
                    harmless(slide_id),
                    harmless(self.centres.get(slide_id) or ""),
                    SLIDE_CLASSES[label],
                    SLIDE_CLASSES[int(p.argmax())],
                    round(score, 9),
                    "positive" if score >= threshold else "negative",
                    *(round(float(value), 9) for value in p),
                ]
            )
        return text.getvalue().encode()


def _plain(value: float) -> float | None:
    """Six decimals; None for what is not defined, which JSON has no word for."""
    return round(float(value), 6) if math.isfinite(value) else None
