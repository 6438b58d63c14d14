"""Write what the description alignment says of the cells of bags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.evaluation.descriptions import allowed_texts
from stride_monai.files import sha256_of, write_bytes
from stride_monai.findings import DISCLAIMER
from stride_monai.inferers.bags import Similarities
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
        self._allowed = allowed_texts(aligner.texts)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.aligner.check_encoder(self.encoder)
        self._facts = {
            "schema_version": SCHEMA_VERSION,
            "package_version": __version__,
            "weights_sha256": sha256_of(Path(self.weights)) if self.weights else None,
            "encoder_sha256": self.aligner.encoder_sha256,
            "threshold": float(self.aligner.threshold),
            "texts": list(self.aligner.texts),
        }

    def __call__(self, engine: Engine) -> None:
        """Takes ``pred`` (:class:`~stride_monai.inferers.Similarities`) and the batch of loaded bags."""
        batch, found = engine.state.batch, engine.state.output["pred"]
        for j, slide_id in enumerate(batch["slide_id"]):
            record = {"slide_id": slide_id, **self._facts, "cells": self._cells(found, batch, j)}
            record["disclaimer"] = DISCLAIMER
            write_bytes(
                self.output_dir / f"{slide_id}.descriptions.json", (json.dumps(record, indent=1) + "\n").encode()
            )

    def _cells(self, found: Similarities, batch: Any, j: int) -> list[dict[str, Any]]:
        similarity = found.similarity[j].float()
        kept = self.aligner.keep(similarity).cpu()
        predicted = found.cell_logits[j].argmax(dim=-1).cpu()
        values, cells = similarity.cpu().tolist(), []
        for k in torch.nonzero(batch["mask"][j]).flatten().tolist():
            truth = int(batch["truth"][j, k])
            cells.append(
                {
                    "rank": k + 1,
                    "score": round(float(batch["scores"][j, k]), 6),
                    "box": [round(float(side), 6) for side in batch["boxes"][j, k]],
                    "class": CELL_CLASSES[int(predicted[k])],
                    "known_class": None if truth < 0 else CELL_CLASSES[truth],
                    "descriptions": self._kept(values[k], kept[k].tolist(), int(predicted[k])),
                    "similarities": [round(value, 6) for value in values[k]],
                }
            )
        return cells

    def _kept(self, values: Sequence[float], kept: Sequence[bool], predicted: int) -> list[dict[str, Any]]:
        nearest = sorted((n for n, keep in enumerate(kept) if keep), key=lambda n: -values[n])
        return [
            {
                "text": self.aligner.texts[n],
                "similarity": round(values[n], 6),
                "fits_class": bool(self._allowed[predicted, n]),
            }
            for n in nearest
        ]
