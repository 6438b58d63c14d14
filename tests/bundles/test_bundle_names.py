"""What the bundles' JSON names: what rooms export, and parts of a configuration by name."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
FILES = sorted(path for path in BUNDLES.glob("*/configs/*.json") if path.name != "metadata.json")


def texts(value: Any) -> Iterator[str]:
    """Every key and text of a configuration, at any depth."""
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else ():
        yield from texts(item)


@pytest.mark.parametrize("bundle", sorted({path.parts[-3] for path in FILES}))
def test_every_name_of_ours_is_one_that_a_room_exports(bundle: str) -> None:
    """Then a module may move without breaking the configurations that groups have copied."""
    rooms, named = set(), set()
    for path in FILES:
        if path.parts[-3] != bundle:
            continue
        for text in texts(json.loads(path.read_text())):
            if text.startswith("$import stride_monai"):
                whole = re.fullmatch(r"\$import stride_monai\.(\w+) as \1", text)
                assert whole, f"{path.name}: {text}"
                rooms.add(whole[1])
            elif text.startswith("stride_monai."):
                assert text.count(".") == 2, f"{path.name}: {text} is behind a room"
                named.add(tuple(text.split(".")[1:]))
            elif text.startswith("$"):
                named |= {(room, name) for room, name in re.findall(r"(?<![\w.@#])(\w+)\.(\w+)", text) if room in rooms}
    assert named
    for room, name in sorted(named):
        module = importlib.import_module(f"stride_monai.{room}")
        assert name in module.__all__, f"stride_monai.{room} exports no {name}"
        # A module of that name would take its place in the room as soon as anybody imports it.
        assert importlib.util.find_spec(f"stride_monai.{room}.{name}") is None, f"{room}.{name} is a module, too"
        assert getattr(module, name) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join((path.parts[-3], path.stem)))
def test_parts_are_named_not_counted_and_programs_are_functions(path: Path) -> None:
    config = json.loads(path.read_text())
    for text in texts(config):
        assert not re.search(r"(#|::)\d+\b", text), f"{text} counts in a list"
        assert not re.search(r"\blambda\b|__import__|\bfor\b", text), f"{text} is a program: give it a name"
        assert not text.startswith("$") or text.count(" if ") <= 1, f"{text} is a program: give it a name"


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join((path.parts[-3], path.stem)))
def test_handlers_have_names(path: Path) -> None:
    config = json.loads(path.read_text())
    lists = [value for key, value in config.items() if key.endswith("handlers")]
    lists += [part["handlers"] for part in config.values() if isinstance(part, dict) and "handlers" in part]
    assert all(re.fullmatch(r"%\w+", entry) for handlers in lists for entry in handlers), lists
