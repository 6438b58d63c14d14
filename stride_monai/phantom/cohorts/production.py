"""Many slides or bags in parallel, each complete or absent; an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_double
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Any, Protocol

from stride_monai import __version__
from stride_monai.data.cohort_files import COHORT_FILES, CohortFiles
from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import config_hash, remove_leftovers, write_bytes
from stride_monai.guard import signals_held
from stride_monai.ownership import named
from stride_monai.phantom.files.products import is_product

__all__ = [
    "SETTINGS_FILE",
    "TABLES",
    "Job",
    "check_room",
    "check_workers",
    "claim_folder",
    "free_bytes",
    "produce",
    "refuse_foreign_files",
    "remove_traces",
]

SETTINGS_FILE = "cohort.json"
"""What a cohort folder was made from."""

TABLES = ("manifest.csv", "cells.csv", "truth.csv")
_POLL_SECONDS = 0.5
_OWN_FOLDERS = ("slides", "truth", "bags")

Progress = Callable[[int, int], None]
Part = Callable[[float], None]


class Job(Protocol):
    """One slide or bag to make. Can be pickled."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it writes."""

    def own(self, path: Path) -> bool:
        """Whether what stands in the place of one of its files is of this kind, made by us."""

    def complete(self) -> bool:
        """Whether its files stand there, made from the same arguments.

        Raises:
            OutputError: they were made from others.
        """

    def make(self, on_part: Part) -> None:
        """Write the files; calls ``on_part`` with the share that is done, 0-1."""


def claim_folder(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> str:
    """Write what a cohort is made from into its folder, before anything else.

    Args:
        settings: plain data.
        overwrite: remove the cohort of other arguments that stands there.

    Returns:
        The fingerprint of the settings.

    Raises:
        OutputError: the folder holds a cohort made from other arguments and ``overwrite`` is False; or one that was
            made otherwise, or tables that somebody has changed, whatever ``overwrite`` says.
    """
    document = {"stride_monai": __version__, **settings}
    content = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    path, files = folder / SETTINGS_FILE, CohortFiles(folder)
    files.refuse([*TABLES, SETTINGS_FILE])
    if not path.exists() and (others := files.standing(COHORT_FILES)):
        raise OutputError(
            f"{folder} holds {named(others)}, of a cohort that was made otherwise", "choose another folder"
        )
    if path.exists() and path.read_bytes() != content:
        if not overwrite:
            raise OutputError(
                f"{folder.name} holds a cohort made from other arguments",
                "choose another folder or ask to overwrite it",
            )
        _remove_cohort(folder, path)
        CohortFiles(folder).remove(TABLES)
    CohortFiles(folder).write(SETTINGS_FILE, lambda place: write_bytes(place, content))
    return config_hash(document)


def _remove_cohort(folder: Path, settings: Path) -> None:
    """The slides, bags and truths that a cohort wrote, told by the name it had and by what they are; others stay."""
    try:
        name = str(json.loads(settings.read_text())["design"]["name"])
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{settings} is no settings file of a cohort", "remove the folder yourself") from None
    pattern = re.compile(rf"{re.escape(name)}-\d+\.(tiff|geojson|bag\.arrow)")
    for place in _OWN_FOLDERS:
        remove_leftovers(folder / place)
        for path in sorted((folder / place).glob("*")):
            if pattern.fullmatch(path.name) and is_product(path):
                path.unlink(missing_ok=True)


def refuse_foreign_files(jobs: Sequence[Job]) -> None:
    """Refuse jobs in the place of whose files something stands that is not ours.

    Raises:
        OutputError: naming what stands there.
    """
    foreign = [str(path) for job in jobs for path in job.files if os.path.lexists(path) and not job.own(path)]
    if foreign:
        raise OutputError(
            f"{named(foreign)}, not made by stride-monai, would be replaced",
            "move it elsewhere, or choose another --out",
        )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that a folder is on, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def produce(
    jobs: Sequence[Job],
    workers: int,
    *,
    done: int = 0,
    on_progress: Progress | None = None,
    on_part: Part | None = None,
) -> None:
    """Do the jobs.

    Args:
        workers: processes; what is made does not depend on it.
        done: jobs that were complete before.
        on_progress: called with (jobs done, jobs in all).
        on_part: called with the number of jobs done, started ones by their share.

    Raises:
        OutputError: a file cannot be written, or a process died.
    """
    before, total = done, done + len(jobs)
    if on_progress is not None:
        on_progress(done, total)

    def partly(share: float) -> None:
        if on_part is not None:
            on_part(before + share)

    for _ in _made(jobs, min(workers, len(jobs)), partly):
        done += 1
        if on_progress is not None:
            on_progress(done, total)


def check_room(folder: Path, jobs: int, bytes_per_job: float) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        OutputError: naming what is needed and what is left.
    """
    needed, free = bytes_per_job * jobs, free_bytes(folder)
    if needed > free:
        slides = f"{jobs} slides need" if jobs > 1 else "1 slide needs"
        raise OutputError(
            f"{slides} about {needed / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB left",
            "make fewer or smaller ones, use another disk, or make bags only",
        )


def remove_traces(job: Job, all_of_it: bool) -> None:
    """Remove the half-written files of a process that was killed; or all files of a job that is to be done again."""
    for path in job.files:
        remove_leftovers(path.parent)
        if all_of_it and os.path.lexists(path) and job.own(path):
            path.unlink(missing_ok=True)


def _made(jobs: Sequence[Job], workers: int, on_part: Part) -> Iterator[None]:
    if workers <= 1:
        for number, job in enumerate(jobs):
            job.make(lambda share, number=number: on_part(number + share))  # type: ignore[misc]
            yield
        return
    context = multiprocessing.get_context("spawn")
    shares = context.Array(c_double, len(jobs) + 1)  # the last one: whether to stop
    with signals_held():  # this process stops the others
        pool = ProcessPoolExecutor(workers, context, _set_shares, (shares,))
        waiting = {pool.submit(_make, job, number) for number, job in enumerate(jobs)}
    with pool:
        try:
            while waiting:
                finished, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
                on_part(sum(shares[:-1]))
                for future in finished:
                    future.result()
                    yield
        except BrokenProcessPool:
            raise OutputError(
                "a process that made slides was killed", "give it more memory or fewer workers, and run it again"
            ) from None
        except BaseException:
            shares[-1] = 1.0
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_shares: SynchronizedArray[float] | None = None


def _set_shares(shares: SynchronizedArray[float]) -> None:
    """Run once in every worker: where it says how far it is, and is told to stop."""
    global _shares
    _shares = shares


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def _make(job: Job, number: int) -> None:
    last = time.monotonic()

    def on_part(share: float) -> None:
        nonlocal last
        if _shares is not None and (_shares[-1] or not _parent_lives()):
            raise SystemExit("stopped")
        if _shares is not None and (share >= 1 or time.monotonic() - last > _POLL_SECONDS / 2):
            last = time.monotonic()
            _shares[number] = share

    job.make(on_part)
    on_part(1.0)


def check_workers(workers: int) -> None:
    """Raises:
    ConfigError: there would be no process to do the work.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers make nothing", "give 1 or more")
