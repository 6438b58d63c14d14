"""What a bundle says in one line: what went wrong, and how to go on where its command was stopped.

MONAI wraps what a component raises in errors of its own, which say only where in the configuration it happened, and a
command prints a hundred lines of traceback around what the package has to say. Here what happened first comes through:
a workflow raises the package's own error, and ``python -m monai.bundle`` prints its line alone.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, NoReturn

from monai.bundle import ConfigWorkflow

from stride_monai.errors import StrideError
from stride_monai.names import forgive

__all__ = [
    *("TRACEBACK", "beginning", "how_to_go_on", "own_error", "print_one_line", "raise_the_reason", "refuse"),
    *("say_the_reason", "stop_with_one_line"),
]

_SOON_S = 0.05
TRACEBACK = "STRIDE_MONAI_TRACEBACK"
"""Environment variable: set it to see the whole traceback of a command."""


def own_error(error: BaseException | None) -> StrideError | None:
    """What a component of the configuration raised, which MONAI wraps in errors of its own."""
    while error is not None and not isinstance(error, StrideError):
        error = error.__cause__
    return error


def beginning(error: BaseException) -> str:
    """What happened first, in one line: what the package or the system said."""
    return _first_words(error)[0]


def _first_words(error: BaseException) -> tuple[str, bool]:
    """What happened first, and whether that is all that a user needs to know."""
    if (own := own_error(error)) is not None:
        return str(own), True
    first = error
    while first.__cause__ is not None and not _is_of_the_configuration(first):
        first = first.__cause__
    # A process that loads data hands on its traceback as text alone.
    said = re.findall(rf"\b{re.escape(StrideError.__module__)}\.\w+: (.+)$", str(first), re.MULTILINE)
    if said:
        return str(said[0]), True
    words = " ".join(str(first).split("\n", 1)[0].split())
    return f"{type(first).__name__}: {words}", _is_plain(first)


def _is_plain(error: BaseException) -> bool:
    """Whether an error is about the user's files, configuration or packages, not about code."""
    if isinstance(error, OSError):
        return error.filename is not None or isinstance(error, FileNotFoundError)
    return isinstance(error, ImportError) or _is_of_the_configuration(error)


def _is_of_the_configuration(error: BaseException) -> bool:
    """Whether MONAI found a configuration wrong (a reference to nothing, a key that is not there), or a component the
    value of an argument."""
    if not isinstance(error, ValueError | KeyError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    where = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    of_an_argument = type(error) is ValueError and bool(frames) and frames[-1].f_code.co_name == "__init__"
    return where.startswith("monai.bundle") or of_an_argument


def print_one_line() -> None:
    """Let this process, if an error ends it, print one line about it; a traceback only where it helps.

    Nor does the log have a traceback then, into which engines write one of all that ends them. What a terminal has no
    characters for is no error.
    """
    forgive()
    logging.setLogRecordFactory(_record)

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception):
            sys.__excepthook__(kind, error, trace)
            return
        words, enough = _first_words(error)
        if os.environ.get(TRACEBACK) or not enough:
            sys.__excepthook__(kind, error, trace)
            sys.stderr.write("\n")
        sys.stderr.write(f"error: {words}\n")

    sys.excepthook = hook


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, Exception) and not os.environ.get(TRACEBACK) and _first_words(error)[1]:
        record.exc_info = None
    return record


def raise_the_reason(error: Exception) -> NoReturn:
    """Raise what a wrapped error began with: the package's own error, else the error with the reason in its message."""
    if (own := own_error(error)) is not None:
        raise own from own.__cause__
    words = beginning(error)
    if error.__cause__ is not None and words not in str(error):
        error.args = (f"{error}\n{words}",)
    raise error


def say_the_reason(workflow: ConfigWorkflow) -> None:
    """Let a workflow of MONAI raise what its components raised, from now on."""
    parser = workflow.parser
    if "get_parsed_content" in vars(parser):
        return
    wrapped = parser.get_parsed_content

    def get_parsed_content(id: str = "", **kwargs: Any) -> Any:
        try:
            return wrapped(id, **kwargs)
        except Exception as error:
            raise_the_reason(error)

    parser.get_parsed_content = get_parsed_content


def refuse(workflow: ConfigWorkflow, error: StrideError) -> None:
    """Let a workflow that is being initialized raise ``error`` as the next thing, and not within MONAI's wrapping.

    Between two entries of ``initialize`` MONAI forgets the result of the first; that is where it is raised.
    """

    def forget(id: str) -> NoReturn:
        del resolver.remove_resolved_content
        raise error

    resolver = workflow.parser.ref_resolver
    resolver.remove_resolved_content = forget


def how_to_go_on(config: Mapping[str, Any]) -> str:
    """In words, for whoever stopped a bundle with this configuration."""
    if "resume" in config:
        return "the same command with --resume auto goes on after the last whole epoch"
    return "what is done stays; give the same command again"


def stop_with_one_line(words: str) -> None:
    """From now on Ctrl-C and SIGTERM end this process with one line and a shell's status for them; a second one kills.

    What is ignored stays ignored, and the processes that load data end as they do anyway.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    mine = os.getpid()
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if before not in (signal.SIG_IGN, None):
            signal.signal(number, _stop(words, mine, before))


def _stop(words: str, mine: int, before: Any) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before)
        if os.getpid() != mine:
            if callable(before):
                before(number, frame)
            else:
                os.kill(os.getpid(), number)
            return
        if _starts_a_process(frame):
            signal.signal(number, stop)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(mine, number))
            signal.setitimer(signal.ITIMER_REAL, _SOON_S)
            return
        if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
            sys.stderr.write(f"stopped: {words}\n")
        logging.disable()  # MONAI's engines log a traceback of whatever ends them
        raise SystemExit(128 + number)

    return stop


def _starts_a_process(frame: FrameType | None) -> bool:
    """Whether a process is just being forked: what is raised then, in what libraries do about a fork, is lost."""
    while frame is not None:
        forks = frame.f_code.co_name == "_launch" and frame.f_globals.get("__name__") == "multiprocessing.popen_fork"
        # All that this process does is within such a call, too, if it has been forked so itself: as number 0.
        if forks and getattr(frame.f_locals.get("self"), "pid", None) != 0:
            return True
        frame = frame.f_back
    return False
