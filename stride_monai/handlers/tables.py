"""Write what an evaluator predicts for bags: tables of cells and of slides."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.errors import BagError
from stride_monai.files import write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.handlers.operating_point import detectors_of
from stride_monai.metrics.slide import positive_scores
from stride_monai.networks.mil.slide_classifier import SlideClassifier, SlideEvidence
from stride_monai.spreadsheet import harmless

__all__ = ["CellTableWriter", "SlideTableWriter"]

SCHEMA_VERSION = "1.1"


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    plain = ([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(plain)
    return text.getvalue().encode()


def _numbers(values: Iterable[float]) -> list[float]:
    return [round(float(value), 6) for value in values]


class CellTableWriter:
    """Writes ``<slide_id>.cells.csv`` for each bag: rank, detector score, box in level-0 px, class, probabilities.

    Args:
        output_dir: folder of the tables.
    """

    def __init__(self, output_dir: Path | str) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Takes ``pred`` (cell logits ``[B, K, classes]``) of the output and the batch of loaded bags."""
        batch = engine.state.batch
        probabilities = torch.softmax(engine.state.output["pred"].float(), dim=-1).cpu()
        header = ["rank", "score", "x0", "y0", "x1", "y1", "class", *(f"p_{name}" for name in CELL_CLASSES)]
        for j, slide_id in enumerate(batch["slide_id"]):
            rows: list[list[Any]] = [header]
            for k in torch.nonzero(batch["mask"][j]).flatten().tolist():
                p = probabilities[j, k]
                place = _numbers([batch["scores"][j, k], *batch["boxes"][j, k]])
                rows.append([k + 1, *place, CELL_CLASSES[int(p.argmax())], *_numbers(p)])
            write_bytes(self.output_dir / f"{slide_id}.cells.csv", _csv(rows))


class SlideTableWriter:
    """Writes ``<slide_id>.json`` for each bag, and ``slides.csv`` for all of them at the end.

    A slide's file holds its probabilities, score, call, the operating point, and per cell rank, detector score, the
    score it was re-ranked by (null without), box in level-0 px, attention, class activation and cell probabilities.

    Args:
        output_dir: folder of the files.
        network: holds the operating point.
        top_k: the number of cells that each bag was cut to.
        force: decide on cells of another detector than the operating point holds for.
        activation: name of the class activation that the evidence has.

    Raises:
        BagError: cells of another detector, or the network gives values that are no numbers.
    """

    def __init__(
        self,
        output_dir: Path | str,
        network: SlideClassifier,
        top_k: int,
        force: bool = False,
        activation: str = "grad_x_feature",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.network = network
        self.top_k = top_k
        self.force = force
        self.activation = activation
        self._rows: list[list[Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def __call__(self, engine: Engine) -> None:
        """Takes ``pred`` (:class:`SlideEvidence`) of the output and the batch of loaded bags."""
        batch = engine.state.batch
        for slide_id, detector in zip(batch["slide_id"], batch.get("detector", ()), strict=False):
            self.network.check_detector(detector, self.force, f"the cells of slide '{slide_id}'")
        evidence: SlideEvidence = engine.state.output["pred"]
        probabilities = torch.softmax(evidence.logits.double(), dim=1).cpu()
        for j, slide_id in enumerate(batch["slide_id"]):
            _refuse_nan(evidence, batch["mask"][j], j, slide_id)
            p = probabilities[j]
            cells = _cells(evidence, batch, j)
            record = {"schema_version": SCHEMA_VERSION, "slide_id": slide_id, **self._decision(p, batch)}
            record |= {"activation": self.activation, "cells": cells, "disclaimer": DISCLAIMER}
            write_bytes(self.output_dir / f"{slide_id}.json", (json.dumps(record, indent=1) + "\n").encode())
            facts = [record[name] for name in ("slide_class", "score", "call")]
            self._rows.append([slide_id, *facts, len(cells), *_numbers(p)])

    def _decision(self, p: Tensor, batch: Any) -> dict[str, Any]:
        """Class, score and call of a slide with the probabilities ``p``, and what the call rests on."""
        point = self.network.operating_point()
        score = float(positive_scores(p.numpy()[None])[0])
        chosen = {name for name in detectors_of(batch) if name}
        stored = self.network.detector_sha256
        holds = self.top_k == point.bag_size and (not stored or chosen <= {stored})
        return {
            "slide_class": SLIDE_CLASSES[int(p.argmax())],
            "score": round(score, 6),
            "call": "positive" if score >= point.threshold else "negative",
            "probabilities": dict(zip(SLIDE_CLASSES, _numbers(p), strict=True)),
            "operating_point": {"threshold": point.threshold, "bag_size": point.bag_size, "holds": holds},
            "top_k": self.top_k,
        }

    def _finish(self, engine: Engine) -> None:
        header = ["slide_id", "class", "score", "call", "cells", *(f"p_{name}" for name in SLIDE_CLASSES)]
        write_bytes(self.output_dir / "slides.csv", _csv([header, *sorted(self._rows)]))


def _refuse_nan(evidence: SlideEvidence, mask: Tensor, j: int, slide_id: str) -> None:
    values = (evidence.logits[j], evidence.attention[j], evidence.cam[j], evidence.cell_logits[j].cpu()[mask.cpu()])
    if not all(bool(value.isfinite().all()) for value in values):
        raise BagError(
            f"slide '{slide_id}': the slide classifier gives values that are no numbers",
            "check its weights, and features of cells that were computed elsewhere",
        )


def _cells(evidence: SlideEvidence, batch: Any, j: int) -> list[dict[str, Any]]:
    """The cells of slide ``j`` of a batch, by rank."""
    probabilities = torch.softmax(evidence.cell_logits[j].float(), dim=-1).cpu()
    attention, cam = (column[j].float().cpu().tolist() for column in (evidence.attention, evidence.cam))
    reranked = batch["rerank_scores"][j].tolist() if "rerank_scores" in batch else [math.nan] * len(cam)
    return [
        {
            "rank": k + 1,
            "score": round(float(batch["scores"][j, k]), 6),
            "rerank_score": None if math.isnan(reranked[k]) else round(reranked[k], 6),
            "box": _numbers(batch["boxes"][j, k]),
            "attention": round(attention[k], 6),
            "cam": round(cam[k], 6),
            "probabilities": dict(zip(CELL_CLASSES, _numbers(probabilities[k]), strict=True)),
        }
        for k in torch.nonzero(batch["mask"][j]).flatten().tolist()
    ]
