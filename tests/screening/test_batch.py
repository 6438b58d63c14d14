"""Batches: the index, resuming, and what happens when things break. The networks are stood in for."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from reports_samples import make_findings

from stride_monai.errors import OutputError, SlideError
from stride_monai.files import fingerprint, replacing
from stride_monai.findings import DISCLAIMER, Described, Findings, Pictures, Screened, SlideSource, SlideStatus
from stride_monai.inferers.describe import Explainer
from stride_monai.run_index import LOG_NAME
from stride_monai.screening.batch import Batch, screen_batch
from stride_monai.screening.choices import Choice
from stride_monai.screening.inputs import SlideInput


@dataclass
class FakeScreener:
    """Findings without pixels: files named bad* are unreadable, files named crash* meet a defect."""

    settings: str = "settings"
    screened: list[str] = field(default_factory=list)
    models: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            weights={"detection": "ff"},
            detector_choice=Choice("fcos", "asked for"),
            classifier_choice=Choice("coloradv", "default"),
            explainer=Explainer(Described(False, "no weights")),
            note="",
            operating_point=SimpleNamespace(holds=True),
            reranker=None,
            origins={},
        )
    )

    def config_hash(self, item: SlideInput) -> str:
        return self.settings

    def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
        self.screened.append(item.slide_id)
        if item.slide_id.startswith("bad"):
            raise SlideError(f"{item.path.name} is damaged", "scan it again")
        if item.slide_id.startswith("crash"):
            raise ZeroDivisionError("division\nby zero")
        if item.slide_id.startswith("stop"):
            raise KeyboardInterrupt
        if progress is not None:
            progress(1, 1)
        base = make_findings(cells=1)
        slide = replace(base.slide, slide_id=item.slide_id, fingerprint=fingerprint(item.path))
        provenance = replace(base.provenance, config_hash=self.settings)
        findings = replace(base, slide=slide, provenance=provenance)
        return Screened(findings, Pictures(b"", 1.0, 0.5), {"detect": 0.1}, SlideSource(item.path))


def write_json(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    path = folder / "findings.json"
    path.write_text(screened.findings.to_json())
    return path


def broken_writer(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    (folder / "half").write_text("half")
    raise OSError(28, "No space left on device")


def slides_in(folder: Path, *names: str) -> list[SlideInput]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.svs").write_bytes(name.encode())
    return [SlideInput(folder / f"{name}.svs", name) for name in names]


def run(tmp_path: Path, screener: FakeScreener, names: tuple[str, ...], **options: object) -> list[SlideStatus]:
    batch = Batch(screener, tmp_path / "out", options.pop("writers", {"findings": write_json}), **options)  # type: ignore[arg-type]
    return [outcome.status for outcome in screen_batch(batch, slides_in(tmp_path / "in", *names))]


def summary(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_bad_slide_and_a_defect_leave_the_others_unharmed(tmp_path: Path) -> None:
    statuses = run(tmp_path, FakeScreener(), ("a", "bad", "crash", "b"))
    assert statuses == ["ok", "failed", "failed", "ok"]
    rows = summary(tmp_path)
    assert [row["slide_id"] for row in rows] == ["a", "bad", "crash", "b"]
    assert rows[1]["reason"] == "bad.svs is damaged: scan it again"
    assert "unexpected ZeroDivisionError: division by zero" in rows[2]["reason"]
    assert "Traceback" in (tmp_path / "out" / "errors" / "crash.txt").read_text()
    index = json.loads((tmp_path / "out" / "run.json").read_text())
    assert index["run"]["finished"] is True
    assert index["run"]["detector"] == {"name": "fcos", "why": "asked for"}
    assert index["run"]["classifier"] == {"name": "coloradv", "why": "default"}
    assert index["run"]["descriptions"] == {"made": False, "why": "no weights", "threshold": None}
    assert index["counts"]["failed"] == 2
    assert Findings.from_json((tmp_path / "out" / "b" / "findings.json").read_text()).slide.slide_id == "b"


def test_a_killed_run_leaves_a_true_index_and_is_taken_up(tmp_path: Path) -> None:
    first = FakeScreener()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first, ("a", "b", "stop", "c"))
    assert [row["slide_id"] for row in summary(tmp_path)] == ["a", "b"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["run"]["finished"] is False
    second = FakeScreener()
    assert run(tmp_path, second, ("a", "b", "c")) == ["ok", "ok", "ok"]
    assert second.screened == ["c"]
    assert [row["resumed"] for row in summary(tmp_path)] == ["True", "True", "False"]


def test_other_settings_another_file_or_overwrite_screen_again(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    for screener, options in (
        (FakeScreener("other"), {}),
        (FakeScreener("other"), {"overwrite": True}),
    ):
        run(tmp_path, screener, ("a",), **options)
        assert screener.screened == ["a"]
    (tmp_path / "in" / "a.svs").write_bytes(b"another slide of this name")
    third = FakeScreener("other")
    batch = Batch(third, tmp_path / "out", {"findings": write_json})  # type: ignore[arg-type]
    screen_batch(batch, [SlideInput(tmp_path / "in" / "a.svs", "a")])
    assert third.screened == ["a"]


def test_a_slide_is_complete_or_absent(tmp_path: Path) -> None:
    statuses = run(tmp_path, FakeScreener(), ("a",), writers={"findings": write_json, "broken": broken_writer})
    assert statuses == ["failed"]
    assert "No space left" in summary(tmp_path)[0]["reason"]
    assert not (tmp_path / "out" / "a").exists()
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_half_written_findings_file_is_not_done(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    path = tmp_path / "out" / "a" / "findings.json"
    path.write_text(path.read_text()[:200])
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a",)) == ["ok"]
    assert screener.screened == ["a"]


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Told by the form of the name, which holds the process: others may call their own files ``.name.part``."""
    out = tmp_path / "out"
    host = replacing_name(tmp_path).split("-")[1]
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone, living, elsewhere = (
        f".stride_monai-{of}-{process}-0123abcd-4567abcd.part"
        for of, process in ((host, dead.pid), (host, os.getppid()), ("0" * 8, 1))
    )
    (out / gone).mkdir(parents=True)
    (out / gone / "findings.json").write_text("{")
    for name in (living, elsewhere, ".run.json.x2.part", ".download.part"):
        (out / name).write_text("{")
    (out / ".stage.part").mkdir()
    run(tmp_path, FakeScreener(), ("a",))
    assert {path.name for path in out.glob(".*.part")} == {
        living,
        elsewhere,
        ".run.json.x2.part",
        ".download.part",
        ".stage.part",
    }


