"""Ctrl-C, and the signals by which a scheduler or a closed terminal ends a command, as one exception."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "if_stopped", "signals_held", "stoppable", "unbroken"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_held: list[Stopped] = []
_unbroken = False


class Stopped(BaseException):
    """The user or the system asked this process to stop.

    Attributes:
        number: of the signal.
        done: what the command says of its work so far, and how to go on; set by whoever knows.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.done = ""

    @property
    def exit_status(self) -> int:
        """What a shell gives a process that the signal ended."""
        return 128 + self.number


@contextmanager
def stoppable() -> Iterator[None]:
    """The first signal raises :class:`Stopped` in the block, for an orderly end; a second one kills at once.

    What is ignored (``nohup``) stays ignored. Nothing changes outside the main thread, and in processes forked from
    this one the signals do what they do anywhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = os.getpid()
    begun = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if begun or os.getpid() != mine:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        begun = True
        if _unbroken:
            _held.append(Stopped(number))
        else:
            raise Stopped(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """:class:`Stopped` is raised after the block and not within: what belongs together is done whole. A second signal
    kills at once all the same."""
    global _unbroken
    _unbroken = True
    try:
        yield
    finally:
        _unbroken = False
        if _held:
            raise _held.pop()


@contextmanager
def if_stopped(done: str | Callable[[], str]) -> Iterator[None]:
    """What to say, in words, if the block is stopped: what is done, and how to go on."""
    try:
        yield
    except Stopped as stopped:
        stopped.done = done if isinstance(done, str) else done()
        raise


@contextmanager
def signals_held() -> Iterator[None]:
    """Processes begun in the block never get the signals that stop a command; this one gets them when it ends.

    Whoever begins a process stops it. Does nothing where the system has no such thing (Windows).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
