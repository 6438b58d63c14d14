"""What a guarded process may do to whoever guards it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stride_monai.errors import BundleError, MissingExtraError
from stride_monai.slides.protocol import UnknownFormatError

MIB = 2**20


class OddError(Exception):
    """Can neither be pickled nor be printed."""

    def __init__(self, one: int, *, two: int) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise ValueError("no text")


def toy(*arguments: Any) -> Callable[[Any, Callable[..., None]], Any]:
    """A handler of requests: the name of what is to happen, and its arguments."""
    kept: list[bytearray] = []

    def handle(request: Any, report: Callable[..., None]) -> Any:
        name, *rest = request
        match name:
            case "add":
                return sum(rest)
            case "arguments":
                return arguments
            case "pid":
                return os.getpid()
            case "count":
                for step in range(rest[0]):
                    report(step + 1, rest[0])
                return rest[0]
            case "abort":
                os.abort()
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(rest[0])
            case "sys.exit":
                sys.exit(rest[0])
            case "sleep":
                time.sleep(rest[0])
            case "hold the interpreter":
                ctypes.PyDLL(None).usleep(rest[0] * 1_000_000)
            case "allocate":
                for _ in range(rest[0]):
                    kept.append(bytearray(b"x" * MIB))
                time.sleep(20)
            case "child allocates":
                code = f"import time; x = bytearray(b'x' * {rest[0] * MIB}); time.sleep(60)"
                return os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code])
            case "print":
                print("PatientName", flush=True)  # noqa: T201
                print("PatientName", file=sys.stderr, flush=True)  # noqa: T201
                os.write(1, b"PatientName\n")
                os.write(2, b"PatientName\n")
                if rest:
                    os.abort()
                return "printed"
            case "read":
                return sys.stdin.read()
            case "close everything":
                close_everything()
                time.sleep(20)
            case "odd":
                raise OddError(1, two=2)
            case "odd answer":
                return threading.Lock()
            case "stride":
                raise BundleError("the bundle is broken", "mend it")
            case "extra":
                raise MissingExtraError("ultralytics", "yolo", "YOLO")
            case "plug-in":
                raise UnknownFormatError("of no known format")
            case "fork and abort":
                if os.fork() == 0:
                    time.sleep(5)  # holds the pipe open
                    os._exit(0)
                os.abort()
        return None

    return handle


def close_everything() -> None:
    """All files but what requests come from, from which nothing comes any more: who reads it waits, and does not end
    the process."""
    import fcntl  # POSIX alone has it

    silent, kept = os.pipe()
    for number in {*range(100)} - {silent, kept}:
        with suppress(OSError):
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                os.dup2(silent, number)
            else:
                os.close(number)


def refuses(*arguments: Any) -> Any:
    raise BundleError("cannot begin", "begin otherwise")


def dies(*arguments: Any) -> Any:
    os.abort()
