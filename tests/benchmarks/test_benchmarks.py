"""Every script of benchmarks/ answers --help, has the options that it is said to have, and runs at its smallest size.

The sizes that no option sets are constants of the scripts; the smallest ones stand here.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset_samples as samples
import processes
import pytest
import torch
from bundle_cohort import make_cohort
from extras import needs
from torch import nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data import read_manifest, write_manifest
from stride_monai.data.importers import ImportOptions, import_dataset, load_format
from stride_monai.data.joining import join_cohorts
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("detection").parent.parent
FOLDER = ROOT / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
TEXTS = [FOLDER / "RESULTS.md", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
Script = Callable[..., str]
YOLO = ("cric_cells", "descriptions", "detection_phantom", "detector_candidates", "detectors", "train_weights")
ALONE = (
    "cell_averages",
    "cell_recipe",
    "cric_left_out",
    "described_real",
    "encoder_probe",
    "rerank_rules",
    "review_page",
)
BY_HAND = (
    "int8",
    "int8_variants",
    "real_fields",
    "score_input",
    "slide_heads",
    "unseen_laboratories",
)  # need the real pictures, or an hour: only their options are looked at here
ELSEWHERE = ("annotation_loop", "compare_checkouts", "report")  # tests of their own
IMPORTED = ("engine_peers", "record", "weights_settings")  # no scripts
STUDIES = ("swift_ablation", "cell_order", "coloradv_study", "coloradv_pictures", "robustness")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Script]:
    """Runs a script in this process: ``script(name, *words, **constants)`` gives what it printed.

    What it measured lies in ``results`` of the test's folder.
    """
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(importlib.import_module("record"), "RESULTS", tmp_path / "results")
    threads = torch.get_num_threads()

    def run(name: str, *words: object, **constants: Any) -> str:
        module = importlib.import_module(name)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *map(str, words)])
        module.main()
        result = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert result["tables"], "nothing was measured"
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


def test_all_are_run_here() -> None:
    assert NAMES
    assert {*SMALL, *YOLO, *STUDIES, *ALONE, *BY_HAND, *ELSEWHERE, *IMPORTED} == {*NAMES}


@pytest.mark.parametrize("name", sorted({*NAMES} - {*IMPORTED}))
def test_every_script_answers_help_and_has_the_options_that_are_named(
    name: str, script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        script(name, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {name}.py")
    known = set(re.findall(r"--[a-z][a-z-]*", said))
    named = set(re.findall(r"--[a-z][a-z-]*", importlib.import_module(name).__doc__ or ""))
    for text in TEXTS:
        for command in re.findall(rf"benchmarks/{name}\.py([^`|&#\n]*)", text.read_text(encoding="utf-8")):
            own = re.sub(r"'[^']*'", "", command)  # what is quoted is for another program
            named |= set(re.findall(r"--[a-z][a-z-]*", own))
    assert named <= known, f"{name}.py has no option {', '.join(sorted(named - known))}"


# Data.


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three fields as CRIC's are given, with no ASC-H and no AGC in them."""
    folder = tmp_path_factory.mktemp("fields")
    rows = ["image,bethesda_system,nucleus_x,nucleus_y"]
    for number in range(3):
        places = [(160 + 200 * k, 180 + 60 * number + 150 * (k % 2)) for k in range(4)]
        samples.field(folder / "images" / f"f{number}.png", places, size=(900, 700), seed=number)
        labels = ("NILM", "LSIL", "ASC-US", "NILM")
        rows += [f"images/f{number}.png,{label},{x},{y}" for label, (x, y) in zip(labels, places, strict=True)]
    samples.text(folder / "points.csv", "\n".join(rows) + "\n")
    return folder


