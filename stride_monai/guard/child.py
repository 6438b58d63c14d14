"""The guarded process: answers one request after the other until the process that started it is gone.

Whatever libraries print goes nowhere: a library's warning may hold what a file says of a patient. Only where the
interpreter was when it crashed is kept: names of functions and lines of code.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from queue import SimpleQueue
from typing import Any, BinaryIO, TypeAlias

from stride_monai import errors
from stride_monai.errors import StrideError
from stride_monai.guard.allocation import keep_freed_blocks
from stride_monai.guard.frames import read_frame, write_frame

__all__ = ["serve"]

_PR_SET_PDEATHSIG = 1
Handle: TypeAlias = Callable[[Any, Callable[..., None]], Any]


def serve(parent: int) -> None:
    """Serve the process ``parent``, which holds the other ends of standard input and output; never returns.

    The first message names a factory (``module:function``) and its arguments. What it gives is called with every
    further message and a function that reports progress.
    """
    _die_with(parent)
    keep_freed_blocks()
    _leave_stopping_to_the_parent()
    requests, replies = _take_the_pipes()
    waiting: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            write_frame(replies, message)

    def report(*facts: Any) -> None:
        send("report", facts)

    handle = _begin(*waiting.get())
    send("ready", None)
    while True:
        request = waiting.get()
        try:
            answer: tuple[Any, ...] = ("done", handle(request, report))
        except BaseException as error:  # sys.exit() in a library too
            answer = _told(error)
        try:
            send(*answer)
        except OSError:
            os._exit(1)
        except Exception as error:  # the answer cannot be pickled
            send(*_told(error))


def _begin(target: str, arguments: tuple[Any, ...]) -> Handle:
    """What handles the requests; where it cannot be made, what says so each time."""
    try:
        module, _, name = target.partition(":")
        handle: Handle = getattr(import_module(module), name)(*arguments)
    except BaseException as error:
        failure = error

        def refuse(request: Any, report: Callable[..., None]) -> Any:
            raise failure

        return refuse
    return handle


def _told(error: BaseException) -> tuple[Any, ...]:
    """An error as plain text: its class may not exist on the other side, and many errors cannot be pickled."""
    if isinstance(error, StrideError):
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return "refused", (known.__name__, error.what, error.advice)
    try:
        text = str(error)
    except Exception:
        text = ""
    return "broken", (type(error).__name__, text, "".join(traceback.format_exception(error)))


def _receive(requests: BinaryIO, waiting: SimpleQueue[Any]) -> None:
    try:
        while True:
            waiting.put(read_frame(requests))
    finally:
        os._exit(0)  # the parent is gone, or wants nothing more


def _take_the_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the messages alone; what anybody else reads or prints is nothing."""
    # Each dup() is another file number, which children of this process do not get.
    requests, replies, crash = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(2), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    faulthandler.enable(crash)
    return requests, replies


def _die_with(parent: int) -> None:
    """End at once when the parent does, however it ends and whatever library is at work here (Linux)."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # the memory of a crash is GiB, and holds the slide
    if sys.platform == "linux" and parent:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _leave_stopping_to_the_parent() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
