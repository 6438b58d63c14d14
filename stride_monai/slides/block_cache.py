"""A folder of blocks of remote files, of bounded size: what was read longest ago goes first."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stride_monai.errors import ConfigError
from stride_monai.files import replacing

__all__ = ["BLOCK", "FolderCache", "cache_bytes", "cache_folder"]

BLOCK = 1 << 20
"""Bytes that are fetched and kept together: some ten tiles that lie side by side in a file."""

_FOLDER, _SIZE = "STRIDE_CACHE", "STRIDE_CACHE_GB"
_DEFAULT_GB = 20.0
_ENDING, _WHOLE = ".block", ".whole"  # of our files and folders, so that nothing else is ever removed
_LEFT = 0.9  # of the size, after what is old was removed


class _Kept(NamedTuple):
    used: float  # seconds since the epoch
    size: int
    path: Path


class FolderCache:
    """Bytes by name in a folder, from any thread and any process.

    Args:
        folder: made where it is not there, for this user alone: slides are data of patients.
        limit: bytes that all files in it take, at most, but for the one that was kept last.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._taken = sum(kept.size for kept in self._kept())

    def path(self, *name: object) -> Path:
        """Where the bytes of a name lie, if they do."""
        return self.folder / (hashlib.sha256("\n".join(map(str, name)).encode()).hexdigest() + _ENDING)

    def whole(self, name: str, *key: object) -> Path:
        """Where a whole file of this name lies, if it does."""
        return self.path(*key).with_suffix(_WHOLE) / name

    def get(self, path: Path) -> bytes | None:
        """What is kept at a place that :meth:`path` gave; None where nothing is."""
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:  # another process removed it, at the worst
            return None
        return content

    def keep(self, path: Path, write: Callable[[Path], None]) -> None:
        """Have ``write`` make the file, complete or absent, and remove what is oldest beyond the limit.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with replacing(path) as temporary:
            write(temporary)
        with self._lock:
            self._taken += path.stat().st_size
            if self._taken > self.limit:
                self._taken = self._make_room(path)

    def _kept(self) -> list[_Kept]:
        found = []
        for path in (*self.folder.glob(f"*{_ENDING}"), *self.folder.glob(f"*{_WHOLE}/*")):
            with suppress(OSError):  # another process removes files too
                stat = path.stat()
                found.append(_Kept(stat.st_mtime, stat.st_size, path))
        return sorted(found)

    def _make_room(self, newest: Path) -> int:
        """Bytes that are left."""
        kept = self._kept()
        taken = sum(file.size for file in kept)
        for file in kept:
            if taken <= _LEFT * self.limit:
                break
            if file.path != newest:
                with suppress(OSError):
                    file.path.unlink()
                    taken -= file.size
        return taken


def cache_folder() -> Path:
    """Where remote slides are kept: ``STRIDE_CACHE``, or the user's folder for caches."""
    given = os.environ.get(_FOLDER)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stride-monai"


def cache_bytes() -> int:
    """How much they may take: ``STRIDE_CACHE_GB`` (10**9 bytes), or 20.

    Raises:
        ConfigError: it is no positive number.
    """
    text = os.environ.get(_SIZE, str(_DEFAULT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = float("nan")
    if not 0 < gigabytes < 1e9:
        raise ConfigError(f"{_SIZE} is '{text}'", "give a number of GB, e.g. 20")
    return int(gigabytes * 1e9)
