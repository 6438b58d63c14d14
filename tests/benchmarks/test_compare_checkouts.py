"""What the comparison of two checkouts takes for the same, and what for a difference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("compare_checkouts")


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, {"a.b.1": (2, 3)}),
        ({"a": 1}, {"a": 1.0}, {"a": (1, 1.0)}),
        ({"a": 0.0}, {"a": -0.0}, {"a": (0.0, -0.0)}),
        ({"a": None}, {}, {"a": (None, "(absent)")}),
        ({}, {"a": 1}, {"a": ("(absent)", 1)}),
        ([1], [1, 2], {".length": (1, 2)}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"": ("keys in one order", "keys in another order")}),
        ({"a": 1, "b": float("nan")}, {"a": 1, "b": float("nan")}, {}),
    ],
)
def test_every_field_that_differs_is_named(comparing: Any, before: Any, after: Any, fields: dict[str, Any]) -> None:
    found = {each.field: (each.before, each.after) for each in comparing.differences(before, after)}
    assert repr(found) == repr(fields)


def test_an_ignored_field_takes_what_lies_in_it_along(comparing: Any) -> None:
    patterns = ["provenance.used", "cells.*.cam"]
    for field in ("provenance.used", "provenance.used.top_k", "cells.3.cam"):
        assert comparing.ignored(field, patterns)
    for field in ("provenance", "provenance.used_too", "cells.3.score", "provenance.requested.used"):
        assert not comparing.ignored(field, patterns)


def write(folder: Path, score: float, config: str, jpeg: bytes, spaces: int | None = None) -> None:
    slide = folder / "one"
    slide.mkdir(parents=True)
    findings = {"score": score, "provenance": {"config_hash": config}, "cells": [{"score": score}, {"score": 0.5}]}
    (slide / "findings.json").write_text(json.dumps(findings, indent=spaces))
    (slide / "overlay.geojson.gz").write_bytes(gzip.compress(b"{}", mtime=0))
    (slide / "report.html").write_text(config)
    table = pa.table({"rank": [1, 2], "jpeg": [jpeg, b""]}).replace_schema_metadata({"config": config})
    pq.write_table(table, slide / "cells.parquet")
    with pa.OSFile(str(folder / "one.bag.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    (folder / "summary.csv").write_text(f"slide_id,score,seconds\none,{score},{spaces}\n")


def test_folders_are_compared_file_by_file(comparing: Any, tmp_path: Path) -> None:
    write(tmp_path / "a", 0.25, "aa", b"1")
    write(tmp_path / "b", 0.75, "bb", b"2", spaces=4)
    found = comparing.compare_folders(tmp_path / "a", tmp_path / "b", ["provenance.config_hash", "metadata.config"])
    fields = {name: [each.field for each in said] for name, said in found.items()}
    assert fields == {
        "one/findings.json": ["score", "cells.0.score"],
        "one/overlay.geojson.gz": [],
        "one/cells.parquet": ["jpeg.0"],
        "one.bag.arrow": ["jpeg.0"],
        "summary.csv": ["one.score"],
    }
    lines = comparing.summary(found)
    assert "findings.json cells.*.score: 1 places, e.g. one/findings.json cells.0.score: 0.25 -> 0.75" in lines


def test_bytes_count_where_no_field_differs_and_a_file_that_one_has_not(comparing: Any, tmp_path: Path) -> None:
    write(tmp_path / "a", 0.25, "aa", b"1")
    write(tmp_path / "b", 0.25, "aa", b"1", spaces=4)
    (tmp_path / "b" / "one" / "cells.parquet").unlink()
    found = comparing.compare_folders(tmp_path / "a", tmp_path / "b", [])
    assert [each.field for each in found["one/findings.json"]] == ["bytes"], "written with other spaces"
    assert found["summary.csv"] == [], "seconds alone"
    assert [each.after for each in found["one/cells.parquet"]] == ["(absent)"]
