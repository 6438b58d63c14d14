"""Slides behind a URL (``https://``, ``s3://`` and all that fsspec knows), through a cache of bounded size on disk.

A TIFF is read where it lies, in the blocks that are asked for. The libraries behind the other formats need a file with
a path: for them a copy is fetched whole into the same cache.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from stride_monai.errors import ConfigError, MissingExtraError, SlideError, StrideError
from stride_monai.slides.block_cache import BLOCK, FolderCache, cache_bytes, cache_folder
from stride_monai.slides.orientation import upright_reader
from stride_monai.slides.protocol import PictureChoice, Reader
from stride_monai.slides.readers.registry import AUTO, open_reader
from stride_monai.slides.readers.tiff import TiffReader
from stride_monai.slides.tiff.directory import FileBytes, TiffError
from stride_monai.slides.urls import name_of_url

__all__ = ["RemoteBytes", "RemoteError", "fetched", "file_system", "open_remote"]

_WAITS = (0.25, 1.0, 4.0)  # seconds before each further try
_TRY_AGAIN = "check the connection and try again"
_SECONDS = 60.0  # that one answer of a web server may take
T = TypeVar("T")
_log = logging.getLogger(__name__)


class RemoteError(SlideError):
    """A slide cannot be fetched. No fault of the slide's: it fails as a whole and is worth another try."""


class _NoRangesError(RemoteError):
    """The server sends whole files only. Where parts of a slide had come before, the slide fails as a whole."""


class RemoteBytes(FileBytes):
    """Bytes at an offset of a remote file, from any thread, in blocks that are kept on disk.

    Raises:
        RemoteError: it cannot be reached, or is not there.
        MissingExtraError: fsspec, or what it needs for this kind of URL, is not installed.
    """

    def __init__(self, url: str, cache: FolderCache | None = None) -> None:
        self.name = name_of_url(url)
        self._cache = cache or FolderCache(cache_folder(), cache_bytes())
        self._files, self._place = file_system(url, self.name)
        info = self._patiently(lambda: self._files.info(self._place))
        size = info.get("size")
        if not size:
            why = "it is empty" if size == 0 else "the server tells no size"
            raise RemoteError(f"{self.name}: {why}", "check the URL")
        self.size = int(size)
        # A file that was replaced is another one: its old blocks are never mixed with new ones.
        marks = [info.get(key) for key in ("ETag", "Last-Modified", "LastModified", "mtime", "VersionId", "created")]
        self._key = (url.partition("?")[0] if any(marks) else url, self.size, *marks)

    def read(self, offset: int, size: int) -> bytes:
        if offset + size > self.size:
            raise TiffError("it lies beyond the end of the file")
        first, last = offset // BLOCK, (offset + max(size, 1) - 1) // BLOCK
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[offset - first * BLOCK : offset - first * BLOCK + size]

    def whole(self) -> Path:
        """A copy of the file, under its name, for those who need a path. The cache may remove it later."""
        path = self._cache.whole(self.name, *self._key)
        if path.is_file() and path.stat().st_size == self.size:
            os.utime(path)  # used just now
        else:
            self._cache.keep(path, self._write_whole)
        return path

    def close(self) -> None:
        pass  # nothing is held between reads

    def _block(self, number: int) -> bytes:
        start, end = number * BLOCK, min((number + 1) * BLOCK, self.size)
        place = self._cache.path(*self._key, number)
        kept = self._cache.get(place)
        if kept is not None and len(kept) == end - start:
            return kept
        data = self._patiently(partial(self._range, start, end))
        self._cache.keep(place, lambda path: _write(path, data))
        return data

    def _range(self, start: int, end: int) -> bytes:
        data = bytes(self._files.cat_file(self._place, start=start, end=end))
        if len(data) == self.size and end - start != self.size:
            raise _NoRangesError(f"{self.name}: the server sends whole files only", _TRY_AGAIN)
        if len(data) != end - start:
            raise OSError(f"{len(data)} bytes came instead of {end - start}")
        return data

    def _write_whole(self, path: Path) -> None:
        try:
            with path.open("wb") as stream:
                for start in range(0, self.size, 16 * BLOCK):
                    stream.write(self._patiently(partial(self._range, start, min(start + 16 * BLOCK, self.size))))
        except _NoRangesError:
            self._patiently(partial(self._whole_at_once, path))

    def _whole_at_once(self, path: Path) -> None:
        self._files.get_file(self._place, str(path))
        if path.stat().st_size != self.size:
            raise OSError(f"{path.stat().st_size} bytes came instead of {self.size}")

    def _patiently(self, ask: Callable[[], T]) -> T:
        """The answer, asked for again where the connection fails.

        Raises:
            RemoteError: it is not there, nobody may read it, or it failed each time.
        """
        for wait in (*_WAITS, None):
            try:
                return ask()
            except StrideError:
                raise
            except (FileNotFoundError, PermissionError) as error:
                why = "is not there" if isinstance(error, FileNotFoundError) else "may not be read"
                raise RemoteError(f"{self.name} {why}", "check the URL and who may read it") from error
            except Exception as error:  # every protocol raises errors of its own kind
                status = getattr(error, "status", 0)
                if wait is None or status in (400, 401, 403, 410):
                    why = f"the server answers {status}" if status else type(error).__name__
                    raise RemoteError(f"{self.name} cannot be fetched ({why})", _TRY_AGAIN) from error
                time.sleep(wait)
        raise AssertionError  # the last try returns or raises


