"""Write what the description alignment says of the cells of bags."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events

from stride_monai.evaluation.descriptions import JudgedCells, described_cells
from stride_monai.evaluation.reports import hash_of, header, write_report
from stride_monai.findings import DISCLAIMER
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.exporting import refuse_exported

__all__ = ["DescriptionTableWriter"]

SCHEMA_VERSION = "1.0"


class DescriptionTableWriter:
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
        self.output_dir = Path(output_dir)
        self.aligner, self.encoder = aligner, encoder
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.aligner.check_encoder(self.encoder)
        self._facts = {
            **header(SCHEMA_VERSION),
            "weights_sha256": hash_of(self.weights),
            "encoder_sha256": self.aligner.encoder_sha256,
            "threshold": self.aligner.stored_threshold(),
            "texts": list(self.aligner.texts),
        }

    def __call__(self, engine: Engine) -> None:
        """Takes ``pred`` (:class:`~stride_monai.inferers.Similarities`) and the batch of loaded bags."""
        batch, found = engine.state.batch, engine.state.output["pred"]
        for j, slide_id in enumerate(batch["slide_id"]):
            mask = batch["mask"][j].cpu()
            similarity = found.similarity[j].float()
            columns = (
                similarity,
                self.aligner.keep(similarity),
                batch["truth"][j],
                found.cell_logits[j].argmax(dim=-1),
            )
            cells = JudgedCells(*(column.cpu()[mask].numpy() for column in columns))
            scores, boxes = (batch[name][j].cpu()[mask].numpy() for name in ("scores", "boxes"))
            described = described_cells(cells, scores, boxes, self.aligner.texts)
            write_report(
                self.output_dir / f"{slide_id}.descriptions.json",
                {"slide_id": slide_id, **self._facts, "cells": described, "disclaimer": DISCLAIMER},
            )
