"""Screening in a supervised process: what a slide does to it costs that slide; a run that is ended is taken up."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import processes
import pytest
import toy_reader
from PIL import Image
from screening_toys import ABOUT, noted, writers

from stride_monai.errors import BundleError
from stride_monai.findings import Findings
from stride_monai.guard import memory as memory_module
from stride_monai.guard import memory_limit
from stride_monai.run_index import LOG_NAME, Outcome
from stride_monai.runs import read_log
from stride_monai.screening.batch import run_slides
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.guarded import Allowance, GuardedScreening
from stride_monai.screening.inputs import SlideInput, collect

TARGET = "screening_toys:worker"
A_MINUTE = Allowance(60, 0)
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def slides(folder: Path, *contents: str) -> list[SlideInput]:
    """Slides a, b, c ... that do what their content says."""
    folder.mkdir(exist_ok=True)
    items = []
    for number, content in enumerate(contents):
        path = folder / f"{chr(97 + number)}.toy"
        path.write_text(content)
        items.append(SlideInput(path, path.stem))
    return items


def run(
    tmp_path: Path, items: Sequence[SlideInput], allowance: Allowance = A_MINUTE, detector: str = "auto"
) -> dict[str, Outcome]:
    with GuardedScreening(
        ScreeningConfig(detector=detector), tmp_path / "out", False, writers, allowance, target=TARGET
    ) as one:
        return {outcome.slide_id: outcome for outcome in run_slides(one, items, tmp_path / "out")}


def index(tmp_path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((tmp_path / "out" / "run.json").read_text())["run"]
    return content


@POSIX
@pytest.mark.parametrize("when", ["look", "screen"])
def test_whatever_a_slide_does_it_costs_that_slide(when: str, tmp_path: Path) -> None:
    misdeeds = {
        "abort": r"b\.toy ended the process that screened it \(SIGABRT\): .*with errors/b\.txt",
        "segfault": r"c\.toy ended the process that screened it \(SIGSEGV\): .*with errors/c\.txt",
        "exit": r"d\.toy: unexpected SystemExit: 3: please report it with errors/d\.txt",
        "odd": r"e\.toy: unexpected ArithmeticError: odd: please report it with errors/e\.txt",
        "kill": r"f\.toy ended the process that screened it \(SIGKILL\): the system does so where memory runs out",
    }
    items = slides(tmp_path / "in", "good", *(f"{when}:{what}" for what in misdeeds), "good")
    if when == "look":  # which is asked only as long as nothing is loaded
        items = items[1:]
    outcomes = run(tmp_path, items)
    for item, says in zip(items if when == "look" else items[1:], misdeeds.values(), strict=False):
        assert outcomes[item.slide_id].status == "failed"
        assert re.match(says, outcomes[item.slide_id].reason), outcomes[item.slide_id].reason
        assert "\n" not in outcomes[item.slide_id].reason
    assert outcomes["g"].status == "ok"
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        assert [row["slide_id"] for row in csv.DictReader(stream)] == [item.slide_id for item in items]
    assert index(tmp_path)["finished"] is True
    trace = (tmp_path / "out" / "errors" / "b.txt").read_text()
    assert "toy_reader.py" in trace
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"PatientName" not in everything
    assert str(tmp_path).encode() not in (tmp_path / "out" / "summary.csv").read_bytes()
    # The same command tries them again, as any slide that failed.
    for item in items:
        item.path.write_text("good")
    again = run(tmp_path, items)
    assert {outcome.status for outcome in again.values()} == {"ok"}
    assert again["g"].resumed
    assert not list((tmp_path / "out" / "errors").glob("*"))


def test_a_slide_that_takes_too_long_says_the_limit_and_the_option(tmp_path: Path) -> None:
    outcomes = run(tmp_path, slides(tmp_path / "in", "good", "screen:sleep", "good"), Allowance(4, 0))
    assert [outcome.status for outcome in outcomes.values()] == ["ok", "failed", "ok"]
    assert outcomes["b"].reason == ("b.toy was not done after 4 s: check the file, or give more than --slide-timeout 4")
    assert noted(tmp_path / "notes").count("load") == 2


@LINUX
def test_a_slide_that_fills_the_memory_says_the_limit_and_the_option(tmp_path: Path) -> None:
    outcomes = run(tmp_path, slides(tmp_path / "in", "good", "screen:allocate", "good"), Allowance(60, 0.3))
    assert [outcome.status for outcome in outcomes.values()] == ["ok", "failed", "ok"]
    assert re.fullmatch(
        r"b\.toy took too much memory \(it holds 0\.\d GiB of memory\): check the file, or give more than "
        r"--slide-memory 0\.3",
        outcomes["b"].reason,
    )


@POSIX
def test_harm_that_one_slide_leaves_in_memory_does_not_cost_the_next_one(tmp_path: Path) -> None:
    outcomes = run(tmp_path, slides(tmp_path / "in", "after:", "good", "good"))
    assert {outcome.status for outcome in outcomes.values()} == {"ok"}
    assert noted(tmp_path / "notes") == ["load", "a", "load", "b", "c"]


@POSIX
@pytest.mark.parametrize("how", ["kill", "abort"])
def test_a_slide_whose_process_ends_once_its_results_are_there_is_done(how: str, tmp_path: Path) -> None:
    outcomes = run(tmp_path, slides(tmp_path / "in", "good", f"done:{how}", "good"))
    assert {outcome.status for outcome in outcomes.values()} == {"ok"}
    assert outcomes["b"].resumed
    assert noted(tmp_path / "notes") == ["load", "a", "b", "load", "c"]
    assert sorted(path.name for path in (tmp_path / "out" / "b").iterdir()) == ["files.json", "findings.json"]
    assert not list((tmp_path / "out" / "errors").glob("*"))


def test_networks_are_loaded_for_the_first_slide_that_opens_and_not_before(tmp_path: Path) -> None:
    items = [*slides(tmp_path / "in", "bad:", "bad:"), *collect([tmp_path / "absent.svs"])]
    outcomes = run(tmp_path, items)
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert outcomes["a"].reason == "a.toy is damaged: scan it again"
    assert noted(tmp_path / "notes") == []
    assert "detector" not in index(tmp_path)
    run(tmp_path, [*items, *slides(tmp_path / "in", "bad:", "bad:", "good", "good")[2:]])
    assert noted(tmp_path / "notes") == ["load", "c", "d"]
    assert index(tmp_path)["detector"] == {"name": "fcos", "why": "asked for"}
    assert index(tmp_path)["weights"] == dict(ABOUT.weights)


@POSIX
@pytest.mark.parametrize(
    ("detector", "says", "loads"),
    [
        ("broken", r"the bundle has no weights: train it", 1),
        ("odd", r"the networks cannot be loaded \(unexpected ArithmeticError: odd\)", 1),
        ("dies", r"the networks cannot be loaded: the process ends \(SIGABRT\)", 2),
    ],
)
def test_networks_that_cannot_be_loaded_end_the_run_with_the_true_error(
    detector: str, says: str, loads: int, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=says):
        run(tmp_path, slides(tmp_path / "in", "good", "good"), detector=detector)
    assert noted(tmp_path / "notes") == ["load"] * loads


def test_networks_that_cannot_be_loaded_cost_an_earlier_run_nothing(tmp_path: Path) -> None:
    names = slides(tmp_path / "in", "good", "good")
    run(tmp_path, names)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match="the bundle has no weights"):
        run(tmp_path, names, detector="broken")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@POSIX
def test_a_start_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path, slides(tmp_path / "in", "good"), detector="dies once")["a"].status == "ok"


def test_limits_are_generous_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory_limit()
    plain = Allowance().limits()
    assert plain.seconds == 3600
    assert whole is None or plain.memory == max(int(0.8 * whole), 4 * 2**30)
    assert Allowance(0, 0).limits() == Allowance(0, 0).limits().__class__(None, None)
    assert Allowance(5, 2).limits().seconds == 5
    assert Allowance(5, 2).limits().memory == 2 * 2**30
    monkeypatch.setattr("stride_monai.screening.guarded.memory_limit", lambda: 2**30)
    assert Allowance().limits().memory == 4 * 2**30
    monkeypatch.setattr("stride_monai.screening.guarded.memory_limit", lambda: None)
    assert Allowance().limits().memory is None


def test_where_the_system_tells_no_memory_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not GuardedScreening(ScreeningConfig(), tmp_path, False, writers).note or sys.platform != "linux"
    monkeypatch.setattr(memory_module, "_PROC", Path("/nowhere"))
    assert "--slide-memory has no effect" in GuardedScreening(ScreeningConfig(), tmp_path, False, writers).note
    assert not GuardedScreening(ScreeningConfig(), tmp_path, False, writers, Allowance(None, 0)).note


# Runs that end before their time.

TOY_RUN = """
import sys
from pathlib import Path
from screening_toys import writers
from stride_monai.cli import main as cli
from stride_monai.screening import guarded

