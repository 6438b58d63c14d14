"""Runners: each job once, a failure stops no other, and what a run costs grows with the number of its jobs."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from run_toys import toys

from stride_monai.errors import ConfigError, OutputError, SlideError
from stride_monai.runs import Ended, Job, Processes, Runner, attempt, runners, serial
from stride_monai.runs.jobs import never

NAMES = ("a", "bad", "b", "odd", "c")


def test_what_is_done_is_not_made_again() -> None:
    made: list[float] = []

    def make(on_part: Callable[[float], None]) -> str:
        on_part(1.0)
        return "made"

    first = attempt(Job("a", lambda: "there", make), made.append)
    assert (first.get(), first.made, made) == ("there", False, [])
    second = attempt(Job("a", never, make), made.append)
    assert (second.get(), second.made, made) == ("made", True, [1.0])
    nothing = attempt(Job("a", lambda: 0, lambda _: 1))
    assert (nothing.get(), nothing.made) == (0, False), "what is there may be nothing"


def test_a_stop_is_no_failure_of_a_job() -> None:
    def make(_: object) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(Job("a", never, make))


@pytest.mark.parametrize("runner", [serial, Processes(1), Processes(2)])
def test_a_job_that_fails_stops_no_other(tmp_path: Path, runner: Runner) -> None:
    parts: list[float] = []
    ended: dict[str, Ended[str]] = {one.id: one for one in runner(toys(tmp_path, *NAMES), parts.append)}
    assert {name: one.value for name, one in ended.items()} == {"a": "a", "bad": None, "b": "b", "odd": None, "c": "c"}
    with pytest.raises(SlideError, match="bad is damaged: scan it again"):
        ended["bad"].get()
    with pytest.raises(ZeroDivisionError, match="odd"):
        ended["odd"].get()
    assert parts == sorted(parts)
    assert 0 < parts[-1] <= 5
    again = {one.id: one.made for one in runner(toys(tmp_path, "a", "d"))}
    assert again == {"a": False, "d": True}


def test_a_process_that_dies_ends_the_run_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a process that made slides was killed"):
        list(Processes(2)(toys(tmp_path, "a", "kill", "b", "c")))


def test_whoever_stops_looking_stops_the_processes(tmp_path: Path) -> None:
    run = Processes(2)(toys(tmp_path, "a", "slow", "slow2", "b", "c"))
    assert next(run).get() == "a"
    start = time.monotonic()
    run.close()
    assert time.monotonic() - start < 30
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_no_process_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 workers"):
        Processes(0)


def test_jobs_are_given_out_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that 50,000 jobs cost what they cost, and not the square of it."""
    looked: list[int] = []

    def counting(given: Collection[Any], *args: Any) -> Any:
        looked.append(len(given))
        return concurrent.futures.wait(given, *args)

    monkeypatch.setattr(runners, "wait", counting)
    names = [f"job-{number}" for number in range(60)]
    assert {one.get() for one in Processes(2)(toys(tmp_path, *names))} == set(names)
    assert max(looked) <= 4
