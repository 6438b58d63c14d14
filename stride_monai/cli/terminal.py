"""What the commands print: never an error for want of a character, never a name that the terminal obeys."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stride_monai.names import forgive, printable

__all__ = ["console", "err_console", "forgive", "out_console", "plain", "progress_bars", "say"]

_WIDTH_OF_A_FILE = 200  # Rich takes 80 columns for a pipe or a file, where nothing is gained by cutting names short


def console(stderr: bool = False) -> Console:
    """A console that takes ``:name:`` for text."""
    wide = stderr or sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if wide else _WIDTH_OF_A_FILE, emoji=False)


def plain(text: str) -> str:
    """A name or message as it is, for a console that takes ``[red]`` for a colour."""
    return escape(printable(text))


out_console, err_console = console(), console(stderr=True)


def say(text: str, where: Console = out_console) -> None:
    """A line of markup as it is: nothing in it is colored of itself, and it is not broken."""
    where.print(text, highlight=False, soft_wrap=True)


def progress_bars(period: float = 30.0) -> Progress:
    """Bars with the time left, estimated from the last ``period`` seconds."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not err_console.is_terminal
    return Progress(*columns, console=err_console, transient=True, disable=hidden, speed_estimate_period=period)