guarded.GuardedScreening.__init__.__defaults__ = (*guarded.GuardedScreening.__init__.__defaults__[:-1], {target!r})
cli.main()
"""


def toy_run(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "site"), *sys.path]))}
    command = [sys.executable, "-c", TOY_RUN.format(target=TARGET), "screen", str(tmp_path / "in")]
    return subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_for_slide(slide_id: str, out: Path) -> None:
    """Wait until the log of the run has the slide."""
    for _ in range(1200):
        if (out / LOG_NAME).exists() and slide_id in {outcome.slide_id for outcome in read_log(out)[1]}:
            return
        time.sleep(0.05)
    raise AssertionError(f"{slide_id} never ended")


@POSIX
@pytest.mark.parametrize(
    ("number", "status", "group"),
    [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, True), (signal.SIGTERM, 143, False)],
)
def test_a_stopped_run_says_how_to_go_on_and_leaves_nothing_behind(
    number: signal.Signals, status: int, group: bool, tmp_path: Path
) -> None:
    toy_reader.install(tmp_path / "site")
    slides(tmp_path / "in", "good", "slow:60", "good")
    with toy_run(tmp_path) as process:
        wait_for_slide("a", tmp_path / "out")
        (os.killpg if group else os.kill)(process.pid, number)
        said, wrong = process.communicate(timeout=30)
    assert process.returncode == status, wrong
    assert wrong == "stopped: 1 of 3 slides are done; the same command goes on\n"
    assert said == ""
    assert index(tmp_path)["finished"] is False
    assert not list((tmp_path / "out").glob("*.part"))
    (tmp_path / "in" / "b.toy").write_text("good")
    with toy_run(tmp_path) as process:
        _, wrong = process.communicate(timeout=60)
    assert process.returncode == 0, wrong
    assert noted(tmp_path / "notes") == ["load", "a", "load", "b", "c"]


@POSIX
def test_runs_killed_at_any_moment_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    toy_reader.install(tmp_path / "site")
    slides(tmp_path / "in", *["slow:0.05"] * 12)
    moments = random.Random(3)
    done: set[str] = set()
    for _ in range(4):
        with toy_run(tmp_path) as process:
            time.sleep(moments.uniform(0.6, 2.0))
            process.kill()
            process.communicate()
        time.sleep(0.2)
        known = {path.parent.name for path in (tmp_path / "out").glob("[!.]*/findings.json")}
        assert done <= known
        done = known
        if (tmp_path / "out" / LOG_NAME).exists():
            assert {outcome.slide_id for outcome in read_log(tmp_path / "out")[1]} <= known, "noted when it is there"
    with toy_run(tmp_path) as process:
        _, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong
    screened = [name for name in noted(tmp_path / "notes") if name != "load"]
    names = {chr(97 + number) for number in range(12)}
    assert set(screened) == names
    # A slide whose files were not all in their place when the run was killed is screened again; at most one each time.
    assert len(screened) <= len(names) + 4
    for name in names:
        assert Findings.from_json((tmp_path / "out" / name / "findings.json").read_text()).slide.slide_id == name
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == names


@POSIX
def test_the_command_writes_what_is_asked_for_and_the_findings(tmp_path: Path) -> None:
    toy_reader.install(tmp_path / "site")
    slides(tmp_path / "in", "good")
    for options, more, screened in ((["--writers", "cells"], set(), 1), ([], {"overlay.geojson.gz", "report.html"}, 2)):
        with toy_run(tmp_path, *options) as process:
            said, wrong = process.communicate(timeout=60)
        assert process.returncode == 0, wrong
        assert ("report.html" in said) is bool(more)
        files = {path.name for path in (tmp_path / "out" / "a").iterdir()}
        assert files == {"files.json", "findings.json", "cells.parquet", *more}
        assert noted(tmp_path / "notes").count("a") == screened


# The command.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.svs", "--out", "out"], "failed absent.svs: no such file or folder"),
        (["a.png", "--out", "out", "--detector", "nix"], "error unknown detector 'nix'"),
        (["a.png", "--out", "out", "--classifier", "nix"], "error unknown slide classifier 'nix'"),
        (["a.png", "--out", "out", "--reader", "nix"], "error unknown reader 'nix'"),
        (["a.png", "--out", "out", "--device", "gpu"], "error unknown device 'gpu'"),
        (["a.png", "--out", "out", "--profile", "huge"], "error unknown profile 'huge'"),
        (["a.png", "--out", "out", "--weights", "detection=absent.pt"], "error there is no weights file"),
        (["a.png", "--out", "out", "--bundles", "absent"], "error there is no folder"),
        (["a.png", "--out", "out", "--writers", "cells,reprot"], "error unknown writer 'reprot': did you mean report?"),
        (["a.png", "--out", "a.png"], "error "),
        (["a.png", "--out", "out", "--slide-timeout", "-1"], "error invalid --slide-timeout -1.0"),
        (["a.png", "--out", "out", "--slide-memory", "nan"], "error invalid --slide-memory nan"),
        (["a.png", "--out", "out", "--misspelt"], "Usage"),
    ],
)
def test_what_can_be_refused_without_networks_is_refused_without_them(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    Image.fromarray(np.full((64, 64, 3), 240, np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys\nfrom stride_monai.cli.main import main\ntry:\n    main()\n"
        "finally:\n    from pathlib import Path\n"
        "    heavy = {'torch', 'monai'} | ({'pyarrow'} if not Path('out/summary.parquet').exists() else set())\n"
        "    assert not heavy & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "300"}
    done = subprocess.run(
        [sys.executable, "-c", code, "screen", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert done.stderr.startswith(says), done.stderr
    assert "Traceback" not in done.stderr


@POSIX
@pytest.mark.slow
def test_a_reader_that_aborts_costs_its_slide_in_the_program_itself(tmp_path: Path) -> None:
    toy_reader.install(tmp_path / "site")
    for name, content in {"a": "open:abort", "b": "read:abort", "c": "read:nothing"}.items():
        (tmp_path / f"{name}.toy").write_text(content)
    paths = [str(Path(toy_reader.__file__).parent), str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    done = processes.run(
        "stride_monai",
        ["screen", *(tmp_path / f"{name}.toy" for name in "abc"), "--out", tmp_path / "out"],
        environment={"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "failed a.toy ended the process that screened it (SIGABRT)",
        "failed b.toy ended the process that screened it (SIGABRT)",
    ]
    assert "PatientName" not in done.stdout + done.stderr
    assert "detector " in done.stdout
    assert (tmp_path / "out" / "c" / "findings.json").is_file()
