"""``stride-monai evaluate`` as a user meets it: tables in, report, numbers, tables and figures out."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from evaluation_tables import made_up, write_rows
from fake_screening import FakeScreener, slides_in, write_json
from findings_samples import make_jpeg
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.cli.main import main
from stride_monai.evaluation.figures import style
from stride_monai.exporters.html import write as write_html
from stride_monai.findings import Pictures, Screened
from stride_monai.phantom.render import render_slide
from stride_monai.screening.batch import Batch, screen_batch

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``stride-monai evaluate WORDS`` in a folder of its own; gives the exit status and what was printed."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(style, "FORMATS", ("png",))  # the others take most of the time
    monkeypatch.setattr(style, "_DPI", 60)
    monkeypatch.chdir(tmp_path / "elsewhere")

    def evaluate(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["stride-monai", "evaluate", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return evaluate


def tables(folder: Path, slides: int = 120, **changes: Any) -> tuple[Path, Path]:
    said, true = made_up(slides, **changes)
    return write_rows(folder / "说 pred.csv", said), write_rows(folder / "truth table.csv", true)


def metrics(out: Path) -> dict[str, Any]:
    text = (out / "metrics.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_numbers_are_those_of_an_independent_count(command: Command, tmp_path: Path) -> None:
    predictions, truth = tables(tmp_path)
    out = tmp_path / "out put"
    status, printed = command(predictions, "--truth", truth, "--out", out, "--replicates", 50)
    assert status == 0, printed
    said, true = made_up()
    positive = np.array([row["label"] != "NILM" for row in true])
    score = np.array([row["score"] for row in said])
    found = metrics(out)
    assert found["discrimination"]["ASC-US+"]["auc"]["estimate"] == pytest.approx(
        roc_auc_score(positive, score), abs=1e-6
    )
    severe = np.array([row["label"] == "HSIL" for row in true])
    p_hsil = [row["p_HSIL"] for row in said]
    assert found["discrimination"]["HSIL+"]["auc"]["estimate"] == pytest.approx(roc_auc_score(severe, p_hsil), abs=1e-6)
    called = score >= 0.5
    rates = found["operating_point"]["rates"]
    assert (rates["tp"], rates["fn"]) == ((called & positive).sum(), (~called & positive).sum())
    assert (rates["tn"], rates["fp"]) == ((~called & ~positive).sum(), (called & ~positive).sum())
    labels = [SLIDE_CLASSES.index(row["label"]) for row in true]
    named = np.argmax([[row[f"p_{name}"] for name in SLIDE_CLASSES] for row in said], axis=1)
    assert found["classes"]["confusion"] == confusion_matrix(labels, named, labels=range(6)).tolist()
    assert found["classes"]["f1_macro"] == pytest.approx(f1_score(labels, named, average="macro"), abs=1e-6)
    centre = [row["centre"] == "A" for row in true]
    of_a = found["subgroups"]["centre"]["A"]
    assert (of_a["slides"], of_a["positive"]) == (sum(centre), int(positive[centre].sum()))
    assert found["missed"]["count"] == rates["fn"] == len(rows_of(out / "missed.csv"))
    assert f"report {out / 'report.html'}" in printed
    assert str(tmp_path) not in (out / "report.html").read_text() + (out / "metrics.json").read_text()


def test_every_file_is_there_and_the_same_each_time(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "_DPI", 300)
    predictions, truth = tables(tmp_path)
    for name, formats in (("two", ("png",)), ("one", ("png", "pdf", "svg"))):
        monkeypatch.setattr(style, "FORMATS", formats)
        status, printed = command(predictions, "--truth", truth, "--out", tmp_path / name, "--replicates", 20)
        assert status == 0, printed
    listed = json.loads((tmp_path / "one" / "files.json").read_text())
    assert listed["of"] == "evaluation"
    assert listed["complete"]
    figures = sorted(path.stem for path in (tmp_path / "one" / "figures").glob("*.png"))
    assert {"roc", "flow", "confusion", "scores_by_centre", "called_by_label"} <= set(figures)
    for name in json.loads((tmp_path / "two" / "files.json").read_text())["files"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    for figure in figures:
        with Image.open(tmp_path / "one" / "figures" / f"{figure}.png") as image:
            assert image.info["dpi"][0] == pytest.approx(300, abs=1)
        assert {path.suffix for path in (tmp_path / "one" / "figures").glob(f"{figure}.*")} == {".png", ".pdf", ".svg"}


def test_slides_that_were_not_judged_are_counted_and_their_worst_case_is_told(command: Command, tmp_path: Path) -> None:
    said, true = made_up()
    for row, status, reason in ((said[0], "failed", "torn"), (said[1], "unsatisfactory", "few cells")):
        row.update({name: "" for name in row if name != "slide_id"}, status=status, reason=reason)
    for row in said[2:]:
        row.update(status="ok", reason="")
    true[4]["label"] = ""
    del said[8]  # s008 is positive: no prediction
    write_rows(tmp_path / "p.csv", said)
    write_rows(tmp_path / "t.csv", [*true, {**true[0], "slide_id": "more"}])
    status, printed = command(
        tmp_path / "p.csv", "--truth", tmp_path / "t.csv", "--out", tmp_path / "out", "--replicates", 0
    )
    assert status == 0, printed
    assert "not judged 4: 1 failed, 2 missing, 1 unsatisfactory" in printed
    found = metrics(tmp_path / "out")
    slides = found["slides"]
    assert (slides["listed"], slides["eligible"], slides["analysed"], slides["no_reference"]) == (121, 120, 116, 1)
    own, worst = found["operating_point"]["rates"], slides["all_eligible"]["worst"]
    assert worst["fn"] == own["fn"] + 3  # failed, missing twice: all positive
    assert worst["fp"] == own["fp"] + 1
    assert slides["all_eligible"]["read_by_people"]["tp"] == own["tp"] + 3
    listed = {row["slide_id"]: (row["why"], row["reason"]) for row in rows_of(tmp_path / "out" / "not_judged.csv")}
    assert listed["s000"] == ("failed in screening", "torn")
    assert set(listed) == {"s000", "s001", "s008", "more"}


def test_without_calls_it_says_so_and_a_threshold_calls(command: Command, tmp_path: Path) -> None:
    said, true = made_up()
    write_rows(tmp_path / "p.csv", said, ("slide_id", "score"))
    write_rows(tmp_path / "t.csv", true, ("slide_id", "label"))
    words = (tmp_path / "p.csv", "--truth", tmp_path / "t.csv", "--out", tmp_path / "out", "--replicates", 20)
    status, printed = command(*words)
    assert status == 0, printed
    assert "No operating point" in printed
    found = metrics(tmp_path / "out")
    assert "operating_point" not in found
    assert "missed" not in found
    assert found["discrimination"]["HSIL+"]["by"] == "score"
    status, printed = command(*words, "--threshold", 0.5, "--prevalence", 0.044)
    assert status == 0, printed
    point = metrics(tmp_path / "out")["operating_point"]
    assert (point["threshold"], point["source"]) == (0.5, "given by --threshold")
    assert [one["prevalence"] for one in point["at_prevalence"]] == [0.044]
    assert "missed.csv" in {path.name for path in (tmp_path / "out").iterdir()}


def test_two_systems_are_compared_on_the_slides_that_both_judged(command: Command, tmp_path: Path) -> None:
    predictions, truth = tables(tmp_path)
    said, _ = made_up(seed=5)
    other = write_rows(
        tmp_path / "other.csv", [{**row, "score": 1 - row["score"]} for row in said[10:]], ("slide_id", "score", "call")
    )
    status, printed = command(
        predictions, "--truth", truth, "--out", tmp_path / "o", "--compare", other, "--replicates", 0
    )
    assert status == 0, printed
    found = metrics(tmp_path / "o")["comparison"]
    assert found["slides"] == 110
    assert found["auc"]["first"]["estimate"] > 0.8 > 0.2 > found["auc"]["second"]["estimate"]
    assert found["auc"]["p"] < 1e-6
    calls = found["calls"]["sensitivity"]
    own, positive = made_up()[0][10:], [row["label"] != "NILM" for row in made_up()[1][10:]]
    first = [row["call"] == "positive" for row, sick in zip(own, positive, strict=True) if sick]
    second = [row["call"] == "positive" for row, sick in zip(said[10:], positive, strict=True) if sick]
    assert calls["both"] == sum(a and b for a, b in zip(first, second, strict=True))
    assert calls["first"]["hits"] == sum(first)


def test_everything_at_once(command: Command, tmp_path: Path) -> None:
    said, true = made_up()
    more, more_true = made_up(80, seed=3, first=500)
    for row, split in ((row, split) for rows, split in ((true, "test"), (more_true, "val")) for row in rows):
        row["split"] = split
    predictions = write_rows(tmp_path / "p.csv", said)
    truth = write_rows(tmp_path / "t.csv", [*true, *more_true])
    validation, repeat = write_rows(tmp_path / "v.csv", more), write_rows(tmp_path / "r.csv", made_up(seed=9)[0])
    features = [{"slide_id": row["slide_id"], **{f"f{k}": row["score"] * k + k % 3 for k in range(4)}} for row in said]
    words = (predictions, "--truth", truth, "--out", tmp_path / "o", "--replicates", 20, "--split", "test")
    words += ("--validation", validation, "--repeat", repeat, "--compare", repeat, "--model-card", "swift_mil")
    status, printed = command(*words, "--features", write_rows(tmp_path / "f.csv", features))
    assert status == 0, printed
    found = metrics(tmp_path / "o")
    assert found["slides"]["other_split"] == 80
    assert found["calibration"]["temperature"]["learned"]["temperature"] > 0
    assert {"runs", "comparison", "features", "centres", "exclusion", "decision_curve", "sample_size"} <= set(found)
    assert "With fewer than 100 positive slides" in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "o" / "MODEL_CARD.md").read_text().startswith("# Model card: ")
    status, printed = command(*words[:5], "--validation", validation, "--model-card", "swift")
    assert status == 2
    assert "unknown bundle 'swift'" in printed


def test_the_file_of_an_operating_point_decides_on_other_slides(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, true = made_up()
    for k, row in enumerate(true):
        row["split"] = "validation" if k < 60 else "test"
    predictions, truth = write_rows(tmp_path / "p.csv", said), write_rows(tmp_path / "t.csv", true)
    words = ["stride-monai", "operating-point", predictions, "--truth", truth, "--out", tmp_path / "point.json"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with contextlib.suppress(SystemExit):
        main()
    point = json.loads((tmp_path / "point.json").read_text())
    with_point = (predictions, "--truth", truth, "--operating-point", tmp_path / "point.json", "--replicates", 0)
    status, printed = command(*with_point, "--split", "test", "--out", tmp_path / "o")
    assert status == 0, printed
    assert " of another split, " in printed
    found = metrics(tmp_path / "o")["operating_point"]
    assert found["threshold"] == pytest.approx(point["threshold"])
    assert "60 validation slides" in found["source"]
    assert "very slides" not in " ".join(metrics(tmp_path / "o")["notes"])
    status, printed = command(*with_point, "--split", "validation", "--out", tmp_path / "o")
    assert "chosen on these very slides" in printed
    status, printed = command(*with_point, "--threshold", 0.5, "--out", tmp_path / "o")
    assert (status, "both --threshold and" in printed) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "scaner"), "--by scaner: the truth table has no such column"),
        (("--prevalence", "5"), "invalid --prevalence 5"),
        (("--threshold", "nan"), "invalid --threshold"),
        (("--replicates", "-1"), "invalid --replicates -1"),
        (("--split", "test"), "no column 'split'"),
        (("--map", "nothing.yaml"), "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line(command: Command, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    predictions, truth = tables(tmp_path, 8)
    status, printed = command(predictions, "--truth", truth, "--out", tmp_path / "out", *words)
    assert status == 2
    assert said in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_foreign_files_and_inputs_are_never_replaced(command: Command, tmp_path: Path) -> None:
    predictions, truth = tables(tmp_path, 40)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("mine")
    status, printed = command(predictions, "--truth", truth, "--out", out)
    assert status == 2
    assert "not written by stride-monai" in printed
    assert (out / "report.html").read_text() == "mine"
    (out / "report.html").unlink()
    (out / "notes.txt").write_text("mine")
    for _ in range(2):
        assert command(predictions, "--truth", truth, "--out", out, "--replicates", 0)[0] == 0
    assert (out / "notes.txt").read_text() == "mine"
    moved = write_rows(tmp_path / "metrics.json", made_up(40)[0])
    status, printed = command(moved, "--truth", truth, "--out", tmp_path)
    assert status == 2
    assert "which is an input" in printed


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        (["NILM"] * 6, [0.1] * 6, "no positive slide"),
        (["HSIL"] * 6, [0.1] * 6, "no negative slide"),
        (["NILM", "HSIL"], [0.5, 0.5], ""),
        (["NILM"] * 5 + ["HSIL"], [0.5] * 6, ""),
    ],
)
def test_empty_classes_and_ties_have_a_defined_answer(
    command: Command, tmp_path: Path, labels: list[str], scores: list[float], said: str
) -> None:
    rows = [
        {"slide_id": f"s{k}", "label": name, "centre": f"c{k}", "score": s}
        for k, (name, s) in enumerate(zip(labels, scores, strict=True))
    ]
    write_rows(tmp_path / "p.csv", rows, ("slide_id", "score"))
    write_rows(tmp_path / "t.csv", rows, ("slide_id", "label", "centre"))
    status, printed = command(
        *(
            tmp_path / "p.csv",
            "--truth",
            tmp_path / "t.csv",
            "--out",
            tmp_path / "out",
            "--threshold",
            0.5,
            "--replicates",
            20,
        )
    )
    assert status == 0, printed
    found = metrics(tmp_path / "out")
    task = found["discrimination"]["ASC-US+"]
    if said:
        assert task["auc"] is None
        assert said in task["why"]
        assert said in (tmp_path / "out" / "report.html").read_text()
    else:
        assert task["auc"]["estimate"] == 0.5
    assert found["subgroups"]["centre"]["c0"]["slides"] == 1


def test_a_results_folder_shows_the_cells_of_what_was_missed(command: Command, tmp_path: Path) -> None:
    class Pictured(FakeScreener):
        def screen(self, item: Any, progress: Any = None) -> Screened:
            made = super().screen(item, progress)
            findings = replace(made.findings, call="negative")
            return replace(made, findings=findings, pictures=Pictures(b"", 1.0, 0.5, {1: make_jpeg(64, 64)}))

    batch = Batch(Pictured(), tmp_path / "results", {"findings": write_json, "report": write_html})
    list(screen_batch(batch, slides_in(tmp_path / "in", "sick", "well", "bad")))
    known = (("sick", "HSIL"), ("well", "NILM"), ("bad", "LSIL"))
    write_rows(tmp_path / "t.csv", [{"slide_id": name, "label": label} for name, label in known])
    out = tmp_path / "out"
    status, printed = command(tmp_path / "results", "--truth", tmp_path / "t.csv", "--out", out)
    assert status == 0, printed
    found = metrics(out)
    assert found["missed"] == {"count": 1, "by_label": {"HSIL": 1}}
    assert found["slides"]["unjudged"] == {"failed": 1}
    assert found["sources"]["predictions"]["weights"]["detection"] == "a3" * 32
    page = (out / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "Weights: trained on synthetic slides" in page
    status, printed = command(tmp_path / "results", "--truth", tmp_path / "t.csv", "--out", tmp_path / "results")
    assert status == 2
    assert "is the folder of the predictions" in printed


@pytest.mark.slow
def test_from_synthetic_slides_by_screening_to_the_report(command: Command, tmp_path: Path) -> None:
    true = []
    for k, label in enumerate(("NILM", "HSIL", "NILM", "LSIL")):
        render_slide(tmp_path / "sl ides" / f"玻片 {k}.svs", label, diameter_mm=0.2, mpp=0.25, seed=k)
        true.append({"slide_id": f"玻片 {k}", "label": label})
    write_rows(tmp_path / "truth.csv", true)
    words = ["screen", tmp_path / "sl ides", "--out", tmp_path / "results", "--no-descriptions"]
    done = processes.run("stride_monai", words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    evaluate = (tmp_path / "results", "--truth", tmp_path / "truth.csv", "--out", tmp_path / "report")
    status, printed = command(*evaluate)
    assert (status, "2 unsatisfactory" in printed) == (0, True), "the lesions are called, which makes them satisfactory"
    assert "2 analysed" in printed
    status, printed = command(*evaluate, "--with-unsatisfactory", "--threshold", 1.0, "--model-card", "swift_mil")
    assert status == 0, printed
    found = metrics(tmp_path / "report")
    assert found["slides"]["analysed"] == 4
    assert found["missed"]["count"] == 2
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 16, "eight cells of each of the two lesions"
    assert "of this bundle" in (tmp_path / "report" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_it_needs_no_torch(tmp_path: Path) -> None:
    predictions, truth = tables(tmp_path, 40)
    words = ["stride-monai", "evaluate", str(predictions), "--truth", str(truth), "--out", str(tmp_path / "o")]
    code = (
        "import sys\nfrom stride_monai.cli.main import main\nfrom stride_monai.evaluation.figures import style\n"
        f"style.FORMATS, style._DPI = ('png',), 60\nsys.argv = {words!r}\nmain()\n"
        "assert not {'torch', 'monai', 'ignite'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o" / "report.html").is_file()
