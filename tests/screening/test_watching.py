"""A watched folder: each slide once, when it is complete, whatever happens to the watch."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from screening_toys import noted, writers

from stride_monai.errors import ConfigError, OutputError
from stride_monai.findings import SlideStatus
from stride_monai.run_index import Outcome
from stride_monai.screening.batch import Tell
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.guarded import Allowance, GuardedScreening
from stride_monai.screening.vitals import Vitals, served
from stride_monai.screening.watching import Patience, watch_folder

QUICK = Patience(every=0.05, settle=0.3, open=1.0, index=0.0)


def watch(
    tmp_path: Path, until: Callable[[list[Outcome]], bool], patience: Patience = QUICK, **settings: str
) -> list[Outcome]:
    """What ended until there is enough; the test fails after half a minute."""
    ended: list[Outcome] = []
    stop, over = threading.Event(), time.monotonic() + 60

    def timer() -> None:
        while not until(ended) and time.monotonic() < over:
            time.sleep(0.02)
        stop.set()

    (tmp_path / "in").mkdir(exist_ok=True)
    threading.Thread(target=timer).start()
    one = GuardedScreening(
        ScreeningConfig(**settings),  # type: ignore[arg-type]
        tmp_path / "out",
        False,
        writers,
        Allowance(60, 0),
        target="screening_toys:worker",
    )
    with one:
        watch_folder(one, tmp_path / "in", tmp_path / "out", Vitals(), Tell(done=ended.append), [], patience, stop)
    assert time.monotonic() < over, [outcome.slide_id for outcome in ended]
    return ended


def index(out: Path) -> dict[str, str]:
    return {one["slide_id"]: one["status"] for one in json.loads((out / "run.json").read_text())["slides"]}


@pytest.fixture(autouse=True)
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``.toy`` files are slides."""
    monkeypatch.setattr("stride_monai.screening.inputs.is_slide_path", lambda path: path.suffix == ".toy")


def test_each_slide_is_screened_once_also_over_restarts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "涂片 1"):
        (tmp_path / "in" / f"{name}.toy").write_text("good")
    assert {one.slide_id for one in watch(tmp_path, lambda ended: len(ended) == 2)} == {"a", "涂片 1"}
    log = json.loads((tmp_path / "out" / "run.json").read_text())
    done = next(one["screened_at"] for one in log["slides"] if one["slide_id"] == "涂片 1")
    in_that_second = int(datetime.fromisoformat(done).timestamp() * 10**9) + 9 * 10**8  # the index rounds times down
    os.utime(tmp_path / "in" / "涂片 1.toy", ns=(in_that_second, in_that_second))
    (tmp_path / "in" / "b.toy").write_text("good")
    (tmp_path / "in" / "a.toy").unlink()  # moved away: its results stay in the index
    assert [one.slide_id for one in watch(tmp_path, lambda ended: len(ended) == 1)] == ["b"]
    assert noted(tmp_path / "notes") == ["load", "a", "涂片 1", "load", "b"]
    assert index(tmp_path / "out") == dict.fromkeys(("a", "涂片 1", "b"), "ok")


def test_a_slide_that_is_being_copied_is_left_alone_until_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.toy"
    grown = threading.Event()

    def copy() -> None:
        for part in ("b", "ba", "bad", "good"):
            path.write_text(part)
            time.sleep(0.15)
        grown.set()

    copying = threading.Thread(target=copy)
    copying.start()
    # What copies may be held up: it is left alone for far longer than its pauses are.
    (ended,) = watch(tmp_path, lambda ended: bool(ended), replace(QUICK, settle=3.0))
    copying.join()
    assert grown.is_set()
    assert ended.status == "ok"
    assert noted(tmp_path / "notes") == ["load", "a"]


def test_a_slide_that_does_not_open_is_given_time_then_fails_and_is_tried_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.toy"
    path.write_text("bad")

    def until(ended: list[Outcome]) -> bool:
        if len(ended) == 1 and path.read_text() == "bad":
            path.write_text("good!")
        return len(ended) == 2

    begun = time.monotonic()
    first, second = watch(tmp_path, until)
    assert (first.status, second.status) == ("failed", "ok")
    assert "damaged" in first.reason
    assert time.monotonic() - begun >= QUICK.open
    assert index(tmp_path / "out") == {"a": "ok"}, "one row, the last one"


def test_what_failed_is_tried_once_more_by_a_watch_that_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.toy").write_text("screen:odd")
    for _ in range(2):
        assert [one.status for one in watch(tmp_path, lambda ended: bool(ended))] == [SlideStatus.FAILED]


def test_a_watch_is_refused_where_it_would_do_harm(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    one = GuardedScreening(ScreeningConfig(), tmp_path / "in" / "out", False, writers, target="screening_toys:worker")
    with pytest.raises(OutputError, match="belongs to"):
        watch_folder(one, tmp_path / "in", tmp_path / "in" / "out", Vitals(), Tell())
    with pytest.raises(ConfigError, match="is not a folder"):
        watch_folder(one, tmp_path / "none", tmp_path / "out", Vitals(), Tell())
    (tmp_path / "in" / "a.toy").write_text("good")
    watch(tmp_path, lambda ended: bool(ended))
    with pytest.raises(ConfigError, match="had other settings: choose another --out"):
        watch(tmp_path, lambda ended: True, detector="fcos")


def get(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_and_health_are_served_in_prometheus_text_format() -> None:
    now = [1000.0]
    vitals = Vitals(alive=60, clock=lambda: now[0])
    with served(vitals, 0) as port:
        vitals.looked(3)
        vitals.ended(Outcome("a", "a.svs", SlideStatus.OK, seconds=20.0, call="positive"))
        vitals.ended(Outcome("b", "b.svs", SlideStatus.FAILED, "damaged", seconds=7000.0))
        status, text = get(port, "/metrics")
        assert status == 200
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert samples['stride_monai_slides_total{status="ok"}'] == "1"
        assert samples['stride_monai_slides_total{status="failed"}'] == "1"
        assert samples['stride_monai_calls_total{call="positive"}'] == "1"
        assert samples["stride_monai_slides_waiting"] == "3"
        assert samples['stride_monai_slide_seconds_bucket{le="15"}'] == "0"
        assert samples['stride_monai_slide_seconds_bucket{le="30"}'] == "1"
        assert (
            samples['stride_monai_slide_seconds_bucket{le="+Inf"}']
            == samples["stride_monai_slide_seconds_count"]
            == "2"
        )
        assert float(samples["stride_monai_slide_seconds_sum"]) == 7020.0
        for line in text.splitlines():  # the grammar of the format
            assert re.fullmatch(
                r'# (HELP|TYPE) stride_monai_\w+ .+|stride_monai_\w+(\{\w+="[^"]*"\})? [0-9.e+-]+', line
            ), line
        assert "a.svs" not in text, "nothing that may name a patient"
        assert get(port, "/healthz") == (200, "looked at the folder 0 s ago\n")
        now[0] += 61
        assert get(port, "/healthz")[0] == 503
        with vitals.at_work():
            now[0] += 600
            assert get(port, "/healthz")[0] == 200
            assert "stride_monai_slide_in_hand_seconds 600" in get(port, "/metrics")[1]
        vitals.looked(None, "the folder cannot be listed (gone)")
        assert get(port, "/healthz") == (503, "the folder cannot be listed (gone)\n")
        assert get(port, "/other")[0] == 404
        with pytest.raises(ConfigError, match=f"port {port} cannot be had"), served(vitals, port):
            pass
