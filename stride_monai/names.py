"""Names of files and slides: readable wherever they are written, and found whichever way an accent is spelt."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from pathlib import Path

__all__ = ["MAX_NAME_BYTES", "forgive", "found", "name_key", "printable", "readable", "why_no_folder_name"]

MAX_NAME_BYTES = 220
"""Longest slide id in bytes of UTF-8: file systems take 255, and a folder that is being written has a longer name."""

# Control characters, halves of a character (bytes of a name that is no UTF-8), line ends of other kinds, and marks that
# turn the direction of writing: nothing that a terminal or a reader of a table should meet.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BYTES = "[^\x00-\x7f]*[\udc80-\udcff][^\x00-\x7f]*"  # of another encoding; some of them may look like UTF-8
_UNPRINTABLE = re.compile(f"{_BYTES}|[{_CONTROL}]")
_UNREADABLE = re.compile(f"{_BYTES}|[\t\n{_CONTROL}]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def printable(text: str) -> str:
    """A text without what a terminal would obey or a file in UTF-8 cannot hold; line ends and tabs stay.

    Such a character becomes ``%1B``, the hexadecimal of its bytes, as in a URL.
    """
    return _UNPRINTABLE.sub(_as_bytes, text)


def readable(name: str) -> str:
    """A file's name as ids, tables and reports show it: :func:`printable`, on one line, accents as single characters.

    A name in GBK or Latin-1 on a disk that is read as UTF-8 keeps its bytes: ``%C7%D0%BF%AA.svs``.
    """
    return unicodedata.normalize("NFC", _UNREADABLE.sub(_as_bytes, name))


def _as_bytes(match: re.Match[str]) -> str:
    text = match.group()
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, as names on Windows may hold it
        content = text.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in content)


def forgive() -> None:
    """Let standard output and error write any text.

    A character that the terminal's code page lacks comes out as ``\\u5207``; else a Chinese file name would end a
    command after its work. Called once, when a command starts.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def name_key(name: str) -> str:
    """Equal for two names that some file system takes for one: by case, spelling of accents, or dots at the end."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip(". ")


def why_no_folder_name(name: str) -> str:
    """Why a folder of results cannot be called so; empty where it can."""
    if not name.strip(".") or any(mark in name for mark in "/\\") or _UNREADABLE.search(name):
        return "it is no plain name"
    if (length := len(name.encode())) > MAX_NAME_BYTES:
        return f"it is {length} bytes long, {MAX_NAME_BYTES} at most"
    if os.name == "nt" and (_RESERVED.fullmatch(name) or name[-1] in ". "):
        return "Windows keeps that name for itself"
    return ""


def found(path: Path) -> Path:
    """The path under which a file is there, whichever way a list or a keyboard spells it.

    Accents may be characters of their own (as macOS writes them) or not; ``\\`` may stand for ``/``. Where several
    files fit, or none does, that is the path as given.
    """
    if os.path.lexists(path):
        return path
    spelt = Path(str(path).replace("\\", "/")) if os.sep == "/" else path
    here = Path(spelt.anchor)
    for part in spelt.parts[1 if spelt.anchor else 0 :]:
        if os.path.lexists(here / part):
            here /= part
            continue
        wanted = unicodedata.normalize("NFC", part)
        try:
            fitting = [name for name in os.listdir(here) if unicodedata.normalize("NFC", name) == wanted]  # noqa: PTH208
        except OSError:
            return path
        if len(fitting) != 1:
            return path
        here /= fitting[0]
    return here
