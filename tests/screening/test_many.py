"""Several slides at once, what a run before has done, and what a run would do."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from screening_toys import ABOUT, noted, writers

from stride_monai.errors import ConfigError
from stride_monai.findings import SlideStatus
from stride_monai.guard import Stopped
from stride_monai.run_index import Outcome
from stride_monai.runs import Ended, Job, Threads
from stride_monai.runs.jobs import never
from stride_monai.screening import crew as crew_module
from stride_monai.screening.batch import Tell, run_slides
from stride_monai.screening.config import ScreeningConfig, settings_of
from stride_monai.screening.crew import Crew, environments
from stride_monai.screening.earlier import Earlier, read_earlier
from stride_monai.screening.guarded import Allowance, GuardedScreening
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.pace import Pace, pace_of, remember
from stride_monai.screening.plan import plan_of

CONFIG, NOBODY = ScreeningConfig(), Tell()


def slides(folder: Path, **contents: str) -> list[SlideInput]:
    """Toy slides that do what their content says."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.toy").write_text(content)
    return [SlideInput(folder / f"{name}.toy", name) for name in contents]


def make_crew(tmp_path: Path, workers: int, config: ScreeningConfig = CONFIG) -> Crew:
    def make(environment: Mapping[str, str]) -> GuardedScreening:
        return GuardedScreening(
            config,
            tmp_path / "out",
            False,
            writers,
            Allowance(60, 0),
            environment=environment,
            target="screening_toys:worker",
        )

    return Crew(make, environments(workers, "cpu"))


def run(
    tmp_path: Path, items: Sequence[SlideInput], workers: int = 1, kept: Earlier | None = None, tell: Tell = NOBODY
) -> dict[str, Outcome]:
    with make_crew(tmp_path, workers) as crew:
        runner = Threads(workers, crew.abandon)
        outcomes = run_slides(crew, items, tmp_path / "out", tell=tell, runner=runner, kept=kept)
        return {outcome.slide_id: outcome for outcome in outcomes}


def summary(out: Path) -> dict[str, str]:
    with (out / "summary.csv").open(newline="") as stream:
        return {row["slide_id"]: row["status"] for row in csv.DictReader(stream)}


def test_slides_at_once_end_as_one_after_the_other_and_a_crash_costs_its_slide_alone(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", a="good", b="screen:abort", c="good", d="good", e="screen:odd", f="good")
    outcomes = run(tmp_path, items, workers=2)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        **dict.fromkeys("acdf", SlideStatus.OK),
        **dict.fromkeys("be", SlideStatus.FAILED),
    }
    assert summary(tmp_path / "out") == {name: str(outcome.status) for name, outcome in outcomes.items()}
    index = json.loads((tmp_path / "out" / "run.json").read_text())["run"]
    assert index["weights"] == dict(ABOUT.weights)
    assert index["settings"] == settings_of(CONFIG)
    assert noted(tmp_path / "notes").count("load") >= 2, "each process has networks of its own"
    assert sorted(name for name in noted(tmp_path / "notes") if name != "load") == list("acdf")


def test_two_processes_do_two_slides_at_once(tmp_path: Path) -> None:
    """Each of the two waits in its slide until the other one's has begun: one after the other neither would end."""
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2, timeout=30)

    def make(_: object) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return "done"

    jobs = [Job(str(number), never, make) for number in range(4)]
    ended: list[Ended[str]] = list(Threads(2)(jobs))
    assert sorted(one.id for one in ended) == ["0", "1", "2", "3"]
    assert all(one.value == "done" for one in ended)
    assert most == 2
    with pytest.raises(ConfigError, match="0 workers"):
        Threads(0)


