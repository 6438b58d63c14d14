"""Slides to bags: bad slides, resumption, several processes, killed processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plug_ins
import pytest
import torch
import toy_reader
from detection_toys import DarkSpots
from filelock import FileLock
from monai.data import Dataset
from PIL import Image

from stride_monai.data.bags.bag import BagFile
from stride_monai.engines.slide_bags import FAILED_FOLDER, SlideBagMaker
from stride_monai.errors import OutputError, SlideError
from stride_monai.files import replacing
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.runs.claims import CLAIMS_FOLDER
from stride_monai.slides.readers.registry import READERS

GOOD = ("a", "b", "c", "d")


@pytest.fixture
def slides(tmp_path: Path) -> list[dict[str, object]]:
    """Four slides with dark squares, and one that is none."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for place, name in enumerate(GOOD):
        image = np.full((300, 400, 3), 240, np.uint8)
        for x in range(40, 380, 60):
            image[100:130, x : x + 20 + place] = (50, 60, 70)
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "bad.svs").write_text("not a slide")
    names = ["a.png", "bad.svs", "b.png", "c.png", "d.png"]
    return [{"image": str(folder / name), "mpp": 0.5, "slide_id": Path(name).stem} for name in names]


def maker(
    folder: Path, data: list[dict[str, object]], top_k: int = 3, slow: float = 0.0, **options: Any
) -> SlideBagMaker:
    return SlideBagMaker(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(Dataset(data), batch_size=1, collate_fn=list),
        network=DarkSpots(slow),
        inferer=SlideDetectionInferer(tile_px=128, overlap_px=32, top_k=top_k, workers=1),
        output_dir=folder,
        crop_px=32,
        **{"overwrite": False, **options},
    )


def bags(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".bag.arrow") for path in folder.iterdir() if path.is_file())


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.bag.arrow")}


def test_a_bad_slide_does_not_stop_the_rest(
    tmp_path: Path, slides: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "weights.pt").write_bytes(b"weights")
    out = tmp_path / "bags"
    with caplog.at_level("INFO"), pytest.raises(SlideError, match=r"1 of 5 slides failed here \(bad\)"):
        maker(out, slides, weights=tmp_path / "weights.pt").run()
    assert bags(out) == list(GOOD)
    assert "bad.svs" in (out / FAILED_FOLDER / "bad.txt").read_text()
    assert "bad failed" in caplog.text
    assert "5 of 5 slides" in caplog.text
    bag = BagFile(out / "a.bag.arrow")
    assert len(bag) == 3
    header = bag.header
    assert (header.slide_id, header.crop_px, header.crop_mpp, header.slide_mpp, header.top_k) == ("a", 32, 0.5, 0.5, 3)
    assert len(header.detector_sha256) == len(header.slide_fingerprint) == 64
    assert len(header.config_hash) == 16
    assert bag.image(0).shape == (32, 32, 3)


