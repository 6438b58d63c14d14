"""Batches: what is done is whole, and nothing else counts as done."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_screening import BOTH, FakeScreener, content, run, summary, write_json, write_notes
from findings_samples import make_findings

from stride_monai.findings import DISCLAIMER, Screened
from stride_monai.screening.batch import Batch, screen_batch
from stride_monai.screening.inputs import SlideInput


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("report.html", None),
        ("report.html", b""),
        ("report.html", b"<p>rep"),
        ("report.html", bytes(13)),
        ("findings.json", None),
        ("findings.json", b"\xff\xfe{"),
        ("findings.json", b"[" * 100_000),
        ("findings.json", b'{"schema_version": "9.0"}'),
        ("files.json", b"\xff"),
        ("files.json", None),
    ],
)
def test_what_is_lost_or_damaged_is_made_again(tmp_path: Path, name: str, damage: bytes | None) -> None:
    run(tmp_path, FakeScreener(), ("a", "b"), writers=BOTH)
    path = tmp_path / "out" / "a" / name
    whole = content(tmp_path / "out" / "a")
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    screener = FakeScreener()
    statuses = run(tmp_path, screener, ("a", "b"), writers=BOTH)
    if name == "files.json" and damage is not None:  # nobody knows any longer whose these files are
        assert statuses == ["failed", "ok"]
        assert path.read_bytes() == damage
        assert "files.json of the folder a in the output folder is damaged" in summary(tmp_path)[0]["reason"]
        path.rename(tmp_path / "damaged")  # as the message says
        assert run(tmp_path, screener, ("a", "b"), writers=BOTH) == ["ok", "ok"]
    else:
        assert statuses == ["ok", "ok"]
        assert screener.screened == ["a"]
        kept = {} if damage is None else {f"{path.stem} (2){path.suffix}": damage}  # a person may have changed it
        assert content(tmp_path / "out" / "a") == {**whole, **kept}


def test_a_file_that_was_not_asked_for_before_is_made(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a",), writers=BOTH) == ["ok"]
    assert screener.screened == ["a"]
    for fewer in (BOTH, {"findings": write_json}):
        assert run(tmp_path, screener, ("a",), writers=fewer) == ["ok"]
    assert screener.screened == ["a"], "all that is asked for is there"
    assert set(content(tmp_path / "out" / "a")) == {"files.json", "findings.json", "report.html"}


def test_a_writer_is_given_its_settings_and_where_the_slide_came_from(tmp_path: Path) -> None:
    given: list[object] = []

    def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
        given.append((screened.source.path, dict(settings)))
        return write_notes(screened, folder, settings)

    writers = {"findings": write_json, "notes": write, "others": write}
    run(tmp_path, FakeScreener(), ("a",), writers=writers, settings={"notes": {"language": "sv"}})
    path = tmp_path / "in" / "a.svs"
    assert given == [(path, {"language": "sv"}), (path, {})]
    assert str(tmp_path) not in (tmp_path / "out" / "a" / "findings.json").read_text()


@pytest.mark.parametrize("kind", ["folder", "fifo", "huge", "wrong types"])
def test_odd_findings_end_no_batch(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / "a" / "findings.json"
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    else:
        raw = json.loads(make_findings(cells=1).to_json())
        path.write_text(json.dumps(raw | {"score": "high", "disclaimer": DISCLAIMER, "slide": {"slide_id": ["a"]}}))
    assert run(tmp_path, FakeScreener(), ("a", "b")) == ["failed", "ok"]
    assert os.path.lexists(path)


def test_results_of_a_version_without_lists_are_ours(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",), writers=BOTH)
    folder = tmp_path / "out" / "a"
    (folder / "files.json").unlink()
    (folder / "cells.parquet").write_bytes(b"cells")
    (folder / "overlay.geojson.gz").write_bytes(b"overlay")
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a",), writers=BOTH) == ["ok"]
    assert not screener.screened, "they are whole"
    (folder / "report.html").unlink()
    assert run(tmp_path, screener, ("a",), writers=BOTH) == ["ok"]
    assert screener.screened == ["a"]
    assert set(content(folder)) == {"files.json", "findings.json", "report.html"}


def test_earlier_results_do_not_stand_beside_failed_and_come_back_unharmed(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",), writers=BOTH)
    folder, slide = tmp_path / "out" / "a", tmp_path / "in" / "a.svs"
    (folder / "notes.txt").write_text("mine")
    whole = content(folder)
    batch = Batch(FakeScreener(), tmp_path / "out", BOTH)  # type: ignore[arg-type]
    for _ in range(2):  # the second time nothing is left to set aside
        failed = screen_batch(batch, [SlideInput(slide, "a", problem="a.svs: no such file")])
        assert failed[0].status == "failed"
        assert not (folder / "findings.json").exists()
        assert not (folder / "report.html").exists()
        assert (folder / "notes.txt").read_text() == "mine"
        assert (folder / "earlier" / "findings.json").read_bytes() == whole["findings.json"]
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a",), writers=BOTH) == ["ok"]
    assert not screener.screened, "the slide is back, and its results are those of before"
    assert content(folder) == whole
    assert not (folder / "earlier").exists()


def test_new_results_take_the_place_of_those_set_aside(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",), writers=BOTH)
    slide, folder = tmp_path / "in" / "a.svs", tmp_path / "out" / "a"
    batch = Batch(FakeScreener(), tmp_path / "out", BOTH)  # type: ignore[arg-type]
    screen_batch(batch, [SlideInput(slide, "a", problem="a.svs: no such file")])
    (folder / "earlier" / "mine.txt").write_text("mine")
    assert run(tmp_path, FakeScreener("other"), ("a",), writers=BOTH) == ["ok"]
    assert set(content(folder)) == {"files.json", "findings.json", "report.html", "earlier/mine.txt"}


@pytest.mark.parametrize("at", ["findings.json", "report.html", "files.json"])
def test_a_disk_that_is_full_at_any_moment_leaves_nothing_that_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    real, full = os.replace, [True]

    def replace_file(source: Path, target: Path) -> None:
        if full[0] and Path(target).name == at and Path(target).parent.name == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_file)
    assert run(tmp_path, FakeScreener(), ("a", "b"), writers=BOTH) == ["failed", "ok"]
    assert "No space left" in summary(tmp_path)[0]["reason"]
    full[0] = False
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a", "b"), writers=BOTH) == ["ok", "ok"]
    assert screener.screened == ["a"]
    assert set(content(tmp_path / "out" / "a")) == {"files.json", "findings.json", "report.html"}