def replacing_name(folder: Path) -> str:
    with replacing(folder / "x") as temporary:
        return temporary.name


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(OutputError, match="another run"):
        run(tmp_path, FakeScreener(), ("a",))


def test_an_unwritable_output_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError, match="choose another --out"):
        run(tmp_path, FakeScreener(), ("a",))


# What is not ours is never replaced or removed.


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def write_notes(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    (folder / "notes.txt").write_text("by a plug-in")
    return folder / "notes.txt"


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
    screen_batch(batch, slides_in(tmp_path / "in", "a", "b"), on_note=notes.append)
    assert (tmp_path / "out" / "summary (2).csv").read_text() == edited
    assert [row["reason"] for row in summary(tmp_path)] == ["", ""]
    assert "summary (2).csv" in notes[0]
    screen_batch(batch, slides_in(tmp_path / "in", "a", "b"), on_note=notes.append)
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


# What is done is whole.


def write_report(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    (folder / "report.html").write_text("<p>report</p>")
    return folder / "report.html"


BOTH = {"findings": write_json, "report": write_report}


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


@dataclass
class Mended(FakeScreener):
    """Meets the defect no longer."""

    def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
        screened = super().screen(replace(item, slide_id="fine"), progress)
        slide = replace(screened.findings.slide, slide_id=item.slide_id)
        return replace(screened, findings=replace(screened.findings, slide=slide))


@pytest.mark.parametrize("then", ["succeeds", "fails otherwise"])
def test_a_traceback_does_not_outlive_its_cause(tmp_path: Path, then: str) -> None:
    run(tmp_path, FakeScreener(), ("crash",))
    log = tmp_path / "out" / "errors" / "crash.txt"
    assert str(tmp_path / "in") not in log.read_text()
    mine = log.with_name("notes.txt")
    mine.write_text("mine")
    if then == "succeeds":
        assert run(tmp_path, Mended(), ("crash",)) == ["ok"]
    else:
        batch = Batch(FakeScreener(), tmp_path / "out", BOTH)  # type: ignore[arg-type]
        screen_batch(batch, [SlideInput(tmp_path / "in" / "crash.svs", "crash", problem="gone")])
    assert not log.exists()
    assert mine.read_text() == "mine"


def test_a_traceback_takes_nobodys_place(tmp_path: Path) -> None:
    log = tmp_path / "out" / "errors" / "crash.txt"
    log.parent.mkdir(parents=True)
    log.write_text("my notes on this slide")
    run(tmp_path, FakeScreener(), ("crash", "a"))
    assert log.read_text() == "my notes on this slide"
    assert "Traceback" in log.with_name("crash (2).txt").read_text()
    assert summary(tmp_path)[0]["reason"].endswith("errors/crash (2).txt")
    assert run(tmp_path, Mended(), ("crash", "a")) == ["ok", "ok"]
    assert log.read_text() == "my notes on this slide"


def test_errors_that_cannot_be_noted_end_no_batch(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "errors").write_text("a file")
    assert run(tmp_path, FakeScreener(), ("crash", "a")) == ["failed", "ok"]
    assert "its traceback is lost" in summary(tmp_path)[0]["reason"]


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


# Shares and files that are open elsewhere.


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("chmod", errno.EPERM),
        ("chmod", errno.ENOTSUP),
        ("fchmod", errno.EPERM),
        ("fsync", errno.EINVAL),
        ("fsync", errno.ENOTSUP),
        ("fsync", errno.ENOSYS),
    ],
)
def test_a_share_that_lacks_a_call_can_hold_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    assert run(tmp_path, FakeScreener(), ("a", "crash"), writers=BOTH) == ["ok", "failed"]
    assert run(tmp_path, FakeScreener("other"), ("a",), writers=BOTH) == ["ok"]


