"""A trial's printed record: what is read, what is put right and what is flagged."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_studies import FAULTY, HEADING
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.readers.reads import read_panel, read_reads
from stride_monai.evaluation.readers.records import mended, parse_record, reads_of_record


def test_rows_that_are_sure_are_read_and_the_others_flagged() -> None:
    record = parse_record(FAULTY)
    assert [row.case for row in record.rows] == ["07001", "07002", "07003", "07004", "07012", "07013"]
    assert [row.group for row in record.rows] == ["B", "A", "A", "B", "A", "A"]
    assert [row.line for row in record.flagged] == [9, 10, 11, 12, 13, 14, 15]
    problems = {row.cells[0]: "; ".join(row.problems) for row in record.flagged}
    assert "'07005 07006' is no number" in problems["07005 07006"]
    assert "first: 'LSIL ASC-US' is two cells in one" in problems["07005 07006"]
    assert "system: 'positivo' is not a Bethesda label" in problems["07007"]
    assert "expert_1: 'HSII' is not a Bethesda label" in problems["07/08"]
    assert "group: 'Д' is no single letter" in problems["07009"]
    assert problems["07010"] == "8 cells under 9 columns"
    assert problems["07011"] == "first: nothing stands there"
    assert problems["07001"] == "sample '07001' stands in line 5 too"


def test_what_was_put_right_or_is_odd_is_said() -> None:
    notes = {row.case: row.notes for row in parse_record(FAULTY).rows}
    assert notes["07001"] == ("group: 'В' read as 'B'",)
    assert notes["07002"] == ()
    assert notes["07003"] == ("group: 'Ā' read as 'A'",)
    assert notes["07004"] == ("group: 'в' read as 'b'", "arbitration: 'LOIL' is not a Bethesda label")
    assert notes["07012"][1:] == ("the experts disagree and no arbitration can be read",)


def test_the_panel_keeps_composite_labels_and_its_own_arbitration() -> None:
    panel = {row.case: row.panel for row in parse_record(FAULTY).rows}
    assert str(panel["07002"].label) == "ASC-H+LSIL"
    assert panel["07002"].label == panel["07002"].arbitration != panel["07002"].experts[0]
    assert panel["07003"].label == panel["07003"].arbitration
    assert panel["07003"].label not in panel["07003"].experts
    assert panel["07004"].arbitration is None


def test_arms_are_those_that_are_given() -> None:
    record = parse_record(FAULTY)
    assert {read.arm for read in reads_of_record(record)} == {"stage 1", "stage 2", "AI only"}
    reads = reads_of_record(record, {"1": "unaided", "a2": "aided"})
    arms = Counter((read.reader, read.stage, read.arm) for read in reads)
    assert arms == {
        ("group A", "1", "unaided"): 4,
        ("group B", "1", "unaided"): 2,
        ("group A", "2", "aided"): 4,
        ("group B", "2", "stage 2"): 2,
        ("AI", "", "AI only"): 6,
    }
    with pytest.raises(ConfigError, match="no stage 'C1' in the record"):
        reads_of_record(record, {"C1": "unaided"})


def test_a_text_without_a_record_is_refused() -> None:
    with pytest.raises(ManifestError, match="holds no record of a trial"):
        parse_record("a\tb\n1\t2\n")
    assert parse_record(HEADING) == ((), ())


@given(st.text(alphabet="АВЕКМНОРСТХВв ASC-USHILNMĀÂΑ+/∆Д01379\t\n", max_size=120))
def test_no_text_breaks_it_and_no_row_is_lost(text: str) -> None:
    record = parse_record(HEADING + text)
    rows = 0
    for line in text.splitlines():
        if "\t" not in line:
            break
        rows += 1
    assert len(record.rows) + len(record.flagged) == rows
    for row in record.rows:
        assert row.case.isdigit()
        assert row.group.isascii()


def test_latin_text_stays_as_it_is() -> None:
    assert mended("ASC-H+LSIL 01/75") == "ASC-H+LSIL 01/75"
    assert mended("Ва Â") == "Ba A"
    assert mended("Д∆") == "Д∆"


def test_the_command_writes_tables_that_the_evaluation_reads(tmp_path: Path) -> None:
    text, out = tmp_path / "trial 试.txt", tmp_path / "out 1"
    text.write_text(FAULTY, encoding="utf-8")
    said = CliRunner().invoke(
        app, ["import-reads", str(text), "--out", str(out), "--arm", "1=unaided", "--arm", "2=aided"]
    )
    assert said.exit_code == 1, said.output  # rows are flagged
    assert "6 rows read" in said.output
    assert "7 flagged" in said.output
    reads, panel = read_reads(out / "reads.csv"), read_panel(out / "truth.csv")
    assert len(reads) == 18
    assert [case.case for case in panel] == ["07001", "07002", "07003", "07004", "07012", "07013"]
    assert panel == [row.panel for row in parse_record(FAULTY).rows]
    with (out / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["read"] * 4 + ["flagged"] * 7 + ["read"] * 2
    assert rows[4]["cell_1"] == "07005 07006"
    study = tmp_path / "study"
    said = CliRunner().invoke(
        app, ["evaluate-readers", str(out / "reads.csv"), "--truth", str(out / "truth.csv"), "--out", str(study)]
    )
    assert said.exit_code == 0, said.output
    assert (study / "report.html").is_file()


@pytest.mark.realdata
def test_extended_data_table_1_as_it_stands(real_data: Path) -> None:
    """Read by hand beside it: 70 rows, of which 58 can be read, and what the system said of these alone."""
    text = real_data.parent / "reference" / "stride_paper.txt"
    if not text.is_file():
        pytest.skip(f"the paper is not at {text}")
    record = parse_record(text.read_text(encoding="utf-8"))
    assert (len(record.rows), len(record.flagged)) == (58, 12)
    counts = Counter((row.system.within("ASC-US+"), row.panel.label.within("ASC-US+")) for row in record.rows)
    assert counts == {(True, True): 46, (False, True): 4, (True, False): 5, (False, False): 3}
    assert {row.group for row in record.rows} == {"A", "B"}
    assert sum(len(row.panel.label.labels) > 1 for row in record.rows) == 2
