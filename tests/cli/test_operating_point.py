"""The operating point as a user meets it: chosen from results and a truth table, applied by ``screen``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import processes
import pytest
from findings_samples import make_findings
from toy_bundles import findings_in, make_classifier, screened, screening_home
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import BundleError, ConfigError, ManifestError, OutputError, StrideError
from stride_monai.files import sha256_of
from stride_monai.findings import Findings
from stride_monai.networks.weights import save_weights
from stride_monai.operating_point import read_operating_point

RUN = CliRunner()


def run(*words: object, fails: type[StrideError] | None = None) -> str:
    """What a command says; where it fails, the error that it would print."""
    done = RUN.invoke(app, [str(word) for word in words])
    if fails is None:
        assert done.exception is None, (done.output, done.exception)
        return done.output
    assert isinstance(done.exception, fails), (done.output, done.exception)
    return str(done.exception)


def make_results(folder: Path, scores: dict[str, float | None], status: str = "ok", **used: object) -> Path:
    """A results folder as ``screen`` leaves it, of slides with these scores."""
    base = make_findings(cells=1)
    facts = {"classifier": "swift_mil", "bag_size": 64, "tile_mpp": 1.0, "crop_mpp": 0.5, "rerank": False, **used}
    for slide_id, score in scores.items():
        raw = base.to_dict() | {"score": score, "status": status}
        raw["slide_probabilities"] = None
        raw["slide"]["slide_id"] = slide_id
        raw["provenance"]["used"] = facts
        (folder / slide_id).mkdir(parents=True)
        (folder / slide_id / "findings.json").write_text(json.dumps(raw))
    return folder


def make_truth(path: Path, slides: dict[str, str], split: str | None = "validation") -> Path:
    lines = [f"{name},{label}" + ("" if split is None else f",{split}") for name, label in slides.items()]
    path.write_text("slide_id,label" + ("" if split is None else ",split") + "\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, Path, dict[str, float]]:
    """Results of 40 positive and 40 negative slides, and their truth."""
    rng = np.random.default_rng(0)
    scores = {f"玻片 {k}": round(float(rng.beta(5, 2) if k < 40 else rng.beta(2, 5)), 6) for k in range(80)}
    labels = {name: "LSIL" if k < 40 else "NILM" for k, name in enumerate(scores)}
    return make_results(tmp_path / "re sults", dict(scores)), make_truth(tmp_path / "truth.csv", labels), scores


def test_it_is_chosen_from_results_and_names_what_it_holds_for(
    cohort: tuple[Path, Path, dict[str, float]], tmp_path: Path
) -> None:
    results, truth, scores = cohort
    said = run("operating-point", results, "--truth", truth, "--out", tmp_path / "操作点.json")
    point = read_operating_point(tmp_path / "操作点.json")
    wanted = sorted(list(scores.values())[:40])[2]  # 38 of 40 are 0.95
    assert wanted - 1e-6 < point.threshold < wanted
    assert (point.sensitivity.found, point.sensitivity.of, point.specificity.of) == (38, 40, 40)
    held = point.holds_for
    assert held.weights == {"detection": "a3" * 32, "swift_mil": "0c" * 32}
    assert (held.classifier, held.bag_size, held.tile_mpp, held.crop_mpp) == ("swift_mil", 64, 1.0, 0.5)
    assert (held.cells_chosen_by, held.slide_mpp) == ("a3" * 32, (0.25, 0.25))
    assert (point.chosen_on.split_from, point.chosen_on.left_out) == ("table", {})
    assert "sensitivity 0.950 (0.831 to 0.994; 38 of 40)" in said
    assert "conformal rule: 40 positive slides are too few" in said
    assert "give 29 or more" not in said


def test_being_sure_is_said_to_cost_specificity(cohort: tuple[Path, Path, dict[str, float]], tmp_path: Path) -> None:
    results, truth, _ = cohort
    said = run(
        "operating-point", results, "--truth", truth, "--target", 0.9, "--conformal", "--out", tmp_path / "op.json"
    )
    point = read_operating_point(tmp_path / "op.json")
    assert (point.rule, point.confidence, point.target) == ("conformal", 0.95, 0.9)
    assert point.sensitivity.low > 0.9 or point.sensitivity.found == 40
    assert "plain rule: threshold" in said
    assert "more" in said.split("plain rule")[1]


def test_slides_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    results = make_results(tmp_path / "r", {"a": 0.9, "b": 0.1, "c": None})
    make_results(results, {"d": 0.4}, status="unsatisfactory")
    labels = {"a": "HSIL", "b": "NILM", "c": "NILM", "d": "LSIL", "e": "LSIL", "f": ""}
    said = run(
        "operating-point", results, "--truth", make_truth(tmp_path / "t.csv", labels), "--out", tmp_path / "op.json"
    )
    point = read_operating_point(tmp_path / "op.json")
    assert point.chosen_on.left_out == {"missing": 1, "no score": 1, "unsatisfactory": 1, "no diagnosis": 1}
    assert (point.chosen_on.slides, point.chosen_on.positives) == (2, 1)
    assert "left out: 1 missing, 1 no score, 1 unsatisfactory, 1 no diagnosis" in said


@pytest.mark.parametrize(
    ("split", "words", "error", "says"),
    [
        ("test", (), ManifestError, r"no slide of the truth table is of the validation split (80 test)"),
        ("train", (), ManifestError, "no slide of the truth table is of the validation split (80 train)"),
        ("", (), ManifestError, "says of no slide whether it is train, validation or test"),
        (None, (), ManifestError, "says of no slide whether it is train, validation or test"),
        (None, ("--split", "test"), ConfigError, "is not chosen on the test split"),
        ("validation", ("--split", "train"), ConfigError, "is not chosen on the train split"),
        ("test", ("--split", "val"), ManifestError, "no slide of the truth table is of the validation split"),
        ("validation", ("--split", "all"), ManifestError, "unknown split 'all'"),
        ("validation", ("--target", "1.5"), ConfigError, "invalid target 1.5"),
        ("validation", ("--conformal",), ManifestError, "40 positive slides are too few"),
    ],
)
def test_only_validation_slides_choose(
    cohort: tuple[Path, Path, dict[str, float]],
    tmp_path: Path,
    split: str | None,
    words: tuple[str, ...],
    error: type[StrideError],
    says: str,
) -> None:
    results, _, scores = cohort
    labels = {name: "LSIL" if k < 40 else "NILM" for k, name in enumerate(scores)}
    truth = make_truth(tmp_path / "other.csv", labels, split)
    out = tmp_path / "op.json"
    assert says in run("operating-point", results, "--truth", truth, "--out", out, *words, fails=error)
    assert not out.exists()


def test_what_the_table_does_not_say_the_user_may(cohort: tuple[Path, Path, dict[str, float]], tmp_path: Path) -> None:
    results, _, scores = cohort
    labels = {name: "LSIL" if k < 40 else "NILM" for k, name in enumerate(scores)}
    truth = make_truth(tmp_path / "other.csv", labels, None)
    run("operating-point", results, "--truth", truth, "--split", "validation", "--out", tmp_path / "op.json")
    assert read_operating_point(tmp_path / "op.json").chosen_on.split_from == "user"


def test_a_file_that_is_something_else_is_kept(cohort: tuple[Path, Path, dict[str, float]], tmp_path: Path) -> None:
    results, truth, _ = cohort
    other = tmp_path / "notes.json"
    other.write_text("{}")
    assert "is there and is no operating point" in run(
        "operating-point", results, "--truth", truth, "--out", other, fails=OutputError
    )
    assert "would be written over" in run(
        "operating-point", results, "--truth", truth, "--out", truth, fails=OutputError
    )
    assert other.read_text() == "{}"
    for _ in range(2):  # one of our own is replaced
        run("operating-point", results, "--truth", truth, "--out", tmp_path / "op.json")


def test_results_of_two_kinds_do_not_give_one_threshold(tmp_path: Path) -> None:
    results = make_results(tmp_path / "r", {"a": 0.9, "b": 0.1})
    make_results(results, {"c": 0.4}, bag_size=256)
    truth = make_truth(tmp_path / "t.csv", {"a": "HSIL", "b": "NILM", "c": "NILM"})
    said = run("operating-point", results, "--truth", truth, "--out", tmp_path / "op.json", fails=ManifestError)
    assert "slides c and a were screened in different ways: K 64, it holds for 256" in said


def test_a_table_gives_a_threshold_to_look_at_alone(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("slide_id,score\na,0.9\nb,0.1\n")
    truth = make_truth(tmp_path / "t.csv", {"a": "HSIL", "b": "NILM"})
    said = run("operating-point", table, "--truth", truth, "--out", tmp_path / "op.json")
    assert "'screen' cannot apply" in said
    assert read_operating_point(tmp_path / "op.json").threshold == 0.9
    table.write_text("slide_id,score\na,9\nb,1\n")
    said = run("operating-point", table, "--truth", truth, "--out", tmp_path / "op.json", fails=ManifestError)
    assert "not within 0 and 1" in said


# Applied by screen.


@pytest.fixture
def chosen(tmp_path: Path) -> tuple[Path, Path, Findings]:
    """Toy bundles with a slide, an operating point that was chosen on it and another one, and the slide's findings."""
    home = screening_home(tmp_path / "bundles")
    first = screened(home)
    assert first.score is not None
    raw, folder = json.loads(first.to_json()), tmp_path / "results"
    for slide_id, score in (("one", first.score), ("two", first.score / 2)):
        raw["slide"]["slide_id"], raw["score"] = slide_id, round(score, 6)
        (folder / slide_id).mkdir(parents=True)
        (folder / slide_id / "findings.json").write_text(json.dumps(raw))
    truth, file = make_truth(tmp_path / "t.csv", {"one": "HSIL", "two": "NILM"}), tmp_path / "my op.json"
    run("operating-point", folder, "--truth", truth, "--out", file)
    return home, file, first


