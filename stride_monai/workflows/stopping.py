"""A bundle's command that is stopped says in one line how to go on."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

__all__ = ["how_to_go_on", "stop_with_one_line"]


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
        if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
            sys.stderr.write(f"stopped: {words}\n")
        logging.disable()  # MONAI's engines log a traceback of whatever ends them
        raise SystemExit(128 + number)

    return stop
