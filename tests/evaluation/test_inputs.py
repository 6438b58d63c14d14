"""Predictions and truth tables as people and other systems write them, and the two joined."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from fake_screening import FakeScreener, run
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from stride_monai.bethesda import ABNORMAL, SLIDE_CLASSES
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.inputs.joining import cohort_hash, join_truth
from stride_monai.evaluation.inputs.mapping import read_mapping
from stride_monai.evaluation.inputs.predictions import P_COLUMNS, Predictions, read_predictions
from stride_monai.evaluation.inputs.truth import NOT_JUDGEABLE, Truth, read_truth


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_gives_scores_calls_and_classes(tmp_path: Path) -> None:
    head = ",".join(("slide_id", "score", "call", *P_COLUMNS))
    rows = "a,0.4,positive,.6,.1,.1,.1,.05,.05\n切片,,neg,.9,.02,.02,.02,.02,.02\nc,nan,,,,,,,\n"
    found = read_predictions(written(tmp_path / "by them.csv", f"{head}\n{rows}"))
    assert (found.name, list(found.slide_id)) == ("by them", ["a", "切片", "c"])
    np.testing.assert_allclose(found.score, [0.4, 0.1, np.nan])
    assert found.call.tolist() == [1, 0, -1]
    assert found.predicted.tolist() == [0, 0, -1]
    assert found.probabilities is not None
    assert np.isnan(found.probabilities[2]).all()


def test_the_same_table_as_csv_json_and_parquet(tmp_path: Path) -> None:
    rows = [{"slide_id": "007", "score": 0.25, "class": "Ascus"}, {"slide_id": "b", "score": None, "class": "ADC"}]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    written(tmp_path / "p.csv", "Slide ID;Score;class\n007;0,25;Ascus\nb;;ADC\n")
    for kind in ("json", "parquet", "csv"):
        found = read_predictions(tmp_path / f"p.{kind}")
        assert list(found.slide_id) == ["007", "b"], kind
        np.testing.assert_allclose(found.score, [0.25, np.nan])
        assert [SLIDE_CLASSES[k] for k in found.predicted] == ["ASC-US", "AGC"]


def test_a_table_as_excel_saves_it(tmp_path: Path) -> None:
    """A byte order mark, semicolons, decimal commas, Windows' line ends and a column with nothing in it."""
    text = "slide_id;score;call;\r\nKöln 1;0,25;negative;\r\nb;0,5;positive;\r\n"
    (tmp_path / "Köln.csv").write_bytes(text.encode("utf-8-sig"))
    found = read_predictions(tmp_path / "Köln.csv")
    assert list(found.slide_id) == ["Köln 1", "b"]
    np.testing.assert_allclose(found.score, [0.25, 0.5])
    assert found.call.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id,score\na,0.1\na,0.2\n", "line 3: slide 'a' is that of line 2 too"),
        ("slide_id,score\na,inf\nb,high\n", "line 2: invalid score 'inf' .* line 3: invalid score 'high'"),
        ("slide_id,call\na,perhaps\n", "line 2: unknown call 'perhaps'"),
        ("slide_id,class\na,CIN2\n", "'CIN2' is not a Bethesda label"),
        ("slide_id,score,status\na,0.1,lost\n", "unknown status 'lost'"),
        ("slide_id,score\n,0.1\n", "line 2: no slide_id"),
        ("slide_id,scores\na,0.1\n", "did you mean 'score'"),
        ("slide_id,grade\na,0.1\n", "says nothing of its slides"),
        ("id,score\na,0.1\n", "no column 'slide_id'"),
        ("slide_id,p_NILM\na,0.1\n", "has no column p_ASC-US"),
        (f"slide_id,{','.join(P_COLUMNS)}\na,.5,.5,.5,.5,0,0\n", "sum to 2"),
        ("slide_id,score\n", "lists no slide"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_with_predictions_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_predictions(written(tmp_path / "p.csv", text))


def test_a_missing_table_and_a_folder_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="holds no results of screen"):
        read_predictions(tmp_path)


def test_a_results_folder_of_screen(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("one", "two", "bad"))
    found = read_predictions(tmp_path / "out")
    assert found.name == "out"
    assert dict(zip(found.slide_id, found.status, strict=True)) == {"one": "ok", "two": "ok", "bad": "failed"}
    assert found.score[:2].tolist() == [0.94, 0.94]
    assert np.isnan(found.score[2])
    assert found.call.tolist() == [1, 1, -1]
    assert "damaged" in found.reason[2]
    assert found.source["weights"] == {"detection": "a3" * 32, "swift_mil": "0c" * 32}
    assert not found.notes
    (tmp_path / "out" / "run.json").unlink()
    assert "no run.json" in read_predictions(tmp_path / "out").notes[0]
    (tmp_path / "out" / "one" / "findings.json").write_text("{}")
    with pytest.raises(ManifestError, match="no findings file"):
        read_predictions(tmp_path / "out")