def test_its_threshold_decides_and_the_findings_say_so(chosen: tuple[Path, Path, Findings]) -> None:
    home, file, first = chosen
    point = read_operating_point(file)
    assert point.holds_for.slide_mpp == (0.5, 0.5)
    found = screened(home, operating_point=file)
    assert first.operating_point.threshold == 0.5
    assert (found.score, found.call) == (first.score, "positive")
    assert found.operating_point.threshold == point.threshold
    assert found.operating_point.source.startswith(f"operating point my op.json ({sha256_of(file)[:12]}): plain rule")
    assert found.provenance.used["operating_point"]["sha256"] == sha256_of(file)
    assert found.provenance.requested["operating_point"] == "my op.json"
    assert found.provenance.config_hash != first.provenance.config_hash
    assert found.quality.stain is not None
    assert Findings.from_json(found.to_json()).to_json() == found.to_json()


def test_a_slide_of_another_magnification_is_scored_and_not_called(chosen: tuple[Path, Path, Findings]) -> None:
    home, file, _ = chosen
    other = screened(home, operating_point=file, mpp=0.3)  # the slide's own um/px is what is stated
    assert (other.call, other.operating_point.holds) == (None, False)
    assert "no call is made" in other.provenance.weights_note


def test_other_weights_and_another_k_are_refused(chosen: tuple[Path, Path, Findings], tmp_path: Path) -> None:
    home, file, _ = chosen
    raw = json.loads(file.read_text())
    mine = tmp_path / "mine.safetensors"
    save_weights(mine, make_classifier().state_dict(), {"note": "another file"}, half=False)
    name = raw["holds_for"]["classifier"]
    with pytest.raises(BundleError, match=r"the operating point my op.json does not hold: weights"):
        screened(home, operating_point=file, weights={name: [mine]})
    raw["holds_for"]["bag_size"] = 8
    file.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="K 4, it holds for 8: choose one on validation slides"):
        screened(home, operating_point=file)
    assert "forced on K 4, it holds for 8" in screened(home, operating_point=file, force=True).operating_point.source
    file.write_text("[]")
    words = ("--operating-point", file, "--bundles", home, "--profile", "paper", "--out", tmp_path / "out")
    assert "is no operating point" in run("screen", home / "one.png", *words, fails=ConfigError)
    assert not (tmp_path / "out").exists()


