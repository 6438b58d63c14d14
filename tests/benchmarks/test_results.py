"""Figures are data, and the page that shows them is made of the data."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))
KEYS = ["title", "commands", "date", "commit", "machine", "seeds", "tables", "notes"]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_the_page_is_what_the_results_say() -> None:
    import report

    made = report.page(FOLDER / "results")
    assert (FOLDER / "RESULTS.md").read_text(encoding="utf-8") == made, "run python benchmarks/report.py"
    assert made.count("\n## ") == len(RESULTS) > 15


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_it_is_and_where_it_comes_from(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result) == KEYS
    assert result["commands"]
    for script in re.findall(r"python (benchmarks/\w+\.py)", " ".join(result["commands"])):
        assert (FOLDER.parent / script).is_file(), script
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", result["date"])
    assert {"cores", "memory_gib", "processor", "python"} <= set(result["machine"]) <= {*MACHINE, "gpu"}
    assert result["tables"]
    for table in result["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}


MACHINE = ("cores", "memory_gib", "processor", "python", "state")


def test_what_a_run_prints_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import record
    import report

    monkeypatch.setattr(sys, "argv", ["toy.py", "--rounds", "2", "--row", "a row"])
    figures = record.Record("toy", "A toy")
    table = figures.table("figure", "value", caption="Two rounds.")
    table.row("ratio", 1.23456)
    table.row("count", 7)
    with pytest.raises(ValueError, match="3 values for 2 columns"):
        table.row(1, 2, 3)
    figures.table("nothing", "came")
    figures.say("It was idle.")
    said = capsys.readouterr().out
    assert "| ratio | 1.235 |\n| count | 7 |\n" in said
    result: dict[str, Any] = json.loads(figures.write(seeds=[3], folder=tmp_path).read_text(encoding="utf-8"))
    assert list(result) == KEYS
    assert result["commands"] == ["python benchmarks/toy.py --rounds 2 --row 'a row'"]
    assert result["tables"] == [
        {"caption": "Two rounds.", "columns": ["figure", "value"], "rows": [["ratio", "1.235"], ["count", "7"]]}
    ]
    assert (result["seeds"], result["notes"]) == ([3], ["It was idle."])
    assert result["machine"]["cores"] >= 1
    page = report.page(tmp_path)
    assert "## A toy\n\n    python benchmarks/toy.py --rounds 2 --row 'a row'\n" in page
    assert "| figure | value |\n|---|---|\n| ratio | 1.235 |\n" in page
    assert "; seed 3; " in page
    assert page.endswith("It was idle.\n")