# Scripts that stand alone: options, and constants of the module.

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "augmentation_speed": ("--batch 2 --side 32 --rounds 1", {}),
    "bag_speed": ("--work {tmp} --threads 1 --rounds 1", {"BATCH": 8, "CROP": 32}),
    "cell_counts": ("--work {tmp} --seeds 400 --diameter 0.3", {}),
    "cell_epoch": ("--work {tmp} --side 32 --batch 4 --cells 8 --epochs 1", {}),
    "coloradv_step": ("--only time --rounds 2", {"CELLS": 2, "K": 4, "SIDE": 32, "STEPS": 1}),
    "cric_recall": ("--data {fields}", {}),
    "cric_transfer": (
        "--data {fields} --work {tmp} --row {row} --iterations 1 --fields 2",
        {"JUDGED": (2, 2), "BATCH": 2},
    ),
    "engine": (
        "--work {tmp} --gigapixels 0.003 --rounds 1 --region 64 --scaling --sizes 0.003 --boxes 200 "
        "--runtimes torch --slides 2",
        {"BAG_SIZES": (4, 8), "RUNTIMES": ("torch",), "WARM_UP": 0},
    ),
    "evaluation_speed": ("--work {tmp} --slides 400 --replicates 20 --rounds 1", {"CENTRES": 3}),
    "faults": ("--work {tmp} --mutants 2 --kills 1 --soak 6", {"KILLED_SLIDES": 1}),
    "interval_coverage": ("--draws 4 --replicates 20 --workers 1", {}),
    "reader_coverage": ("--draws 3 --workers 1", {}),
    "phantom_speed": ("--diameter 0.2", {"SIDE": 64}),
    "scale": ("--slides 10 20 --boxes 200 --workers 1 2", {"NAPS": 4, "NAP_SECONDS": 0.01}),
    "slide_speed": ("--work {tmp} --diameter 0.2", {"READ_TILES": 2, "DETECTED_TILES": 1, "BATCH": 1}),
    "swift_step": ("--only gradients", {"CELLS": 2, "K": 24, "SIDE": 32}),
    "two_sample": ("--data {fields} --repeats 1 --no-encoder --shown 2", {}),
}
NEEDS_YOLO = {"cric_transfer"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_at_its_smallest_size(name: str, script: Script, fields: Path, tmp_path: Path) -> None:
    if name in NEEDS_YOLO:
        needs("ultralytics", "yolo")
    options, constants = SMALL[name]
    known = {"tmp": tmp_path, "fields": fields, "row": "one site, domain"}
    words = [word.format(**known) for word in options.split()]
    assert script(name, *words, **constants).strip()


@pytest.mark.slow
def test_encoder_probe(
    script: Script, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("encoder_probe")
    single_cells(tmp_path / "crops", module.CLASSES)
    shutil.copytree(fields, tmp_path / "cric")
    words = ["--encoder", "test_convnext", "--crop-px", "32", "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["encoder_probe.py", *words])
    module.main()
    assert "| test_convnext, random | 32 |" in capsys.readouterr().out


@pytest.mark.slow
def test_described_real(script: Script, fields: Path, tmp_path: Path) -> None:
    """By label 11 classes of crops and those of the nuclei; by called class the cells of both kinds of fields."""
    module = importlib.import_module("described_real")
    single_cells(tmp_path / "crops", module.CLASSES)
    shutil.copytree(fields, tmp_path / "cric")
    samples.field(tmp_path / "lbc" / "LSIL" / "1.png", [(60, 60), (150, 140)], size=(256, 256))
    (tmp_path / "lbc" / "fields.csv").write_text("file,bethesda,group\nLSIL/1.png,LSIL,a\nNILM/2.png,NILM,b\n")
    said = script("described_real", "--data", str(tmp_path), "--work", str(tmp_path / "work"))
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| ")]
    of = {row[0]: row[1:] for row in rows}
    assert {name: of[name][0] for name in module.CLASSES} == dict.fromkeys(module.CLASSES, "5")
    for where in ("CRIC", "Mendeley LBC"):
        lesions = [int(of[f"{where}, called {name}"][0]) for name in CELL_CLASSES if name != "NILM"]
        assert int(of[f"{where}, called any lesion"][0]) == sum(lesions)
    assert sum(int(of[f"Mendeley LBC, called {name}"][0]) for name in CELL_CLASSES) > 0, "of one field of two"


def single_cells(folder: Path, classes: Iterable[str]) -> None:
    """Five pictures of each class."""
    for number, name in enumerate(classes):
        for place in range(5):
            samples.field(folder / name / f"{place}.png", [(20, 20)], size=(40, 44), seed=10 * number + place)


@pytest.mark.slow
def test_cell_averages(script: Script, tmp_path: Path) -> None:
    """Of one training no mean is taken; the mean of twice the same is what one says; of n seeds every choice counts."""
    module = importlib.import_module("cell_averages")
    single_cells(tmp_path / "crops", importlib.import_module("encoder_probe").CLASSES)
    asked = []

    def no_training(name: str, step: str, folder: Path, overlays: tuple[str, ...], **options: Any) -> Path:
        asked.append((options["seed"], options["start_from"]))
        torch.manual_seed(options["seed"])
        folder.mkdir(parents=True)
        state = torch.load(start, weights_only=True)
        state["head.weight"] = torch.randn_like(state["head.weight"])
        for file in module.KINDS.values():
            torch.save(state, folder / file)
        return folder / "model.pt"

    network, start = CellClassifier(module.ENCODER).eval(), tmp_path / "start.pt"
    torch.save(network.state_dict(), start)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    found = module.probabilities(network.state_dict(), module.early(start, images))
    assert found == pytest.approx(network(images).softmax(1).detach().numpy(), abs=1e-5)
    assert len({view.numpy().tobytes() for view in module.dihedral(images)}) == 8
    states = [nn.BatchNorm1d(3).state_dict() for _ in range(3)]
    for state in states:
        state["weight"] = torch.randn(3)
    for name, value in module.mean_weights(states).items():
        columns = zip(*(state[name].reshape(-1).tolist() for state in states), strict=True)
        assert value.dtype == states[0][name].dtype
        assert value.reshape(-1).tolist() == pytest.approx([sum(column) / 3 for column in columns], rel=1e-6)
    with pytest.raises(ValueError, match="num_batches_tracked differs"):
        module.mean_weights([states[0], {**states[1], "num_batches_tracked": torch.tensor(7)}])
    options = {"train": no_training, "cell_start": lambda _: start, "CROP_PX": 32}
    words = ("--data", tmp_path, "--recipe", "with organisms", *(w for seed in range(3) for w in ("--seed", seed)))
    said = script("cell_averages", tmp_path, *words, **options)
    assert asked == [(0, start), (1, start), (2, start)]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in said.splitlines()
        if "with organisms |" in line
    ]
    assert [row[1] for row in rows if len(row) == 7] == list(module.KINDS), "organism by organism"
    rows = [row for row in rows if len(row) == 6]
    of_last = [row[2:] for row in rows if row[1] == "last weights"]
    assert [row[:2] for row in of_last] == [
        ["nothing", "3"],
        ["weights of 2", "3"],
        ["weights of 3", "1"],
        ["probabilities of 3", "1"],
        ["probabilities of 8 views", "3"],
        ["weights of 3, probabilities of 8 views", "1"],
    ]
    assert [row[2:] for row in rows if row[1] == "moving average"] == of_last  # here both kinds are alike
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3}-0\.\d{3}\)", of_last[0][2])


