"""Write what an evaluator predicts for the cells of bags, one file a bag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from stride_monai.evaluation.cells import cell_table
from stride_monai.evaluation.descriptions import JudgedCells, described_cells
from stride_monai.evaluation.reports import hash_of, header, write_report
from stride_monai.files import write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.exporting import refuse_exported

__all__ = ["CellTableWriter", "DescriptionTableWriter"]

SCHEMA_VERSION = "1.0"
Cells = Callable[[Tensor], Tensor]
"""From rows ``[B, K, ...]`` of a batch to those of a bag's cells, ``[n, ...]`` on the CPU."""


def _cells(place: int, mask: Tensor, rows: Tensor) -> Tensor:
    return rows[place].cpu()[mask]


class _OfBags:
    """Writes a file for each bag.

    Args:
        output_dir: folder of the files.
    """

    def __init__(self, output_dir: Path | str) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        batch = engine.state.batch
        for place, (slide_id, mask) in enumerate(zip(batch["slide_id"], batch["mask"].cpu(), strict=True)):
            self.write(slide_id, batch, engine.state.output["pred"], partial(_cells, place, mask))

    def write(self, slide_id: str, batch: Any, found: Any, cells: Cells) -> None:
        raise NotImplementedError


class CellTableWriter(_OfBags):
    """Writes ``<slide_id>.cells.csv`` for each bag: rank, detector score, box in level-0 px, class, probabilities.

    Args:
        output_dir: folder of the tables.
    """

    def write(self, slide_id: str, batch: Any, found: Tensor, cells: Cells) -> None:
        """Takes ``pred``, cell logits ``[B, K, classes]``, and the batch of loaded bags."""
        rows = (torch.softmax(cells(found).float(), dim=-1), cells(batch["scores"]), cells(batch["boxes"]))
        write_bytes(self.output_dir / f"{slide_id}.cells.csv", cell_table(*(column.numpy() for column in rows)))


class DescriptionTableWriter(_OfBags):
    """Writes ``<slide_id>.descriptions.json`` for each bag.

    It holds, for each cell, its place, its class by the encoder's head (and by the bag, where that knows it), the
    cosine with every text, and the texts that are kept, nearest first, each with whether the predicted class lists it.
    A text that the class does not list is kept all the same: it is marked, not hidden. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        aligner: with its threshold and texts.
        encoder: the cell classifier that made the features.
        weights: the aligner's file, whose hash goes into the files.

    Raises:
        BundleError: the aligner was trained on another encoder, or has no threshold.
        ConfigError: it was exported to TorchScript.
    """

    def __init__(
        self,
        output_dir: Path | str,
        aligner: DescriptionAligner,
        encoder: CellClassifier,
        weights: Path | str | None = None,
    ) -> None:
        refuse_exported(aligner, "texts and rule of what is kept")
        super().__init__(output_dir)
        self.aligner, self.encoder = aligner, encoder
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        super().attach(engine)

    def _start(self, engine: Engine) -> None:
        self.aligner.check_encoder(self.encoder)
        self._facts = {
            **header(SCHEMA_VERSION),
            "weights_sha256": hash_of(self.weights),
            "encoder_sha256": self.aligner.encoder_sha256,
            "threshold": self.aligner.stored_threshold(),
            "texts": list(self.aligner.texts),
        }

    def write(self, slide_id: str, batch: Any, found: Any, cells: Cells) -> None:
        """Takes ``pred`` (:class:`~stride_monai.inferers.Similarities`) and the batch of loaded bags."""
        kept = self.aligner.keep(found.similarity.float())
        columns = (found.similarity.float(), kept, batch["truth"], found.cell_logits.argmax(dim=-1))
        judged = JudgedCells(*(cells(column).numpy() for column in columns))
        scores, boxes = (cells(batch[name]).numpy() for name in ("scores", "boxes"))
        described = described_cells(judged, scores, boxes, self.aligner.texts)
        record = {"slide_id": slide_id, **self._facts, "cells": described, "disclaimer": DISCLAIMER}
        write_report(self.output_dir / f"{slide_id}.descriptions.json", record)
