"""Files: complete or absent, named by their hashes, and found below a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from stride_monai.errors import OutputError, StrideError

__all__ = [
    "TEMPORARY",
    "Watcher",
    "config_hash",
    "files_below",
    "fingerprint",
    "free_name",
    "joint_sha256",
    "moved",
    "moved_folder",
    "paths_of",
    "remove_leftovers",
    "replacing",
    "sha256_of",
    "temporary_folder",
    "to_disk",
    "walk_files",
    "watched",
    "write_bytes",
]

TEMPORARY = ".stride_monai-"
"""How every temporary name begins."""
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PROCESS = secrets.token_hex(4)  # tells this process from an earlier one of the same number
_LEFTOVER = re.compile(r"\.stride_monai-([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\.part")
_DAY = 86_400.0
# What file systems say that lack a call, as network shares do; anything else is a real failure.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EPERM, errno.EACCES}
_IN_USE = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY}
_PATIENCE = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between tries


def _temporary_name() -> str:
    """A name that nobody else gives: tells whose it is, so that what a killed process left behind can be removed."""
    # Child processes that were forked share the token; their number tells them apart.
    return f"{TEMPORARY}{_HOST}-{os.getpid()}-{_PROCESS}-{secrets.token_hex(4)}.part"


class Watcher(Protocol):
    """Told of every file that :func:`replacing` writes."""

    def before(self, path: Path) -> None:
        """Before anything is written; an error keeps it from being."""

    def after(self, path: Path) -> None:
        """When the file is there."""


_watchers: list[Watcher] = []


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have a watcher told of what this process writes while the block lasts."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block ends without an error.

    On an error the temporary file is removed and what stood at ``path`` before is untouched. Whether that may be
    replaced at all is for :mod:`stride_monai.ownership` to say, beforehand.

    Raises:
        OutputError: the folder cannot be written to, the disk is full, or another program keeps the file open.
    """
    for watcher in list(_watchers):
        watcher.before(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / _temporary_name()
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise OutputError(f"cannot write {path.absolute()} ({error.strerror})", "check the output folder") from error
    try:
        yield temporary
        to_disk(temporary)
        moved(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path.absolute()} ({error.strerror or error})", "check the disk space"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    for watcher in list(_watchers):
        watcher.after(path)


def moved(source: Path, target: Path) -> None:
    """Rename a file, in place of what is called ``target``; patient where that is open in another program.

    Raises:
        OSError: as of :func:`os.replace`, of the last try.
    """
    for wait in (*_PATIENCE, None):
        try:
            source.replace(target)
            return
        except OSError as error:
            if wait is None or error.errno not in _IN_USE or target.is_dir():
                raise
            time.sleep(wait)


def moved_folder(source: Path, target: Path) -> None:
    """Rename a folder to a name that is free; file by file on shares that rename no folders.

    Raises:
        OSError: its files cannot be moved.
    """
    with contextlib.suppress(OSError):
        source.rename(target)
        return
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            moved(path, place)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` under a temporary name; it and the files in it are gone when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    temporary = parent / _temporary_name()
    temporary.mkdir()
    try:
        yield temporary
    finally:
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone had half-written into a folder, told by their form of temporary name.

    Those of another machine, whose processes cannot be seen from here, are kept for a day.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            match = _LEFTOVER.fullmatch(path.name)
            if match and not _in_work(path, *match.groups()):
                _remove(path)


def _in_work(path: Path, host: str, process: str, token: str) -> bool:
    if host == _HOST and os.name == "posix":
        if int(process) == os.getpid():
            return token == _PROCESS
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:
            return True
        return not _is_zombie(int(process))
    try:
        return time.time() - path.lstat().st_mtime < _DAY
    except OSError:
        return True


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and nobody has asked how: for ever, in a container whose first process never asks."""
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
    except OSError:  # gone since, or no Linux
        return False


def _remove(path: Path) -> None:
    """A temporary file of ours, or a temporary folder with its files; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()


def free_name(path: Path) -> Path:
    """``path``, or where something is called so already, ``name (2).suffix`` and so on."""
    free = path
    for number in count(2):
        if not os.path.lexists(free):
            break
        free = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return free


def to_disk(path: Path) -> None:
    """Have a file's content on the disk, as far as the file system can say so.

    Raises:
        OSError: it could not be written there.
    """
    with path.open("rb") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file by way of :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def paths_of(given: Path | str | Sequence[Path | str]) -> list[Path]:
    """One path or several, as several."""
    return [Path(part) for part in ([given] if isinstance(given, Path | str) else given)]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def joint_sha256(digests: Sequence[str]) -> str:
    """The hash of several files, such as weights and what differs from them: that of their hashes in turn."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's size and of its first and last MiB: tells slides of many GB apart without reading them."""
    size, mib = path.stat().st_size, 1 << 20
    with path.open("rb") as stream:
        head = stream.read(mib)
        stream.seek(max(size - mib, 0))
        return hashlib.sha256(str(size).encode() + head + stream.read(mib)).hexdigest()


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a configuration as canonical JSON."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def files_below(
    folder: Path, on_error: Callable[[OSError], None] | None = None, links: dict[Path, Path] | None = None
) -> list[Path]:
    """The regular files below a folder, sorted by path, those of linked folders among them.

    Arguments and errors as for :func:`walk_files`.
    """
    return sorted(walk_files(folder, on_error, links))


def walk_files(
    folder: Path, on_error: Callable[[OSError], None] | None = None, links: dict[Path, Path] | None = None
) -> Iterator[Path]:
    """The regular files below a folder, one folder after the other, in the same order each time.

    A folder is entered once, whatever links lead to it (so a link to a parent ends), and under its own name rather than
    a link's. Hidden files and folders are left out, and so are pipes, sockets and devices, which nobody can read twice.
    A link that leads nowhere counts as a file, so that whoever opens it says so.

    Args:
        on_error: told of a folder that cannot be listed; without it, that is an error.
        links: filled with the folders that are listed under another name -> the folder of that name.

    Raises:
        StrideError: a folder cannot be listed.
    """
    seen: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        linked: list[Path] = []
        for start in waiting:
            for place, folders, names in os.walk(start, onerror=on_error or _unreadable):
                here = Path(place)
                if (first := seen.setdefault(os.path.realpath(place), here)) is not here:
                    folders.clear()
                    if links is not None:
                        links[here] = first
                    continue
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                linked += [here / name for name in folders if (here / name).is_symlink()]
                for name in sorted(names):
                    if not name.startswith(".") and _holds_data(here / name):
                        yield here / name
        waiting = sorted(linked)


def _holds_data(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def _unreadable(error: OSError) -> None:
    raise StrideError(f"{error.filename} cannot be listed ({error.strerror})", "check its permissions")
