"""Blocks of memory that a process has freed stay with it for what it needs next."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["keep_freed_blocks"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of mallopt(3)
_KEPT = 1 << 27  # bytes at the end of a heap that are not given back
_LARGEST = 1 << 24  # bytes; a larger block comes from the system and goes back to it


def keep_freed_blocks() -> None:
    """Tiles and crops are a MiB or so each: by itself the C library takes each from the system, which has to clear it
    page by page, and gives it back. That is a third of what reading costs. Nothing happens but with GNU's C library.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.gnu_get_libc_version  # noqa: B018 - others have mallopt too, of other numbers
            library.mallopt(_MMAP_THRESHOLD, _LARGEST)
            library.mallopt(_TRIM_THRESHOLD, _KEPT)