def test_the_table_of_a_run_is_a_table_of_predictions(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("one", "bad"))
    folder, table = (read_predictions(tmp_path / "out" / name) for name in ("", "summary.csv"))
    assert list(folder.slide_id) == list(table.slide_id)
    assert folder.call.tolist() == table.call.tolist()
    assert list(folder.status) == list(table.status)
    np.testing.assert_array_equal(folder.score, table.score)


def test_another_systems_json_is_mapped(tmp_path: Path) -> None:
    slides = [
        {"image": {"name": "S1.kfb"}, "out": {"risk": 93.5, "result": "ABN"}},
        {"image": {"name": "S2.kfb"}, "out": {"risk": 2, "result": "WNL"}},
        {"image": {"name": "S3.kfb"}, "out": {"risk": None, "result": "n.d."}},
    ]
    (tmp_path / "them.json").write_text(json.dumps({"run": {"slides": slides, "date": "1 May"}}))
    mapping = """
name: System B
records: run.slides
columns: {slide_id: image.name, score: out.risk, call: out.result}
slide_id_from: '^(.*)\\.kfb$'
score_scale: 100
calls: {ABN: positive, WNL: negative, n.d.: ''}
"""
    found = read_predictions(tmp_path / "them.json", read_mapping(written(tmp_path / "map.yaml", mapping)))
    assert (found.name, list(found.slide_id), found.call.tolist()) == ("System B", ["S1", "S2", "S3"], [1, 0, -1])
    np.testing.assert_allclose(found.score, [0.935, 0.02, np.nan])


def test_a_mapped_column_wins_over_one_of_our_name(tmp_path: Path) -> None:
    table = written(tmp_path / "p.csv", "case,score,AI score\nx,3,0.7\n")
    mapped = read_mapping(written(tmp_path / "m.json", '{"columns": {"slide_id": "case", "score": "AI score"}}'))
    assert read_predictions(table, mapped).score.tolist() == [0.7]


