"""``cells.parquet``: one row per cell, by rank, for pandas, R, DuckDB and the like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.exporters.header import header_of
from stride_monai.files import replacing
from stride_monai.findings import Findings, Screened

__all__ = ["FILE_NAME", "SCHEMA", "probability_column", "table_of", "write"]

FILE_NAME = "cells.parquet"

_DECIMALS = 6  # as in findings.json, so that the two files say the same


def probability_column(cell_class: str) -> str:
    """Name of the column with the probability of a cell class, e.g. ``p_ASC-H/HSIL``."""
    return f"p_{cell_class}"


SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("x0", "y0", "x1", "y1")),
        pa.field("class", pa.string(), nullable=False),
        *(pa.field(probability_column(name), pa.float64(), nullable=False) for name in CELL_CLASSES),
        pa.field("attention", pa.float64(), nullable=False),
        pa.field("cam", pa.float64(), nullable=False),
        pa.field("rerank_score", pa.float64()),
        *(
            pa.field(name, pa.list_(pa.field("item", kind, nullable=False)), nullable=False)
            for name, kind in (
                ("descriptions", pa.string()),
                ("description_similarity", pa.float64()),
                ("description_fits_class", pa.bool_()),
            )
        ),
    ]
)
"""Columns in order; the same for every slide, also for one without cells."""


def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write ``folder/cells.parquet``; the same findings and Arrow version give the same bytes."""
    path = folder / FILE_NAME
    with replacing(path) as temporary:
        pq.write_table(table_of(screened.findings), temporary, compression="zstd", store_schema=True)
    return path


def table_of(findings: Findings) -> Any:
    """The Arrow table (:data:`SCHEMA` plus metadata) of a slide's cells; no rows where no cell was found."""
    cells = findings.cells
    columns: dict[str, Sequence[object]] = {
        "rank": [cell.rank for cell in cells],
        "score": _rounded([cell.score for cell in cells]),
        **{name: _rounded([cell.box[axis] for cell in cells]) for axis, name in enumerate(("x0", "y0", "x1", "y1"))},
        "class": [cell.cell_class for cell in cells],
        **{
            probability_column(name): _rounded([cell.probabilities[index] for cell in cells])
            for index, name in enumerate(CELL_CLASSES)
        },
        "attention": _rounded([cell.attention for cell in cells]),
        "cam": _rounded([cell.cam for cell in cells]),
        "rerank_score": [None if c.rerank_score is None else round(c.rerank_score, _DECIMALS) for c in cells],
        "descriptions": [[text.text for text in cell.descriptions] for cell in cells],
        "description_similarity": [_rounded([text.similarity for text in cell.descriptions]) for cell in cells],
        "description_fits_class": [[text.fits_class for text in cell.descriptions] for cell in cells],
    }
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in header_of(findings).items()
    }
    return pa.table(columns, schema=SCHEMA.with_metadata(texts))


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]
