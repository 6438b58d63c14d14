"""The index of a run: one row per slide, and full paths in run.json alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from findings_samples import make_findings

from stride_monai.findings import DISCLAIMER, SlideStatus
from stride_monai.run_index import SUMMARY_COLUMNS, Outcome, write_run, write_summary
from stride_monai.spreadsheet import as_typed

PATH = Path("/hospital/names/sample.svs")


def outcomes() -> list[Outcome]:
    done = Outcome.of(make_findings(cells=40), seconds=12.34567, path=PATH, stages={"detect": 10.00049}, resumed=True)
    path = f"{PATH.parent}/bad, one.svs"
    return [done, Outcome("bad", "bad, one.svs", SlideStatus.FAILED, reason=f'{path}\nis "damaged"', path=path)]


def rows(folder: Path) -> list[dict[str, str]]:
    with write_summary(folder, outcomes()).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_summary_has_a_row_per_slide_in_order(tmp_path: Path) -> None:
    done, bad = rows(tmp_path)
    assert tuple(done) == SUMMARY_COLUMNS
    assert (done["slide_id"], done["status"], done["call"], done["slide_class"]) == ("sample", "ok", "positive", "HSIL")
    assert (done["score"], done["cells"], done["mpp"], done["mpp_source"]) == ("0.94", "40", "0.25", "given")
    assert (done["seconds"], done["resumed"], done["unreadable_regions"]) == ("12.346", "True", "2")
    assert (bad["status"], bad["score"], bad["cells"], bad["call"], bad["mpp"]) == ("failed", "", "", "", "")


def test_a_reason_is_one_line_without_the_path(tmp_path: Path) -> None:
    assert rows(tmp_path)[1]["reason"] == 'bad, one.svs is "damaged"'


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "'=1", "-5", "1e5", "a=1"])
def test_no_cell_is_a_formula_and_each_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    outcome = Outcome(name, f"{name}.svs", SlideStatus.FAILED, reason=f"{name}.svs is damaged", score=-0.5)
    with write_summary(tmp_path, [outcome]).open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["score"] == "-0.5"
    for column in ("slide_id", "file_name"):
        assert row[column][:1] not in "=+@\t-" or row[column] == "-5"
        assert as_typed(row[column]) == getattr(outcome, column)
    assert json.loads(write_run(tmp_path, {}, [outcome]).read_text())["slides"][0]["slide_id"] == name


def test_no_folder_stands_in_the_summary(tmp_path: Path) -> None:
    """Whichever part of a path a library names."""
    path = tmp_path / "JANE DOE 1970" / "s.svs"
    reason = f"cannot open {path} beside {path.parent}/other.svs and {tmp_path}/out/s/report.html"
    outcome = Outcome("s", "s.svs", SlideStatus.FAILED, reason=reason, path=str(path))
    (tmp_path / "out").mkdir()
    text = write_summary(tmp_path / "out", [outcome]).read_text()
    assert "JANE" not in text
    assert str(tmp_path) not in text


def test_full_paths_stand_in_run_json_only(tmp_path: Path) -> None:
    summary = write_summary(tmp_path, outcomes()).read_text()
    run = write_run(tmp_path, {"out": tmp_path}, outcomes()).read_text()
    assert str(PATH.parent) not in summary
    assert str(PATH) in run


def test_run_json_counts_and_carries_what_is_known(tmp_path: Path) -> None:
    run = json.loads(write_run(tmp_path, {"started": "then", "out": tmp_path}, outcomes()).read_text())
    assert run["counts"] == {"ok": 1, "unsatisfactory": 0, "failed": 1, "skipped": 0}
    assert run["run"] == {"started": "then", "out": str(tmp_path)}
    assert run["disclaimer"] == DISCLAIMER
    assert run["slides"][0]["stages"] == {"detect": 10.0}
    assert run["slides"][1]["score"] is None


def test_an_empty_run_has_an_index(tmp_path: Path) -> None:
    assert write_summary(tmp_path, []).read_text() == ",".join(SUMMARY_COLUMNS) + "\n"
    assert json.loads(write_run(tmp_path, {}, []).read_text())["slides"] == []