def test_a_defect_does_not_stop_the_rest(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    run = maker(tmp_path / "bags", [slides[0], slides[2]])
    detect = run.network.detect

    def fails_once(*args: Any) -> Any:
        run.network.detect = detect
        raise ZeroDivisionError("a defect")

    run.network.detect = fails_once
    with pytest.raises(SlideError, match=r"\(a\)"):
        run.run()
    assert bags(tmp_path / "bags") == ["b"]
    assert "ZeroDivisionError: a defect" in (tmp_path / "bags" / FAILED_FOLDER / "a.txt").read_text()
    maker(tmp_path / "bags", [slides[0], slides[2]]).run()
    assert bags(tmp_path / "bags") == ["a", "b"]
    assert not (tmp_path / "bags" / FAILED_FOLDER / "a.txt").exists()


def test_complete_bags_stay_and_others_are_made_again(
    tmp_path: Path, slides: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    good, out, weights = [s for s in slides if s["slide_id"] != "bad"], tmp_path / "bags", tmp_path / "weights.pt"
    weights.write_bytes(b"first")
    maker(out, good, weights=weights).run()
    before = times(out)
    maker(out, good, weights=weights).run()
    assert times(out) == before

    (out / "b.bag.arrow").unlink()  # a run that was stopped
    (out / "c.bag.arrow").write_bytes(b"damaged")
    dead = subprocess.Popen(["true"])
    dead.wait()
    with replacing(tmp_path / "x") as temporary:
        left = temporary.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    (out / left).write_bytes(b"left by a process that was killed")
    with Image.open(str(good[3]["image"])) as picture:
        Image.fromarray(np.asarray(picture)[:, ::-1]).save(str(good[3]["image"]))  # d is another slide now
    maker(out, good, weights=weights).run()
    after = times(out)
    assert {name for name in after if after[name] != before[name]} == {f"{n}.bag.arrow" for n in "bcd"}
    assert bags(out) == list(GOOD)
    assert "d: its bag is of other slide file and is made again" in caplog.text

    weights.write_bytes(b"second")
    maker(out, good, weights=weights).run()
    assert "a: its bag is of other weights and is made again" in caplog.text
    assert len({BagFile(path).header.detector_sha256 for path in out.glob("*.arrow")}) == 1
    maker(out, good, weights=weights, top_k=2).run()
    assert "a: its bag is of other settings and is made again" in caplog.text
    assert all(len(BagFile(path)) <= 2 for path in out.glob("*.arrow"))
    now = times(out)
    maker(out, good, weights=weights, top_k=2, overwrite=True).run()
    assert all(times(out)[name] != now[name] for name in now)


@pytest.mark.parametrize("name", ["c.bag.arrow", "d.bag.arrow"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_bag_is_never_replaced(
    tmp_path: Path, slides: list[dict[str, object]], name: str, overwrite: bool
) -> None:
    """Refused by name before anything is made."""
    out = tmp_path / "bags"
    out.mkdir()
    (out / name).write_bytes(b"ARROW1 of somebody else")
    (out / ".mine.part").write_bytes(b"a download")
    with pytest.raises(OutputError, match=name):
        maker(out, slides, overwrite=overwrite).run()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        name: b"ARROW1 of somebody else",
        ".mine.part": b"a download",
    }


def test_bags_are_not_written_into_the_folder_of_a_slide(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "level-0.dcm").write_bytes(b"pixels")
    with pytest.raises(OutputError, match="belongs to a slide"):
        maker(folder, [{"image": str(folder / "level-0.dcm"), "slide_id": "a"}]).run()
    with pytest.raises(OutputError, match="an input"):
        maker(folder, [{"image": str(folder / "x.bag.arrow"), "slide_id": "x"}]).run()
    assert [path.name for path in folder.iterdir()] == ["level-0.dcm"]


def test_a_note_of_somebody_else_stays(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    note = tmp_path / "bags" / FAILED_FOLDER / "bad.txt"
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    with pytest.raises(SlideError):
        maker(tmp_path / "bags", slides[1:2]).run()
    assert note.read_text() == "mine"
    assert "bad.svs" in note.with_name("bad (2).txt").read_text()


def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    run = maker(tmp_path / "bags", [slides[0], slides[2]])
    make = run._make
    run._make = lambda item, path: (make(item, path), shutil.rmtree(tmp_path / "bags"))[0]  # type: ignore[method-assign]
    with pytest.raises(OutputError, match="has vanished"):
        run.run()
    assert not (tmp_path / "bags").exists()


def test_without_locks_slides_are_claimed_by_files(
    tmp_path: Path, slides: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: object, *args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", none)
    maker(tmp_path / "bags", [slides[0]]).run()
    assert bags(tmp_path / "bags") == ["a"]
    assert not list((tmp_path / "bags" / CLAIMS_FOLDER).glob("*.running"))


def work(folder: Path, data: list[dict[str, object]], slow: float, results: Any) -> None:
    torch.set_num_threads(1)
    run = maker(folder, data, slow=slow)
    made: list[str] = []
    make = run._make
    run._make = lambda item, path: (made.append(str(item["slide_id"])), make(item, path))[1]  # type: ignore[method-assign]
    try:
        run.run()
        results.put((made, ""))
    except SlideError as error:
        results.put((made, str(error)))


def test_processes_share_the_slides(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    crew = [context.Process(target=work, args=(tmp_path / "bags", slides, 0.1, results)) for _ in range(2)]
    for process in crew:
        process.start()
    shares = [results.get(timeout=120) for _ in crew]
    for process in crew:
        process.join(30)
    made = [slide for share, _ in shares for slide in share if slide != "bad"]
    assert sorted(made) == list(GOOD), "each slide is made once"
    assert all(share for share, _ in shares), "both have worked"
    assert any("bad" in error for _, error in shares)
    assert bags(tmp_path / "bags") == list(GOOD)


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed slide b and will never finish it."""
    lock = tmp_path / "bags" / CLAIMS_FOLDER / "b.lock"
    lock.parent.mkdir(parents=True)
    code = f"import time, filelock; lock = filelock.FileLock({str(lock)!r}); lock.acquire(); print('held', flush=True)"
    code += "; time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_process_had_claimed_is_taken_over(
    tmp_path: Path, slides: list[dict[str, object]], other_process: subprocess.Popen[str]
) -> None:
    good, out = [s for s in slides if s["slide_id"] != "bad"], tmp_path / "bags"
    thread = threading.Thread(target=maker(out, good).run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while set(bags(out)) != {"a", "c", "d"} and time.monotonic() < deadline:
            time.sleep(0.05)
        assert bags(out) == ["a", "c", "d"], "the others are made meanwhile"
        assert thread.is_alive(), "it waits for the claimed slide"
    finally:
        os.kill(other_process.pid, signal.SIGKILL)
        thread.join(60)
    assert not thread.is_alive()
    assert bags(out) == list(GOOD)


@pytest.mark.parametrize(
    ("happens", "says"), [("read:abort", r"reading x\.toy ends the process \(SIGABRT\)"), ("read:nothing", "")]
)
def test_a_slide_at_which_a_process_ended_is_tried_apart_first(
    happens: str,
    says: str,
    tmp_path: Path,
    slides: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    toy_reader.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    plug_ins.add(monkeypatch, READERS, toy=toy_reader.ToyReader)
    slide = tmp_path / "x.toy"
    slide.write_text(happens)
    data = [{"image": str(slide), "slide_id": "x"}, slides[0]]
    mark = tmp_path / "bags" / CLAIMS_FOLDER / "x.begun"
    mark.parent.mkdir(parents=True)
    mark.touch()
    for _ in range(2):  # the mark stays as long as it goes wrong
        if says:
            with pytest.raises(SlideError, match=r"1 of 2 slides failed here \(x\)"):
                maker(tmp_path / "bags", data).run()
            assert re.search(says, (tmp_path / "bags" / FAILED_FOLDER / "x.txt").read_text())
        else:
            maker(tmp_path / "bags", data).run()
        assert mark.exists() == bool(says)
    assert bags(tmp_path / "bags") == (["a"] if says else ["a", "x"])
    assert ("x: a process ended at this slide" in caplog.text) is True


def test_a_folder_that_cannot_be_written_to_stops_the_run(tmp_path: Path, slides: list[dict[str, object]]) -> None:
    (tmp_path / "bags").write_text("a file")
    with pytest.raises(OutputError, match="bags"):
        maker(tmp_path / "bags", slides[:1]).run()
