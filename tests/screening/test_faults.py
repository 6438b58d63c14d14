"""Faults by the command itself, a few of those of ``benchmarks/faults.py``: it finishes, and no slide costs another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mutated_slides import write_mutants
from toy_bundles import screening_home
from troubled_runs import killed_run
from watched_runs import contents, end_of, index, small_slides, watched, wrong_in

from stride_monai.ownership import LIST_NAME, FileList, Written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at as Linux shows them"),
]


@pytest.fixture(scope="module")
def cheap(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Words of a command whose networks cost little."""
    home = screening_home(tmp_path_factory.mktemp("toys") / "home")
    return ["--bundles", home, "--profile", "paper", "--device", "cpu"]


def test_damaged_slides_end_as_screened_or_with_a_reason(cheap: list[object], tmp_path: Path) -> None:
    known = write_mutants(tmp_path, range(0, 27 * 28, 28), seed=1)  # each format once, with one damage after the other
    limits = ["--slide-timeout", 60, "--slide-memory", 3, "--writers", "findings", *cheap]
    ran = watched([tmp_path, tmp_path / "mpp.csv", "--out", tmp_path / "out", *limits], installed=False)
    assert ran.status == 1, ran.wrong
    assert not ran.left
    assert [line for line in ran.wrong.splitlines() if not line.startswith(("failed ", "note "))] == []
    run = index(tmp_path / "out")
    assert run["run"]["finished"]
    assert {one["slide_id"] for one in run["slides"]} >= set(known)  # a damaged file of a series may stand alone
    ends = {one["slide_id"]: (end_of(one), one["reason"]) for one in run["slides"]}
    assert not {name: (known[name], end) for name, end in ends.items() if end[0] not in ("ok", "failed")}
    assert {end for end, _ in ends.values()} == {"ok", "failed"}
    assert all(reason for end, reason in ends.values() if end == "failed")


def test_a_batch_that_is_killed_ends_as_one_that_nobody_disturbed(cheap: list[object], tmp_path: Path) -> None:
    small_slides(tmp_path / "in", 3)
    words = [tmp_path / "in", *cheap, "--out"]
    ran = watched([*words, tmp_path / "whole"], installed=False)
    assert ran.status == 0, ran.wrong
    whole = contents(tmp_path / "whole")
    run = killed_run([*words, tmp_path / "out"], tmp_path / "out", whole, seed=4, most=3)
    assert len(run["kills"]) >= 1
    for kill in run["kills"]:
        assert (kill["left"], kill["lost"], kill["twice"], kill["halves"]) == (0, 0, 0, 0), json.dumps(kill)
    assert (run["status"], run["finished"], run["identical"], run["leftovers"]) == (0, True, True, [])


def test_a_list_that_says_it_is_not_complete_is_no_half_written_file(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    files = {"a.csv": Written(1, "0" * 64)}
    FileList(files, "slide").write(folder)
    true = {"slide/a.csv": b"a", f"slide/{LIST_NAME}": (folder / LIST_NAME).read_bytes()}
    (folder / "a.csv").write_bytes(b"")
    assert wrong_in(tmp_path, true) == ["slide/a.csv"]
    (folder / "a.csv").write_bytes(b"a")
    FileList(files, "slide", complete=False).write(folder)
    assert wrong_in(tmp_path, true) == []
    FileList({}, "slide").write(folder)
    assert wrong_in(tmp_path, true) == [f"slide/{LIST_NAME}"]
