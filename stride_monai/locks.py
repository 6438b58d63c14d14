"""A folder for one process at a time, and the certainty that it is still the same folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from stride_monai.errors import OutputError
from stride_monai.ownership import read_json

__all__ = ["LOCK_NAME", "NO_LOCKS", "HeldFolder", "InUseError", "held", "put_up"]

LOCK_NAME = ".lock"
_SIGN_NAME = ".stride_monai.running"
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
"""What file systems say that have no locks."""


class InUseError(OutputError):
    """Another run is at work there."""


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A folder that this process alone writes to.

    Attributes:
        mark: the file in it that keeps others out.
        again: takes the lock anew.
        identity: device and number of the folder.
        note: what the user must know of the lock; empty for nothing.
    """

    path: Path
    mark: Path
    again: Callable[[], None]
    identity: tuple[int, int] | None
    note: str = ""

    def check(self) -> None:
        """Raises:
        OutputError: the folder is gone, or another one has its name: a share was unmounted, or the folder removed. Or
            its lock was removed, and another run has taken it.
        """
        # Device and number alone would not do: some shares number anew what they have forgotten.
        if os.path.lexists(self.mark):
            return
        if self.identity is None or _identity(self.path) != self.identity:
            raise OutputError(
                f"the output folder {self.path} has vanished", "bring it back; the same command takes the run up again"
            )
        self.again()


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


@contextmanager
def held(folder: Path) -> Iterator[HeldFolder]:
    """Make a folder and keep other runs out of it; the lock dies with the process.

    Where the file system has no locks (some network shares), a file says who is running instead.

    Raises:
        OutputError: the folder cannot be made or written to, another run has it, or the name of its lock is taken.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror})", "choose another --out") from error
    if _foreign(folder / LOCK_NAME):
        raise OutputError(f"{folder / LOCK_NAME} is not of stride-monai", "move it elsewhere, or choose another --out")
    lock, sign = FileLock(folder / LOCK_NAME), folder / _SIGN_NAME
    locked = _take(lock, folder)
    if not locked:
        put_up(sign)
    note = "" if locked else f"{folder} is on a file system without locks: do not start a second run there"

    def again() -> None:
        if not locked:
            put_up(sign)
            return
        lock.release(force=True)
        _take(lock, folder)

    try:
        yield HeldFolder(folder, folder / LOCK_NAME if locked else sign, again, _identity(folder), note)
    finally:
        with contextlib.suppress(OSError):
            lock.release() if locked else sign.unlink(missing_ok=True)


def _take(lock: FileLock, folder: Path) -> bool:
    """Take a folder's lock; False where the file system has none.

    Raises:
        OutputError: another run has it, or the folder cannot be written to.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InUseError(f"another run is writing to {folder}", "wait for it, or choose another --out") from error
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise OutputError(f"cannot write to {folder} ({error.strerror})", "choose another --out") from error
    return True


def _foreign(lock: Path) -> bool:
    """Whether somebody keeps something in a file of this name, which taking it may empty."""
    try:
        if not lock.is_file():
            return False
        with lock.open("rb") as stream:
            # A lock is empty, or where filelock stands in for the file system, begins with the number of a process.
            return not (stream.readline(64).strip() or b"0").isdigit()
    except OSError:
        return False


def put_up(sign: Path) -> Path:
    """Write a file that says who is running, unless somebody else is; for file systems without locks.

    Raises:
        InUseError: somebody is, or may be: a run of another machine cannot be seen from here.
        OutputError: the file cannot be written.
    """
    for _ in range(2):
        try:
            with sign.open("x", encoding="utf-8") as stream:
                json.dump({"host": platform.node(), "process": os.getpid()}, stream)
        except FileExistsError:
            who = read_json(sign)
            if _lives(who):
                raise InUseError(
                    f"another run is writing to {sign.parent} ({_told(who)})",
                    f"wait for it; if it is gone, delete {sign}",
                ) from None
            sign.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {sign.parent} ({error.strerror})", "choose another --out") from error
        else:
            return sign
    raise InUseError(f"another run has just begun to write to {sign.parent}", "wait for it")


def _lives(who: object) -> bool:
    """Whether a run may still be going on: one of another machine cannot be seen from here."""
    if not isinstance(who, dict) or who.get("host") != platform.node() or os.name != "posix":
        return True
    try:
        os.kill(int(who["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (OSError, KeyError, TypeError, ValueError):
        return True
    return True


def _told(who: object) -> str:
    return f"process {who.get('process')} on {who.get('host')}" if isinstance(who, dict) else "it does not say who"
