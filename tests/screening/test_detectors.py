"""Which detector screens: by name, by profile, never by what is installed; and without ultralytics from end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import BundleError, ConfigError, MissingExtraError
from stride_monai.files import sha256_of
from stride_monai.inferers.rerank import RULE
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.networks.weights import load_weights, save_weights
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.loaders import load_models
from stride_monai.screening.store import BundleStore
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

BUNDLES = bundle_root("detection").parent
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ultralytics", "cv2", "transformers", "lightly"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Block())
"""
COMMANDS = """
import json, sys
from stride_monai.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:], status = arguments, 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code or 0
    for stream in (sys.stdout, sys.stderr):
        print("STATUS", status, end="\\n\\0", file=stream, flush=True)
"""


def without_extras(folder: Path, *commands: Sequence[object]) -> list[tuple[int, str, str]]:
    """Status, output and error output of each command; one process runs all. Those that it starts lack them too."""
    (folder / "sitecustomize.py").write_text(BLOCKED)
    listed = json.dumps([[str(argument) for argument in command] for command in commands])
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, listed], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    each = []
    for out, err in zip(done.stdout.split("\0")[:-1], done.stderr.split("\0")[:-1], strict=True):
        text, _, status = out.rpartition("STATUS ")
        each.append((int(status), text, err.rpartition("STATUS ")[0]))
    return each


def test_detectors_are_the_paper_s_and_the_overlays_with_a_network(tmp_path: Path) -> None:
    assert BundleStore()["detection"].detectors() == ["yolo", "fcos"]
    configs = tmp_path / "detection" / "configs"
    configs.mkdir(parents=True)
    for name, content in (("inference", {"network_def": {}}), ("mine", {"network_def": {}}), ("other", {"seed": 1})):
        (configs / f"{name}.json").write_text(json.dumps(content))
    assert BundleStore(tmp_path)["detection"].detectors() == ["yolo", "mine"]
    assert BundleStore(tmp_path, "paper").choose_detector("mine") == ("mine", "as asked for")
    with pytest.raises(ConfigError, match="choose from auto, yolo, mine"):
        BundleStore(tmp_path).choose_detector("other")


def test_the_default_is_that_of_the_profile_whatever_is_installed() -> None:
    assert BundleStore().choose_detector() == ("fcos", "default of the tiny profile")
    assert BundleStore(profile="paper").choose_detector() == ("yolo", "default of the paper profile"), (
        "no weights of another detector are taken for it"
    )


def test_each_detector_has_its_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    loaded = load_models(ScreeningConfig(device="cpu", detector="fcos"))
    assert isinstance(loaded.detector, FcosDetector)
    assert loaded.operating_point.holds
    chosen = chosen_by(loaded.weights["detection"], loaded.weights["cell_cls"], 512, RULE)
    assert loaded.classifier.detector_sha256 == chosen, "the threshold was set on its cells, re-ranked"
    assert loaded.explainer.facts.why
    base, _ = load_weights(BUNDLES / "swift_mil" / "models" / "tiny.safetensors")
    yolo, cells = (sha256_of(BUNDLES / name / "models" / "tiny.safetensors") for name in ("detection", "cell_cls"))
    assert bytes(base["detector"].tolist()).hex() == chosen_by(yolo, cells, 512, RULE)
    with pytest.raises(MissingExtraError, match=r"stride-monai\[yolo\]"):
        load_models(ScreeningConfig(device="cpu", detector="yolo"))


def test_a_threshold_of_another_detector_is_refused_and_an_unknown_one_said_aloud(tmp_path: Path) -> None:
    for name in ("detection", "swift_mil"):
        shutil.copytree(BUNDLES / name, tmp_path / name)
    path = tmp_path / "swift_mil" / "models" / "tiny_fcos.safetensors"
    state, metadata = load_weights(path)
    save_weights(path, state | {"detector": torch.full_like(state["detector"], 7)}, metadata)
    with pytest.raises(BundleError, match=r"threshold does not hold for the detector fcos .* calibrate.json"):
        load_models(ScreeningConfig(bundles=tmp_path, device="cpu", detector="fcos"))
    save_weights(path, state | {"detector": torch.zeros_like(state["detector"])}, metadata)
    assert (
        "not known for which detector"
        in load_models(ScreeningConfig(bundles=tmp_path, device="cpu", detector="fcos")).note
    )


def test_overlays_that_do_not_exist_are_refused() -> None:
    with pytest.raises(BundleError, match="nowhere"):
        load_bundle_network(BUNDLES / "detection", "tiny", overlays=("nowhere",))


@pytest.mark.slow
def test_everything_works_without_ultralytics(tmp_path: Path) -> None:
    slides, out = tmp_path / "slides", tmp_path / "out"
    rendered, screened, refused = without_extras(
        tmp_path,
        ["phantom", "--out", slides, "--slide-class", "HSIL", "--diameter", 0.5, "--seed", 1],
        ["screen", slides, "--out", out],
        ["screen", slides, "--out", out, "--detector", "yolo"],
    )
    assert rendered[0] == 0, rendered
    assert screened[0] == 0, screened
    assert "detector fcos (default of the tiny profile)" in screened[1]
    (report,) = out.glob("*/report.html")
    assert report.stat().st_size > 10_000
    provenance = json.loads((report.parent / "findings.json").read_text())["provenance"]
    assert (provenance["requested"]["detector"], provenance["used"]["detector"]) == ("auto", "fcos")
    assert json.loads((out / "run.json").read_text())["run"]["detector"]["name"] == "fcos"
    assert refused[0] == 2
    assert len(refused[2].strip().splitlines()) == 1, refused
    assert "stride-monai[yolo]" in refused[2]


def test_the_doctor_says_what_screens_and_which_bundles_have_weights() -> None:
    from stride_monai.screening.doctor import examine

    checks = {check.name: check for check in examine()}
    assert checks["detector"].detail.startswith(BundleStore().choose_detector().name)
    assert checks["detector"].state == checks["classifier"].state == "ok", (
        "what came with the package screens as it comes"
    )
    assert checks["classifier"].detail.startswith(("swift_mil (", "coloradv ("))
    for bundle, missed in (("coloradv", "uses swift_mil"), ("text_align", "describes no cell")):
        shipped = list((BUNDLES / bundle / "models").glob("*.safetensors"))
        assert checks[f"weights {bundle}"].state == ("ok" if shipped else "note")
        assert (missed in checks[f"weights {bundle}"].detail) != bool(shipped)
    described = bool(list((BUNDLES / "text_align" / "models").glob("*.safetensors")))
    assert checks["descriptions"].state == ("ok" if described else "note")
    assert {f"weights {name}" for name in ("detection", "cell_cls", "swift_mil")} <= checks.keys()
