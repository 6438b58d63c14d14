"""One job of a run, such as a slide to screen or a bag to make, and how it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from stride_monai.errors import StrideError

__all__ = ["Ended", "Job", "Part", "attempt", "never", "unheard"]

T = TypeVar("T")
Part: TypeAlias = Callable[[float], None]
"""Told what share of something is done."""


def never() -> None:
    """The ``done`` of a job that is to be made whatever is there."""


def unheard(_: Any) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One job.

    Attributes:
        id: tells it from the others of its run, and is the same when the run is taken up again.
        done: gives what ``make`` would where that is there already, complete and of the same things; else None.
        make: makes it, complete or absent; told whom to tell the share that is done, 0-1.

    A runner of several processes pickles both functions: methods of a plain object, or ``functools.partial``.
    """

    id: str
    done: Callable[[], T | None]
    make: Callable[[Part], T]


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """How a job ended.

    Attributes:
        value: what it gave; None where it failed.
        made: whether it was made now; False where it was there already.
        error: why it failed.
        seconds: that it took here.
    """

    id: str
    value: T | None = None
    made: bool = False
    error: Exception | None = None
    seconds: float = 0.0

    def get(self) -> T:
        """What it gave; raises why it failed."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value

    @property
    def reason(self) -> str:
        """Why it failed, for people; empty where it did not."""
        if self.error is None or isinstance(self.error, StrideError):
            return str(self.error or "")
        return " ".join(f"unexpected {type(self.error).__name__}: {self.error}".split())

    @property
    def trace(self) -> str:
        """Of a defect, for whoever mends it; empty where it did not fail, or as we say ourselves that things fail."""
        if self.error is None or isinstance(self.error, StrideError):
            return ""
        return "".join(traceback.format_exception(self.error))


def attempt(job: Job[T], on_part: Part = unheard) -> Ended[T]:
    """Do a job, unless that is done; whatever error it meets is how it ended. Signals and exits are not errors."""
    start = time.perf_counter()
    try:
        there = job.done()
        value = job.make(on_part) if there is None else there
    except Exception as error:
        return Ended(job.id, error=error, seconds=time.perf_counter() - start)
    return Ended(job.id, value, there is None, None, time.perf_counter() - start)
