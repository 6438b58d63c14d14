"""Bundles are found and loaded; misspelt overrides are refused, on every way to run a bundle."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from unittest import mock

import monai.bundle
import processes
import pytest
import torch
from bundle_cohort import make_cohort
from monai.bundle import ConfigParser, ConfigWorkflow
from torch.utils.data import DataLoader, Dataset

from stride_monai.errors import BundleError, ConfigError, ManifestError, OutputError, SlideError
from stride_monai.networks.weights import save_weights
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root
from stride_monai.workflows.messages import beginning, print_one_line
from stride_monai.workflows.unknown import refuse_unknown
from stride_monai.workflows.workflow import StrideWorkflow

ROOT = bundle_root("cell_cls")
FILES = [str(ROOT / "configs" / name) for name in ("train.json", "tiny.json")]


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ({"max_epoch": 1}, "max_epochs"),
        ({"learning_rat": 1}, "learning_rate"),
        ({"train#max_epochs": 1}, "did you mean|known are"),
        ({"train#trainer#max_epoch": 1}, "train#trainer#max_epochs"),
        ({"train::trainer::max_epoch": 1}, "train#trainer#max_epochs"),
        ({"optimizer#weight_decai": 0}, "optimizer#weight_decay"),
        ({"train#dataloader#batchsize": 1}, "train#dataloader#batch_size"),
        ({"validation#interwal": 1}, "validation#interval"),
        ({"+imports": ["$import os"]}, "config files only"),
        ({"weight": "x.pt"}, "weights"),
    ],
)
def test_unknown_overrides_are_refused_with_the_nearest_name(override: dict[str, object], near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        StrideWorkflow(config_file=FILES, logging_file=False, **override)


@pytest.mark.parametrize(
    ("bundle", "old", "new"),
    [
        ("cell_cls", "crop_size", "crop_px"),
        ("swift_mil", "crop_size", "crop_px"),
        ("detection", "tile_size", "tile_px"),
    ],
)
def test_names_of_before_are_refused_with_those_of_now(bundle: str, old: str, new: str) -> None:
    config = str(bundle_root(bundle) / "configs" / "inference.json")
    with pytest.raises(ConfigError, match=f"did you mean '--{new}'"):
        StrideWorkflow(config_file=config, logging_file=False, **{old: 96})


@pytest.mark.parametrize(
    "override",
    [
        {"max_epochs": 1},
        {"train#trainer#max_epochs": 1},
        {"optimizer#betas": [0.8, 0.9]},  # an argument of Adam that the configuration does not set
        {"network_def#drop_path_rate": 0.1},  # CellClassifier hands any argument on to timm
        {"train#trainer#accumulation_steps": 2},
        {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network_def.parameters()", "lr": 0.1}},
        {"log_loss#_disabled_": True},
        {"epochs": 3, "max_epochs": "@epochs"},  # new, and something refers to it
        {"_meta_#version": "9"},
        {"shares": {"cric": 0.25, "a lab": 0.5}},  # a table that the user fills
    ],
)
def test_known_overrides_are_taken(override: dict[str, object]) -> None:
    workflow = StrideWorkflow(config_file=FILES, logging_file=False, **override)
    for key, value in override.items():
        assert workflow.parser[key] == value


def test_every_config_of_every_bundle_passes_its_own_check() -> None:
    checked = set()
    for path in sorted(ROOT.parent.glob("*/configs/*.json")):
        if path.name != "metadata.json":
            config = ConfigParser.load_config_file(path)
            refuse_unknown(config, config)
            checked.add(path.parent.parent.name)
    assert {"detection", "cell_cls", "swift_mil"} <= checked


def test_plain_monai_workflows_are_guarded_too_and_raise_what_happened() -> None:
    workflow = ConfigWorkflow(FILES, logging_file=False, bundle_root=str(ROOT), max_epoch=1)
    with pytest.raises(ConfigError, match="did you mean '--max_epochs'"):
        workflow.initialize()
    with pytest.raises(ConfigError, match="did you mean '--max_epochs'"):
        monai.bundle.run(config_file=FILES, logging_file=False, bundle_root=str(ROOT), max_epoch=1)


def test_a_bundle_root_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    workflow = ConfigWorkflow(FILES, logging_file=False, bundle_root=str(tmp_path))
    with pytest.raises(ConfigError, match="--bundle_root"):
        workflow.initialize()


@pytest.mark.parametrize("way", ["run", "run_workflow"])
def test_command_line_refuses_and_trains_nothing(way: str, tmp_path: Path) -> None:
    arguments = [way, "--config_file", str(FILES), "--bundle_root", str(ROOT)]
    if way == "run_workflow":
        arguments += ["--workflow_name", "stride_monai.workflows.StrideWorkflow"]
    arguments += ["--output_dir", str(tmp_path / "out"), "--max_epoch", "1"]
    done = processes.run("monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == "error: unknown option '--max_epoch': did you mean '--max_epochs'?"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_ends_with_what_happened(tmp_path: Path) -> None:
    """MONAI's own last line is "Failed to evaluate ConfigExpression"."""
    arguments = ["run", "--config_file", str(FILES), "--bundle_root", str(ROOT), "--dataset_dir", "nowhere"]
    done = processes.run("monai.bundle", arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f"error: there is no manifest.csv in {tmp_path / 'nowhere'}, since there is no such folder")
    )
    assert "Traceback" not in done.stderr


