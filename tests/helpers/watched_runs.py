"""The command as it is installed, run to its end or killed, and looked at meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

import processes
from mutated_slides import Seed, seeds

from stride_monai.files import TEMPORARY
from stride_monai.guard.memory import family, memory_in_use
from stride_monai.ownership import LIST_NAME

__all__ = [
    "ENDS",
    "Running",
    "Watched",
    "contents",
    "end_of",
    "index",
    "left_of",
    "small_slides",
    "stamps",
    "watched",
    "wrong_in",
]

REPOSITORY = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05


@dataclass
class Watched:
    """A command that ran, and what it and its processes took.

    Attributes:
        peak: the most that all of its processes held together, bytes; left: of its processes, still there 10 s after.
    """

    status: int
    said: str
    wrong: str
    seconds: float
    peak: int = 0
    left: list[int] = field(default_factory=list)


class Running:
    """``stride-monai screen`` at work, on one thread.

    Args:
        words: of the command line.
        folder: a new one, for what it says.
        installed: as a program; else forked from a process that has imported PyTorch, which spares ten seconds.
        variables: of an installed program.
        options: of :class:`subprocess.Popen`.
    """

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        installed: bool = True,
        variables: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        self._files = [folder / "said", folder / "wrong"]
        command = ["screen", *map(str, words)]
        self._process: subprocess.Popen[bytes] | ForkServerProcess
        if installed:
            path = os.pathsep.join(map(str, (REPOSITORY, Path(__file__).parent)))
            own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
            environment = {**os.environ, **own, **variables}
            words = [sys.executable, "-m", "stride_monai", *command]
            with self._files[0].open("wb") as said, self._files[1].open("wb") as wrong:
                self._process = subprocess.Popen(
                    words, stdout=said, stderr=wrong, env=environment, start_new_session=True, **options
                )
        else:
            self._process = processes.start("stride_monai", command, stdout=self._files[0], stderr=self._files[1])
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def ended(self, seconds: float | None = None) -> int | None:
        """Its exit status; None where it has not ended after so many seconds."""
        if isinstance(self._process, subprocess.Popen):
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(seconds)
            return None
        self._process.join(seconds)
        return self._process.exitcode

    def texts(self) -> list[str]:
        return [file.read_text(errors="replace") for file in self._files]


def watched(
    words: Sequence[object], look: Callable[[int], None] = lambda pid: None, installed: bool = True, **options: Any
) -> Watched:
    """Run a command to its end; ``look`` is called with its number now and then."""
    start, seen, peak = time.perf_counter(), set[int](), 0
    with tempfile.TemporaryDirectory() as folder:
        running = Running(words, Path(folder), installed, **options)
        while (status := running.ended(_POLL_SECONDS)) is None:
            seen |= set(family(running.pid))
            peak = max(peak, memory_in_use(running.pid) or 0)
            look(running.pid)
        said, wrong = running.texts()
    return Watched(status, said, wrong, time.perf_counter() - start, peak, left_of(seen))


def left_of(members: set[int]) -> list[int]:
    for _ in range(200):
        members = {pid for pid in members if alive(pid)}
        if not members:
            break
        time.sleep(_POLL_SECONDS)
    return sorted(members)


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def index(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return found


ENDS = {
    "ended the process": "crash",
    "was not done after": "over time",
    "took too much memory": "over memory",
    "unexpected ": "defect",
}
"""What is in the reason of a slide that no message of ours was meant for."""


def end_of(one: dict[str, Any]) -> str:
    if one["status"] in ("ok", "unsatisfactory", "lost"):
        return "lost" if one["status"] == "lost" else "ok"
    return next((end for words, end in ENDS.items() if words in one["reason"]), "failed")


def small_slides(folder: Path, count: int) -> None:
    """Slides of one or three tiles in formats in turn."""
    formats = [one for one in seeds() if one.name in ("svs", "tiff deflate", "png", "ome-tiff", "kfb", "dicom jpeg")]
    folder.mkdir(parents=True)
    for number in range(count):
        one: Seed = formats[number % len(formats)]
        path = folder / f"{number:04d}{one.suffix}"
        if one.beside:
            path = folder / f"{number:04d}" / f"level-0{one.suffix}"
            path.parent.mkdir()
            for name, content in one.beside.items():
                (path.parent / name).write_bytes(content)
        path.write_bytes(one.content)


def contents(out: Path) -> dict[str, bytes]:
    """The files of the slides; the index of the run says when, and so differs."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for folder in out.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for path in folder.rglob("*")
        if path.is_file()
    }


def stamps(out: Path) -> dict[str, int]:
    """When the findings of each slide that is done were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob(f"[!.]*/{LIST_NAME}") if done(path.parent)}


def done(folder: Path) -> bool:
    listed = json.loads((folder / LIST_NAME).read_bytes())
    return bool(listed["complete"]) and all((folder / name).is_file() for name in listed["files"])


def wrong_in(out: Path, true: dict[str, bytes]) -> list[str]:
    """Files in the folders of slides that are not what an undisturbed run writes.

    A list that says that its folder is not complete is right until the next run, as are files under temporary names.
    """
    made = contents(out) if out.exists() else {}
    return [name for name, content in made.items() if true.get(name) != content and not unfinished(name, content)]


def unfinished(name: str, content: bytes) -> bool:
    """Whether a file says of itself that a run was cut off, or is of a defect."""
    folder, _, file = name.rpartition("/")
    if folder == "errors" or file.startswith(TEMPORARY):
        return True
    return file == LIST_NAME and json.loads(content)["complete"] is False
