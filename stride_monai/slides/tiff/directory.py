"""The directories and tags of a TIFF, read strictly: nothing that the file states is believed before it is checked.

Our own parser and not tifffile's, which lists every tile of a stated size before it looks at the file's, and prints the
contents of tags, where the names of patients stand, to the console.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Directory", "FileBytes", "TiffError", "is_tiff", "read_directories", "sub_directories"]

_MAX_DIRECTORIES = 5_000
_MAX_TAGS_OF_ONE, _MAX_TAGS = 4_096, 250_000  # of one directory, and of all; directories may overlap in a small file
_MAX_TEXT = 32 << 20  # bytes of one text tag: the OME-XML of a very large file
_NDPI_FLAG = 65420
_SUB_IFDS = 330
# Tag type -> numpy's name of one number; a rational is two of them.
_NUMBERS = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"}
_NUMBERS |= {11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_RATIONAL = {5, 10}


class TiffError(Exception):
    """Why a TIFF cannot be read, without the file's name.

    Args:
        what: the cause.
        advice: what the user can do about it.
    """

    def __init__(self, what: str, advice: str = "copy it again from the scanner") -> None:
        self.what, self.advice = what, advice
        super().__init__(what, advice)


class FileBytes:
    """Bytes at an offset of an open file, from any thread.

    Attributes:
        size: of the file, bytes.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._lock = threading.Lock()
        self.size = os.fstat(self._stream.fileno()).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes.

        Raises:
            TiffError: they lie beyond the end of the file.
        """
        if offset + size > self.size:
            raise TiffError("it lies beyond the end of the file")
        if hasattr(os, "pread"):
            data = os.pread(self._stream.fileno(), size, offset)
        else:  # Windows
            with self._lock:
                self._stream.seek(offset)
                data = self._stream.read(size)
        if len(data) != size:
            raise TiffError("it lies beyond the end of the file")
        return data

    def close(self) -> None:
        self._stream.close()


class _Entry(NamedTuple):
    kind: int
    values: int
    at: int  # of the values, or of the field that holds them


class _Shape(NamedTuple):
    """How a file writes its directories."""

    order: str  # "<" or ">"
    big: bool
    ndpi: bool = False


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory (IFD): the tags of one page; values are read when they are asked for."""

    file: FileBytes
    shape: _Shape
    at: int
    entries: dict[int, _Entry]

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def count(self, tag: int) -> int:
        """How many values a tag states; 0 where it is absent."""
        entry = self.entries.get(tag)
        return 0 if entry is None else entry.values

    def numbers(self, tag: int, most: int | None = None) -> npt.NDArray[Any]:
        """The values of a tag, ``[n]``, rationals ``[n, 2]``; empty where it is absent.

        Args:
            most: values to read at most; None for all.

        Raises:
            TiffError: the file does not hold what the tag states.
        """
        entry = self.entries.get(tag)
        if entry is None:
            return np.empty(0, np.uint64)
        dtype = np.dtype(self.shape.order + _NUMBERS[entry.kind])
        each = dtype.itemsize * (2 if entry.kind in _RATIONAL else 1)
        count = entry.values if most is None else min(most, entry.values)
        if entry.at + count * each > self.file.size:
            raise TiffError(f"the TIFF directory is damaged (tag {tag} lies beyond the end of the file)")
        values = np.frombuffer(self.file.read(entry.at, count * each), dtype)
        values = values.astype(dtype.newbyteorder("="))
        return values.reshape(-1, 2) if entry.kind in _RATIONAL else values

    def integers(self, tag: int, most: int | None = None) -> npt.NDArray[Any]:
        """:meth:`numbers` of a tag that holds whole numbers, ``[n]``.

        Raises:
            TiffError: it holds others, or the file does not hold what the tag states.
        """
        values = self.numbers(tag, most)
        if values.ndim > 1 or values.dtype.kind == "f":
            raise TiffError(f"the TIFF directory is damaged (tag {tag} holds no whole numbers)")
        return values

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag as a whole number."""
        values = self.numbers(tag, 1).ravel()
        return int(values[0]) if len(values) and np.isfinite(values[0]) else default

    def ratio(self, tag: int) -> tuple[float, float] | None:
        """The first value of a rational tag; None where it is absent or no positive number."""
        values = self.numbers(tag, 1).ravel().tolist()
        above, below = (*values, 1)[:2] if values else (0, 1)
        return (above, below) if 0 < above < float("inf") and 0 < below < float("inf") else None

    def text(self, tag: int, most: int = _MAX_TEXT) -> str:
        """A text tag, up to its first NUL; "" where it is absent.

        Raises:
            TiffError: it is longer than ``most`` bytes, or the file does not hold it.
        """
        if self.count(tag) > most:
            raise TiffError(f"the text of tag {tag} is {self.count(tag)} bytes long")
        data = bytes(self.numbers(tag).astype(np.uint8)).partition(b"\0")[0]
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")


def is_tiff(file: Path | FileBytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does."""
    if isinstance(file, FileBytes):
        return file.size >= 4 and _shape(file.read(0, 4)) is not None
    with file.open("rb") as stream:
        return _shape(stream.read(4)) is not None


