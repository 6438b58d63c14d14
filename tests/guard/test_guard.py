"""A process that is guarded: what it does to itself costs its own request, and it never outlives who guards it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from guard_toys import MIB

from stride_monai.errors import BundleError, MissingExtraError, SlideError, StrideError
from stride_monai.guard import (
    Guard,
    Limits,
    OverMemoryError,
    OverTimeError,
    ProcessEndedError,
    Stopped,
    UnexpectedError,
    memory_limit,
    stoppable,
    unbroken,
)
from stride_monai.guard import memory as memory_module

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def guard() -> Any:
    with Guard("guard_toys:toy", 1, "two") as guard:
        yield guard


def gone(pid: int) -> bool:
    """Whether a process has ended; waits a little for the system to see it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # its new parent has not fetched it yet
        except (OSError, IndexError):
            return True
        time.sleep(0.05)
    return False


def test_requests_are_answered_in_one_process_with_their_reports(guard: Guard) -> None:
    seen: list[tuple[int, int]] = []
    assert guard.call(("add", 1, 2)) == 3
    assert guard.call(("count", 3), on_report=lambda *facts: seen.append(facts)) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert guard.call(("arguments",)) == (1, "two")
    assert guard.call(("pid",)) == guard.call(("pid",)) != os.getpid()


