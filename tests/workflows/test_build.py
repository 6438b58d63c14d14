"""A bundle that repeats another is made of it: the same bytes each time, with what its overlay changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import BundleError
from stride_monai.workflows.build import build_bundle

TRAIN = {"first": 1, "last": {"a": [1], "b": 2}, "run": ["$@first"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle beside its base."""
    files = {"LICENSE": {}, "configs/train.json": {"first": 3, "new": [0.5], "+last#a": [2], "last#c": "ü"}}
    written: dict[str, Any] = {"base/configs/train.json": TRAIN, "own/overlay.json": {"base": "base", "files": files}}
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "base" / "LICENSE").write_bytes(b"as it is\r\n")
    return tmp_path / "own"


def test_what_comes_from_the_base_is_made_and_made_once(root: Path) -> None:
    assert build_bundle(root) == [root / "LICENSE", root / "configs" / "train.json"]
    assert (root / "LICENSE").read_bytes() == b"as it is\r\n"
    made = (root / "configs" / "train.json").read_text(encoding="utf-8")
    wanted = {"first": 3, "new": [0.5], "last": {"a": [1, 2], "b": 2, "c": "ü"}, "run": ["$@first"]}
    assert made == json.dumps(wanted, indent=4, ensure_ascii=False) + "\n", "a new key follows the one before it"
    assert build_bundle(root) == []


def test_the_command_makes_what_was_changed_by_hand_anew(root: Path) -> None:
    build_bundle(root)
    (root / "LICENSE").write_text("mine")
    done = CliRunner().invoke(app, ["bundle", "build", "own", "--bundles", str(root.parent)])
    assert done.exit_code == 0, done.output
    assert "LICENSE" in done.output
    assert "train.json" not in done.output
    assert (root / "LICENSE").read_bytes() == b"as it is\r\n"


@pytest.mark.parametrize("name", ["overlay.json", "../base/LICENSE"])
def test_what_is_missing_is_named(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(BundleError, match=Path(name).name):
        build_bundle(root)
