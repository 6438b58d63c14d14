"""Batches: the index, resuming, and what happens when things break. The networks are stood in for."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_screening import BOTH, FakeScreener, broken_writer, run, slides_in, summary, write_json
from filelock import FileLock

from stride_monai.errors import OutputError
from stride_monai.files import _temporary_name, replacing
from stride_monai.findings import Findings, Screened
from stride_monai.runs import Ended, Job, attempt
from stride_monai.runs.jobs import Part, T, unheard
from stride_monai.screening.batch import Batch, run_slides, screen_batch
from stride_monai.screening.inputs import SlideInput


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


def test_a_file_that_cannot_be_written_is_named_by_its_slide(tmp_path: Path) -> None:
    """Not by the temporary folder that it was to lie in."""

    def full(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
        raise OutputError(f"cannot write {folder.absolute() / 'report.html'} (File too large)", "check the disk space")

    assert run(tmp_path, FakeScreener(), ("a",), writers={"report": full}) == ["failed"]
    assert summary(tmp_path)[0]["reason"] == "cannot write a/report.html (File too large): check the disk space"


def test_a_run_killed_in_its_first_write_to_a_slides_folder_costs_no_slide(tmp_path: Path) -> None:
    """The folder holds a temporary file alone, which is nobody else's."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    half = tmp_path / "out" / "a" / _temporary_name().replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    half.parent.mkdir(parents=True)
    half.write_text("{")
    assert run(tmp_path, FakeScreener(), ("a",)) == ["ok"]
    assert {path.name for path in half.parent.iterdir()} == {"findings.json", "files.json"}


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


def elsewhere(jobs: Sequence[Job[T]], on_part: Part = unheard) -> Generator[Ended[T], None, None]:
    """A runner that does the jobs where only what can be pickled comes, and in another order."""
    for job in reversed(jobs):
        yield attempt(pickle.loads(pickle.dumps(job)))


def test_another_runner_screens_the_same(tmp_path: Path) -> None:
    items = slides_in(tmp_path / "in", "a", "bad", "b")
    batch = Batch(FakeScreener(), tmp_path / "out", {"findings": write_json})  # type: ignore[arg-type]
    outcomes = run_slides(batch, items, batch.out, runner=elsewhere)
    assert {one.slide_id: one.status for one in outcomes} == {"a": "ok", "bad": "failed", "b": "ok"}
    assert [row["slide_id"] for row in summary(tmp_path)] == ["b", "bad", "a"], "as they ended"
    assert run(tmp_path, FakeScreener(), ("a", "b")) == ["ok", "ok"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(OutputError, match="another run"):
        run(tmp_path, FakeScreener(), ("a",))


def test_an_unwritable_output_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError, match="choose another --out"):
        run(tmp_path, FakeScreener(), ("a",))


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