def test_columns_that_have_our_names_need_no_mapping(tmp_path: Path) -> None:
    table = written(tmp_path / "p.csv", "slide_id,risk,call\nx,0.7,negative\n")
    found = read_predictions(table, read_mapping(written(tmp_path / "m.yaml", "columns: {score: risk}\n")))
    assert (list(found.slide_id), found.score.tolist(), found.call.tolist()) == (["x"], [0.7], [0])
    theirs = written(tmp_path / "q.csv", "slide_id,risk,status\nx,0.7,archived\n")
    with pytest.raises(ManifestError, match="archived"):
        read_predictions(theirs, read_mapping(written(tmp_path / "m.yaml", "columns: {score: risk}\n")))
    found = read_predictions(theirs, read_mapping(written(tmp_path / "m.yaml", "columns: {score: risk, status: ''}\n")))
    assert list(found.status) == ["ok"]
    truth = written(tmp_path / "t.csv", "slide_id,诊断,split\nx,LSIL,val\n")
    known = read_truth(truth, read_mapping(written(tmp_path / "m.yaml", "columns: {label: 诊断}\n")))
    assert (list(known.label), list(known.columns["split"])) == (["LSIL"], ["validation"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colums: {}", "did you mean columns"),
        ("columns: {scor: x}", "did you mean score"),
        ("columns: [a]", "columns is no list"),
        ("calls: {x: maybe}", "neither positive nor negative"),
        ("slide_id_from: 'S(\\d+'", "no regular expression"),
        ("slide_id_from: S1", "has no group"),
        ("score_scale: 0", "no number above 0"),
        ("- a", "no mapping file"),
        ("a: [", "neither YAML nor JSON"),
        ("columns: {score: risk}", "has no column risk"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_said(tmp_path: Path, text: str, said: str) -> None:
    table = written(tmp_path / "p.csv", "slide_id,score\na,0.1\n")
    with pytest.raises((ConfigError, ManifestError), match=said):
        read_predictions(table, read_mapping(written(tmp_path / "map.yaml", text)))


def test_a_truth_table_keeps_its_columns(tmp_path: Path) -> None:
    text = (
        "slide_id,label,Center,HPV 16,age,split\n"
        "a,ascus,north,+,31,val\nb,Negative,,unknown,,\nc,ASC-H+LSIL,south,-,44,test\nd,unsat,south,,,\n"
        "e,positive,,,,\nf,?,,,,\n"
    )
    truth = read_truth(written(tmp_path / "truth.csv", text))
    assert list(truth.label) == ["ASC-US", "NILM", "ASC-H", NOT_JUDGEABLE, ABNORMAL, ""]
    assert {name: values[:3] for name, values in truth.columns.items()} == {
        "centre": ["north", "", "south"],
        "HPV 16": ["+", "", "-"],
        "age": ["31", "", "44"],
        "split": ["validation", "", "test"],
    }
    assert truth.column("hpv-16") == "HPV 16"
    assert truth.column("center") == "centre"
    assert "1 composite label" in truth.notes[0]
    with pytest.raises(ConfigError, match="no column 'scanner'"):
        truth.column("scanner")


def test_a_manifest_is_a_truth_table(tmp_path: Path) -> None:
    text = "path,slide_class,patient\nslides/a b.svs,HSIL,p1\nslides/c.svs,,p2\n"
    truth = read_truth(written(tmp_path / "manifest.csv", text))
    assert (list(truth.slide_id), list(truth.label)) == (["a b", "c"], ["HSIL", ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id,label\na,NILM\nb,CIN1\n", "line 3: 'CIN1' is not a Bethesda label .slide 'b'"),
        ("slide_id,label\na,NILM\na,NILM\n", "line 3: slide 'a' is that of line 2 too"),
        ("slide_id,label\n,NILM\n", "no slide_id"),
        ("slide_id,label,split\na,NILM,exam\n", "unknown split 'exam'"),
        ("slide_id,labels\na,NILM\n", "did you mean 'label'"),
        ("slide_id,diagnosis\na,NILM\n", "no column 'label'"),
        ("case,label\na,NILM\n", "no column 'slide_id': .*named in a mapping file .--truth-map"),
        ("slide_id,cell_id,x0,y0,label\na,1,2,3,NILM\na,2,3,4,NILM\n", "is a table of marked cells: give the one"),
    ],
)
def test_what_is_wrong_with_a_truth_table_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_truth(written(tmp_path / "truth.csv", text))


def test_a_laboratorys_own_words_are_mapped(tmp_path: Path) -> None:
    text = "No.;结果\n1;阴性\n2;高度\n"
    mapped = "columns: {slide_id: No., label: 结果}\nlabels: {阴性: NILM, 高度: HSIL}\n"
    truth = read_truth(written(tmp_path / "真.csv", text), read_mapping(written(tmp_path / "m.yaml", mapped)))
    assert (list(truth.slide_id), list(truth.label)) == (["1", "2"], ["NILM", "HSIL"])


def made(ids: list[str], score: list[float], **changes: object) -> Predictions:
    count = len(ids)
    nothing = np.full(count, -1, np.int8)
    known = {"call": nothing, "predicted": nothing, "probabilities": None, "status": ["ok"] * count}
    return Predictions("A", ids, np.array(score), **{**known, "reason": [""] * count, **changes})  # type: ignore[arg-type]


def test_every_slide_is_accounted_for() -> None:
    ids = ["ok", "failed", "poor", "blank", "extra"]
    status = ["ok", "failed", "unsatisfactory", "ok", "ok"]
    calls = np.array([0, -1, 1, -1, 1], np.int8)
    reason = ["", "torn", "few cells", "", ""]
    predictions = made(ids, [0.2, np.nan, 0.9, np.nan, 0.3], status=status, call=calls, reason=reason)
    truth = Truth(
        ["ok", "failed", "poor", "blank", "gone", "unread", "unsat", "train"],
        ["LSIL", "NILM", "HSIL", "NILM", "SCC", "", NOT_JUDGEABLE, "NILM"],
        {"split": ["test"] * 7 + ["train"], "centre": list("abcdefgh")},
    )
    cohort = join_truth(predictions, truth, "test")
    assert cohort.slide_id.tolist() == ["ok"]
    assert cohort.columns["centre"].tolist() == ["a"]
    flow = cohort.flow
    assert (flow.listed, flow.other_split, flow.no_reference, flow.unsatisfactory_reference) == (8, 1, 1, 1)
    assert flow.unjudged == {"failed": 1, "missing": 1, "no score": 1, "unsatisfactory": 1}
    assert (flow.analysed, flow.eligible, flow.not_listed) == (1, 5, 1)
    assert flow.reasons == {"torn": 1, "few cells": 1}
    assert {one.slide_id: (one.label, one.call) for one in cohort.unjudged} == {
        **{"failed": ("NILM", -1), "poor": ("HSIL", 1), "blank": ("NILM", -1), "gone": ("SCC", -1)},
    }


STATUSES = st.sampled_from(["ok", "failed", "unsatisfactory", "skipped"])
KNOWN = st.sampled_from(["NILM", "SCC", "", NOT_JUDGEABLE, ABNORMAL])


@given(
    st.dictionaries(st.integers(0, 12), st.tuples(STATUSES, st.booleans()), min_size=1),
    st.dictionaries(st.integers(0, 12), KNOWN, min_size=1),
)
def test_no_slide_is_lost_or_counted_twice(said: dict[int, tuple[str, bool]], known: dict[int, str]) -> None:
    ids, status = [str(k) for k in said], [status for status, _ in said.values()]
    scores = [0.5 if scored else np.nan for _, scored in said.values()]
    predictions, truth = made(ids, scores, status=status), Truth([str(k) for k in known], [*known.values()], {})
    judged = {str(k) for k, (status, scored) in said.items() if status == "ok" and scored}
    wanted = {str(k) for k, label in known.items() if label not in {"", NOT_JUDGEABLE}}
    if not judged & wanted:
        with pytest.raises(ManifestError):
            join_truth(predictions, truth)
        return
    cohort = join_truth(predictions, truth)
    flow = cohort.flow
    assert set(cohort.slide_id) == judged & wanted
    assert {one.slide_id for one in cohort.unjudged} == wanted - judged
    assert Counter(one.why for one in cohort.unjudged) == flow.unjudged
    without = flow.no_reference + flow.unsatisfactory_reference
    assert flow.listed == without + sum(flow.unjudged.values()) + flow.analysed


def test_why_nothing_is_left_is_said() -> None:
    truth = Truth(["a.svs"], ["NILM"], {"split": ["train"]})
    with pytest.raises(ManifestError, match=r"'a' here, 'a.svs' there"):
        join_truth(made(["a"], [0.1]), truth)
    with pytest.raises(ManifestError, match="no slide is of the split test: the table has train"):
        join_truth(made(["a.svs"], [0.1]), truth, "test")
    with pytest.raises(ManifestError, match="unknown split 'exam'"):
        join_truth(made(["a.svs"], [0.1]), truth, "exam")
    with pytest.raises(ManifestError, match="has a diagnosis"):
        join_truth(made(["a"], [0.1]), Truth(["a"], [""], {}))
    with pytest.raises(ManifestError, match=r"no slide with a diagnosis was judged \(1 failed\): see their status$"):
        join_truth(made(["a", "b"], [np.nan, 0.1], status=["failed", "ok"]), Truth(["a"], ["NILM"], {}))


def test_unsatisfactory_slides_are_judged_if_asked_for() -> None:
    status = ["unsatisfactory", "unsatisfactory", "failed"]
    predictions = made(["a", "b", "c"], [0.3, np.nan, 0.4], status=status)
    truth = Truth(["a", "b", "c"], ["NILM", "HSIL", "LSIL"], {})
    with pytest.raises(ManifestError, match=r"2 unsatisfactory.*evaluate --with-unsatisfactory' judges those too"):
        join_truth(predictions, truth)
    cohort = join_truth(predictions, truth, unsatisfactory=True)
    assert cohort.slide_id.tolist() == ["a"]
    assert cohort.flow.unjudged == {"failed": 1, "no score": 1}
    assert "judged like the others: 1" in cohort.notes[0]


def test_groups_of_a_lesion_of_unknown_grade() -> None:
    truth = Truth(["a", "b", "c"], [ABNORMAL, "NILM", "SCC"], {})
    cohort = join_truth(made(["a", "b", "c"], [0.1, 0.2, 0.3]), truth)
    known, of = cohort.in_group("ASC-US+")
    assert (known.tolist(), of.tolist()) == ([True] * 3, [True, False, True])
    known, of = cohort.in_group("HSIL+")
    assert (known.tolist(), of.tolist()) == ([False, True, True], [False, False, True])
    assert cohort.truth_class.tolist() == [-1, 0, SLIDE_CLASSES.index("HSIL")]


def test_a_system_that_names_classes_alone_is_judged_by_them() -> None:
    predictions = made(["a", "b"], [np.nan, np.nan], predicted=np.array([0, 4], np.int8))
    cohort = join_truth(predictions, Truth(["a", "b"], ["NILM", "HSIL"], {}))
    assert cohort.call.tolist() == [0, 1]
    assert "where its class is not NILM" in cohort.notes[0]
    assert not cohort.scored


def test_the_hash_of_a_cohort_knows_slides_and_labels_but_no_order() -> None:
    one = cohort_hash(["a", "b"], ["NILM", "HSIL"])
    assert one == cohort_hash(["b", "a"], ["HSIL", "NILM"])
    assert one != cohort_hash(["a", "b"], ["HSIL", "NILM"])
    assert one != cohort_hash(["a", "c"], ["NILM", "HSIL"])