def test_a_stop_ends_the_slides_in_hand_soon_and_leaves_no_trace_of_them(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", a="good", b="slow:300", c="slow:300")
    start = time.monotonic()

    def stop(outcome: Outcome) -> None:
        assert outcome.slide_id == "a"
        raise Stopped(15)

    with pytest.raises(Stopped):
        run(tmp_path, items, workers=3, tell=Tell(done=stop))
    assert time.monotonic() - start < 60
    assert summary(tmp_path / "out") == {"a": "ok"}
    assert not list((tmp_path / "out").glob("errors/*"))
    assert not list((tmp_path / "out").glob("*.part"))


def test_threads_that_are_closed_take_no_more_jobs() -> None:
    begun: list[str] = []
    hold = threading.Event()

    def make(name: str, _: object) -> str:
        begun.append(name)
        if name != "0":
            hold.wait(30)
        return name

    jobs = [Job(str(number), never, partial(make, str(number))) for number in range(9)]
    with closing(Threads(2, hold.set)(jobs)) as ended:
        assert next(ended).id == "0"
    assert len(begun) <= 3


def test_each_process_has_a_gpu_of_its_own_or_a_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(crew_module, "_cores", lambda: 8)
    monkeypatch.setattr(crew_module, "_GPUS", tmp_path)
    assert environments(1, "auto") == [{}]
    assert environments(3, "auto") == [{"OMP_NUM_THREADS": "2"}] * 3
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments(3, "auto")] == ["0", "1", "0"]
    assert environments(2, "cpu") == environments(2, "cuda:1") == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environments(2, "cuda") == [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    with pytest.raises(ConfigError, match="--workers 0"):
        environments(0, "auto")


# What failed, once more.


def test_only_what_failed_or_is_missing_is_tried_again_and_the_index_stays_whole(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", a="good", b="screen:odd", c="good", d="good")
    first = run(tmp_path, items[:3])
    (tmp_path / "in" / "b.toy").write_text("good")
    before = noted(tmp_path / "notes")
    second = run(tmp_path, items, kept=read_earlier(tmp_path / "out"))
    assert noted(tmp_path / "notes")[len(before) :] == ["load", "b", "d"]
    assert summary(tmp_path / "out") == dict.fromkeys("acbd", "ok")
    assert second["a"] == replace(first["a"], resumed=True, seconds=0.0, stages={})
    index = json.loads((tmp_path / "out" / "run.json").read_text())
    assert index["run"]["weights"] == dict(ABOUT.weights)
    # Nothing failed: no network is loaded, and the index still says what screened.
    run(tmp_path, items, kept=read_earlier(tmp_path / "out"))
    assert noted(tmp_path / "notes")[len(before) :] == ["load", "b", "d"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["run"]["weights"] == dict(ABOUT.weights)


def test_what_is_gone_or_another_file_is_not_taken_for_done(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", a="good", b="good", c="good")
    run(tmp_path, items)
    (tmp_path / "out" / "a" / "findings.json").unlink()
    moved = replace(items[1], path=(tmp_path / "in" / "b.toy").rename(tmp_path / "in" / "other.toy"))
    earlier = read_earlier(tmp_path / "out")
    assert set(earlier.done([items[0], moved, items[2]], settings_of(CONFIG))) == {"c"}
    assert not earlier.done([replace(items[2], mpp=0.5)], settings_of(CONFIG))
    assert not earlier.done(items, settings_of(ScreeningConfig(mpp=0.3)))


def test_a_run_of_other_settings_or_weights_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    items = slides(tmp_path / "in", a="good", b="screen:odd")
    with pytest.raises(ConfigError, match="holds no run"):
        run(tmp_path, items, kept=read_earlier(tmp_path / "out"))
    run(tmp_path, items)
    kept = read_earlier(tmp_path / "out")
    other = replace(kept, info={**kept.info, "settings": "others"})
    with pytest.raises(ConfigError, match="had other settings: screen without --retry-failed"):
        run(tmp_path, items, kept=other)
    (tmp_path / "in" / "b.toy").write_text("good")
    with pytest.raises(ConfigError, match="had other weights"):
        run(tmp_path, items, kept=replace(kept, info={**kept.info, "weights": {"detection": "zz"}}))
    assert summary(tmp_path / "out") == {"a": "ok"}, "what is not known to be of the same weights is not in the index"


# What would be done.


def test_the_pace_of_a_machine_is_remembered_by_what_screened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert pace_of(CONFIG) is None
    ok = Outcome("a", "a.svs", SlideStatus.OK, seconds=10.0, area_mm2=100.0)
    remember(
        CONFIG, 1, [ok, replace(ok, resumed=True), replace(ok, status=SlideStatus.FAILED), replace(ok, area_mm2=None)]
    )
    assert pace_of(CONFIG) == Pace(1, 10.0, 100.0)
    remember(CONFIG, 1, [replace(ok, seconds=30.0)])
    assert pace_of(CONFIG) == Pace(2, 40.0, 200.0)
    assert pace_of(CONFIG, workers=2) is pace_of(replace(CONFIG, profile="paper")) is None
    (tmp_path / "cache" / "stride_monai" / "pace.json").write_text("damaged")
    assert pace_of(CONFIG) is None
    old = Pace(4000, 4000.0, 4000.0) + Pace(1, 5.0, 1.0)
    assert (old.slides, old.seconds) == (1001, 1005.0), "older slides count less"


def test_a_plan_counts_areas_of_all_from_those_of_some(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    (tmp_path / "in").mkdir()
    items = []
    for number in range(6):
        path = tmp_path / "in" / f"细胞 {number}.png"
        Image.fromarray(np.full((500, 1000, 3), 240, np.uint8)).save(path)
        items.append(SlideInput(path, path.stem))
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    items.append(SlideInput(tmp_path / "in" / "broken.png", "broken"))
    items.append(SlideInput(tmp_path / "absent.svs", "absent", problem="absent.svs: no such file"))
    config, nothing = ScreeningConfig(mpp=0.5), Earlier(tmp_path / "out")
    plan = plan_of(items, config, nothing)
    one = 1000 * 500 * 0.5**2 / 1e6
    assert [item.slide_id for item in plan.screen] == [f"细胞 {number}" for number in range(6)]
    assert [item.slide_id for item in plan.refused] == ["absent", "broken"]
    assert plan.mm2 == pytest.approx(6 * one)
    assert plan.seconds(Pace(1, 80.0, 2 * one), 2) == pytest.approx(6 * 80 / 2 / 2)
    some = plan_of(items[:6], config, nothing, looked_at=2)
    assert (some.opened, some.mm2) == (2, pytest.approx(6 * one))
    assert not (tmp_path / "out").exists()
