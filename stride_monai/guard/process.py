"""One process that works for this one, under limits, and is replaced when it ends or has to be ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import MappingProxyType, TracebackType
from typing import IO, Any, BinaryIO, Protocol, cast

from stride_monai import errors
from stride_monai.errors import StrideError
from stride_monai.guard.frames import read_frame, write_frame
from stride_monai.guard.memory import family, memory_in_use
from stride_monai.guard.stops import signals_held

__all__ = [
    "AbandonedError",
    "Guard",
    "Limits",
    "OverMemoryError",
    "OverTimeError",
    "ProcessEndedError",
    "UnexpectedError",
]

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from stride_monai.guard.child import serve
serve(int(sys.argv[2]))
"""
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
_KEPT = 20_000
"""Bytes kept of what a crashed interpreter says."""


@dataclass(slots=True)
class Limits:
    """What one request may take; None is no limit. Whoever gets reports may change them meanwhile.

    Attributes:
        seconds: from the request to its answer; time in which this process was stopped (Ctrl-Z) does not count.
        memory: bytes of the process and its children, all that it has loaded before included.
    """

    seconds: float | None = None
    memory: int | None = None


class ProcessEndedError(StrideError):
    """The process ended before it answered.

    Attributes:
        how: the name of a signal, or the exit status, in words.
        trace: where the interpreter was, if it could say so; names of code and nothing of any file that was read.
    """

    def __init__(self, how: str, trace: str = "") -> None:
        super().__init__(f"the process ended ({how})")
        self.how, self.trace = how, trace


class AbandonedError(StrideError):
    """Nobody waits for the answer any more; the process was ended."""


class OverTimeError(StrideError):
    """The answer did not come in time; the process was ended."""


class OverMemoryError(StrideError):
    """The process held more memory than it may; it was ended."""


class UnexpectedError(StrideError):
    """What was asked for met an error that is none of this package's.

    Attributes:
        kind: name of the error's class.
        trace: its traceback.
    """

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(" ".join(f"unexpected {kind}: {text}".split()))
        self.kind, self.trace = kind, trace


class Report(Protocol):
    """Told what a request reports on its way."""

    def __call__(self, *facts: Any) -> None: ...


class Guard:
    """A process that is started when it is first needed, and anew after one that ended.

    Args:
        target: ``module:function``. Called in the process with ``arguments``; what it gives is called with each request
            and a function ``report(*facts)``, and its result is the answer.
        arguments: whatever can be pickled.
        environment: variables that the process has beside those of this one.

    As a context manager it ends the process with the block.
    """

    def __init__(self, target: str, *arguments: Any, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._begin = (target, arguments)
        self._environment, self._abandoned = environment, False
        self._running: _Running | None = None
        self._started = 0

    @property
    def process(self) -> int:
        """Which process this is, from 1: what it has loaded is lost when this changes. 0 where there is none."""
        return 0 if self._running is None else self._started

    def call(self, request: Any, limits: Limits | None = None, on_report: Report | None = None) -> Any:
        """The answer to a request.

        Raises:
            ProcessEndedError, OverTimeError, OverMemoryError: there is none; the next request starts a new process.
            AbandonedError: :meth:`abandon` was called.
            UnexpectedError: the request met another error; the process goes on.
            StrideError: what the request raised, of the class in :mod:`stride_monai.errors` that it derives from.
        """
        try:
            if self._running is None:
                self._running = _Running(self._begin, self._environment)
                self._started += 1
                self._answer(self._running, Limits(), None)  # it is ready: that takes none of the request's time
            self._running.send(request)
            kind, content = self._answer(self._running, limits or Limits(), on_report)
        except BaseException:
            self.close()
            raise
        if kind == "done":
            return content
        if kind == "broken":
            raise UnexpectedError(*content)
        name, what, advice = content
        cls: type[StrideError] = getattr(errors, name)
        error = cls.__new__(cls)
        StrideError.__init__(error, what, advice)  # some classes take other arguments than these two
        raise error

    def abandon(self) -> None:
        """Have the request in hand, and any later one, end in :class:`AbandonedError`; for another thread to call."""
        self._abandoned = True

    def _answer(self, running: _Running, limits: Limits, on_report: Report | None) -> tuple[str, Any]:
        taken = 0.0
        looked = measured = time.monotonic()
        while True:
            if self._abandoned:
                raise AbandonedError("nobody waits for the answer any more")
            message = running.receive(_POLL_SECONDS)
            now = time.monotonic()
            taken += min(now - looked, 10 * _POLL_SECONDS)
            looked = now
            if message is not None and message[0] != "report":
                return message
            if message is not None and on_report is not None:
                on_report(*message[1])
            if limits.seconds is not None and taken > limits.seconds:
                raise OverTimeError(f"no answer after {limits.seconds:g} s")
            if limits.memory is not None and now - measured >= _POLL_SECONDS:
                measured = now
                held = memory_in_use(running.pid)
                if held is not None and held > limits.memory:
                    raise OverMemoryError(f"it holds {held / 2**30:.1f} GiB of memory")

    def close(self) -> None:
        """End the process, if there is one; a request that it is at is dropped."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(parent: int, stderr: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A new interpreter that serves this process, with the same ``sys.path``."""
    flags = ["-P", *(["-X", "utf8"] if sys.flags.utf8_mode else [])]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _BOOT, json.dumps(sys.path), str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **environment},
    )


class _Running:
    """One started process and the thread that listens to it."""

    def __init__(self, begin: tuple[str, tuple[Any, ...]], environment: Mapping[str, str]) -> None:
        self._crash: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # The system ends the child with the thread that started it; one that is not the main thread may end earlier.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        with signals_held():
            self._process = _start(parent, self._crash, environment)
        self.pid = self._process.pid
        self._inbox: SimpleQueue[tuple[str, Any] | None] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.send(begin)

    def _listen(self) -> None:
        replies = cast(BinaryIO, self._process.stdout)
        with suppress(EOFError, OSError, ValueError):
            while True:
                self._inbox.put(read_frame(replies))
        self._inbox.put(None)
        replies.close()

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it is gone: receive() says so
            write_frame(cast(BinaryIO, self._process.stdin), message)

    def receive(self, seconds: float) -> tuple[str, Any] | None:
        """The next message; None if there is none yet.

        Raises:
            ProcessEndedError: and there will be none.
        """
        try:
            message = self._inbox.get(timeout=seconds)
        except Empty:
            # A child of it may hold the pipe open.
            if self._process.poll() is None or not self._inbox.empty():
                return None
            raise self._ended() from None
        if message is None:
            raise self._ended()
        return message

    def _ended(self) -> ProcessEndedError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        status = self._process.returncode
        self._crash.seek(0)
        trace = self._crash.read(_KEPT).decode("utf-8", "replace")
        if status is None:
            return ProcessEndedError("it closed its pipe", trace)
        if status < 0:
            with suppress(ValueError):
                return ProcessEndedError(signal.Signals(-status).name, trace)
        return ProcessEndedError(f"exit status {status}", trace)

    def kill(self) -> None:
        """End it and its children, and wait until it has ended."""
        for pid in reversed(family(self.pid)[1:] if self._process.poll() is None else []):
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.kill()
        # Not for ever: a signal that came while the process was looked after leaves Popen's lock held.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        with suppress(OSError):
            cast(BinaryIO, self._process.stdin).close()
        self._crash.close()
