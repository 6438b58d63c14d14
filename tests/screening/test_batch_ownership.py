"""Batches: what is not ours is never replaced or removed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_screening import FakeScreener, content, run, slides_in, summary, write_json, write_notes

from stride_monai.errors import OutputError, SlideError
from stride_monai.findings import Screened
from stride_monai.screening.batch import Batch, Tell, screen_batch
from stride_monai.screening.inputs import SlideInput


@pytest.mark.parametrize(
    "foreign",
    ["a/Slidedat.ini", "a/notes.txt", "a/findings.json", "a/files.json", "a/sub/x.dat", "a"],
)
def test_a_folder_that_has_a_slides_name_and_is_not_ours_stays(tmp_path: Path, foreign: str) -> None:
    """The slide fails by name before any work is done on it, and the others go on."""
    path = tmp_path / "out" / foreign
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"files": {}, "schema_version": "1.0"}')
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a", "b"), overwrite=True) == ["failed", "ok"]
    assert screener.screened == ["b"]
    assert path.read_bytes() == b'{"files": {}, "schema_version": "1.0"}'
    assert "a.svs: " in summary(tmp_path)[0]["reason"]
    assert "move it elsewhere" in summary(tmp_path)[0]["reason"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_somebody_put_among_the_results_stays(tmp_path: Path, overwrite: bool) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    folder = tmp_path / "out" / "a"
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text("mine")
    assert run(tmp_path, FakeScreener("other"), ("a",), overwrite=overwrite) == ["ok"]
    assert (folder / "notes.txt").read_text() == (folder / "sub" / "x").read_text() == "mine"
    assert json.loads((folder / "findings.json").read_text())["provenance"]["config_hash"] == "other"


def test_a_result_that_somebody_wrote_into_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    folder = tmp_path / "out" / "a"
    mine = (folder / "findings.json").read_text() + " looked at by me"
    (folder / "findings.json").write_text(mine)
    assert run(tmp_path, FakeScreener(), ("a",)) == ["ok"]
    assert (folder / "findings (2).json").read_text() == mine
    json.loads((folder / "findings.json").read_text())
    assert run(tmp_path, FakeScreener("other"), ("a",)) == ["ok"]
    assert not (folder / "findings (3).json").exists()


def test_a_result_that_somebody_wrote_into_and_that_was_set_aside_is_kept(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    folder = tmp_path / "out" / "a"
    mine = (folder / "findings.json").read_text() + " looked at by me"
    (folder / "findings.json").write_text(mine)
    good = FakeScreener("other")
    failing = FakeScreener("other")
    failing.screen = lambda *_: (_ for _ in ()).throw(SlideError("a is damaged", "scan it again"))  # type: ignore[method-assign]
    assert run(tmp_path, failing, ("a",)) == ["failed"]
    assert (folder / "earlier" / "findings.json").read_text() == mine
    assert run(tmp_path, good, ("a",)) == ["ok"]
    assert (folder / "earlier" / "findings (2).json").read_text() == mine


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_a_writer_never_replaces_what_is_not_ours(tmp_path: Path, kind: str) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    place, mine = tmp_path / "out" / "a" / "notes.txt", tmp_path / "mine.txt"
    mine.write_text("mine")
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to(mine)
    else:
        os.mkfifo(place)
    before = place.lstat()
    writers = {"findings": write_json, "notes": write_notes}
    assert run(tmp_path, FakeScreener("other"), ("a",), writers=writers) == ["failed"]
    assert "notes.txt" in summary(tmp_path)[0]["reason"]
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["summary.csv", "run.json", "outcomes.jsonl", ".lock"])
def test_another_tools_index_refuses_the_run_before_anything_is_done(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("slide,mean\na,1\n" if name.endswith("csv") else '{"run": 1}')
    before, screener = content(tmp_path / "out"), FakeScreener()
    with pytest.raises(OutputError, match=name):
        run(tmp_path, screener, ("a",))
    assert not screener.screened
    assert set(content(tmp_path / "out")) == {name, ".lock"}
    assert (tmp_path / "out" / name).read_bytes() == before[name]


def test_a_summary_that_somebody_edited_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a", "b"))
    path = tmp_path / "out" / "summary.csv"
    edited = path.read_text().replace(",ok,", ",ok,looked at by me")
    path.write_text(edited)
    notes: list[str] = []
    batch = Batch(FakeScreener(), tmp_path / "out", {"findings": write_json})  # type: ignore[arg-type]
    screen_batch(batch, slides_in(tmp_path / "in", "a", "b"), Tell(note=notes.append))
    assert (tmp_path / "out" / "summary (2).csv").read_text() == edited
    assert [row["reason"] for row in summary(tmp_path)] == ["", ""]
    assert "summary (2).csv" in notes[0]
    screen_batch(batch, slides_in(tmp_path / "in", "a", "b"), Tell(note=notes.append))
    assert len(notes) == 1
    assert not (tmp_path / "out" / "summary (3).csv").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.csv", b"\xef\xbb\xbfslide_id;file_name;status;mine\r\na;a.svs;ok;looked at\r\n"),
        ("run.json", b'{"run": '),
        ("run.json", b""),
        ("outcomes.jsonl", b"\0\0\0"),
    ],
)
def test_an_index_that_was_edited_or_damaged_is_kept_and_ends_no_run(tmp_path: Path, name: str, content: bytes) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    (tmp_path / "out" / name).write_bytes(content)
    assert run(tmp_path, FakeScreener(), ("a", "b")) == ["ok", "ok"]
    stem, suffix = name.split(".")
    assert (tmp_path / "out" / f"{stem} (2).{suffix}").read_bytes() == content
    assert len(summary(tmp_path)) == 2


def test_a_lock_that_somebody_removed_ends_no_run(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".lock"

    @dataclass
    class Clearing(FakeScreener):
        def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
            lock.unlink(missing_ok=True)
            return super().screen(item, progress)

    assert run(tmp_path, Clearing(), ("a", "b")) == ["ok", "ok"]
    assert lock.exists()


def placed(tmp_path: Path, where: str) -> tuple[Path, SlideInput]:
    """An output folder, and a slide that results would come to lie on."""
    home = tmp_path / "home"
    (home / "A").mkdir(parents=True)
    (home / "A" / "level-0.dcm").write_bytes(b"level 0")
    (home / "A" / "level-1.dcm").write_bytes(b"level 1")
    (home / "m").mkdir()
    (home / "m" / "Data0000.dat").write_bytes(b"pixels")
    (home / "m.mrxs").write_bytes(b"mirax")
    dicom, mirax = SlideInput(home / "A" / "level-0.dcm", "A"), SlideInput(home / "m.mrxs", "m")
    if where == "beside, by another name":
        (tmp_path / "link").symlink_to(home)
        return tmp_path / "link", dicom
    if where == "by way of ..":
        return home / "A" / ".." / ".." / "home", dicom
    if where == "summary.csv":
        (home / "summary.csv").write_bytes(b"a slide")
        return home, SlideInput(home / "summary.csv", "s")
    if where == "a slide in the folder of results":
        (home / "x").mkdir()
        (home / "x" / "x.svs").write_bytes(b"a slide")
        return home, SlideInput(home / "x" / "x.svs", "x")
    if where == "a link to the slide in the folder of results":
        (home / "x").mkdir()
        (home / "x" / "x.svs").symlink_to(home / "m.mrxs")
        return home, SlideInput(home / "x" / "x.svs", "x")
    if where == "hard link":
        os.link(home / "m.mrxs", home / "run.json")
        return home, SlideInput(home / "m.mrxs", "n")
    return {
        "beside the folder of a DICOM slide": (home, dicom),
        "in the folder of a DICOM slide": (home / "A", dicom),
        "below the folder of a DICOM slide": (home / "A" / "results", dicom),
        "beside a MIRAX slide": (home, mirax),
        "in the folder of a MIRAX slide": (home / "m", SlideInput(home / "m.mrxs", "other")),
    }[where]


@pytest.mark.parametrize(
    "where",
    [
        "beside the folder of a DICOM slide",
        "in the folder of a DICOM slide",
        "below the folder of a DICOM slide",
        "beside a MIRAX slide",
        "in the folder of a MIRAX slide",
        "beside, by another name",
        "by way of ..",
        "summary.csv",
        "a slide in the folder of results",
        "a link to the slide in the folder of results",
        "hard link",
    ],
)
def test_results_are_never_written_on_or_among_the_files_of_a_slide(tmp_path: Path, where: str) -> None:
    out, item = placed(tmp_path, where)
    before, screener = content(tmp_path), FakeScreener()
    with pytest.raises(OutputError, match="choose another"):
        screen_batch(Batch(screener, out, {"findings": write_json}, overwrite=True), [item])  # type: ignore[arg-type]
    assert not screener.screened
    assert content(tmp_path) == before


def test_slides_may_lie_beside_their_results(tmp_path: Path) -> None:
    items = slides_in(tmp_path / "in", "a", "b")
    batch = Batch(FakeScreener(), tmp_path / "in", {"findings": write_json}, inputs=[tmp_path / "in"])  # type: ignore[arg-type]
    assert [outcome.status for outcome in screen_batch(batch, items)] == ["ok", "ok"]
    assert (tmp_path / "in" / "a.svs").read_bytes() == b"a"
