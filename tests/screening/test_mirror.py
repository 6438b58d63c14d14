"""Results sent to remote storage: whole or marked as not whole, the index last, and nothing lost when it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import temporary_folder
from stride_monai.findings import SlideStatus
from stride_monai.ownership import LIST_NAME
from stride_monai.run_index import RUN_NAME, SUMMARY_NAME, Outcome
from stride_monai.screening.batch import Tell, run_slides
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.mirror import Mirror, mirrored
from stride_monai.screening.results import ResultFolder

FILES = ("findings.json", "report.html")


class Flaky(MemoryFileSystem):
    """Memory that fails now and then, or for good."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012
    left = 0
    order: list[str] = []  # noqa: RUF012
    _count = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky://", "memory://")))

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        with self._count:
            if Flaky.left:
                Flaky.left -= 1
                raise OSError("the connection is broken")
            Flaky.order.append(rpath)
        super().put_file(lpath, rpath, **options)


@pytest.fixture(autouse=True)
def storage() -> Iterator[Flaky]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store, Flaky.pseudo_dirs, Flaky.order, Flaky.left = {}, [""], [], 0
    yield Flaky()
    Flaky.left = 0


class Toy:
    """Writes files of a slide whose name does not begin with ``bad``."""

    def __init__(self, out: Path, text: str = "one") -> None:
        self.out, self.text = out, text

    def __call__(self, item: SlideInput, on_progress: object) -> Outcome:
        if item.slide_id.startswith("bad"):
            return Outcome(item.slide_id, item.path.name, SlideStatus.FAILED, "torn", path=str(item.path))
        with temporary_folder(self.out) as made:
            for name in FILES:
                (made / name).write_text(f"{item.slide_id} {self.text}")
            ResultFolder(self.out, item.slide_id).replace(made)
        return Outcome(item.slide_id, item.path.name, SlideStatus.OK, path=str(item.path))

    def info(self) -> dict[str, object]:
        return {}


def run(folder: Path, url: str | None, *names: str, text: str = "one") -> list[Outcome]:
    out = folder / "out"
    items = [SlideInput(folder / f"{name}.svs", name) for name in names]
    for item in items:
        item.path.touch()
    seen: list[Outcome] = []
    with mirrored(out, url, seen.append) as done:
        outcomes = run_slides(Toy(out, text), items, out, tell=Tell(done=done))
    assert [one.slide_id for one in seen] == [one.slide_id for one in outcomes] == list(names)
    return outcomes


def there(files: Any, root: str) -> dict[str, bytes]:
    found = files.find(root)
    return {name.removeprefix(f"{root}/"): files.cat_file(name) for name in found}


@pytest.mark.parametrize("scheme", ["flaky", "file"])
def test_a_run_is_there_whole(tmp_path: Path, scheme: str) -> None:
    root = f"{tmp_path}/copy" if scheme == "file" else "/bucket/run"
    run(tmp_path, f"{scheme}://{root}", "a", "b 片", "bad")
    held = there(fsspec.filesystem(scheme), root)
    for name in ("a", "b 片"):
        for file in (*FILES, LIST_NAME):
            assert held[f"{name}/{file}"] == (tmp_path / "out" / name / file).read_bytes()
    assert {SUMMARY_NAME, RUN_NAME} <= set(held)
    assert [row["slide_id"] for row in json.loads(held[RUN_NAME])["slides"]] == ["a", "b 片", "bad"]
    assert not any(name.startswith("bad/") for name in held)


def test_the_index_comes_last(tmp_path: Path) -> None:
    run(tmp_path, "flaky://bucket/run", "a", "b")
    assert Flaky.order[-1].endswith(RUN_NAME)
    assert {name.split("/")[-2] for name in Flaky.order[:4]} == {"a", "b"}


def test_a_connection_that_fails_now_and_then_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stride_monai.screening.mirror._WAITS", (0.0, 0.0, 0.0))
    Flaky.left = 3
    with Mirror(tmp_path / "out", "flaky://bucket/run", (0.0,) * 4) as mirror:
        out = tmp_path / "out"
        (tmp_path / "a.svs").touch()
        run_slides(Toy(out), [SlideInput(tmp_path / "a.svs", "a")], out, tell=Tell(done=mirror.done))
        mirror.finish()
    assert f"a/{LIST_NAME}" in there(Flaky(), "/bucket/run")


def test_what_cannot_be_sent_is_said_kept_here_and_sent_by_the_same_command(tmp_path: Path) -> None:
    out, url = tmp_path / "out", "flaky://bucket/run"
    (tmp_path / "a.svs").touch()
    items = [SlideInput(tmp_path / "a.svs", "a")]
    Flaky.left = 10**6
    with Mirror(out, url, ()) as mirror:
        run_slides(Toy(out), items, out, tell=Tell(done=mirror.done))
        with pytest.raises(OutputError, match=r"1 of 1 slides could not be sent to flaky://bucket/run .*broken.*same"):
            mirror.finish()
    held = there(Flaky(), "/bucket/run")
    assert f"a/{LIST_NAME}" not in held, "not whole"
    assert RUN_NAME not in held, "the index never names what is missing"
    assert (out / "a" / "report.html").read_text() == "a one"
    Flaky.left = 0
    run(tmp_path, url, "a")
    assert {f"a/{LIST_NAME}", RUN_NAME} <= set(there(Flaky(), "/bucket/run"))


def test_what_is_there_is_not_sent_again_what_has_changed_is_and_what_failed_is_marked(tmp_path: Path) -> None:
    url = "flaky://bucket/run"
    run(tmp_path, url, "a", "b")
    with Mirror(tmp_path / "out", url) as mirror:
        Flaky.order.clear()
        mirror.done(Outcome("a", "a.svs", SlideStatus.OK))
        mirror.finish()
    assert not any("/a/" in name for name in Flaky.order)
    run(tmp_path, url, "a", "b", text="another")
    assert there(Flaky(), "/bucket/run")["a/report.html"] == b"a another"
    with Mirror(tmp_path / "out", url) as mirror:
        mirror.done(Outcome("a", "a.svs", SlideStatus.FAILED, "torn"))
        mirror.finish()
    held = there(Flaky(), "/bucket/run")
    assert f"a/{LIST_NAME}" not in held
    assert f"b/{LIST_NAME}" in held


def test_what_is_no_url_or_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        Mirror(tmp_path, str(tmp_path))
    with pytest.raises(ConfigError, match="a web server takes no files") as caught:
        Mirror(tmp_path, "https://127.0.0.1:9/x?secret=1")
    assert "secret" not in str(caught.value)
    told = CliRunner().invoke(app, ["screen", "a.svs", "--out", "s3://bucket/run?key=1"])
    assert isinstance(told.exception, ConfigError)
    assert "--out FOLDER --mirror s3://bucket/run" in str(told.exception)
    assert "key" not in str(told.exception)
