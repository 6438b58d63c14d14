"""Screening in a process of its own: a file that aborts it, stalls or fills the memory costs its slide and no other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from stride_monai.errors import BundleError
from stride_monai.files import remove_leftovers
from stride_monai.guard import (
    Guard,
    Limits,
    OverMemoryError,
    OverTimeError,
    ProcessEndedError,
    UnexpectedError,
    memory_in_use,
    memory_limit,
)
from stride_monai.names import readable
from stride_monai.ownership import LIST_NAME
from stride_monai.run_index import Outcome
from stride_monai.screening.batch import Progress, Writer, failed_slide, not_tried
from stride_monai.screening.config import ScreeningConfig, settings_of
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.results import FINDINGS_FILE
from stride_monai.screening.store import About
from stride_monai.screening.worker import Load, Look, Screen

__all__ = ["Allowance", "GuardedScreening", "networks_in", "why_ended"]

_SECONDS, _SECONDS_PER_TILE = 3600.0, 10.0
"""Without a limit of the user's. A slide of 2.4 Gpx (270 tiles) takes 38 s on two cores with the tiny profile."""
_SHARE_OF_MEMORY, _LEAST_MEMORY = 0.8, 4 * 2**30
_GIB = 2**30


class Allowance(NamedTuple):
    """What one slide may take.

    Attributes:
        seconds: None for an hour, or for ten seconds for each of its tiles where that is more; 0 for no limit.
        gib: memory of the process that screens, its networks included, in GiB; None for 80 % of what this machine or
            its container has, 4 GiB at least; 0 for no limit.
    """

    seconds: float | None = None
    gib: float | None = None

    def shared(self, workers: int) -> Allowance:
        """What a slide may take where so many are screened at once: they share what nobody has set."""
        whole = memory_limit()
        if workers == 1 or self.gib is not None or whole is None:
            return self
        return self._replace(gib=max(_SHARE_OF_MEMORY * whole / workers, _LEAST_MEMORY) / _GIB)

    def limits(self) -> Limits:
        """The limits with which a slide begins."""
        seconds = _SECONDS if self.seconds is None else self.seconds or None
        if self.gib is not None:
            return Limits(seconds, int(self.gib * _GIB) or None)
        whole = memory_limit()
        return Limits(seconds, whole and max(int(_SHARE_OF_MEMORY * whole), _LEAST_MEMORY))