@POSIX
@pytest.mark.parametrize(
    ("request_", "how", "traced"),
    [
        (("abort",), "SIGABRT", True),
        (("segfault",), "SIGSEGV", True),
        (("kill",), "SIGKILL", False),
        (("exit", 3), "exit status 3", False),
        (("exit", 0), "exit status 0", False),
        (("fork and abort",), "SIGABRT", True),
        (("close everything",), "it closed its pipe", False),
    ],
)
def test_a_process_that_ends_says_how_and_another_takes_its_place(
    guard: Guard, request_: tuple[Any, ...], how: str, traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stride_monai.guard.process._GRACE_SECONDS", 1.0)
    pid = guard.call(("pid",))
    with pytest.raises(ProcessEndedError) as caught:
        guard.call(request_)
    assert caught.value.how == how
    assert ("guard_toys.py" in caught.value.trace) == traced
    assert gone(pid)
    assert guard.process == 0
    assert guard.call(("add", 1, 1)) == 2
    assert guard.call(("pid",)) != pid


@pytest.mark.parametrize(
    ("request_", "kind", "says"),
    [
        (("stride",), BundleError, "the bundle is broken: mend it"),
        (("extra",), MissingExtraError, "YOLO needs ultralytics, which is not installed: pip install"),
        (("plug-in",), SlideError, "of no known format"),
        (("odd",), UnexpectedError, "unexpected OddError"),
        (("odd answer",), UnexpectedError, "unexpected TypeError: cannot pickle"),
        (("sys.exit", 3), UnexpectedError, "unexpected SystemExit: 3"),
    ],
)
def test_errors_cross_the_border_and_the_process_goes_on(
    guard: Guard, request_: tuple[Any, ...], kind: type[StrideError], says: str
) -> None:
    pid = guard.call(("pid",))
    with pytest.raises(StrideError) as caught:
        guard.call(request_)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(says)
    assert guard.call(("pid",)) == pid


@pytest.mark.parametrize("request_", [("sleep", 60), ("hold the interpreter", 60)])
def test_a_request_that_takes_too_long_is_ended(guard: Guard, request_: tuple[Any, ...]) -> None:
    pid = guard.call(("pid",))
    begun = time.monotonic()
    with pytest.raises(OverTimeError, match=r"after 0\.3 s"):
        guard.call(request_, Limits(seconds=0.3))
    assert time.monotonic() - begun < 30
    assert gone(pid)


def test_a_report_may_give_more_time(guard: Guard) -> None:
    limits = Limits(seconds=1e-9)
    with pytest.raises(OverTimeError):
        guard.call(("sleep", 1), limits)
    guard.call(("add",))

    def more(*facts: Any) -> None:
        limits.seconds = 60.0

    limits.seconds = 30.0
    assert guard.call(("count", 2), limits, more) == 2
    assert limits.seconds == 60.0


@LINUX
@pytest.mark.parametrize("request_", [("allocate", 400), ("child allocates", 400)])
def test_memory_counts_with_that_of_children_and_has_a_limit(guard: Guard, request_: tuple[Any, ...]) -> None:
    pid = guard.call(("pid",))
    with pytest.raises(OverMemoryError, match="GiB"):
        guard.call(request_, Limits(seconds=30, memory=250 * MIB))
    assert gone(pid)
    assert guard.call(("add", 1), Limits(memory=250 * MIB)) == 1


def test_where_the_system_tells_nothing_there_is_no_limit(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "_PROC", Path("/nowhere"))
    assert guard.call(("add", 1), Limits(memory=1)) == 1


def test_nothing_that_a_library_prints_gets_out(capfd: pytest.CaptureFixture[str]) -> None:
    with Guard("guard_toys:toy") as guard:
        assert guard.call(("print",)) == "printed"
        assert guard.call(("read",)) == ""
        with pytest.raises(ProcessEndedError) as caught:
            guard.call(("print", "abort"))
    assert "PatientName" not in caught.value.trace
    assert capfd.readouterr() == ("", "")


def test_what_cannot_begin_says_so_each_time() -> None:
    with Guard("guard_toys:refuses") as guard:
        for _ in range(2):
            with pytest.raises(BundleError, match="cannot begin: begin otherwise"):
                guard.call(("add", 1))
    with Guard("guard_toys:no_such_name") as guard, pytest.raises(UnexpectedError, match="AttributeError"):
        guard.call(("add", 1))
    with Guard("guard_toys:dies") as guard, pytest.raises(ProcessEndedError):
        guard.call(("add", 1))


PARENT = """
import sys
from stride_monai.guard import Guard
guard = Guard("guard_toys:toy")
print(guard.call(("pid",)), flush=True)
guard.call(({request!r}, 60))
"""


@POSIX
@pytest.mark.parametrize("request_", ["sleep", "hold the interpreter"])
def test_a_process_never_outlives_who_guards_it(request_: str) -> None:
    code = PARENT.format(request=request_)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


STOPPED = """
import sys, time
from stride_monai.guard import Guard, Stopped, stoppable
try:
    with stoppable(), Guard("guard_toys:toy") as guard:
        print(guard.call(("pid",)), flush=True)
        guard.call(("sleep", 60))
except Stopped as stopped:
    print("stopped", flush=True)
    sys.exit(stopped.exit_status)
"""


@POSIX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_signal_ends_both_in_good_order(number: signal.Signals, status: int, group: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.1)
        (os.killpg if group else os.kill)(parent.pid, number)
        said, wrong = parent.communicate(timeout=30)
    assert (said, wrong, parent.returncode) == ("stopped\n", "", status)
    assert gone(pid)


def test_a_signal_amid_a_look_at_the_process_does_not_hang_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a handler that raises within ``Popen.poll`` leaves it: with its lock held."""
    monkeypatch.setattr("stride_monai.guard.process._GRACE_SECONDS", 0.2)
    guard = Guard("guard_toys:toy")
    pid = guard.call(("pid",))
    running = guard._running
    assert running is not None
    assert running._process._waitpid_lock.acquire(timeout=5)  # type: ignore[attr-defined]
    guard.close()
    running._process._waitpid_lock.release()  # type: ignore[attr-defined]
    running._process.wait(5)
    assert gone(pid)


TWICE = """
import time
from stride_monai.guard import stoppable
with stoppable():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(60)
"""


@POSIX
def test_a_second_signal_kills_at_once_and_what_was_ignored_stays_so() -> None:
    with subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        for line in ("begun\n", "ending\n"):
            assert parent.stdout.readline() == line
            parent.send_signal(signal.SIGINT)
        assert parent.wait(30) == -signal.SIGINT
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{TWICE}"
    with subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        parent.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert parent.poll() is None
        parent.kill()


def test_the_limit_of_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    monkeypatch.setattr(memory_module, "_PROC", proc)
    monkeypatch.setattr(memory_module, "_CGROUPS", groups)
    whole = memory_limit()
    assert whole is None or whole > 2**28
    (groups / "a" / "b").mkdir(parents=True)
    (groups / "a" / "memory.max").write_text("300000000\n")
    (groups / "a" / "b" / "memory.max").write_text("max\n")
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    assert memory_limit() == 300_000_000
    (groups / "memory" / "job").mkdir(parents=True)
    (groups / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (groups / "memory" / "job" / "memory.limit_in_bytes").write_text("200000000\n")
    (proc / "self" / "cgroup").write_text("4:cpuset:/x\n5:memory:/job\n0::/\n")
    assert memory_limit() == 200_000_000
    (proc / "self" / "cgroup").write_text("5:memory:/no/such/place\n")
    assert memory_limit() == whole or whole is None


def test_who_guards_needs_nothing_heavy() -> None:
    code = "import json, sys, stride_monai.guard; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "numpy", "pyarrow"} & set(json.loads(done.stdout))


@POSIX
def test_what_belongs_together_is_done_whole_before_a_stop() -> None:
    done = []

    def work() -> None:
        with stoppable():
            with unbroken():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("both")
            done.append("more")

    with pytest.raises(Stopped):
        work()
    assert done == ["both"]
    with stoppable(), unbroken():
        pass  # nothing is left of the stop
