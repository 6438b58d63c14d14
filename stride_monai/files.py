"""Files: complete or absent, named by their hashes, and found below a folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stride_monai.errors import OutputError, StrideError

__all__ = ["config_hash", "files_below", "fingerprint", "replacing", "sha256_of", "write_bytes"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block ends without an error.

    On an error the temporary file is removed and what stood at ``path`` before is untouched.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {path.name} ({error.strerror})", "check the output folder") from error
    temporary = Path(name)
    try:
        yield temporary
        _to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path.name} ({error.strerror or error})", "check the disk space") from error
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file by way of :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def files_below(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """The regular files below a folder, sorted by path, those of linked folders among them.

    A folder is entered once, whatever links lead to it (so a link to a parent ends), and under its own name rather than
    a link's. Hidden files and folders are left out, and so are pipes, sockets and devices, which nobody can read twice.
    A link that leads nowhere counts as a file, so that whoever opens it says so.

    Args:
        on_error: told of a folder that cannot be listed; without it, that is an error.

    Raises:
        StrideError: a folder cannot be listed.
    """
    found: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            for place, folders, names in os.walk(start, onerror=on_error or _unreadable):
                if (real := os.path.realpath(place)) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                here = Path(place)
                folders[:] = [name for name in folders if not name.startswith(".")]
                links += [here / name for name in folders if (here / name).is_symlink()]
                found += [here / name for name in names if not name.startswith(".") and _holds_data(here / name)]
        waiting = sorted(links)
    return sorted(found)


def _holds_data(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def _unreadable(error: OSError) -> None:
    raise StrideError(f"{error.filename} cannot be listed ({error.strerror})", "check its permissions")