class GuardedScreening:
    """Screens one slide after the other in one process, which is started when a slide needs it and anew where it ended.

    It is what :func:`~stride_monai.screening.batch.run_slides` takes; its networks are loaded when the first slide that
    can be opened comes.

    Args:
        out, overwrite: as of :class:`~stride_monai.screening.Batch`.
        load_writers: gives the writers; a function of a module, as it is called in the other process.
        on_load: told when networks begin to be loaded (True) and when they are (False).
        environment: variables of the other process.
        target: what the other process runs, see :class:`~stride_monai.guard.Guard`.

    Attributes:
        about: what screens; None as long as nothing has been loaded.
        note: what the user must know of the limits; empty for nothing.

    As a context manager it ends the process with the block.
    """

    def __init__(
        self,
        config: ScreeningConfig,
        out: Path,
        overwrite: bool,
        load_writers: Callable[[], Mapping[str, Writer]],
        allowance: Allowance = Allowance(),  # noqa: B008
        on_load: Callable[[bool], None] = lambda _: None,
        environment: Mapping[str, str] = MappingProxyType({}),
        target: str = "stride_monai.screening.worker:worker",
    ) -> None:
        self.about: About | None = None
        self._out, self._allowance, self._on_load = out, allowance, on_load
        self._guard = Guard(target, config, out, overwrite, load_writers, environment=environment)
        self._settings = settings_of(config)
        self._loaded = self._used = 0  # in which process there are networks; which has had a slide
        unknown = memory_in_use(os.getpid()) is None and allowance.gib != 0
        self.note = "this system does not say what memory a process holds: --slide-memory has no effect" * unknown

    def info(self) -> Mapping[str, object]:
        """What screens, for the index of the run; no more than the settings before networks are loaded."""
        return {"settings": self._settings, **({} if self.about is None else self.about.info())}

    def look(self, item: SlideInput) -> Outcome | None:
        """How a slide fails that cannot be opened; None for one that opens."""
        return self._ask(Look(item), item, time.perf_counter())

    def abandon(self) -> None:
        """Have the slide in hand end soon, without a trace; for another thread to call."""
        self._guard.abandon()

    def __call__(self, item: SlideInput, on_progress: Progress | None = None) -> Outcome:
        """The outcome of a slide.

        Raises:
            BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked.
        """
        start = time.perf_counter()
        if item.problem:
            return not_tried(self._out, item)
        # What has results already may be done, which the networks' settings tell.
        if not self._ready and not (self._out / item.slide_id / FINDINGS_FILE).exists():
            failed = self._ask(Look(item), item, start)
            if failed is not None:
                return failed
        for again in (False, True):
            self._load()
            outcome = self._ask(Screen(item), item, start, on_progress, or_none=not again)
            if outcome is not None:
                break
        assert outcome is not None
        return outcome

    @property
    def _ready(self) -> bool:
        return self._guard.process == self._loaded != 0

    @property
    def _worn(self) -> bool:
        return self._guard.process == self._used != 0

    def _written(self, item: SlideInput) -> int | None:
        """When the results of a slide were last written, or begun to be."""
        try:
            return (self._out / item.slide_id / LIST_NAME).stat().st_mtime_ns
        except OSError:
            return None

    def _load(self) -> None:
        if self._ready:
            return
        self._on_load(True)
        try:
            self.about = networks_in(self._guard, Load())
        finally:
            self._on_load(False)
        self._loaded = self._guard.process

    def _ask(
        self,
        request: Look | Screen,
        item: SlideInput,
        start: float,
        on_progress: Progress | None = None,
        or_none: bool = False,
    ) -> Outcome | None:
        """The answer to a request about a slide, or that it failed.

        Args:
            or_none: None where it crashed the process and a new one may do better.
        """
        limits, worn, before = self._allowance.limits(), self._worn, self._written(item)

        def report(*facts: Any) -> None:
            done, total = facts
            if self._allowance.seconds is None:
                limits.seconds = max(_SECONDS, _SECONDS_PER_TILE * total)
            if on_progress is not None:
                on_progress(item, done, total)

        name, trace = readable(item.path.name), ""
        try:
            answer: Outcome | None = self._guard.call(request, limits, report)
            if answer is not None:
                self._used = self._guard.process
            return answer
        except ProcessEndedError as error:
            remove_leftovers(self._out)
            # A file that does harm may have left it in the memory of the process: in a new one the next slide is safe.
            # And where results came, a new one finds that they are whole and the slide is done, or makes them so.
            if or_none and (self._written(item) != before or (worn and error.how != "SIGKILL")):
                return None
            reason = f"{name} ended the process that screened it ({error.how}): {why_ended(error.how)}"
            trace = error.trace
        except OverTimeError:
            remove_leftovers(self._out)
            option = f"--slide-timeout {limits.seconds:g}"
            reason = f"{name} was not done after {limits.seconds:g} s: check the file, or give more than {option}"
        except OverMemoryError as error:
            remove_leftovers(self._out)
            option = f"--slide-memory {(limits.memory or 0) / _GIB:.3g}"
            reason = f"{name} took too much memory ({error.what}): check the file, or give more than {option}"
        except UnexpectedError as error:
            reason, trace = f"{name}: {error.what}", error.trace
        return failed_slide(self._out, item, reason, time.perf_counter() - start, trace)

    def __enter__(self) -> GuardedScreening:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


def networks_in(guard: Guard, request: object) -> Any:
    """The answer to a request by which a process loads networks.

    Raises:
        BundleError: the process ends, twice, or the request meets an error that is none of this package's.
        BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked.
    """
    try:
        try:
            return guard.call(request)
        except ProcessEndedError:  # once more
            return guard.call(request)
    except ProcessEndedError as error:
        raise BundleError(
            f"the networks cannot be loaded: the process ends ({error.how})",
            "see stride-monai doctor; a process is killed where memory runs out",
        ) from error
    except UnexpectedError as error:
        raise BundleError(f"the networks cannot be loaded ({error.what})", "see stride-monai doctor") from error


def why_ended(how: str) -> str:
    """What to do about a file that ended the process that read it."""
    return _WHY.get(how, _DAMAGED)


_DAMAGED = "the file may be damaged, copy it again from the scanner"
_WHY = {"SIGKILL": "the system does so where memory runs out, free some or check the file"}
