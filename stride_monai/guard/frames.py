"""Messages between two processes of this package: pickles, each after its length."""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

__all__ = ["read_frame", "write_frame"]

_LENGTH = struct.Struct("!Q")


def write_frame(stream: BinaryIO, message: Any) -> None:
    """Send one message; nothing is sent where it cannot be pickled."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """The next message.

    Raises:
        EOFError: the other process closed the pipe or ended.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    return pickle.loads(_read(stream, length))


def _read(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content
