"""How much memory a process and its children hold, and how much this machine or its container lets them have."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["family", "memory_in_use", "memory_limit"]

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_ALL = re.compile(rb"^VmRSS:\s+(\d+) kB", re.MULTILINE)


def family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first; the process alone where the system does not tell."""
    found = [pid]
    for member in found:
        with suppress(OSError, ValueError):
            for listing in (_PROC / str(member) / "task").glob("*/children"):
                found += [int(child) for child in listing.read_bytes().split()]
    return found


def memory_in_use(pid: int) -> int | None:
    """Bytes that a process and its descendants hold, swapped ones too; None where the system does not tell (no Linux).

    Pages of files that are mapped into memory do not count: the system takes them back when it needs them.
    """
    held = [_held(member) for member in family(pid)]
    known = [size for size in held if size is not None]
    return sum(known) if known else None


def _held(pid: int) -> int | None:
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except OSError:
        return None
    sizes = _OWN.findall(status) or _ALL.findall(status)
    return 1024 * sum(map(int, sizes)) if sizes else None


def memory_limit() -> int | None:
    """Bytes of memory that this process can have: the machine's, or its control group's where that is less.

    None where the system does not tell.
    """
    sizes = _of_control_groups()
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((size for size in sizes if size > 0), default=None)


def _of_control_groups() -> list[int]:
    """Limits of the groups that this process is in, of both versions, and of all above them."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    sizes = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
        here = root / place.strip("/")
        for folder in (here, *here.parents):
            with suppress(OSError, ValueError):  # "max" is no number
                sizes.append(int((folder / name).read_text()))
            if folder == root:
                break
    return sizes
