"""The operating point as a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.errors import ConfigError
from stride_monai.operating_point import (
    ChosenOn,
    HoldsFor,
    OperatingPointFile,
    Share,
    read_operating_point,
    write_operating_point,
)

SHARES = st.floats(0, 1)


def make_point(threshold: float = 0.3, mpp: tuple[float, float] | None = (0.25, 0.5)) -> OperatingPointFile:
    share = Share(0.95, 0.9, 0.98, 95, 100)
    held = HoldsFor("swift_mil", {"swift_mil": "aa" * 32}, "bb" * 32, 256, 1.0, 0.5, mpp)
    return OperatingPointFile(
        threshold=threshold,
        rule="conformal",
        target=0.95,
        confidence=0.95,
        sensitivity=share,
        specificity=share,
        chosen_on=ChosenOn(200, 100, 100, "cc" * 32, left_out={"without a score": 2}),
        holds_for=held,
        date="2026-11-29",
        others={"plain": {"threshold": 0.4, "sensitivity": 0.95, "specificity": 0.7}},
    )


@given(SHARES, st.none() | st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)))
def test_it_is_read_as_it_was_written_to_the_last_bit(threshold: float, mpp: tuple[float, float] | None) -> None:
    point = make_point(threshold, mpp)
    assert OperatingPointFile.from_json(point.to_json()) == point
    assert OperatingPointFile.from_json(point.to_json()).to_json() == point.to_json()


def test_an_older_file_was_set_in_float32() -> None:
    raw = json.loads(make_point().to_json())
    for name in ("precision", "int8"):
        raw["holds_for"].pop(name)
    assert OperatingPointFile.from_json(json.dumps(raw | {"schema_version": "1.0"})).holds_for == make_point().holds_for


def test_a_file_in_a_folder_with_a_space(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "操作点.json"
    write_operating_point(path, make_point())
    assert read_operating_point(path) == make_point()
    assert json.loads(path.read_text())["disclaimer"].startswith("Research use only")
    with pytest.raises(ConfigError, match=r"nowhere.json cannot be read \(No such file"):
        read_operating_point(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": "0.5"},
        {"threshold": None},
        {"threshold": float("nan")},
        {"threshold": 1.5},
        {"threshold": True},
        {"target": 0},
        {"rule": "best"},
        {"sensitivity": 0.95},
        {"sensitivity": {"value": 0.5}},
        {"holds_for": {"bag_size": 2.5}},
        {"holds_for": {"crop_mpp": "0.5"}},
        {"holds_for": {"weights": {"swift_mil": 3}}},
        {"holds_for": {"precision": None}},
        {"holds_for": {"int8": None}},
        {"holds_for": []},
        {"unknown": 1},
        {"schema_version": "2.0"},
        {"schema_version": None},
    ],
)
def test_what_is_no_operating_point_is_refused(changes: dict[str, Any]) -> None:
    raw = {**json.loads(make_point().to_json()), **changes}
    with pytest.raises(ConfigError, match=r"op.json is .*: make it by stride-monai operating-point"):
        OperatingPointFile.from_json(json.dumps(raw), "op.json")


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "[" * 100_000, '{"schema_version": "1.0"}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no operating point"):
        OperatingPointFile.from_json(text)


def test_differences_are_of_what_both_know() -> None:
    held = make_point().holds_for
    assert held.differences(held) == held.differences(HoldsFor()) == HoldsFor().differences(held) == []
    assert held.differences(replace(held, bag_size=64)) == ["K 64, it holds for 256"]
    assert held.differences(replace(held, tile_mpp=0.5, crop_mpp=0.25)) == [
        "um/px of tiles 0.5, it holds for 1",
        "um/px of crops 0.25, it holds for 0.5",
    ]