def read_directories(file: FileBytes) -> list[Directory]:
    """The directories in the order of the file's chain.

    Raises:
        TiffError: the header or a directory is damaged, they form a loop, or there is none.
    """
    head = file.read(0, min(16, file.size)).ljust(16, b"\0")
    shape = _shape(head)
    if shape is None:
        raise TiffError("not a TIFF")
    if shape.big and head[4:8] != struct.pack(shape.order + "HH", 8, 0):
        raise TiffError("the TIFF header is damaged")
    (first,) = struct.unpack_from(shape.order + ("Q" if shape.big else "I"), head, 8 if shape.big else 4)
    if not shape.big and shape.order == "<":  # NDPI: a classic TIFF whose offsets have 64 bits
        (wide,) = struct.unpack_from("<Q", head, 4)
        if _is_ndpi(file, wide):
            return _bounded(_chain(file, _Shape("<", False, True), wide))
    directories = _bounded(_chain(file, shape, first))
    if not directories:
        raise TiffError("the TIFF header is damaged (it has no directory)")
    return directories


def sub_directories(directory: Directory) -> list[Directory]:
    """The directories that a tag of this one names (SubIFDs), without their own chains.

    Raises:
        TiffError: one of them is damaged.
    """
    if directory.count(_SUB_IFDS) > _MAX_DIRECTORIES:
        raise TiffError("the TIFF directory is damaged (too many SubIFDs)")
    offsets = dict.fromkeys(int(offset) for offset in directory.integers(_SUB_IFDS))
    return _bounded(_read(directory.file, directory.shape, offset)[0] for offset in offsets if offset > 0)


def _bounded(directories: Iterable[Directory]) -> list[Directory]:
    """The directories, which together take no more memory than any slide's.

    Raises:
        TiffError: they would.
    """
    found, tags = [], 0
    for directory in directories:
        tags += len(directory.entries)
        if tags > _MAX_TAGS:
            raise TiffError("the TIFF directory is damaged (too many tags)")
        found.append(directory)
    return found


def _shape(head: bytes) -> _Shape | None:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 4:
        return None
    version = struct.unpack_from(order + "H", head, 2)[0]
    return _Shape(order, version == 43) if version in (42, 43) else None


def _chain(file: FileBytes, shape: _Shape, at: int) -> Iterator[Directory]:
    seen: set[int] = set()
    while at:
        if at in seen:
            raise TiffError("the TIFF directory is damaged (its directories form a loop)")
        if len(seen) == _MAX_DIRECTORIES:
            raise TiffError(f"the TIFF has more than {_MAX_DIRECTORIES} directories", "save the one that is meant")
        seen.add(at)
        directory, at = _read(file, shape, at)
        yield directory


def _is_ndpi(file: FileBytes, at: int) -> bool:
    try:
        return _NDPI_FLAG in _read(file, _Shape("<", False, True), at)[0]
    except TiffError:
        return False


def _read(file: FileBytes, shape: _Shape, at: int) -> tuple[Directory, int]:
    """A directory and the offset of the next one."""
    head, each, inline = ("Q", 20, 8) if shape.big else ("H", 12, 4)
    next_kind = "Q" if shape.big or shape.ndpi else "I"
    try:
        (number,) = struct.unpack(shape.order + head, file.read(at, struct.calcsize(head)))
        if not 0 < number <= _MAX_TAGS_OF_ONE:
            raise TiffError("no number of tags")
        at_entries = at + struct.calcsize(head)
        table = file.read(at_entries, number * each)
        at_next = at_entries + number * each
        (following,) = struct.unpack(shape.order + next_kind, file.read(at_next, struct.calcsize(next_kind)))
    except TiffError as error:
        raise TiffError(f"the TIFF directory is damaged or cut off (at byte {at} of {file.size})") from error
    entries: dict[int, _Entry] = {}
    fields = struct.Struct(shape.order + ("HHQ8s" if shape.big else "HHI4s"))
    for i, (tag, kind, count, value) in enumerate(fields.iter_unpack(table)):
        if kind not in _NUMBERS or tag in entries:
            continue
        size = count * np.dtype(_NUMBERS[kind]).itemsize * (2 if kind in _RATIONAL else 1)
        if size <= inline:
            place = at_entries + i * each + each - inline
        else:
            (place,) = struct.unpack(shape.order + ("Q" if shape.big else "I"), value)
        entries[tag] = _Entry(kind, count, place)
    return Directory(file, shape, at, entries), following
