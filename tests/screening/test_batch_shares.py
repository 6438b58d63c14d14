"""Batches on shares that lack calls, and among files that are open elsewhere or vanish."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_screening import BOTH, FakeScreener, run, slides_in
from filelock import FileLock

from stride_monai.errors import OutputError
from stride_monai.findings import Screened
from stride_monai.screening.batch import Batch, Tell, screen_batch
from stride_monai.screening.inputs import SlideInput


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
    outcomes = screen_batch(batch, slides_in(tmp_path / "in", "a", "b", "c"), Tell(note=notes.append))
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
    screen_batch(batch, slides_in(tmp_path / "in", "a"), Tell(note=notes.append))
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
