"""Manifests in Parquet, and the summary in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stride_monai.errors import OutputError
from stride_monai.findings import SlideStatus
from stride_monai.run_index import SUMMARY_COLUMNS, Outcome
from stride_monai.screening.batch import run_slides
from stride_monai.screening.inputs import SlideInput, collect


class One:
    """Screens nothing: a slide whose name begins with bad fails."""

    def info(self) -> dict[str, object]:
        return {}

    def __call__(self, item: SlideInput, on_progress: object) -> Outcome:
        outcome = Outcome(item.slide_id, item.path.name, SlideStatus.OK, path=str(item.path), area_mm2=2.5)
        outcome = replace(outcome, score=0.25, slide_class="NILM", call="negative", cells=7, mpp=0.25)
        if item.slide_id.startswith("bad"):
            why = f"{item.path} is damaged"
            return Outcome(item.slide_id, item.path.name, SlideStatus.FAILED, why, path=str(item.path))
        return outcome


def slides(folder: Path, *names: str) -> list[SlideInput]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(name.encode())
    return [SlideInput(folder / f"{name}.png", name) for name in names]


def test_the_summary_has_types_and_no_paths(tmp_path: Path) -> None:
    run_slides(One(), slides(tmp_path / "in", "=a", "bad", "涂片"), tmp_path / "out")
    path = tmp_path / "out" / "summary.parquet"
    table = pq.read_table(path)
    assert tuple(table.column_names[: len(SUMMARY_COLUMNS)]) == SUMMARY_COLUMNS
    assert table.schema.field("score").type == pa.float64()
    assert table.schema.field("cells").type == pa.int64()
    first, bad, third = table.to_pylist()
    assert (first["slide_id"], first["score"], first["cells"], first["area_mm2"]) == ("=a", 0.25, 7, 2.5)
    assert (bad["status"], bad["score"], bad["reason"]) == ("failed", None, "bad.png is damaged")
    assert third["slide_id"] == "涂片"
    assert str(tmp_path).encode() not in path.read_bytes()


def test_it_is_replaced_by_the_next_run_and_written_by_one_that_is_stopped(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", "a", "b")
    run_slides(One(), items, tmp_path / "out")
    run_slides(One(), items[:1], tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "summary.parquet")["slide_id"].to_pylist() == ["a"]

    class Stopping(One):
        def __call__(self, item: SlideInput, on_progress: object) -> Outcome:
            if item.slide_id == "b":
                raise KeyboardInterrupt
            return super().__call__(item, on_progress)

    (tmp_path / "out" / "summary.parquet").unlink()
    with pytest.raises(KeyboardInterrupt):
        run_slides(Stopping(), items, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "summary.parquet")["slide_id"].to_pylist() == ["a"]


def test_somebody_elses_table_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"mine": [1]}), tmp_path / "out" / "summary.parquet")
    with pytest.raises(OutputError, match=r"summary\.parquet"):
        run_slides(One(), slides(tmp_path / "in", "a"), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "summary.parquet").column_names == ["mine"]


def test_a_list_of_slides_may_be_parquet(tmp_path: Path) -> None:
    slides(tmp_path / "in", "a", "b")
    rows = {"path": ["in/a.png", "in/b.png"], "slide_id": ["one", None], "mpp": [0.5, None], "label": ["HSIL", "NILM"]}
    pq.write_table(pa.table(rows), tmp_path / "my list.parquet")
    items = collect([tmp_path / "my list.parquet"])
    assert [(item.slide_id, item.mpp, item.problem) for item in items] == [("one", 0.5, ""), ("b", None, "")]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (broken,) = collect([tmp_path / "broken.parquet"])
    assert "cannot be read as Parquet" in broken.problem
