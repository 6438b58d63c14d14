"""``stride-monai monitor`` and ``transfer`` as a user meets them: results in, a page and an exit status out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from findings_samples import make_findings
from typer.testing import CliRunner, Result

from stride_monai.cli.main import app
from stride_monai.errors import ManifestError, OutputError, StrideError
from stride_monai.findings import Quality, SlideStatus
from stride_monai.run_index import Outcome, write_run

RUN = CliRunner()
USED = {"classifier": "swift_mil", "bag_size": 64, "tile_mpp": 1.0, "crop_mpp": 0.5, "rerank": False}


def run(*words: object) -> Result:
    return RUN.invoke(app, [str(word) for word in words])


def make_results(folder: Path, slides: int, weeks: int, seed: int, blur: float = 0) -> Path:
    """Results with an index: 1 in 20 failed; ``blur`` takes from the focus of the last week. And their truth beside."""
    rng, base, outcomes, truth = np.random.default_rng(seed), make_findings(cells=1), [], []
    for k in range(slides):
        week, slide_id = k * weeks // slides, f"玻片 {folder.name}-{k}"
        day, positive = date(2026, 1, 5) + timedelta(weeks=week), rng.random() < 0.3
        score = round(float(rng.beta(6, 2) if positive else rng.beta(1, 6)), 6)
        focus = float(rng.gamma(20, 10)) - blur * (week == weeks - 1)
        truth.append(f"{slide_id},{'LSIL' if positive else 'NILM'},validation")
        if k % 20 == 7:
            outcome = Outcome(slide_id, "x.svs", SlideStatus.FAILED, "it is damaged")
        else:
            findings = replace(
                base,
                slide=replace(base.slide, slide_id=slide_id),
                score=score,
                call="positive" if score >= 0.412 else "negative",
                slide_probabilities=None,
                quality=Quality(3.0, int(rng.normal(60_000, 8000)), focus, 0.0, 70, 0, True, (), (0.9, 0.6, 0.4)),
                provenance=replace(base.provenance, used=USED),
            )
            (folder / slide_id).mkdir(parents=True)
            (folder / slide_id / "findings.json").write_text(findings.to_json())
            outcome = Outcome.of(findings)
        outcomes.append(replace(outcome, screened_at=f"{day}T12:00:00+00:00"))
    write_run(folder, {"started": "2026-01-05"}, outcomes)
    folder.with_suffix(".csv").write_text("slide_id,label,split\n" + "\n".join(truth) + "\n")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reference, four weeks like it, and four of which the last is blurred."""
    home = tmp_path_factory.mktemp("a home")
    make_results(home / "reference", 120, 1, 1)
    make_results(home / "good", 100, 4, 2)
    make_results(home / "blurred", 100, 4, 2, blur=150)
    return home


def test_within_limits_is_0_and_crossed_is_3(results: Path, tmp_path: Path) -> None:
    done = run("monitor", results / "good", "--reference", results / "reference")
    assert done.exit_code == 0, done.output
    assert "within limits" in done.output
    assert "100 slides of 4 weeks, 8 charts, 120 slides of the reference" in done.output
    done = run("monitor", results / "blurred", "--reference", results / "reference", "--out", tmp_path / "结果")
    assert done.exit_code == 3, done.output
    assert "crossed 2026-W05 Focus (variance of the Laplacian): lower" in done.output
    assert {path.name for path in (tmp_path / "结果").iterdir()} == {
        *("monitor.html", "monitor.json", "monitor.csv", "files.json")
    }
    report = json.loads((tmp_path / "结果" / "monitor.json").read_text())
    assert report["crossed"] is True
    assert [week["crossed"] for week in report["measures"]["focus"]["weeks"]] == [False, False, False, True]
    assert report["measures"]["not_judged"]["weeks"][0]["slides"] == 25
    table = (tmp_path / "结果" / "monitor.csv").read_text().splitlines()
    assert len(table) == 1 + 8 * 4


def test_dates_of_a_table_are_those_that_count(results: Path, tmp_path: Path) -> None:
    dates = tmp_path / "dates.csv"
    names = [path.name for path in (results / "good").iterdir() if path.is_dir()]
    dates.write_text("slide_id,date\n" + "".join(f"{name},2026-07-15\n" for name in names))
    done = run("monitor", results / "good", "--reference", results / "reference", "--dates", dates)
    assert "95 slides of 1 week," in done.output
    assert "note 5 slides have no date and are left out" in done.output


def test_what_is_no_results_folder_is_refused_by_name(results: Path, tmp_path: Path) -> None:
    for given, why in (
        (results / "good.csv", "is a file, not a results folder"),
        (tmp_path / "gone", "does not exist"),
    ):
        done = run("monitor", given, "--reference", results / "reference")
        assert isinstance(done.exception, ManifestError)
        assert f"{given} {why}: name the folder" in str(done.exception)
    done = run("monitor", results / "good", "--reference", results / "reference", "--out", results / "good.csv")
    assert isinstance(done.exception, OutputError)
    assert "good.csv is a file, not a folder: choose another --out" in str(done.exception)


def test_what_stands_in_the_folder_is_kept(results: Path, tmp_path: Path) -> None:
    (tmp_path / "monitor.html").write_text("mine")
    done = run("monitor", results / "good", "--reference", results / "reference", "--out", tmp_path)
    assert isinstance(done.exception, OutputError)
    assert (tmp_path / "monitor.html").read_text() == "mine"


def test_an_operating_point_at_a_new_centre(results: Path, tmp_path: Path) -> None:
    home, file = results, tmp_path / "op.json"
    assert run("operating-point", home / "reference", "--truth", home / "reference.csv", "--out", file).exit_code == 0
    words = ("--reference", home / "reference", "--operating-point", file)
    truths = ("--truth", home / "good.csv", "--reference-truth", home / "reference.csv")
    done = run("transfer", home / "good", *words, *truths, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "to choose it anew for a bound at all: 59 positive slides" in done.output
    report = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert report["sensitivity"]["of"] + report["specificity"]["of"] == 95
    assert report["shifts"]["all"]["slides"] == 95
    assert "What it takes to choose it anew" in (tmp_path / "out" / "transfer.html").read_text()
    done = run("transfer", home / "good", *words)
    assert "sensitivity not known, specificity not known" in done.output
    assert re.search(r"KS 0\.\d{3} \(p 0\.\d{3}\)", done.output)
    raw = json.loads(file.read_text())
    raw["holds_for"]["bag_size"] = 256
    file.write_text(json.dumps(raw))
    done = run("transfer", home / "good", *words)
    assert isinstance(done.exception, StrideError)
    assert "the operating point does not hold for these slides: K 64, it holds for 256" in str(done.exception)
