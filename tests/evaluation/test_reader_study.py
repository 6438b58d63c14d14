"""Reader studies from their tables to the report."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import Result
from reader_studies import READS, crossed, table
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from typer.testing import CliRunner

from stride_monai.bethesda import SEVERITY
from stride_monai.cli.main import app
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.figures import style
from stride_monai.evaluation.readers.diagnosis import parse_diagnosis
from stride_monai.evaluation.readers.measures import measure_arm, measure_difference, verdict
from stride_monai.evaluation.readers.panel import panel_summary
from stride_monai.evaluation.readers.reads import panel_table, read_panel, read_reads, reads_table
from stride_monai.evaluation.readers.study import Study, reader_study
from stride_monai.evaluation.readers.summary import compared_arms, summarize_readers


@pytest.fixture
def only_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "FORMATS", ("png",))  # the others take most of the time


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate-readers", *map(str, words)])


def study_in(folder: Path, rows: Sequence[Sequence[object]], labels: Sequence[Sequence[object]]) -> Study:
    reads = table(folder / "r.csv", READS, rows)
    return reader_study(read_reads(reads), read_panel(table(folder / "t.csv", ("case", "label"), labels)))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("ascus", ("ASC-US",)),
        ("LSIL+ASC-H", ("ASC-H", "LSIL")),
        (" asc-h + lsil ", ("ASC-H", "LSIL")),
        ("negative", ("NILM",)),
        ("HSIL+hsil", ("HSIL",)),
        ("Positive", ()),
    ],
)
def test_diagnoses(text: str, labels: tuple[str, ...]) -> None:
    found = parse_diagnosis(text)
    assert found.labels == labels
    assert parse_diagnosis(str(found)) == found


@pytest.mark.parametrize("text", ["", "ASC-US+", "NILM+LSIL", "HSII", "ASC-US ASC-US", "ASC-H/LSIL"])
def test_what_is_no_diagnosis(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_diagnosis(text)


def test_a_composite_counts_by_its_worst_label_and_positive_is_open() -> None:
    assert parse_diagnosis("LSIL+ASC-H").within("ASC-H+") is True
    assert parse_diagnosis("LSIL").within("ASC-H+") is False
    assert parse_diagnosis("positive").within("ASC-US+") is True
    assert parse_diagnosis("positive").within("LSIL+") is None


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    reads, truth = crossed(tmp_path)
    known, panel = read_reads(reads), read_panel(truth)
    (tmp_path / "again.csv").write_bytes(reads_table(known))
    (tmp_path / "labels.csv").write_bytes(panel_table(panel))
    assert read_reads(tmp_path / "again.csv") == known
    assert read_panel(tmp_path / "labels.csv") == panel
    assert len(panel[1].experts) == 2


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    rows = [
        ("a", "1", "unaided", "", "HSIL", ""),
        ("a", "1", "unaided", "", "NILM", ""),
        ("a", "2", "unaided", "", "HSII", ""),
        ("a", "3", "unaided", "", "NILM", "-4"),
        ("a", "4", "unaided", "", "NILM", "inf"),
        ("", "5", "unaided", "", "NILM", ""),
    ]
    with pytest.raises(ManifestError) as error:
        read_reads(table(tmp_path / "r.csv", READS, rows))
    for part in (
        "line 3: 'a' reads case '1' in arm 'unaided' a second time, after line 2",
        "line 4: 'HSII' is not a Bethesda label",
        "line 5: -4 seconds",
        "line 6: invalid seconds 'inf'",
        "line 7: no reader",
    ):
        assert part in str(error.value)
    with pytest.raises(ManifestError, match="case '1' stands in line 2 too"):
        read_panel(table(tmp_path / "t.csv", ("case", "label"), [("1", "HSIL"), ("1", "NILM")]))
    with pytest.raises(ManifestError, match="no column arm"):
        read_reads(table(tmp_path / "r.csv", ("reader", "case", "diagnosis"), [("a", "1", "NILM")]))
    with pytest.raises(ManifestError, match="holds no read"):
        read_reads(table(tmp_path / "r.csv", READS, []))


def test_figures_of_arms_are_means_over_readers(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    truth = {case.case: case.label for case in study.panel}
    areas, kappas = [], []
    for reader in study.readers:
        mine = [read for read in study.reads if read.reader == reader and read.arm == "aided"]
        ranks = [SEVERITY[read.diagnosis.labels[0]] for read in mine]
        true = [SEVERITY[truth[read.case].labels[0]] for read in mine]
        areas.append(roc_auc_score([rank > 0 for rank in true], ranks))
        kappas.append(cohen_kappa_score(true, ranks, labels=range(7), weights="quadratic"))
    for name, values in (("AUC (ASC-US+)", areas), ("kappa (labels, quadratic weights)", kappas)):
        found = measure_arm(study, name, "aided")
        assert found.estimate is not None
        assert found.estimate.interval.estimate == pytest.approx(sum(values) / len(values))
        assert (found.readers, found.cases, found.reads) == (4, 40, 160)
        assert found.estimate.random_readers


def test_reads_that_are_missing_leave_all_others_in(tmp_path: Path) -> None:
    reads, truth = crossed(tmp_path)
    known = [
        read for read in read_reads(reads) if not (read.reader == "Dr 2" and read.case == "c3" and read.arm == "aided")
    ]
    study = reader_study(known, read_panel(truth))
    label = next(case.label for case in study.panel if case.case == "c3")
    name = "specificity (ASC-US+)" if label.labels == ("NILM",) else "sensitivity (ASC-US+)"
    found = measure_difference(study, name, "unaided", "aided")
    assert found.estimate is not None
    assert "clustered by reader and case" in found.estimate.interval.method
    kind = [
        k
        for k, read in enumerate(study.reads)
        if study.panel[study.case[k]].label.within("ASC-US+") == label.within("ASC-US+")
    ]
    assert found.reads == len(kind)
    right = {
        arm: [
            study.reads[k].diagnosis.within("ASC-US+") == label.within("ASC-US+")
            for k in kind
            if study.reads[k].arm == arm
        ]
        for arm in study.arms
    }
    means = {arm: sum(values) / len(values) for arm, values in right.items()}
    assert found.estimate.interval.estimate == pytest.approx(means["aided"] - means["unaided"])
    area = measure_difference(study, "AUC (ASC-US+)", "unaided", "aided")
    assert area.cases == 39
    assert "without 0 readers and 1 cases" in area.note


def test_one_reader_speaks_for_himself(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path, readers=1), strict=True)))
    found = measure_difference(study, "sensitivity (ASC-US+)", "unaided", "aided")
    assert found.estimate is not None
    assert not found.estimate.random_readers
    assert any("hold for these readers alone" in note for note in summarize_readers(study, ("unaided", "aided")).notes)


def test_a_bare_positive_is_not_judged_where_it_is_open(tmp_path: Path) -> None:
    rows = [("AI", str(k), "alone", "", "positive" if k % 2 else "NILM", "") for k in range(8)]
    study = study_in(tmp_path, rows, [(str(k), "HSIL" if k > 3 else "NILM") for k in range(8)])
    found = measure_arm(study, "sensitivity (ASC-US+)", "alone")
    assert found.estimate is not None
    assert found.estimate.interval.estimate == 0.5
    for name in ("specificity (LSIL+)", "AUC (ASC-US+)", "kappa (labels)"):  # its NILM alone would be right too often
        open_ = measure_arm(study, name, "alone")
        assert open_.estimate is None
        assert "say positive without a class" in open_.note
    assert math.isnan(summarize_readers(study).readers[0].weighted.estimate)


def test_where_all_is_right_the_interval_is_that_of_as_many_cases(tmp_path: Path) -> None:
    rows = [(f"r{reader}", str(case), "aided", "", "HSIL", "") for reader in range(3) for case in range(10)]
    study = study_in(tmp_path, rows, [(str(case), "HSIL") for case in range(10)])
    found = measure_arm(study, "sensitivity (HSIL+)", "aided")
    assert found.estimate is not None
    assert found.estimate.interval.low == pytest.approx(0.025**0.1)
    assert measure_arm(study, "specificity (HSIL+)", "aided").note == "no such case was read"
    assert found.caution == "", "an exact interval holds"
    assert "says the same of every case" in measure_arm(study, "kappa (labels)", "aided").note


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    ("name", "scale", "method"),
    [
        ("sensitivity (ASC-US+)", log_odds, "logit"),
        ("AUC (ASC-US+)", lambda p: math.sinh(0.3 * log_odds(p)), "bent logit"),
        ("kappa (labels, quadratic weights)", math.atanh, "Fisher's z"),
    ],
)
def test_intervals_are_on_a_scale_with_the_published_difference_beside(
    name: str, scale: Callable[[float], float], method: str, tmp_path: Path
) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    arm = measure_arm(study, name, "aided").estimate
    assert arm is not None
    value, low, high = arm.interval.estimate, arm.interval.low, arm.interval.high
    assert scale(high) - scale(value) == pytest.approx(scale(value) - scale(low))
    assert arm.interval.method.endswith(f"readers random, {method}")
    both = measure_difference(study, name, "unaided", "aided").estimate
    assert both is not None
    assert (both.p < 0.05) == (0 not in both.interval)
    assert both.published is not None
    printed = both.published.interval
    assert (printed.low + printed.high) / 2 == pytest.approx(both.interval.estimate)


def test_readers_who_speak_for_themselves_do_not_bend_the_scale_of_areas(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    two = reader_study([read for read in study.reads if read.reader in study.readers[:2]], study.panel)
    found = measure_arm(two, "AUC (ASC-US+)", "aided").estimate
    assert found is not None
    value, low, high = (log_odds(p) for p in (found.interval.estimate, found.interval.low, found.interval.high))
    assert high - value == pytest.approx(value - low)
    assert found.interval.method.endswith("these readers, logit")


def test_three_readers_are_few_and_it_is_said(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    three = [read for read in study.reads if read.reader in study.readers[:3]]
    fewer = reader_study(three, study.panel)
    for name in ("sensitivity (ASC-US+)", "AUC (ASC-US+)"):
        assert measure_arm(fewer, name, "aided").caution.startswith("three readers are few")
    assert measure_arm(study, "sensitivity (ASC-US+)", "aided").caution == ""


def test_arms_to_compare(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    assert compared_arms(study) == ("unaided", "aided")
    assert compared_arms(study, "aided", "unaided") == ("aided", "unaided")
    with pytest.raises(ConfigError, match=r"no read is in an arm 'ai': choose from unaided, aided"):
        compared_arms(study, aided="ai")
    with pytest.raises(ConfigError, match="with itself"):
        compared_arms(study, aided="unaided")
    for margin in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ConfigError, match="margin"):
            summarize_readers(study, ("unaided", "aided"), margin)


def test_a_margin_is_met_where_the_lower_bound_is_above_it(tmp_path: Path) -> None:
    study = reader_study(*(f(p) for f, p in zip((read_reads, read_panel), crossed(tmp_path), strict=True)))
    found = measure_difference(study, "specificity (ASC-US+)", "unaided", "aided").estimate
    assert found is not None
    low = found.interval.low
    assert verdict(found, abs(low) + 0.01).non_inferior
    assert verdict(found, 0.5).superior == (low > 0)
    if low < 0:
        assert not verdict(found, abs(low) / 2).non_inferior
    assert not verdict(None, 0.5).non_inferior


def test_what_the_panel_did(tmp_path: Path) -> None:
    columns = ("case", "gold standard", "Pathologist 1", "Pathologist 2", "arbitration")
    rows = [
        ("1", "HSIL", "LSIL", "ASC-H", "HSIL"),
        ("2", "NILM", "NILM", "NILM", ""),
        ("3", "ASC-H+LSIL", "ASC-H", "LSIL", ""),
        ("4", "ASC-US", "ASC-US", "ASC-US", "LSIL"),
        ("5", "NILM", "NILM", "", ""),
    ]
    found = panel_summary(read_panel(table(tmp_path / "t.csv", columns, rows)))
    names = ("composite", "read_by_two_or_more", "experts_disagree", "arbitrated", "disagree_without_arbitration")
    assert [found[name] for name in names] == [1, 4, 2, 2, 1]
    assert found["label_is_no_experts"] == 2
    assert found["label_is_not_the_arbitration"] == 1
    assert found["arbitrated_though_agreed"] == 1


def test_the_command_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crossed(tmp_path, readers=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = run("../reads.csv", "--truth", "../truth.csv", "--out", "报告 1", "--margin", "0.2")
    assert said.exit_code == 0, said.output
    assert "3 readers, 40 cases, 240 reads" in said.output
    out = Path("报告 1")
    record = json.loads((out / "reader_study.json").read_text(encoding="utf-8"))
    assert record["compared"] == ["unaided", "aided"]
    first = record["differences"][0]
    assert first["measure"] == "sensitivity (ASC-US+)"
    assert first["non_inferiority"]["margin"] == 0.2
    assert any("cannot be told from what a second reading does" in note for note in record["notes"])
    assert record["seconds_ratio"]["estimate"] < 1
    with (out / "measures.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 13 * 3
    assert float(rows[-13]["estimate"]) == pytest.approx(first["found"]["estimate"], abs=1e-5)
    printed = first["found"]["published"]
    assert (printed["low"] + printed["high"]) / 2 == pytest.approx(first["found"]["estimate"])
    assert float(rows[-13]["published_p"]) == pytest.approx(printed["p"], abs=1e-5)
    few = [row["caution"].startswith("three readers are few") for row in rows]
    assert few == ["readers random" in row["method"] and row["low"] != "" for row in rows]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "as other programs print them" in page
    assert page.count(")*</td>") == sum(few) > 20
    words = re.sub(r"<figure.*?</figure>", "", page, flags=re.DOTALL)
    assert "−0." in words, "a minus"
    assert words.count("aided − unaided") == 4, "of the table and of three key figures"
    assert "aided - unaided" not in words
    assert not re.search(r"[> (]-0\.\d|\d-0\.", words), "a hyphen where a minus or a range is meant"
    assert "* Three readers are few" in page
    assert "Dr 1" in page
    assert "McNemar" in page
    assert {"readers.pdf", "readers.svg", "differences.png", "mcnemar.csv"} <= {path.name for path in out.iterdir()}
    before = page
    assert run("../reads.csv", "--truth", "../truth.csv", "--out", "报告 1", "--margin", "0.2").exit_code == 0
    assert (out / "report.html").read_text(encoding="utf-8") == before


@pytest.mark.usefixtures("only_png")
def test_the_command_says_what_is_superior_and_what_is_not_shown(tmp_path: Path) -> None:
    reads, truth = crossed(tmp_path, cases=160, seed=2)
    words = (reads, "--truth", truth, "--margin", "0.05", "--out", tmp_path / "out")
    said = run(*words).output
    record = json.loads((tmp_path / "out" / "reader_study.json").read_text(encoding="utf-8"))
    low = {one["measure"]: one["found"]["low"] for one in record["differences"] if one["found"]}
    assert low["sensitivity (ASC-US+)"] > 0 > low["specificity (ASC-US+)"] > -0.05
    assert "sensitivity (ASC-US+): superior, and not inferior at a margin of 0.05" in said
    assert "specificity (ASC-US+): not inferior at a margin of 0.05" in said
    turned = run(*words, "--unaided", "aided", "--aided", "unaided").output
    assert "sensitivity (ASC-US+): non-inferiority not shown at a margin of 0.05" in turned


@pytest.mark.usefixtures("only_png")
def test_foreign_files_are_not_written_over(tmp_path: Path) -> None:
    reads, truth = crossed(tmp_path, readers=1, cases=12)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("mine", encoding="utf-8")
    said = run(reads, "--truth", truth, "--out", out)
    assert said.exit_code != 0
    assert "report.html" in str(said.exception)
    assert (out / "report.html").read_text(encoding="utf-8") == "mine"


def test_cases_without_a_label_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [("=a", str(case), "unaided", "", "HSIL" if case % 2 else "NILM", "") for case in range(6)]
    labels = [(str(case), "HSIL" if case % 2 else "NILM") for case in range(1, 8)]
    study = study_in(tmp_path, rows, labels)
    assert study.without_label == ("0",)
    assert study.unread == ("6", "7")
    notes = summarize_readers(study).notes
    assert any("1 cases were read and have no label (0)" in note for note in notes)
    with pytest.raises(ManifestError, match="none of the 6 cases that were read has a label"):
        study_in(tmp_path, rows, [("x", "NILM")])


def test_the_example_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crossed(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "reader-studies.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(block, page.name, "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 13
    assert said[0].startswith("sensitivity (ASC-US+)")
    assert "non_inferior=" in said[0]
