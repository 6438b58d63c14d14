"""A bundle's run replaces what runs before it wrote into its output folder, and nothing else. No network is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from stride_monai.errors import OutputError
from stride_monai.files import write_bytes
from stride_monai.ownership import read_list
from stride_monai.workflows.outputs import _reached, _written_by
from stride_monai.workflows.values import at

CONFIG = {
    "imports": ["$import pathlib", "$from stride_monai.files import write_bytes"],
    "bundle_root": "",
    "output_dir": "",
    "content": "weights",
    "best": {
        "_target_": "stride_monai.handlers.BestWeights",
        "path": "$@output_dir + '/model.pt'",
        "network": None,
    },
    "state": {"_target_": "stride_monai.handlers.resume.TrainingState", "save_dir": "@output_dir", "objects": {}},
    "metrics": {"_target_": "monai.handlers.MetricsSaver", "save_dir": "@output_dir"},
    "initialize": [{"_target_": "stride_monai.workflows.check_overrides"}],
    "run": [
        "$(@best, @state, @metrics)",
        "$write_bytes(pathlib.Path(@output_dir) / 'model.pt', @content.encode())",
        "$write_bytes(pathlib.Path(@output_dir) / 'slide.json', b'{}')",
        "$(pathlib.Path(@output_dir) / 'metrics.csv').write_text('auc,1')",
        "$(pathlib.Path(@output_dir) / 'auc_raw.csv').write_text('a,1')",
    ],
}


def made(tmp_path: Path, *names: str) -> ConfigWorkflow:
    """A workflow that writes these files."""
    run(tmp_path, output_dir=str(tmp_path / "elsewhere"))
    place = tmp_path / "bundle" / "configs" / "train.json"
    config = json.loads(place.read_text()) | {"output_dir": str(tmp_path / "out")}
    config["run"] = [f"$write_bytes(pathlib.Path(@output_dir) / '{name}', b'')" for name in names]
    place.write_text(json.dumps(config))
    workflow = ConfigWorkflow(str(place), workflow_type="train")
    workflow.initialize()
    return workflow


def run(tmp_path: Path, **changes: str) -> Path:
    root, out = tmp_path / "bundle", tmp_path / "out"
    (root / "configs").mkdir(parents=True, exist_ok=True)
    (root / "configs" / "metadata.json").write_text("{}")
    config = {**CONFIG, "bundle_root": str(root), "output_dir": str(out), **changes}
    (root / "configs" / "train.json").write_text(json.dumps(config))
    workflow = ConfigWorkflow(str(root / "configs" / "train.json"), workflow_type="train")
    workflow.initialize()
    workflow.run()
    return Path(config["output_dir"])


def test_a_run_replaces_what_runs_before_it_wrote(tmp_path: Path) -> None:
    out = run(tmp_path)
    assert (out / "model.pt").read_bytes() == b"weights"
    listed = read_list(out)
    assert listed is not None
    assert set(listed.files) == {"model.pt", "slide.json", "metrics.csv", "auc_raw.csv"}
    run(tmp_path, content="better")
    assert (out / "model.pt").read_bytes() == b"better"
    write_bytes(out / "mine.txt", b"mine")  # the watch ends with the run
    write_bytes(out / "mine.txt", b"mine too")


@pytest.mark.parametrize("name", ["model.pt", "last.pt", "metrics.csv", "files.json"])
def test_what_no_run_wrote_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    with pytest.raises((OutputError, RuntimeError), match=name):
        run(tmp_path)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_bytes() == b"mine"


def test_weights_that_somebody_put_in_the_place_of_ours_stay(tmp_path: Path) -> None:
    out = run(tmp_path)
    (out / "model.pt").write_bytes(b"downloaded")
    with pytest.raises((OutputError, RuntimeError), match=r"model\.pt"):
        run(tmp_path)
    assert (out / "model.pt").read_bytes() == b"downloaded"


def test_what_only_the_run_knows_is_refused_when_it_comes_to_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "slide.json").write_text("mine")
    with pytest.raises((OutputError, RuntimeError), match=r"slide\.json"):
        run(tmp_path)
    assert (out / "slide.json").read_text() == "mine"


@pytest.mark.parametrize("mine", [True, False])
def test_bags_and_the_index_of_a_screening_say_themselves_whose_they_are(tmp_path: Path, mine: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.csv").write_text("slide_id,file_name\n")
    (out / "s.bag.arrow").write_bytes(b"mine" if mine else b"ARROW1 cut short: slide_fingerprint detector_sha256")
    workflow = made(tmp_path, "s.bag.arrow", "summary.csv")
    if mine:
        with pytest.raises((OutputError, RuntimeError), match=r"s\.bag\.arrow"):
            workflow.run()
        assert (out / "s.bag.arrow").read_bytes() == b"mine"
    else:
        workflow.run()
        assert not (out / "files.json").exists()


@pytest.mark.parametrize(("ours", "allowed"), [(True, True), (False, False)])
def test_a_training_from_before_there_were_lists_is_known_by_its_state(
    tmp_path: Path, ours: bool, allowed: bool
) -> None:
    """Other packages keep a last.pt as well."""
    out = tmp_path / "out"
    out.mkdir()
    state = {"epoch": 1, "max_epochs": 2, "epoch_length": 3, "stopped": False} if ours else {"epoch": 1, "model": None}
    torch.save(state, out / "last.pt")
    (out / "model.pt").write_bytes(b"old")
    if allowed:
        run(tmp_path)
        return
    with pytest.raises((OutputError, RuntimeError), match=r"model\.pt"):
        run(tmp_path)
    assert (out / "model.pt").read_bytes() == b"old"


def test_the_bundles_own_folder_for_evaluations_is_ours(tmp_path: Path) -> None:
    folder = tmp_path / "bundle" / "eval"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("auc,0.5")
    run(tmp_path, output_dir=str(folder))
    assert (folder / "metrics.csv").read_text() == "auc,1"


def test_what_a_run_does_not_use_is_not_in_its_way(tmp_path: Path) -> None:
    """The handlers of the training stand in the configuration of an evaluation, too."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "last.pt").write_bytes(b"mine")
    config = {**CONFIG, "run": ["$@metrics"]}
    names = {name for part in _reached(config, config["run"]) for name in _written_by(part)}
    assert names == {"metrics.csv"}
    assert at({"a": [{"b": 1}]}, "a#0::b") == 1
    assert at({"a": [1]}, "a#2#c") is None
