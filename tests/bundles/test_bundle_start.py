"""What a training begins with: weights of a neighbour, of a whole network, and where bundles lie."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, State
from monai.bundle import ConfigParser
from torch import Tensor, nn
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import BundleError, OutputError
from stride_monai.handlers.operating_point import OperatingPointHandler
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.workflows.locate import bundle_root, copy_bundle, list_bundles, neighbor

SMALL = {"encoder_name": "test_convnext", "init_part": "", "init_weights": ""}


def configuration(bundle: str, *overlays: str, **overrides: Any) -> ConfigParser:
    root = bundle_root(bundle)
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{name}.json") for name in ("train", "tiny", *overlays)])
    parser.update({"bundle_root": str(root), **overrides})
    return parser


def moved(network: nn.Module) -> dict[str, Tensor]:
    """Weights of the same network, elsewhere."""
    return {key: value + 0.25 if value.is_floating_point() else value for key, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("bundle", "overlays", "overrides", "trained"),
    [
        ("detection", ["fcos", "tiny_fcos"], {"backbone": "test_convnext"}, "network_def"),
        ("cell_cls", [], SMALL, "network_def"),
        ("cell_cls", ["self_supervised", "simclr"], SMALL, "classifier"),
        ("swift_mil", [], SMALL, "network_def"),
        ("swift_mil", ["two_stage"], SMALL, "network_def"),
        ("swift_mil", ["init_encoder"], SMALL, "network_def"),
        ("coloradv", [], SMALL, "network_def"),
        ("text_align", [], SMALL, "network_def"),
    ],
)
def test_a_training_begins_with_the_whole_network_that_is_named(
    tmp_path: Path, bundle: str, overlays: list[str], overrides: dict[str, Any], trained: str
) -> None:
    start = moved(configuration(bundle, *overlays, **overrides).get_parsed_content(trained))
    torch.save({"epoch": 3, "objects": {"network": start}}, tmp_path / "model.pt")  # a last.pt will do as well
    parser = configuration(bundle, *overlays, **overrides, start_from=str(tmp_path / "model.pt"))
    if bundle == "text_align":
        texts = moved(parser.get_parsed_content("text_branch"))
        torch.save(texts, tmp_path / "text_branch.pt")
        parser.get_parsed_content("load_start")
        assert_equal(parser.get_parsed_content("text_branch"), texts)
    else:
        parser.get_parsed_content("load_init")
    network = parser.get_parsed_content(trained)
    assert_equal(network, start)
    for copied in ("teacher", "ema"):
        if copied in parser.get():
            module = parser.get_parsed_content(copied).module
            expected = network.encoder if copied == "teacher" else network
            assert_equal(module, expected.state_dict())


def assert_equal(network: nn.Module, expected: dict[str, Tensor]) -> None:
    state = network.state_dict()
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bundle", [facts.name for facts in list_bundles()])
def test_weights_are_loaded_by_every_way_to_train(bundle: str) -> None:
    root = bundle_root(bundle) / "configs"
    for name in ("train", "multi_gpu_train"):
        assert "@load_init" in json.loads((root / f"{name}.json").read_text())["initialize"], name
    assert json.loads((root / "train.json").read_text())["start_from"] == ""


def test_an_operating_point_is_that_of_the_bags_it_was_set_on() -> None:
    encoder = CellClassifier("test_convnext")
    network = SlideClassifier(encoder, create_slide_head("mean", encoder.feature_dim), top_k=64)
    engine = Engine(lambda engine, batch: batch)
    OperatingPointHandler(network).attach(engine)
    logits = torch.tensor([[4.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 4.0, 0]])
    batch = {"mask": torch.ones(2, 8, dtype=torch.bool), "pred": logits, "label": torch.tensor([0, 4])}

    def step(engine: Engine, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"pred": batch["pred"][i], "label": batch["label"][i]} for i in range(2)]

    engine._process_function = step
    state: State = engine.run([batch])
    assert state.metrics["sensitivity"] == 1.0
    assert network.operating_point().bag_size == 8


def test_a_bundle_alone_takes_the_weights_that_came_with_the_package(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = copy_bundle("text_align", tmp_path)
    shipped = bundle_root("swift_mil") / "models" / "tiny.safetensors"
    with caplog.at_level(logging.WARNING):
        assert neighbor(alone, "swift_mil", "tiny.safetensors") == str(shipped)
    assert str(shipped) in caplog.text
    own = copy_bundle("swift_mil", tmp_path) / "models" / "tiny.safetensors"
    assert neighbor(alone, "swift_mil", "tiny.safetensors") == str(own)
    (tmp_path / "swift_mil" / "models" / "model.pt").touch()
    assert neighbor(alone, "swift_mil", "model.pt") == str(own.with_name("model.pt"))
    assert neighbor(alone, "cell_cls", "model.pt") == str(tmp_path / "cell_cls" / "models" / "model.pt")


def test_bundles_are_listed_with_their_folders() -> None:
    said = CliRunner().invoke(app, ["bundle", "list"]).stdout
    for facts in list_bundles():
        assert facts.name in said
        assert str(facts.root) in said.replace("\n", "")
    assert [facts.name for facts in list_bundles()] == ["cell_cls", "coloradv", "detection", "swift_mil", "text_align"]


def test_bundles_are_copied_and_nothing_is_replaced(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["bundle", "copy", "coloradv", "detection", "--out", str(tmp_path / "own")])
    assert run.exit_code == 0, run.output
    for name in ("coloradv", "detection"):
        copied = {path.relative_to(tmp_path / "own") for path in (tmp_path / "own" / name).rglob("*.json")}
        there = bundle_root(name)
        assert copied == {Path(name) / path.relative_to(there) for path in there.rglob("*.json")}
    assert (tmp_path / "own" / "detection" / "models" / "tiny.safetensors").is_file()
    note = tmp_path / "own" / "detection" / "mine.txt"
    note.write_text("mine")
    with pytest.raises(OutputError, match=r"own/detection exists already"):
        copy_bundle("detection", tmp_path / "own")
    assert note.read_text() == "mine"
    half = CliRunner().invoke(app, ["bundle", "copy", "swift_mil", "detection", "--out", str(tmp_path / "own")])
    assert half.exit_code != 0
    assert not (tmp_path / "own" / "swift_mil").exists(), "refused before any is copied"
    with pytest.raises(BundleError, match="unknown bundle 'detektion'"):
        copy_bundle("detektion", tmp_path)
    everything = CliRunner().invoke(app, ["bundle", "copy", "--out", str(tmp_path / "all")])
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [facts.name for facts in list_bundles()]
    assert everything.exit_code == 0
    shutil.rmtree(tmp_path / "all")
