"""What does the jobs of a run: this process, threads of it, or several processes. Another runner is one more file here.

A runner is called with the jobs and with whom to tell how far they are. It does each job once by
:func:`~stride_monai.runs.attempt`, wherever and in whatever order, and yields how each ended, as it ends; a job that
fails stops no other. What is made depends on no runner. Whoever called it keeps the record of the run, and closes the
generator when it wants no more (``contextlib.closing``): no process may outlive that.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_double
from multiprocessing.sharedctypes import SynchronizedArray
from queue import SimpleQueue
from typing import Any, Generic, Protocol

from stride_monai.errors import ConfigError, OutputError
from stride_monai.guard import signals_held
from stride_monai.runs.claims import InUseError, JobClaims
from stride_monai.runs.jobs import Ended, Job, Part, T, attempt, unheard

__all__ = ["Processes", "Runner", "Shared", "Threads", "serial"]

_POLL_SECONDS = 0.5
_AHEAD = 2
"""Jobs given out for each process: the next one waits for it."""


class Runner(Protocol):
    """Does jobs."""

    def __call__(self, jobs: Sequence[Job[T]], on_part: Part = unheard) -> Generator[Ended[T], None, None]:
        """How each job ended.

        Args:
            on_part: told the number of jobs that are done, those begun by their share.
        """


def serial(jobs: Sequence[Job[T]], on_part: Part = unheard) -> Generator[Ended[T], None, None]:
    """A :class:`Runner`: one job after the other, in order, in this process."""
    for number, job in enumerate(jobs):
        ended = attempt(job, lambda share, number=number: on_part(number + share))  # type: ignore[misc]
        on_part(number + 1)
        yield ended


class Shared(Generic[T]):
    """:func:`serial` of processes that share a folder and need not know each other, in steps for a loop of another's.

    Each process attempts all jobs. What another one is at is left for the end: it is done then, or that process is gone
    and it is made here.
    """

    def __init__(self, claims: JobClaims) -> None:
        self.claims = claims
        self._busy = deque[Job[T]]()

    def attempt(self, job: Job[T]) -> Ended[T] | None:
        """How the job ended; None where another process is at it.

        Raises:
            OutputError: it cannot be claimed.
        """
        try:
            with self.claims.held(job.id):
                return attempt(job)
        except InUseError:
            self._busy.append(job)
            return None

    def rest(self) -> Iterator[Ended[T]]:
        """How those ended that others were at."""
        while self._busy:
            job = self._busy.popleft()
            with self.claims.held(job.id, wait=True):
                ended = attempt(job)
            yield ended


class Threads:
    """A :class:`Runner`: so many threads, for jobs that wait for a process of their own.

    Args:
        on_stop: called where the run ends before its jobs have, so that those in hand end soon.

    Raises:
        ConfigError: there would be no thread to do the work.
    """

    def __init__(self, workers: int, on_stop: Callable[[], None] = lambda: None) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} workers do nothing", "give 1 or more")
        self.workers, self._on_stop = workers, on_stop

    def __call__(self, jobs: Sequence[Job[T]], on_part: Part = unheard) -> Generator[Ended[T], None, None]:
        """See :class:`Runner`."""
        left, taking, over = iter(jobs), threading.Lock(), threading.Event()
        ended: SimpleQueue[Ended[T]] = SimpleQueue()

        def work() -> None:
            while not over.is_set():
                with taking:
                    job = next(left, None)
                if job is None:
                    return
                try:
                    ended.put(attempt(job))
                except BaseException as error:  # the loop below waits for every job
                    ended.put(Ended(job.id, error=RuntimeError(f"the thread ended ({type(error).__name__})")))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.workers, len(jobs)))]
        try:
            for thread in threads:
                thread.start()
            for number in range(1, len(jobs) + 1):
                yield ended.get()
                on_part(number)
        finally:
            over.set()
            if any(thread.is_alive() for thread in threads):
                self._on_stop()
            for thread in threads:
                thread.join()


class Processes:
    """A :class:`Runner`: so many processes; with one, or for one job, this process.

    Raises:
        ConfigError: there would be no process to do the work.
        OutputError: when it runs, that one was killed.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} workers make nothing", "give 1 or more")
        self.workers = workers

    def __call__(self, jobs: Sequence[Job[T]], on_part: Part = unheard) -> Generator[Ended[T], None, None]:
        """See :class:`Runner`."""
        workers = min(self.workers, len(jobs))
        return serial(jobs, on_part) if workers <= 1 else _pooled(jobs, workers, on_part)


def _pooled(jobs: Sequence[Job[T]], workers: int, on_part: Part) -> Generator[Ended[T], None, None]:
    context = multiprocessing.get_context("spawn")
    places = list(range(_AHEAD * workers))
    shares = context.Array(c_double, len(places) + 1)  # the last one: whether to stop
    left, given, done = iter(jobs), dict[Future[Ended[T]], tuple[Job[T], int]](), 0
    with ProcessPoolExecutor(workers, context, _set_shares, (shares,)) as pool:
        try:
            while done < len(jobs):
                # Not all at once: to look through them whenever one ends would take quadratic time.
                for place, job in zip(tuple(places), left, strict=False):
                    with signals_held():  # this process stops the others
                        given[pool.submit(_work, job, place)] = job, place
                    places.remove(place)
                ended = []
                for future in wait(given, _POLL_SECONDS, FIRST_COMPLETED).done:
                    job, place = given.pop(future)
                    shares[place] = 0.0
                    places.append(place)
                    ended.append(_result(job, future))
                done += len(ended)
                on_part(done + sum(shares[:-1]))
                yield from ended
        except BaseException:
            shares[-1] = 1.0
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(job: Job[T], future: Future[Ended[T]]) -> Ended[T]:
    match future.exception():
        case None:
            return future.result()
        case BrokenProcessPool():
            raise OutputError(
                "a process that made slides was killed", "give it more memory or fewer workers, and run it again"
            )
        case Exception() as error:
            return Ended(job.id, error=error)
        case other:
            raise other


_shares: SynchronizedArray[float] | None = None


def _set_shares(shares: SynchronizedArray[float]) -> None:
    """Run once in every worker: where it says how far it is, and is told to stop."""
    global _shares
    _shares = shares


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def _work(job: Job[Any], place: int) -> Ended[Any]:
    last = 0.0

    def on_part(share: float) -> None:
        nonlocal last
        if _shares is not None and (_shares[-1] or not _parent_lives()):
            raise SystemExit("stopped")
        if _shares is not None and time.monotonic() - last > _POLL_SECONDS / 2:
            last = time.monotonic()
            _shares[place] = share

    on_part(0.0)
    ended = attempt(job, on_part)
    if ended.error is not None:
        raise ended.error  # with its traceback, which an error that is only handed over loses
    return ended
