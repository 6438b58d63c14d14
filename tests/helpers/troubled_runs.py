"""What may befall a run: a full disk, a disk that is read-only, inputs that vanish, a clock that jumps, Ctrl-C."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watched_runs import Running, Watched, contents, index, left_of, stamps, watched, wrong_in

from stride_monai.guard.memory import family

__all__ = ["TROUBLES", "Trouble", "killed_run"]

_POLL_SECONDS = 0.05
_A_SLIDE = 0.5
"""Seconds that one takes with networks that cost little."""


def killed_run(words: Sequence[object], out: Path, true: dict[str, bytes], seed: int, most: int = 12) -> dict[str, Any]:
    """One batch from its first command to its last: killed up to so many times, and then let go on.

    A moment is some time after so many slides are done, which does not depend on what else the machine does.

    Args:
        words: of the command.
        true: what it writes if nobody disturbs it.
    """
    chance, found = random.Random(f"kills {seed}"), []
    shutil.rmtree(out, ignore_errors=True)
    for _ in range(most):
        victim = chance.choices(("command", "process", "both"), (5, 2, 5))[0]  # after the second all others are done
        before = stamps(out)
        wanted, more = len(before) + chance.randrange(3), chance.uniform(0, _A_SLIDE)
        with tempfile.TemporaryDirectory() as folder:
            running = Running(words, Path(folder), installed=False)
            while running.ended(_POLL_SECONDS) is None and len(stamps(out)) < wanted:
                pass
            if running.ended(more) is not None:
                break
            members = family(running.pid)
            targets = {"command": members[:1], "process": members[1:], "both": members[::-1]}[victim]
            for pid in targets or members:  # there may be no process yet
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            running.ended()
        kept = {name: at for name, at in stamps(out).items() if name in before}
        found.append(
            {
                "victim": victim,
                "moment": [wanted, round(more, 2)],
                "left": len(left_of(set(members))),
                "lost": len(before.keys() - kept.keys()),
                "twice": sum(before[name] != at for name, at in kept.items()),
                "halves": len(wrong_in(out, true)),
            }
        )
    ended = watched(words, installed=False)
    run = index(out)
    return {
        "kills": found,
        "status": ended.status,
        "finished": run["run"]["finished"],
        "slides": run["counts"],
        "identical": contents(out) == true,
        "leftovers": [path.name for path in out.iterdir() if path.name.startswith(".stride_monai-")],
    }


@dataclass
class Trouble:
    """A run that is troubled, and the same command afterwards.

    Attributes:
        folder: a new folder, with ``out`` to write to; whole: files of a run that nobody disturbed.
        words: of the command, without its output folder.
    """

    folder: Path
    words: list[object]
    whole: dict[str, bytes]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, look: Callable[[int], None] = lambda pid: None, **options: Any) -> Watched:
        return watched([*self.words, self.out], look, installed=bool(options), **options)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small file system of its own at a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)
    try:
        yield
    finally:
        unmounted(folder)


def unmounted(folder: Path) -> None:
    subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


def remounted(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), folder], check=True)


def after_first(out: Path, act: Callable[[int], None]) -> Callable[[int], None]:
    """Do something once, when the first slide of a run is done."""
    acted = False

    def look(pid: int) -> None:
        nonlocal acted
        if not acted and (out / "outcomes.jsonl").exists():
            acted = True
            act(pid)

    return look


def disk_full(trouble: Trouble) -> Iterator[Watched]:
    size = sum(map(len, trouble.whole.values())) // 2
    with mounted(trouble.out, f"size={size}"):
        yield trouble.run()
        remounted(trouble.out, "size=1g")
        yield trouble.run()
        shutil.copytree(trouble.out, trouble.folder / "made")


def disk_full_at_once(trouble: Trouble) -> Iterator[Watched]:
    with mounted(trouble.out, "size=4k"):
        (trouble.out / "filled").write_bytes(bytes(4096))
        yield trouble.run()
        remounted(trouble.out, "size=1g")
        (trouble.out / "filled").unlink()
        yield trouble.run()
        shutil.copytree(trouble.out, trouble.folder / "made")


def read_only(trouble: Trouble) -> Iterator[Watched]:
    with mounted(trouble.out, "ro,size=1g"):
        yield trouble.run()
        remounted(trouble.out, "rw")
        yield trouble.run()
        shutil.copytree(trouble.out, trouble.folder / "made")


def output_unmounted(trouble: Trouble) -> Iterator[Watched]:
    """As where a share is gone: an empty folder has its name."""
    with mounted(trouble.out, "size=1g"):
        yield trouble.run(after_first(trouble.out, lambda pid: unmounted(trouble.out)))
        yield trouble.run()


def no_large_files(trouble: Trouble) -> Iterator[Watched]:
    """As where a quota is met: no file may be longer than 20 kB."""
    yield trouble.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    yield trouble.run()


def output_removed(trouble: Trouble) -> Iterator[Watched]:
    yield trouble.run(after_first(trouble.out, lambda pid: trouble.out.rename(trouble.folder / "gone")))
    yield trouble.run()


def input_vanishes(trouble: Trouble) -> Iterator[Watched]:
    """All slides of the second half are taken away, and brought back."""
    here, away = trouble.folder / "in", trouble.folder / "away"
    shutil.copytree(Path(str(trouble.words[0])), here)
    trouble.words = [here, *trouble.words[1:]]
    there = sorted(here.iterdir())
    those = there[len(there) // 2 :]

    def take(pid: int) -> None:
        away.mkdir()
        for path in those:
            path.rename(away / path.name)

    yield trouble.run(after_first(trouble.out, take))
    for path in away.iterdir():
        path.rename(here / path.name)
    yield trouble.run()


def two_at_once(trouble: Trouble) -> Iterator[Watched]:
    """What a second command says while the first is at work, which is then killed."""
    second: list[Watched] = []

    def meanwhile(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)  # lest it is done before the second has begun
        second.append(trouble.run())
        os.kill(pid, signal.SIGKILL)

    trouble.run(after_first(trouble.out, meanwhile))
    yield second[0]
    yield trouble.run()


def clock_jumps(trouble: Trouble) -> Iterator[Watched]:
    """Seconds after each process began its clock is a day earlier."""
    source, library = trouble.folder / "jump.c", trouble.folder / "jump.so"
    source.write_text(_JUMP, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    yield trouble.run(variables={"LD_PRELOAD": str(library)})
    yield trouble.run()


_JUMP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
typedef int (*clock_function)(clockid_t, struct timespec *);
static time_t moved(void) {
    static clock_function real; static time_t begun; struct timespec now;
    if (!real) real = (clock_function)dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    if (!begun) begun = now.tv_sec;
    return now.tv_sec - begun > 6 ? 86400 : 0;
}
int clock_gettime(clockid_t which, struct timespec *out) {
    static clock_function real;
    if (!real) real = (clock_function)dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, out);
    if (!status && which == CLOCK_REALTIME) out->tv_sec -= moved();
    return status;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec; out->tv_usec = now.tv_nsec / 1000;
    return status;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def stopped_by(number: signal.Signals) -> Callable[[Trouble], Iterator[Watched]]:
    def stop(trouble: Trouble) -> Iterator[Watched]:
        yield trouble.run(after_first(trouble.out, lambda pid: os.killpg(pid, number)), variables={})
        yield trouble.run()

    return stop


TROUBLES: dict[str, tuple[Callable[[Trouble], Iterator[Watched]], tuple[int, ...]]] = {
    "disk full after some slides": (disk_full, (1, 2)),
    "disk full from the beginning": (disk_full_at_once, (1, 2)),
    "output on a read-only disk": (read_only, (2,)),
    "output unmounted": (output_unmounted, (2,)),
    "no file may be long": (no_large_files, (1, 2)),
    "output folder taken away": (output_removed, (2,)),
    "slides taken away": (input_vanishes, (1,)),
    "second command on one output, the first killed": (two_at_once, (2,)),
    "clock a day back": (clock_jumps, (0,)),
    "Ctrl-C": (stopped_by(signal.SIGINT), (130,)),
    "SIGTERM": (stopped_by(signal.SIGTERM), (143,)),
    "terminal closed (SIGHUP)": (stopped_by(signal.SIGHUP), (129,)),
}
"""What happens, and the exit statuses with which a run may end then."""
