"""From ``quantize`` to ``screen --precision int8`` as they are typed; what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import processes
import pytest
from extras import needs
from typer.testing import CliRunner, Result

from stride_monai.cli.main import app
from stride_monai.data.manifest import read_manifest
from stride_monai.errors import ConfigError, OutputError
from stride_monai.evaluation import precision
from stride_monai.findings import Findings
from stride_monai.inferers.bag_files import make_bag
from stride_monai.operating_point import read_operating_point, write_operating_point
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.runtimes.int8 import DETECTION, read_int8
from stride_monai.screening import calibration
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener

pytestmark = pytest.mark.slow
FEW_CELLS = ("--quality", "min_cells=20")


class Quantized(NamedTuple):
    """A cohort of eight slides, and the folder that ``quantize`` made of it."""

    cohort: Path
    out: Path
    said: str
    environment: dict[str, str]

    @property
    def slide(self) -> Path:
        return sorted((self.cohort / "slides").iterdir())[-1]


def words(cohort: Path, out: Path) -> list[str]:
    """The command, as it is typed."""
    typed = ["quantize", cohort / "slides", "--truth", cohort / "labels.csv", "--cells", cohort / "cells.csv"]
    return [*map(str, [*typed, "--split", "validation", "--out", out]), *FEW_CELLS]


def quantize(cohort: Path, out: Path, allowed: float, *options: str) -> Result:
    """It, with as few slides and pictures as a test has time for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "ALLOWED", allowed)
        patch.setattr(calibration, "TILES", 12)
        return CliRunner().invoke(app, [*words(cohort, out), *options])


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    needs("openvino", "fast")
    needs("nncf", "int8")
    home = tmp_path_factory.mktemp("int8")
    design = CohortDesign(classes=("NILM", "HSIL") * 4, diameter_mm=0.2, seed=5, all_test=True)
    manifest = make_slides(home / "cohort", design)
    rows = [f"{record.slide_id},{record.slide_class}" for record in read_manifest(manifest)]
    (home / "cohort" / "labels.csv").write_text("\n".join(["slide_id,label", *rows]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIDE_MONAI_CACHE", str(home / "kept"))
        done = quantize(home / "cohort", home / "out", allowed=0.25)
    assert done.exit_code == 0, (done.output, done.exception)
    return Quantized(home / "cohort", home / "out", done.output, {"STRIDE_MONAI_CACHE": str(home / "kept")})


def screen(quantized: Quantized, out: Path, *options: object) -> processes.CompletedProcess[str]:
    typed = ["screen", quantized.slide, "--out", out, "--device", "cpu", "--writers", "findings", *FEW_CELLS, *options]
    return processes.run("stride_monai", typed, environment=quantized.environment)


def test_it_is_quantized_on_some_slides_and_judged_on_the_others(quantized: Quantized) -> None:
    judged = json.loads((quantized.out / "judgement.json").read_text(encoding="utf-8"))
    assert len(judged["quantized_on"]) == 1
    assert (judged["slides"], judged["precision"], judged["lost"]) == (7, "int8", [])
    for folder in ("float32", "int8"):
        names = {path.parent.name for path in (quantized.out / folder).glob("*/findings.json")}
        assert len(names) == 7
        assert not names & {*judged["quantized_on"]}
    assert judged["float32"]["recall"] > 0.5
    assert "recall of lesion cells" in quantized.said
    assert "operating point" in quantized.said
    assert "Statistics collection" not in quantized.said


def test_what_screens_in_int8_says_so_and_is_called_by_its_own_threshold(quantized: Quantized, tmp_path: Path) -> None:
    given = quantized.out / "operating_point.json"
    done = screen(quantized, tmp_path / "r", "--runtime", "openvino", "--precision", "int8", "--operating-point", given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", int8" in done.stdout
    (text,) = (path.read_text(encoding="utf-8") for path in (tmp_path / "r").glob("*/findings.json"))
    findings, point = Findings.from_json(text), read_operating_point(given)
    used, requested = findings.provenance.used, findings.provenance.requested
    networks = {"detection": read_int8(quantized.out / "networks" / DETECTION).sha256}
    assert (used["precision"], used["int8_networks"], requested["precision"]) == ("int8", networks, "int8")
    assert used["runtime"]["name"] == "openvino"
    assert (point.holds_for.precision, point.holds_for.int8) == ("int8", networks)
    assert findings.operating_point.threshold == pytest.approx(point.threshold, abs=1e-6), "six decimals"
    assert findings.operating_point.holds
    assert findings.call in {"positive", "negative"}
    before = json.loads(next((quantized.out / "float32").glob(f"{findings.slide.slide_id}/findings.json")).read_text())
    assert findings.provenance.config_hash != before["provenance"]["config_hash"]
    assert findings.score == pytest.approx(before["score"], abs=0.2)
    assert findings.score != before["score"]


def test_what_was_set_in_another_precision_is_refused(quantized: Quantized, tmp_path: Path) -> None:
    given = quantized.out / "operating_point.json"
    fast = ("--runtime", "openvino", "--precision", "int8")
    for options, said in (
        (fast, "int8 needs an operating point that was set with it"),
        (("--precision", "int8", "--operating-point", given), "int8 is computed by openvino"),
        (("--operating-point", given), "precision float32, it holds for int8"),
        (("--precision", "bf16", "--operating-point", given), "precision bfloat16, it holds for int8"),
    ):
        done = screen(quantized, tmp_path / "r", *options)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
    point = read_operating_point(given)
    float_point = replace(point, holds_for=replace(point.holds_for, precision="float32", int8={}))
    write_operating_point(quantized.out / "of_float32.json", float_point)
    done = screen(quantized, tmp_path / "r", *fast, "--operating-point", quantized.out / "of_float32.json")
    assert "precision int8, it holds for float32" in " ".join(done.stderr.split())
    shutil.copy(given, tmp_path / "alone.json")
    done = screen(quantized, tmp_path / "r", *fast, "--operating-point", tmp_path / "alone.json")
    assert "holds no network in int8" in " ".join(done.stderr.split())
    done = screen(quantized, tmp_path / "r", *fast, "--operating-point", given, "--detector", "yolo")
    assert done.returncode == 2, "of the other detector"


def test_other_networks_than_those_that_were_judged_are_refused(quantized: Quantized, tmp_path: Path) -> None:
    shutil.copytree(quantized.out, tmp_path / "out")
    facts = tmp_path / "out" / "networks" / DETECTION / "network.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "sha256": "0" * 64}))
    given = ("--operating-point", tmp_path / "out" / "operating_point.json")
    done = screen(quantized, tmp_path / "r", "--runtime", "openvino", "--precision", "int8", *given)
    assert "other int8 networks than those it was chosen with" in " ".join(done.stderr.split())


def test_bfloat16_is_scored_and_not_called_without_a_threshold_of_its_own(quantized: Quantized, tmp_path: Path) -> None:
    done = screen(quantized, tmp_path / "r", "--precision", "bf16")
    assert done.returncode == 0, done.stdout + done.stderr
    (text,) = (path.read_text(encoding="utf-8") for path in (tmp_path / "r").glob("*/findings.json"))
    findings = Findings.from_json(text)
    assert findings.provenance.used["precision"] == "bfloat16"
    assert (findings.call, findings.operating_point.holds) == (None, False)
    assert "does not hold for bfloat16: no call is made" in findings.provenance.weights_note
    assert findings.score is not None


def test_what_loses_too_much_is_refused_and_no_operating_point_is_left(quantized: Quantized, tmp_path: Path) -> None:
    """What was quantized and screened already is judged once more."""
    shutil.copytree(quantized.out, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_screen", "_quantize"):
            patch.setattr(f"stride_monai.cli.quantize.{name}", lambda *_: None)
        done = quantize(quantized.cohort, tmp_path / "out", allowed=-1)
    assert isinstance(done.exception, ConfigError)
    assert "int8 is refused" in str(done.exception)
    assert "recall of lesion cells among the K best" in str(done.exception)
    assert not (tmp_path / "out" / "operating_point.json").exists()


def test_what_cannot_be_judged_is_refused_before_anything_is_screened(quantized: Quantized, tmp_path: Path) -> None:
    for allowed, options, said in (
        (0.005, (), "negative slides are too few"),
        (0.25, ("--target", "1.5"), "invalid target 1.5"),
        (0.25, ("--conformal",), "positive slides are too few"),
    ):
        done = quantize(quantized.cohort, tmp_path / "out", allowed, *options)
        assert said in str(done.exception)
        assert not (tmp_path / "out").exists()


def test_nobody_else_s_file_is_replaced(quantized: Quantized, tmp_path: Path) -> None:
    for name in ("operating_point.json", "judgement.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("{}", encoding="utf-8")
        done = quantize(quantized.cohort, tmp_path / name, allowed=0.25)
        assert isinstance(done.exception, OutputError)
        assert (tmp_path / name / name).read_text(encoding="utf-8") == "{}"


def test_what_the_command_decides_is_not_to_be_given(tmp_path: Path) -> None:
    needs("nncf", "int8")
    for option in ("--device", "--runtime", "--precision", "--operating-point"):
        done = CliRunner().invoke(app, [*words(tmp_path, tmp_path), option, "cpu"])
        assert done.exit_code == 2
        assert f"No such option: {option}" in " ".join(done.output.split())


def test_bag_files_are_judged_in_float32_alone(quantized: Quantized, tmp_path: Path) -> None:
    plain = Screener(ScreeningConfig(device="cpu"))
    make_bag(tmp_path / "one.bag.arrow", quantized.slide, plain.finder, "one")
    half = Screener(ScreeningConfig(device="cpu", precision="bf16"))
    with pytest.raises(ConfigError, match="bag files are judged in float32, in which their cells were found"):
        half.screen(SlideInput(tmp_path / "one.bag.arrow", "one"))


def test_a_configuration_says_what_contradicts_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8_networks are not used with fp32"):
        ScreeningConfig(int8_networks=tmp_path)
    assert ScreeningConfig(precision="int8", runtime="openvino", int8_networks=tmp_path).absolute().int8_networks
