"""Who may work where: a folder of results is one run's, a job of a shared folder one process's.

A claim is a lock of the operating system, which goes with the process that has it, however that ends; so a killed one
blocks nobody. Where the file system has no locks, as some network shares have none, a file says who is at work.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stride_monai.errors import OutputError
from stride_monai.ownership import read_json

__all__ = ["CLAIMS_FOLDER", "Claim", "HeldFolder", "InUseError", "JobClaims", "held"]

LOCK_NAME = ".lock"
CLAIMS_FOLDER = ".claims"
_SIGN_NAME = ".stride_monai.running"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
"""What file systems say that have no locks."""
_POLL_SECONDS = 1.0
_ELSEWHERE = "choose another --out"


class InUseError(OutputError):
    """Another process is at work there."""


class Claim:
    """What one process at a time has.

    Args:
        lock: file that is locked; it is made, and may be emptied.
        sign: file that says who has it, where there are no locks.
        advice: what to do where neither can be written.

    Attributes:
        mark: the one of the two that keeps others out.
    """

    def __init__(self, lock: Path, sign: Path, advice: str = _ELSEWHERE) -> None:
        self.mark = self._place = lock
        self._lock, self._sign, self._advice = FileLock(lock), sign, advice

    @property
    def locks(self) -> bool:
        """Whether there are locks, as far as is known."""
        return self.mark == self._place

    def take(self, wait: bool = False) -> None:
        """Raises:
        InUseError: another process has it, and is not waited for.
        OutputError: it cannot be claimed.
        """
        folder = self._place.parent
        try:
            self._lock.acquire(timeout=-1 if wait else 0, poll_interval=_POLL_SECONDS)
        except Timeout as error:
            raise InUseError(f"another run is writing to {folder}", f"wait for it, or {_ELSEWHERE}") from error
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise self._unwritable(error) from error
            self.mark = self._sign
            while (who := self._sign_up()) is not None:
                if not wait:
                    raise InUseError(
                        f"another run is writing to {folder} ({who})",
                        f"wait for it; if it is gone, delete {self._sign}",
                    ) from None
                time.sleep(_POLL_SECONDS)

    def _sign_up(self) -> str | None:
        """Who else has the claim, in words; None where it is ours now."""
        try:
            with self._sign.open("x", encoding="utf-8") as stream:
                json.dump({"host": platform.node(), "process": os.getpid()}, stream)
        except FileExistsError:
            who = read_json(self._sign)
            if not isinstance(who, dict):
                return "it does not say who"
            if _lives(who):
                return f"process {who.get('process')} on {who.get('host')}"
            self._sign.unlink(missing_ok=True)
            return self._sign_up()
        except OSError as error:
            raise self._unwritable(error) from error
        return None

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write to {self._place.parent} ({error.strerror})", self._advice)

    def drop(self) -> None:
        """Leave it to others."""
        with contextlib.suppress(OSError):
            self._lock.release(force=True) if self.locks else self._sign.unlink(missing_ok=True)

    @contextmanager
    def taken(self, wait: bool = False) -> Iterator[None]:
        """:meth:`take` it for as long as the block lasts."""
        self.take(wait)
        try:
            yield
        finally:
            self.drop()


class HeldFolder:
    """A folder that this process alone writes to.

    Attributes:
        note: what the user must know of the claim; empty for nothing.
    """

    def __init__(self, path: Path, claim: Claim) -> None:
        self.path, self._claim, self._identity = path, claim, _identity(path)
        without = f"{path} is on a file system without locks: do not start a second run there"
        self.note = "" if claim.locks else without

    def check(self) -> None:
        """Raises:
        OutputError: the folder is gone, or another one has its name: a share was unmounted, or the folder removed. Or
            its lock was removed, and another run has taken it.
        """
        # Device and number alone would not do: some shares number anew what they have forgotten.
        if os.path.lexists(self._claim.mark):
            return
        if self._identity is None or _identity(self.path) != self._identity:
            raise OutputError(
                f"the output folder {self.path} has vanished", "bring it back; the same command takes the run up again"
            )
        self._claim.drop()
        self._claim.take()


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


@contextmanager
def held(folder: Path) -> Iterator[HeldFolder]:
    """Make a folder and keep other runs out of it as long as the block lasts.

    Raises:
        OutputError: the folder cannot be made or written to, another run has it, or the name of its lock is taken.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror})", _ELSEWHERE) from error
    if _foreign(folder / LOCK_NAME):
        raise OutputError(f"{folder / LOCK_NAME} is not of stride-monai", f"move it elsewhere, or {_ELSEWHERE}")
    claim = Claim(folder / LOCK_NAME, folder / _SIGN_NAME)
    with claim.taken():
        yield HeldFolder(folder, claim)


class JobClaims:
    """The jobs of a folder that several processes share: each does those that no other one is at.

    Args:
        folder: of what the jobs make. The claims lie in ``.claims`` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / CLAIMS_FOLDER

    def known(self, job_id: str) -> bool:
        """Whether some process has claimed the job, now or earlier."""
        return self._of(job_id, "lock").exists()

    @contextmanager
    def held(self, job_id: str, wait: bool = False) -> Iterator[None]:
        """Keep others from the job as long as the block lasts.

        Raises:
            InUseError: another process is at it, and is not waited for.
            OutputError: it cannot be claimed.
        """
        lock, advice = self._of(job_id, "lock"), "check that the folder can be written to"
        try:
            self.folder.mkdir(exist_ok=True)
            lock.touch()  # for known(), also where there are no locks
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder.parent} ({error.strerror})", advice) from error
        with Claim(lock, self._of(job_id, "running"), advice).taken(wait):
            yield

    def ended_in(self, job_id: str) -> bool:
        """Whether a process has ended in the block of :meth:`begun`, and none has come out of it since."""
        return self._of(job_id, "begun").exists()

    @contextmanager
    def begun(self, job_id: str) -> Iterator[None]:
        """Leave a mark as long as the block lasts: a process that ends in it leaves it behind."""
        mark = self._of(job_id, "begun")
        mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def _of(self, job_id: str, what: str) -> Path:
        return self.folder / f"{job_id}.{what}"


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


def _lives(who: Mapping[str, Any]) -> bool:
    """Whether a run may still be going on: one of another machine cannot be seen from here."""
    if who.get("host") != platform.node() or os.name != "posix":
        return True
    try:
        os.kill(int(who["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except (OSError, KeyError, TypeError, ValueError):
        return True
    return True
