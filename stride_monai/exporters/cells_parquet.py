"""``cells.parquet``: one row per cell, by rank, for pandas, R, DuckDB and the like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.exporters.header import header_of
from stride_monai.files import replacing
from stride_monai.findings import Cell, Findings, Screened

__all__ = ["FILE_NAME", "SCHEMA", "probability_column", "table_of", "write"]

FILE_NAME = "cells.parquet"

_DECIMALS = 6  # as in findings.json, so that the two files say the same


def probability_column(cell_class: str) -> str:
    """Name of the column with the probability of a cell class, e.g. ``p_ASC-H/HSIL``."""
    return f"p_{cell_class}"


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)


def _list_of(kind: Any) -> Any:
    return pa.list_(pa.field("item", kind, nullable=False))


_FLOAT = pa.float64()
_COLUMNS: tuple[tuple[str, Any, Callable[[Cell], Any]], ...] = (
    ("rank", pa.int32(), lambda cell: cell.rank),
    ("score", _FLOAT, lambda cell: cell.score),
    *((axis, _FLOAT, attrgetter(f"box.{axis}")) for axis in ("x0", "y0", "x1", "y1")),
    ("class", pa.string(), lambda cell: cell.cell_class),
    *(
        (probability_column(name), _FLOAT, lambda cell, at=at: cell.probabilities[at])
        for at, name in enumerate(CELL_CLASSES)
    ),
    ("attention", _FLOAT, lambda cell: cell.attention),
    ("cam", _FLOAT, lambda cell: cell.cam),
    ("rerank_score", _FLOAT, lambda cell: cell.rerank_score),
    ("descriptions", _list_of(pa.string()), lambda cell: [text.text for text in cell.descriptions]),
    ("description_similarity", _list_of(_FLOAT), lambda cell: [_rounded(d.similarity) for d in cell.descriptions]),
    ("description_fits_class", _list_of(pa.bool_()), lambda cell: [text.fits_class for text in cell.descriptions]),
)

SCHEMA = pa.schema([pa.field(name, kind, nullable=name == "rerank_score") for name, kind, _ in _COLUMNS])
"""Columns in order; the same for every slide, also for one without cells."""


def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write ``folder/cells.parquet``; the same findings and Arrow version give the same bytes."""
    path = folder / FILE_NAME
    with replacing(path) as temporary:
        pq.write_table(table_of(screened.findings), temporary, compression="zstd", store_schema=True)
    return path


def table_of(findings: Findings) -> Any:
    """The Arrow table (:data:`SCHEMA` plus metadata) of a slide's cells; no rows where no cell was found."""
    columns = {}
    for name, kind, value_of in _COLUMNS:
        values = [value_of(cell) for cell in findings.cells]
        columns[name] = [None if v is None else _rounded(v) for v in values] if kind == _FLOAT else values
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in header_of(findings).items()
    }
    return pa.table(columns, schema=SCHEMA.with_metadata(texts))
