"""Write what an evaluator predicts for the cells of bags."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.tables import table_text
from stride_monai.files import write_bytes

__all__ = ["CellTableWriter"]


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
            rows: list[list[Any]] = []
            for k in torch.nonzero(batch["mask"][j]).flatten().tolist():
                p = probabilities[j, k]
                place = _numbers([batch["scores"][j, k], *batch["boxes"][j, k]])
                rows.append([k + 1, *place, CELL_CLASSES[int(p.argmax())], *_numbers(p)])
            write_bytes(self.output_dir / f"{slide_id}.cells.csv", table_text(header, rows))


def _numbers(values: Iterable[float]) -> list[float]:
    return [round(float(value), 6) for value in values]