def open_remote(url: str, reader: str = AUTO, choice: PictureChoice | None = None) -> tuple[Reader, Path]:
    """A remote slide opened, and its name as a path.

    Raises:
        RemoteError, MissingExtraError: see :class:`RemoteBytes`.
        SlideError, ConfigError: see :func:`~stride_monai.slides.readers.registry.open_reader`.
    """
    file = RemoteBytes(url)
    name = Path(file.name)
    if reader in (AUTO, TiffReader.name):
        try:
            tiff = TiffReader(name, choice, file)
            return upright_reader(tiff, tiff.orientation), name
        except _NoRangesError:  # the copy is read in its place
            _log.warning("%s: the server sends whole files only, a copy is fetched (%.2f GB)", name, file.size / 1e9)
        except RemoteError:
            raise
        except SlideError:  # not a TIFF, or one for another reader: those want a copy, and one of them says why not
            if reader != AUTO:
                raise
    return open_reader(file.whole(), reader, choice), name


def fetched(urls: Sequence[str], tell: Callable[[str], None]) -> list[Path]:
    """Whole copies of remote files, in their order.

    Args:
        tell: called with the name of each before it is fetched.

    Raises:
        ConfigError: together they are larger than the cache; nothing is fetched.
        RemoteError, MissingExtraError: see :class:`RemoteBytes`.
    """
    files = [RemoteBytes(url) for url in urls]
    size, limit = sum(file.size for file in files), cache_bytes()
    if size > limit:
        what = f"the {len(files)} remote slides are {size / 1e9:.1f} GB, more than the {limit / 1e9:g} GB that are kept"
        raise ConfigError(what, "set STRIDE_CACHE_GB higher, or screen fewer at a time")
    paths = []
    for file in files:
        tell(file.name)
        paths.append(file.whole())
    return paths


def file_system(url: str, name: str) -> tuple[Any, str]:
    """What fsspec has for a URL, and the place in it.

    Args:
        name: for messages, instead of the URL.

    Raises:
        MissingExtraError: fsspec, or what it needs for this kind of URL, is not installed.
        SlideError: the protocol is unknown, or lacks its package.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "remote", f"{name}: a URL") from error
    scheme = url.partition("://")[0].lower()
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtraError("aiohttp", "remote", f"{name}: a web server") from error
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(sock_connect=_SECONDS, sock_read=_SECONDS)}
    try:
        files, place = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:  # its words name the package that is missing, or the protocol
        raise SlideError(
            f"{name}: {scheme}:// cannot be used ({error})", "install what it names, or copy the file"
        ) from error
    return files, place


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
