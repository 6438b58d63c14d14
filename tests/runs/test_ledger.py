"""The ledger: true at any moment, taken up after a kill, and no dearer for each slide of a large run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stride_monai import files
from stride_monai.errors import OutputError
from stride_monai.findings import SlideStatus
from stride_monai.run_index import LOG_NAME, Outcome
from stride_monai.runs import Ledger, held, ledger, read_log

OK, FAILED = SlideStatus.OK, SlideStatus.FAILED


def outcome(name: str, status: SlideStatus = OK) -> Outcome:
    return Outcome(name, f"{name}.svs", status, "damaged" * (status is FAILED), 1.5, path=f"/slides/{name}.svs")


@contextmanager
def kept(out: Path, notes: list[str] | None = None, **info: object) -> Iterator[Ledger]:
    with held(out) as folder, Ledger(folder, info, ([] if notes is None else notes).append) as book:
        yield book


class Killed(BaseException):
    pass


def killed(out: Path, monkeypatch: pytest.MonkeyPatch, *names: str, **info: object) -> None:
    """A run that a power cut ends after these slides: nothing is written any more."""
    with monkeypatch.context() as patch, suppress(Killed), kept(out, **info) as book:
        for name in names:
            book.add(outcome(name, FAILED if name.startswith("bad") else OK), {})
        patch.setattr(Ledger, "_finish", lambda *_, **__: None)
        raise Killed


def summary(out: Path) -> list[str]:
    with (out / "summary.csv").open(newline="") as stream:
        return [row["slide_id"] for row in csv.DictReader(stream)]


def index(out: Path) -> Mapping[str, object]:
    content: dict[str, object] = json.loads((out / "run.json").read_text())
    return content


def test_the_log_has_every_slide_at_once_and_the_index_at_the_end(tmp_path: Path) -> None:
    with kept(tmp_path, started="then") as book:
        assert not list(tmp_path.glob("[!.]*")), "nothing before there is something to say"
        for count, name in enumerate(("a", "bad", "b", "c", "d"), 1):
            book.add(outcome(name, FAILED if name == "bad" else OK), {"detector": "fcos"} if count > 1 else {})
            info, outcomes = read_log(tmp_path)
            assert outcomes == book.outcomes
            assert len(outcomes) == count
            assert info == {"started": "then"} | ({"detector": "fcos"} if count > 1 else {})
            assert index(tmp_path)["run"]["finished"] is False  # type: ignore[index]
            assert all(json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines())
            assert summary(tmp_path) == [one.slide_id for one in outcomes[:4]], "it lags behind by a fifth at most"
    assert not (tmp_path / LOG_NAME).exists()
    assert summary(tmp_path) == ["a", "bad", "b", "c", "d"]
    run = index(tmp_path)["run"]
    assert isinstance(run, dict)
    assert (run["finished"], run["started"], run["detector"]) == (True, "then", "fcos")


def test_a_run_that_is_cut_off_is_whole_before_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, monkeypatch, "a", "bad", "b", "c", "d", started="first")
    assert summary(tmp_path) == ["a", "bad", "b", "c"]
    with (tmp_path / LOG_NAME).open("a") as log:
        log.write('{"slide_id": "e", "sta')  # the machine stopped in the line
    with pytest.raises(ValueError, match="no networks"), kept(tmp_path, started="second"):
        raise ValueError("no networks")
    assert summary(tmp_path) == ["a", "bad", "b", "c", "d"]
    run = index(tmp_path)["run"]
    assert isinstance(run, dict)
    assert (run["started"], run["finished"]) == ("first", False)
    assert index(tmp_path)["counts"] == {"ok": 4, "unsatisfactory": 0, "failed": 1, "skipped": 0}
    assert not (tmp_path / LOG_NAME).exists()
    with kept(tmp_path, started="third") as book:
        book.add(outcome("a"), {})
    assert summary(tmp_path) == ["a"]


def test_a_run_that_is_stopped_has_its_index(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), kept(tmp_path) as book:
        for name in "abcdef":
            book.add(outcome(name), {})
        raise KeyboardInterrupt
    assert index(tmp_path)["run"]["finished"] is False  # type: ignore[index]
    assert summary(tmp_path) == list("abcdef")
    assert not (tmp_path / LOG_NAME).exists()


def test_a_log_that_could_not_be_written_costs_no_later_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept(tmp_path) as book:
        book.add(outcome("a"), {})
        with monkeypatch.context() as patch:
            patch.setattr(ledger.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
            patch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
            book.add(outcome("b"), {})
        (tmp_path / LOG_NAME).write_bytes((tmp_path / LOG_NAME).read_bytes()[:-9])
        book._torn = True  # as where the disk took a part of a line
        book.add(outcome("c"), {})
        assert [one.slide_id for one in read_log(tmp_path)[1]] == ["a", "c"]
    assert summary(tmp_path) == ["a", "b", "c"]


def late(book: Ledger, foreign: Path) -> None:
    with book:
        foreign.write_text("mine")
        book.add(outcome("a"), {})


def test_what_is_foreign_is_not_replaced_when_the_first_slide_finds_it(tmp_path: Path) -> None:
    with held(tmp_path) as folder:
        book = Ledger(folder, {}, print)
        with pytest.raises(OutputError, match=r"holds summary\.csv"):
            late(book, tmp_path / "summary.csv")
    assert (tmp_path / "summary.csv").read_text() == "mine"
    assert not (tmp_path / "run.json").exists()


def test_what_a_run_writes_grows_with_its_slides_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50,000 slides would else write an index of 20 MB 50,000 times."""
    real = Path.write_bytes
    written = [0]

    def counting(self: Path, content: bytes) -> int:
        written[0] += len(content)
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", counting)
    monkeypatch.setattr(files, "to_disk", lambda _: None)
    monkeypatch.setattr(ledger.os, "fsync", lambda _: None)
    for count in (200, 3200):
        written[0] = 0
        with kept(tmp_path / str(count)) as book:
            for number in range(count):
                book.add(outcome(f"slide-{number:05}"), {})
        whole = sum((tmp_path / str(count) / name).stat().st_size for name in ("summary.csv", "run.json"))
        assert written[0] < 6.5 * whole


