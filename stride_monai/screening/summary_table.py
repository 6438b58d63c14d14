"""``summary.parquet``: the summary of a run with types, for pandas, R, DuckDB and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stride_monai.files import replacing
from stride_monai.findings import DISCLAIMER
from stride_monai.run_index import PARQUET_MARK, PARQUET_NAME, Outcome, plain_reason

__all__ = ["write_summary_parquet"]


def _columns(pa: Any, folder: Path) -> tuple[tuple[str, Any, Callable[[Outcome], Any]], ...]:
    text, number = pa.string(), pa.float64()
    return (
        ("slide_id", text, lambda one: one.slide_id),
        ("file_name", text, lambda one: one.file_name),
        ("status", text, lambda one: one.status.value),
        ("reason", text, lambda one: plain_reason(one, folder)),
        ("seconds", number, lambda one: one.seconds),
        ("score", number, lambda one: one.score),
        ("slide_class", text, lambda one: one.slide_class),
        ("call", text, lambda one: one.call),
        ("cells", pa.int64(), lambda one: one.cells),
        ("mpp", number, lambda one: one.mpp),
        ("mpp_source", text, lambda one: one.mpp_source),
        ("unreadable_regions", pa.int64(), lambda one: one.unreadable_regions),
        ("resumed", pa.bool_(), lambda one: one.resumed),
        ("area_mm2", number, lambda one: one.area_mm2),
        ("screened_at", text, lambda one: one.screened_at or None),
    )


def write_summary_parquet(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write ``folder/summary.parquet``: a row per slide, no full paths, unknown values null, texts as they are.

    Raises:
        OutputError: the folder cannot be written to.
    """
    import pyarrow as pa  # the process that watches needs no Arrow until a run has ended
    import pyarrow.parquet as pq

    columns = _columns(pa, folder)
    schema = pa.schema([pa.field(name, kind) for name, kind, _ in columns], metadata={PARQUET_MARK: DISCLAIMER})
    values = {name: [value_of(one) for one in outcomes] for name, _, value_of in columns}
    path = folder / PARQUET_NAME
    with replacing(path) as temporary:
        pq.write_table(pa.table(values, schema=schema), temporary, compression="zstd")
    return path