def test_the_file_names_the_classifier_where_nothing_else_does(chosen: tuple[Path, Path, Findings]) -> None:
    home, file, first = chosen
    assert first.provenance.used["classifier"] == "coloradv"
    raw = json.loads(file.read_text())
    raw["holds_for"] |= {"classifier": "swift_mil", "weights": {"swift_mil": sha256_of(home / "swift_mil" / "model.safetensors")}}  # fmt: skip # noqa: E501
    file.write_text(json.dumps(raw))
    found = screened(home, operating_point=file)
    assert found.provenance.used["classifier"] == "swift_mil"
    assert found.provenance.used["why"]["classifier"] == "the operating point names it"
    assert found.call == "positive"


@pytest.mark.slow
def test_the_command_says_what_decided(chosen: tuple[Path, Path, Findings], tmp_path: Path) -> None:
    home, file, _ = chosen
    words = ("--bundles", home, "--profile", "paper", "--mpp", "0.5", "--device", "cpu", "--writers", "findings")
    arguments = ["screen", home / "one.png", "--out", tmp_path / "out", "--operating-point", file, *words]
    done = processes.run("stride_monai", arguments)
    assert done.returncode == 0, done.stderr
    assert findings_in(tmp_path / "out", "one").call == "positive"
    assert "calls by operating point my op.json" in done.stdout
    index = json.loads((tmp_path / "out" / "run.json").read_text())
    assert index["run"]["operating_point"].startswith("operating point my op.json")
    assert index["slides"][0]["screened_at"] >= index["run"]["started"]