def test_the_mean_of_trainings_keeps_a_share_of_what_they_started_from(script: Script, tmp_path: Path) -> None:
    module = importlib.import_module("cell_recipe")
    values = {"start": 1.0, "first": 3.0, "second": 5.0}
    files = {name: tmp_path / f"{name}.pt" for name in values}
    for name, value in values.items():
        torch.save({"weight": torch.full((2,), value), "steps": torch.tensor(7)}, files[name])
    members = [files["first"], files["second"]]
    mixed = module.mean_of(members, tmp_path / "mixed.pt", files["start"], 0.25)
    found = torch.load(mixed, weights_only=True)
    assert found["weight"].tolist() == [0.75 * 4.0 + 0.25 * 1.0] * 2
    assert int(found["steps"]) == 7
    plain = torch.load(module.mean_of(members, tmp_path / "plain.pt"), weights_only=True)
    assert plain["weight"].tolist() == [4.0, 4.0]


def test_a_fitted_row_of_nilm_leaves_the_order_of_lesions(script: Script, tmp_path: Path) -> None:
    """Organisms, which the trained row does not know, become NILM, and no lesion changes its place among lesions."""
    module = importlib.import_module("cell_recipe")
    torch.manual_seed(0)
    seen, labels = torch.randn(600, 8, dtype=torch.float64) + 3.0, torch.arange(600) % 5
    seen[:, :5] += 2.0 * nn.functional.one_hot(labels, 5)
    organisms = labels == 0
    seen[organisms, 6] += 4.0
    head = nn.Linear(8, 5)
    weights = torch.full((600,), 1 / 600, dtype=torch.float64)
    made = module.fitted(head, seen, labels, weights)
    before, after = (layer(seen.float()) for layer in (head, made))
    assert torch.equal(after[:, 1:], before[:, 1:])
    assert torch.equal(head.weight[1:], made.weight[1:])
    called = [(logits.argmax(1) == 0)[organisms].float().mean() for logits in (before, after)]
    assert called[0] < 0.5 < 0.9 < called[1]
    made.double()
    loss = weights @ nn.functional.cross_entropy(made(seen), labels, reduction="none")
    (of_bias,) = torch.autograd.grad(loss, made.bias)
    assert abs(float(of_bias[0])) < 1e-4, "nothing is to be gained any more"
    module.as_shipped(made)
    assert torch.equal(made.weight, made.weight.half().double())