def test_a_slide_keeps_the_day_on_which_it_was_screened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through runs that take it up, and one that is killed; one that is screened again has a new one."""

    def screened_at(day: str, *names: str, resumed: tuple[str, ...] = ()) -> dict[str, str]:
        monkeypatch.setattr(ledger, "_now", lambda: day)
        with kept(tmp_path) as book:
            for name in names:
                book.add(replace(outcome(name), resumed=name in resumed), {})
        return {one["slide_id"]: one["screened_at"] for one in index(tmp_path)["slides"]}  # type: ignore[index,attr-defined]

    assert screened_at("monday", "a", "b") == {"a": "monday", "b": "monday"}
    again = screened_at("tuesday", "a", "b", "c", resumed=("a",))
    assert again == {"a": "monday", "b": "tuesday", "c": "tuesday"}
    monkeypatch.setattr(ledger, "_now", lambda: "wednesday")
    killed(tmp_path, monkeypatch, "d", "a")
    assert screened_at("thursday", "a", "b", "d", resumed=("b", "d")) == {
        "a": "thursday",
        "b": "tuesday",
        "d": "wednesday",
    }
    other = tmp_path / "run.json"
    raw = json.loads(other.read_text())
    for one in raw["slides"]:
        del one["screened_at"]  # an index of an older version
    other.write_text(json.dumps(raw))
    assert screened_at("friday", "a", resumed=("a",)) == {"a": ""}


def test_a_full_disk_is_said_of_the_file_that_belongs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name is tried, which says nothing to anybody; the log stays, and the next run goes on from it."""
    out = tmp_path / "out"

    def full(path: Path, content: bytes) -> None:
        raise OutputError(f"cannot write {path} (No space left on device)", "check the disk space")

    def run() -> None:
        with kept(out) as book:
            book.add(outcome("a"), {})
            monkeypatch.setattr(ledger, "write_bytes", full)

    with pytest.raises(OutputError, match=r"out/summary\.csv \(No space"):
        run()
    assert [one.slide_id for one in read_log(out)[1]] == ["a"]
