"""A bundle's configuration files in another order are the same configuration, or are refused by name."""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from stride_monai.errors import ConfigError
from stride_monai.workflows.locate import bundle_root
from stride_monai.workflows.overlays import NEEDS, OVER, check_order
from stride_monai.workflows.workflow import StrideWorkflow

BUNDLES = ("cell_cls", "coloradv", "detection", "swift_mil", "text_align")


def files(bundle: str, *names: str) -> list[str]:
    return [str(bundle_root(bundle) / "configs" / f"{name}.json") for name in names]


def overlays(bundle: str) -> dict[str, list[str]]:
    found = {path.stem: json.loads(path.read_text()) for path in (bundle_root(bundle) / "configs").glob("*.json")}
    return {name: content[OVER] for name, content in sorted(found.items()) if OVER in content}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_order_that_is_taken_is_the_same_configuration(bundle: str) -> None:
    draw, over = random.Random(0), overlays(bundle)
    assert {"tiny", "evaluate", "multi_gpu_train"} <= set(over)
    taken = 0
    for base in ("train", "inference"):
        names = [name for name, below in over.items() if base in below]
        for _ in range(8):
            chosen = [base, *draw.sample(names, min(len(names), draw.choice([1, 2, 3])))]
            results = []
            for order in permutations(chosen):
                try:
                    check_order(files(bundle, *order))
                except ConfigError:
                    continue
                config = ConfigParser.load_config_files(files(bundle, *order))
                config.pop(OVER)
                config.pop(NEEDS, None)
                config["imports"] = sorted(config["imports"])
                results.append(config)
            assert all(result == results[0] for result in results), chosen
            taken += bool(results)
    assert taken >= 4


@pytest.mark.parametrize(
    ("bundle", "names", "said"),
    [
        (
            "cell_cls",
            "train evaluate tiny",
            "evaluate.json comes after tiny.json: give train.json, tiny.json, evaluate",
        ),
        ("cell_cls", "tiny train", "tiny.json comes after train.json: give train.json, tiny.json"),
        ("cell_cls", "tiny", "tiny.json is laid over train.json or inference.json or crops.json"),
        ("cell_cls", "inference evaluate", "evaluate.json is laid over train.json: give that file before it"),
        (
            "cell_cls",
            "train semi_supervised fixmatch crest",
            "fixmatch.json and crest.json cannot go together: both set 'method'",
        ),
        (
            "cell_cls",
            "train tiny fixmatch evaluate",
            "fixmatch.json needs semi_supervised.json: give train.json, tiny.json, semi_supervised.json, fixmatch",
        ),
        ("cell_cls", "train moco self_supervised", "moco.json comes after self_supervised.json"),
        ("cell_cls", "train self_supervised", "give after it one of dino.json, moco.json, simclr.json"),
        ("cell_cls", "train inference", "train.json and inference.json cannot go together"),
        ("detection", "train fcos tiny", "fcos.json comes after tiny.json: give train.json, tiny.json, fcos.json"),
        ("detection", "train tiny_fcos fcos", "tiny_fcos.json comes after fcos.json"),
        ("detection", "train extract", "extract.json is laid over inference.json"),
        ("swift_mil", "train cheng2021 two_stage", "cheng2021.json comes after two_stage.json"),
        ("swift_mil", "train multi_gpu_train evaluate", "multi_gpu_train.json and evaluate.json cannot go together"),
        ("swift_mil", "train calibrate evaluate", "calibrate.json comes after evaluate.json"),
    ],
)
def test_another_order_is_refused_with_the_right_one(bundle: str, names: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StrideWorkflow(files(bundle, *names.split()), logging_file=False)
    assert said in str(caught.value)


def test_files_of_ones_own_and_exported_ones_stand_anywhere(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"batch_size": 4}')
    whole = ConfigParser()
    whole.read_config(files("cell_cls", "train", "tiny", "evaluate"))
    exported = tmp_path / "exported.json"
    ConfigParser.export_config_file(whole.get(), str(exported))
    meta = {"meta_file": str(bundle_root("cell_cls") / "configs" / "metadata.json"), "logging_file": False}
    for order in ([*files("cell_cls", "train"), str(own)], [str(exported)], [str(exported), str(own)]):
        made = StrideWorkflow(order, **meta, bundle_root=str(bundle_root("cell_cls")))
        assert made.parser["batch_size"] == (4 if str(own) in order else whole["batch_size"])
    check_order([str(own), *files("cell_cls", "train", "tiny")])
    check_order([str(exported), *files("cell_cls", "multi_gpu_train")])