def one_line(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints that ends with an error."""
    with mock.patch.object(sys, "excepthook"), mock.patch.object(logging, "_logRecordFactory"):
        print_one_line()
        logging.getLogger("engine").error("Exception: %s", error, exc_info=error)
        sys.excepthook(type(error), error, error.__traceback__)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "kind", "said"),
    [
        ({"dataset_dir": "nowhere"}, ManifestError, "there is no manifest.csv in"),
        ({"max_epochs": "@nothing"}, ValueError, "`@nothing` is not defined in the config content"),
        ({"init_weights": "/no/such.pt"}, BundleError, "/no/such.pt"),
        ({"resume": "no/last.pt"}, BundleError, str(Path("no/last.pt").absolute())),
        ({"bundle_root": "nowhere"}, ConfigError, str(Path("nowhere").absolute())),
        ({"output_dir": str(ROOT / "LICENSE" / "out")}, OutputError, f"{ROOT / 'LICENSE'} is no folder"),
        ({"batch_size": 0}, RuntimeError, "batch_size=0"),
        ({"device": "gpu"}, ConfigError, "unknown device 'gpu'"),
        ({"tracking": "mlflow"}, RuntimeError, "install mlflow"),
        ({"val_interval": "$open('/no/file')"}, RuntimeError, "/no/file"),
    ],
)
def test_a_mistake_is_one_line_and_python_raises_what_happened(
    override: dict[str, str],
    kind: type[Exception],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort = {"dataset_dir": str(make_cohort(tmp_path / "cohort"))}
    given = {"bundle_root": str(ROOT), "output_dir": str(tmp_path / "out"), "cells_per_epoch": 4, **cohort, **override}
    with pytest.raises(kind) as caught:
        monai.bundle.run(config_file=FILES, logging_file=False, **given)
    assert said in str(caught.value)
    capsys.readouterr()
    printed = one_line(caught.value, capsys)
    assert printed.startswith("error: ")
    assert [record.exc_info for record in caplog.records if record.name == "engine"] == [None]
    assert said in printed
    assert printed.count("\n") == 1
    monkeypatch.setenv("STRIDE_MONAI_TRACEBACK", "1")
    assert "Traceback" in one_line(caught.value, capsys)


def test_what_nobody_foresaw_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    printed = one_line(caught.value, capsys)
    assert "Traceback" in printed
    assert printed.endswith("error: ZeroDivisionError: division by zero\n")


def test_what_happened_first_is_found_through_wrappers_and_loading_processes() -> None:
    def wrapped(first: Exception) -> Exception:
        outer = RuntimeError("Failed to evaluate ConfigExpression")
        outer.__cause__ = RuntimeError("applying transform")
        outer.__cause__.__cause__ = first
        return outer

    assert beginning(wrapped(SlideError("a.tiff cannot be opened", "copy it again"))) == (
        "a.tiff cannot be opened: copy it again"
    )
    assert beginning(wrapped(OSError(30, "Read-only file system", "out"))) == (
        "OSError: [Errno 30] Read-only file system: 'out'"
    )

    class Broken(Dataset[int]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> int:
            raise RuntimeError("applying transform") from SlideError("a.tiff cannot be opened", "copy it again")

    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Broken(), num_workers=1))
    assert beginning(wrapped(caught.value)) == "a.tiff cannot be opened: copy it again"


def test_bundle_root_names_what_there_is() -> None:
    assert (bundle_root("swift_mil") / "configs" / "inference.json").is_file()
    with pytest.raises(BundleError, match="cell_cls"):
        bundle_root("cell_class")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "cell_cls", ignore=shutil.ignore_patterns("*.pt", "*.safetensors")))


def test_load_bundle_network(bundle: Path) -> None:
    with pytest.raises(BundleError, match=rf"{bundle / 'models' / 'tiny.safetensors'} .*: train the bundle"):
        load_bundle_network(bundle, profile="tiny")
    with pytest.raises(BundleError, match="tiny profile"):
        load_bundle_network(bundle)
    with pytest.raises(ConfigError, match="unknown profile 'huge'"):
        load_bundle_network(bundle, profile="huge")
    config = ConfigParser()
    config.read_config([str(bundle / "configs" / name) for name in ("inference.json", "tiny.json")])
    network = config.get_parsed_content("network_def")
    save_weights(bundle / "models" / "tiny.safetensors", network.state_dict(), {"note": "random"})
    loaded = load_bundle_network(bundle, profile="tiny")
    assert not loaded.network.training
    side = json.loads((bundle / "configs" / "tiny.json").read_text())["crop_px"]
    assert loaded.numbers["crop_px"] == side
    assert loaded.numbers["crop_mpp"] == 0.5
    assert loaded.metadata["note"] == "random"
    assert loaded.metadata["bundle_version"] == json.loads((bundle / "configs/metadata.json").read_text())["version"]
    assert len(loaded.weights_sha256) == 64
    with torch.no_grad():
        assert loaded.network(torch.rand(1, 3, side, side)).shape == (1, 5)


def test_damaged_bundles_are_refused_in_one_sentence(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        load_bundle_network(tmp_path / "nowhere")
    (bundle / "configs" / "inference.json").write_text("{")
    with pytest.raises(BundleError, match="configs folder"):
        load_bundle_network(bundle)