def test_detectors_can_be_kept(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are they trained, nor are the slides rendered that only they learn from; all else is made."""
    module = importlib.import_module("train_weights")
    rendered: list[str] = []
    shipped: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "render", lambda folder, *_, **__: rendered.append(folder.name))
    monkeypatch.setattr(module, "ship", lambda name, checkpoint, *_: shipped.append((name, checkpoint.name)))
    monkeypatch.setattr(module, "import_real", lambda *_: [tmp_path, tmp_path])
    monkeypatch.setattr(module, "train_cells", lambda *_: tmp_path / "fitted.pt")
    for name in ("join", "mine_negatives", "train_detectors", "train_slides", "train_words"):
        monkeypatch.setattr(module, name, lambda *_, name=name: shipped.append((name, "")))
    module.make(tmp_path, tmp_path, 0, module.REHEARSAL, keep_detectors=True)
    assert rendered == ["dense", "infected", "slides", "large"]
    kept = [("detection", "tiny.safetensors"), ("detection", "tiny_fcos.safetensors")]
    assert [each for each in shipped if each[0] in {"detection", "train_detectors"}] == kept
    assert shipped[-3:] == [("cell_cls", "fitted.pt"), ("train_slides", ""), ("train_words", "")]


@pytest.mark.slow
def test_cric_left_out(script: Script, fields: Path, cohort: Path, tmp_path: Path) -> None:
    """Every field is judged once, by what was trained without it."""
    needs("ultralytics", "yolo")
    import_dataset(fields, tmp_path / "cric", load_format("cric"), ImportOptions(mpp=0.228, complete=True))
    join_cohorts([cohort, tmp_path / "cric"], tmp_path / "tiles_and_cric")
    weights = tmp_path / "detection-fcos" / "model.pt"
    weights.parent.mkdir()
    shutil.copy(bundle_root("detection") / "models" / "tiny_fcos.safetensors", weights)
    trained: list[set[str]] = []

    def no_training(work: Path, cohort: Path, out: Path) -> Path:
        trained.append({r.slide_id for r in read_manifest(cohort / "manifest.csv") if r.source == "cric"})
        return weights

    known = read_manifest(tmp_path / "tiles_and_cric" / "manifest.csv")
    names = [record.slide_id for record in known if record.source == "cric"]
    for fold in range(3):
        seen = tmp_path / f"left_out-{fold}"
        write_manifest(seen / "cells" / "manifest.csv", [r for r in known if r.slide_id not in names[fold::3]])
        shutil.copy(bundle_root("cell_cls") / "models" / "tiny.safetensors", seen / "fitted.pt")

    said = script("cric_left_out", tmp_path, "--data", fields, FOLDS=3, train_real_detector=no_training)
    assert "| lesion nuclei, top 16 | 6 |" in said
    assert "the same, re-ranked | by the classifier alone" in said
    assert [len(names) for names in trained] == [2, 2, 2]
    assert not set.intersection(*trained)


def test_rerank_rules(script: Script, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").symlink_to(cohort)
    said = script("rerank_rules", tmp_path, TOPS=(4, 64))
    assert "| cells kept of a slide | detector | lesion probability | product |" in said
    shares = {
        row.split("|")[1].strip(): row.split("|")[2:5] for row in said.splitlines() if row.startswith(("| 4", "| 6"))
    }
    few, many = ([float(share) for share in shares[top]] for top in ("4", "64"))
    assert 0 <= few[0] <= many[0] <= 1, "in the detector's order more cells hold those that fewer hold"
    assert many[0] > 0.5
    pools = dict(re.findall(r"^\| (256|1024) \| (0\.\d+|1\.0+) \|$", said, re.MULTILINE))
    assert 0.5 < float(pools["256"]) <= float(pools["1024"]) <= 1


@pytest.mark.slow
def test_review_page(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("fastapi", "review")
    needs("playwright", "dev")
    module = importlib.import_module("review_page")
    if not any(map(shutil.which, module.BROWSERS)):
        pytest.skip("needs Chromium")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ("--work", tmp_path, "--diameter", 0.2, "--tiles", 40)
    said = script("review_page", *words, CELLS=8, PAINTS=1, KEYS=3)
    assert "| tile, ms |" in said
    assert "| 40 |" in said


# Scripts that train, evaluate or screen by the command line: their processes are forked from one that has torch.


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def run(command: Any, **kwargs: Any) -> Any:
        words = list(map(str, command)) if isinstance(command, list) else []
        if words[:2] != [sys.executable, "-m"]:
            return real(command, **kwargs)
        done = processes.run(words[2], words[3:])
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic slides for testing."""
    folder = tmp_path_factory.mktemp("phantoms") / "slides"
    design = CohortDesign(classes=("NILM", "HSIL"), diameter_mm=0.2, seed=3, all_test=True, name="test")
    make_slides(folder, design)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
class TestOfTheDetectors:
    @pytest.fixture(autouse=True)
    def _needs_yolo(self) -> None:
        needs("ultralytics", "yolo")

    def test_cric_cells(self, script: Script, fields: Path, tmp_path: Path) -> None:
        said = script("cric_cells", "--data", fields, "--work", tmp_path, SEEDS=(0,), EPOCHS=1)
        assert "| random |" in said
        assert "| shipped | lesions, top 64 |" in said

    def test_descriptions(self, script: Script, phantoms: Path, tmp_path: Path) -> None:
        assert "Mean over the properties" in script(
            "descriptions", "--data", phantoms, "--work", tmp_path, "--pairs", 1
        )

    def test_detection_phantom(self, script: Script, cohort: Path, tmp_path: Path) -> None:
        for split in ("train", "test"):
            (tmp_path / split).symlink_to(cohort)
        small = {"tile_px": 128, "batch_size": 4, "max_epochs": 1, "val_interval": 1}
        said = script("detection_phantom", "--work", tmp_path, "--seeds", 0, SETTINGS=small)
        assert "| val_map |" in said

    def test_detector_candidates(self, script: Script, cohort: Path) -> None:
        sys.modules.pop("detection_phantom", None)
        module = importlib.import_module("detector_candidates")
        timed = functools.partial(module.milliseconds, rounds=3)
        said = script(
            "detector_candidates", "--cohort", cohort, "--seconds", 0.01, TILE_PX=64, BATCH=2, milliseconds=timed
        )
        assert "| MONAI RetinaNet |" in said

    def test_detectors(self, script: Script, phantoms: Path, tmp_path: Path) -> None:
        assert "| tiles/s" in script("detectors", "--cohort", phantoms, "--work", tmp_path, "--tiles", 1)

    def test_train_weights_judges(self, script: Script, phantoms: Path, tmp_path: Path) -> None:
        """What trains takes an hour and writes what ships: its commands are those of the other tests."""
        for name in ("slides", "large"):
            (tmp_path / name).symlink_to(phantoms)
        assert "| test slides, positive | 2, 1 | 2, 1 | 2, 1 | 2, 1 |" in script(
            "train_weights", "--work", tmp_path, "--judge-only"
        )


@pytest.mark.slow
def test_the_studies_of_swift_and_coloradv(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes on from what the one before has made."""
    ablation = importlib.import_module("swift_ablation")
    for settings in (ablation.CELL_CLS, ablation.SWIFT, ablation.FROZEN):
        monkeypatch.setitem(settings, "max_epochs", 1)
    monkeypatch.setitem(ablation.FROZEN, "val_interval", 1)
    monkeypatch.setitem(ablation.CELL_CLS, "cells_per_epoch", 32)
    monkeypatch.setitem(ablation.ENCODERS, "few labels", ablation.Encoder(options={"max_epochs": 1}))
    monkeypatch.setattr(ablation, "DESIGN", replace(ablation.DESIGN, classes=24, test_fraction=0.5, diameter_mm=0.4))
    monkeypatch.setattr(ablation, "BAGS", replace(ablation.BAGS, top_k=8))
    monkeypatch.setitem(ablation.SWIFT, "top_k", 8)
    monkeypatch.setitem(ablation.NETWORK, "depths", [1, 1, 1, 1])
    shared, work = tmp_path / "ablation", tmp_path / "study"
    rows = ("frozen, STRIDE head", "SWIFT, gradient x feature")
    words = [word for row in rows for word in ("--row", row)]
    assert f"| {rows[1]} | 1 |" in script("swift_ablation", "--work", shared, "--seed", 0, *words)
    assert "| STRIDE head | 0 |" in script("cell_order", "--work", shared)
    study = importlib.import_module("coloradv_study")
    monkeypatch.setitem(study.FURTHER, "max_epochs", 1)
    places = ("--work", work, "--ablation", shared)
    assert "ColorAdv both" in script("coloradv_study", *places, "--seed", 0, "--row", "ColorAdv both", "--row", "SWIFT")
    model = shared / "runs" / "SWIFT_gradient_x_feature-0" / "model.pt"
    said = script("coloradv_pictures", "--cohort", shared / "cohort", "--weights", model, "--out", tmp_path)
    assert "| mean loss of a slide |" in said
    robustness = importlib.import_module("robustness")
    axes = {name: robustness.AXES[name]._replace(sizes=robustness.AXES[name].sizes[2:4]) for name in ("hue", "jpeg")}
    said = script("robustness", *places, "--figure", tmp_path / "figure.png", AXES=axes)
    assert "| hue | 0.05 |" in said
    assert (tmp_path / "figure.png").is_file()