def test_a_disk_that_fails_is_no_share_that_lacks_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fail(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().name == "report.html":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fail)
    assert run(tmp_path, FakeScreener(), ("a",), writers=BOTH) == ["failed"]
    assert not (tmp_path / "out" / "a" / "findings.json").exists()


@pytest.mark.parametrize("times", [1, 3, 10**6])
@pytest.mark.parametrize("name", ["summary.csv", "run.json"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EBUSY])
def test_an_index_that_is_open_elsewhere_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, times: int, code: int
) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    real, left = os.replace, [times]

    def busy(source: Path, target: Path) -> None:
        if Path(target).name == name and left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr("stride_monai.files._PATIENCE", (0.0,) * 4)
    notes: list[str] = []
    batch = Batch(FakeScreener(), tmp_path / "out", BOTH)  # type: ignore[arg-type]
    outcomes = screen_batch(batch, slides_in(tmp_path / "in", "a", "b", "c"), on_note=notes.append)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    stem, suffix = name.split(".")
    there = tmp_path / "out" / (name if times < 10**6 else f"{stem} (2).{suffix}")
    assert ("\nc," if suffix == "csv" else '"slide_id": "c"') in there.read_text()
    assert ["(2)" in note for note in notes] == [True] * (times == 10**6)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_without_locks_a_file_says_who_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def none(self: object, *args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", none)
    notes: list[str] = []
    batch = Batch(FakeScreener(), tmp_path / "out", BOTH)  # type: ignore[arg-type]
    screen_batch(batch, slides_in(tmp_path / "in", "a"), on_note=notes.append)
    assert "without locks" in notes[0]
    sign = tmp_path / "out" / ".stride_monai.running"
    assert not sign.exists()
    dead = subprocess.Popen(["true"])
    dead.wait()
    for process, host, free in ((os.getppid(), os.uname().nodename, False), (dead.pid, "elsewhere", False)):
        sign.write_text(json.dumps({"host": host, "process": process}))
        with pytest.raises(OutputError, match=f"another run.*process {process} on {host}"):
            run(tmp_path, FakeScreener(), ("a",))
        assert sign.exists() is not free
    sign.write_text(json.dumps({"host": os.uname().nodename, "process": dead.pid}))
    assert run(tmp_path, FakeScreener(), ("a",)) == ["ok"]


def test_an_output_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    @dataclass
    class Vanishing(FakeScreener):
        def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
            if item.slide_id in {"b", "crash-b"}:
                shutil.rmtree(tmp_path / "out")
            return super().screen(item, progress)

    for name in ("b", "crash-b"):
        screener = Vanishing()
        with pytest.raises(OutputError, match="has vanished"):
            run(tmp_path, screener, ("a", name, "c"))
        assert screener.screened == ["a", name]
        assert not (tmp_path / "out").exists()


# The index.


def test_a_run_that_is_killed_outright_has_noted_every_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index itself is written when it is time; the log at once."""
    monkeypatch.setattr("stride_monai.run_index._SHARE", 1e9)
    monkeypatch.setattr("stride_monai.screening.batch._finish_early", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeScreener(), ("a", "bad", "stop"))
    lines = (tmp_path / "out" / LOG_NAME).read_text().splitlines()[1:]
    assert [json.loads(line)["status"] for line in lines] == ["ok", "failed"]
    assert [row["slide_id"] for row in summary(tmp_path)] == ["a"], "written with the first slide, then when it is time"
    monkeypatch.undo()
    assert run(tmp_path, FakeScreener(), ("a", "b")) == ["ok", "ok"]
    assert not (tmp_path / "out" / LOG_NAME).exists()
    assert len(summary(tmp_path)) == 2


def test_the_index_is_not_made_anew_for_every_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stride_monai.run_index._SHARE", 1e9)
    real, count = os.replace, [0]

    def counting(source: Path, target: Path) -> None:
        count[0] += Path(target).name == "run.json"
        real(source, target)

    monkeypatch.setattr(os, "replace", counting)
    run(tmp_path, FakeScreener(), tuple(f"bad{number}" for number in range(50)))
    assert count[0] == 2  # with the first slide and at the end
    assert len(summary(tmp_path)) == 50
