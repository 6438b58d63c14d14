"""What was found on slides whose cells are marked."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from findings_samples import make_findings
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS
from stride_monai.cli.main import app
from stride_monai.data.cells import CellRecord, write_cells
from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures import style
from stride_monai.evaluation.found_cells import FoundCells, evaluate_cells, read_found_cells
from stride_monai.evaluation.found_cells_page import cells_section, cells_tables
from stride_monai.evaluation.page.page import Page, page_html
from stride_monai.findings import Described, Description, Findings

SIDE = 80.0


def findings_at(places: Sequence[float], classes: Sequence[str], slide_id: str = "a", side: float = SIDE) -> Findings:
    """A slide whose cells lie at these x, best first, and are said to be of these classes, each with its first text."""
    base = make_findings(len(places), slide_id)
    cells = []
    for cell, x, name in zip(base.cells, places, classes, strict=True):
        probabilities = tuple(0.8 if one == name else 0.05 for one in CELL_CLASSES)
        words = tuple(Description.of(name, text, 0.9) for text in DESCRIPTIONS_BY_CLASS[name][:1])
        box = type(cell.box)(x, 0.0, x + side, side)
        cells.append(replace(cell, box=box, cell_class=name, probabilities=probabilities, descriptions=words))
    return replace(base, cells=tuple(cells))


def marked(x: float, label: str, texts: Sequence[str] = (), slide_id: str = "a") -> CellRecord:
    return CellRecord(slide_id, f"{x:g}", x, 0.0, x + SIDE, SIDE, label, tuple(texts))


def some_slides() -> list[FoundCells]:
    lsil, agc = DESCRIPTIONS_BY_CLASS["LSIL"], DESCRIPTIONS_BY_CLASS["AGC"]
    found = findings_at([0, 500, 1000, 1500], ["LSIL", "AGC", "LSIL", "NILM"])
    truth = [
        marked(0, "LSIL", lsil[:1]),  # found, of its class, its text kept
        marked(1000, "AGC", agc),  # found, called another class
        marked(1500, "NILM"),
        marked(5000, "HSIL"),  # not found
        marked(500, "abnormal_unspecified"),
    ]
    return [
        FoundCells("a", "LSIL", found, truth),
        FoundCells("b", "NILM", findings_at([0, 100], ["NILM", "LSIL"], "b"), []),
        FoundCells("c", "HSIL", findings_at([0], ["LSIL"], "c"), []),
    ]


def test_recall_precision_and_classes() -> None:
    found = evaluate_cells(some_slides())
    assert found.curves.ks == [1, 2, 4]
    assert found.curves.recall["all"].tolist() == [0.25, 0.5, 0.75]  # ranks 1, 2, 3 of four lesions
    shown = {(one.slide_class, one.rule, one.right): one for one in found.shown}
    assert set(shown) == {
        ("LSIL", rule, right)
        for rule in ("IoU 0.5", "half of the smaller box")
        for right in ("a lesion", "of the slide's class")
    }
    assert shown["LSIL", "IoU 0.5", "a lesion"].precision.estimate == 3 / 4
    assert shown["LSIL", "IoU 0.5", "of the slide's class"].precision.estimate == 1 / 4
    assert not shown["LSIL", "IoU 0.5", "a lesion"].precision.known  # one slide
    assert found.matched == 3
    assert found.missed == {"NILM": 0, "ASC-US": 0, "LSIL": 0, "ASC-H/HSIL": 1, "AGC": 0}
    assert found.classes is not None
    truth, said = [2, 4, 0], [2, 2, 0]
    expected = f1_score(truth, said, labels=range(5), average=None, zero_division=np.nan)
    for k, name in enumerate(CELL_CLASSES):
        value = found.classes["classes"][name]["f1"]
        assert (value is None) if math.isnan(expected[k]) else value == pytest.approx(expected[k], abs=1e-6)


def test_descriptions_are_judged_where_they_are_known() -> None:
    found = evaluate_cells(some_slides())
    assert found.described is not None
    assert found.described["cells"] == 2
    assert found.described["micro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert found.described["exact_match"] == 0.5
    assert "average_precision" not in found.described["macro"]
    silent = [slide._replace(findings=replace(slide.findings, described=Described())) for slide in some_slides()]
    assert evaluate_cells(silent).described is None
    assert "the cells were not described" in evaluate_cells(silent).notes


def test_boxes_of_another_size_find_by_what_they_cover() -> None:
    found = findings_at([10], ["LSIL"], side=20)  # lies within the mark
    slides = [FoundCells("a", "LSIL", found, [marked(0, "LSIL"), marked(900, "LSIL")])]
    evaluation = evaluate_cells(slides)
    assert evaluation.curves.recall["all"].tolist() == [0.0]
    assert evaluation.covered["all"].tolist() == [0.5]
    assert evaluation.matched == 1
    assert evaluation.report()["covered_recall"] == {"k": [1], "all": [0.5], "LSIL": [0.5]}
    assert evaluation.figures()["top_k_recall"].axes[0].lines[0].get_ydata().tolist() == [0.5]


def test_precision_over_slides_has_students_interval() -> None:
    slides = [
        FoundCells(f"s{k}", "HSIL", findings_at([0, 500], ["LSIL"] * 2, f"s{k}"), [marked(x, "HSIL") for x in places])
        for k, places in enumerate(([0.0], [0.0, 500.0], [0.0], [900.0]))
    ]
    one = evaluate_cells(slides).shown[0]
    assert one.slides == 4
    assert one.precision.estimate == pytest.approx(0.5)
    half = 3.182446 * np.std([0.5, 1, 0.5, 0], ddof=1) / 2
    assert one.precision.high == pytest.approx(min(0.5 + half, 1.0), abs=1e-6)
    assert one.precision.low == pytest.approx(max(0.5 - half, 0.0), abs=1e-6)


def test_slides_are_read_from_a_results_folder(tmp_path: Path) -> None:
    for slide in some_slides():
        (tmp_path / slide.slide_id).mkdir()
        (tmp_path / slide.slide_id / "findings.json").write_text(slide.findings.to_json(), encoding="utf-8")
    cells = [*some_slides()[0].truth, marked(0, "HSIL", slide_id="nowhere")]
    read = read_found_cells(tmp_path, cells, {"a": "lsil", "b": "NILM", "c": "HSIL", "d": "NILM"})
    assert [(slide.slide_id, slide.slide_class, len(slide.truth)) for slide in read] == [
        ("a", "LSIL", 5),
        ("b", "NILM", 0),
    ]
    assert evaluate_cells(read).matched == 3
    with pytest.raises(ManifestError, match="has marked cells and a label"):
        read_found_cells(tmp_path, [marked(0, "HSIL", slide_id="nowhere")], {"a": "HSIL"})


def test_the_section_shows_what_the_tables_say() -> None:
    found = evaluate_cells(some_slides())
    tables = cells_tables(found)
    assert tables["cells_top_k_recall"][0] == ["k", "rule", "all", "LSIL"]
    assert tables["cells_top_k_recall"][1][2] == [4, "half of the smaller box", 0.75, 0.75]
    assert tables["cells_shown"][1][0] == ["LSIL", "a lesion", "half of the smaller box", 1, 0.75, "", ""]
    classes = {row[0]: row for row in tables["cells_classes"][1]}
    assert classes["ASC-H/HSIL"] == ["ASC-H/HSIL", 0, 1, "", "", ""]
    assert classes["LSIL"][:4] == ["LSIL", 1, 0, 0.5]
    assert tables["cells_descriptions"][1][-1] == ["all texts", 2, 2, 0.5, 0.5, 0.5]
    page = page_html(Page("Cells", "of some slides", [cells_section(found)]))
    assert "A lesion that nobody marked counts against precision." in page
    assert "half of the smaller box" in page
    assert page.count("<img") == 6


def test_without_a_match_there_are_no_classes() -> None:
    slides = [FoundCells("a", "LSIL", findings_at([10], ["LSIL"]), [marked(900, "LSIL")])]
    assert set(cells_tables(evaluate_cells(slides))) == {"cells_top_k_recall", "cells_shown"}
    empty = [FoundCells("a", "LSIL", findings_at([], []), [marked(900, "LSIL")])]
    found = evaluate_cells(empty)
    assert found.curves.recall["all"].tolist() == [0.0]
    assert found.shown == []
    assert "Cells" in page_html(Page("Cells", "", [cells_section(found)]))


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_the_command_judges_cells_of_a_results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "FORMATS", ("png",))
    results = tmp_path / "结果"
    for slide in some_slides():
        (results / slide.slide_id).mkdir(parents=True)
        (results / slide.slide_id / "findings.json").write_text(slide.findings.to_json(), encoding="utf-8")
    write_cells(tmp_path / "marked cells.csv", [*some_slides()[0].truth, marked(0, "HSIL", slide_id="nowhere")])
    (tmp_path / "t.csv").write_text("slide_id,label\na,LSIL\nb,NILM\nc,HSIL\n", encoding="utf-8")
    words = (results, "--truth", tmp_path / "t.csv", "--out", tmp_path / "out", "--replicates", 0)
    said = evaluate(*words, "--cells", tmp_path / "marked cells.csv")
    assert said.exit_code == 0, said.output
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["cells"]
    assert found["table"] == "marked cells.csv"
    assert found["curves"]["top_k_recall"]["all"] == [0.25, 0.5, 0.75]
    assert any("1 slides of marked cells.csv were not judged" in note for note in found["notes"])
    assert (tmp_path / "out" / "cells_shown.csv").is_file()
    assert (tmp_path / "out" / "figures" / "cells_shown.png").is_file()
    assert "Cells" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_cells_need_a_results_folder(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("slide_id,score\na,0.4\nb,0.1\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text("slide_id,label\na,LSIL\nb,NILM\n", encoding="utf-8")
    write_cells(tmp_path / "c.csv", [marked(0, "LSIL")])
    words = (tmp_path / "p.csv", "--truth", tmp_path / "t.csv", "--out", tmp_path / "out", "--replicates", 0)
    said = evaluate(*words, "--cells", tmp_path / "c.csv")
    assert said.exit_code != 0
    assert "--cells needs the results folder" in str(said.exception)
    assert not (tmp_path / "out" / "metrics.json").exists()
