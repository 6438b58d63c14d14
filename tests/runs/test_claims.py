"""Claims: one process at a time, by locks or where there are none by files; what a process that ended leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from run_toys import toys

from stride_monai.errors import OutputError
from stride_monai.runs import JobClaims, Shared, claims
from stride_monai.runs.claims import InUseError


@pytest.fixture(params=["locks", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with jobs, on a file system with locks or without."""

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param == "files":
        monkeypatch.setattr(FileLock, "acquire", none)
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.02)
    return tmp_path


def test_a_job_is_one_processs_until_it_lets_go(folder: Path) -> None:
    mine, others = JobClaims(folder), JobClaims(folder)
    assert not others.known("a")
    with mine.held("a"):
        assert others.known("a")
        with pytest.raises(InUseError), others.held("a"):
            pass
        with others.held("b"):
            pass
    with others.held("a"):
        pass
    assert others.known("b"), "also when nobody is at it"
    assert not list((folder / ".claims").glob("*.running"))


def test_what_another_process_is_at_comes_at_the_end(folder: Path) -> None:
    shared: Shared[str] = Shared(JobClaims(folder))
    a, b = toys(folder, "a", "b")
    made = []
    with JobClaims(folder).held("a"):
        assert shared.attempt(a) is None
        made.append(shared.attempt(b))
        thread = threading.Thread(target=lambda: made.extend(shared.rest()))
        thread.start()
        time.sleep(0.1)
        assert len(made) == 1
    thread.join(10)
    assert [(one.id, one.made) for one in made if one is not None] == [("b", True), ("a", True)]
    assert list(shared.rest()) == []


def test_a_file_that_says_who_is_at_work_counts_as_long_as_that_process_may_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "none")))
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = os.uname().nodename
    sign = tmp_path / ".claims" / "a.running"
    sign.parent.mkdir()
    for who, taken in (
        ({"host": host, "process": os.getppid()}, True),
        ({"host": "elsewhere", "process": dead.pid}, True),
        ({"host": host}, True),
        ("?", True),
        ({"host": host, "process": dead.pid}, False),
    ):
        sign.write_text(json.dumps(who))
        if taken:
            with pytest.raises(InUseError, match=r"a\.running"), JobClaims(tmp_path).held("a"):
                pass
        else:
            with JobClaims(tmp_path).held("a"):
                assert json.loads(sign.read_text()) == {"host": host, "process": os.getpid()}
            assert not sign.exists()


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="check that the folder can be written to"),
        JobClaims(tmp_path / "x").held("a"),
    ):
        pass


def test_a_process_that_ends_at_a_job_leaves_its_mark(tmp_path: Path) -> None:
    jobs = JobClaims(tmp_path)
    with jobs.held("a"):
        with jobs.begun("a"):
            assert jobs.ended_in("a")
        assert not jobs.ended_in("a")
        with pytest.raises(ZeroDivisionError), jobs.begun("a"):
            raise ZeroDivisionError
        assert not jobs.ended_in("a"), "an error is no end of the process"
