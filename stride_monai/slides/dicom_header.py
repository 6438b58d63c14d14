"""What the head of a DICOM file says of its place in a slide. Pixels and everything personal are never read.

Our own, since pydicom is an extra, and five elements of every file of a folder are asked for.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import NamedTuple

from stride_monai.errors import SlideError

__all__ = ["DicomHeader", "check_nesting", "identity_of", "is_dicom", "read_header"]

_HEAD = 1 << 18  # bytes; the elements asked for come first in a file
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_IMPLICIT = "1.2.840.10008.1.2"
_COMPRESSED_HEAD, _BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SYNTAX, _CLASS, _IMAGE_TYPE = (0x0002, 0x0010), (0x0008, 0x0016), (0x0008, 0x0008)
_STUDY, _SERIES = (0x0020, 0x000D), (0x0020, 0x000E)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 100  # items within items; a slide has a handful, and libraries that recurse crash at thousands
_PIXELS = b"\xe0\x7f\x10\x00"
_NESTING = re.compile(rb"\xfe\xff\x00\xe0\xff\xff\xff\xff|\xfe\xff\x0d\xe0\x00\x00\x00\x00")  # begin or end of an item


class DicomHeader(NamedTuple):
    """One file of a DICOM series.

    Attributes:
        series: UID that the files of one slide have in common.
        whole_slide: an image of whole slide microscopy, not a report, an annotation or a directory.
        volume: pixels of the slide; False for its label, overview or thumbnail.
        study: UID of the study; empty where it states none.
        states_kind: whether it says at all which of them it is.
    """

    series: str
    whole_slide: bool
    volume: bool
    study: str = ""
    states_kind: bool = True


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does; False where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> DicomHeader | None:
    """The head of a DICOM file; None where it is none, or is damaged before the elements that are needed."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        found = _elements(head) if head[128:132] == b"DICM" else {}
    except (OSError, struct.error, IndexError):
        return None
    if not found.get(_SERIES):
        return None
    kinds = found.get(_IMAGE_TYPE, "").split("\\")
    return DicomHeader(
        found[_SERIES],
        found.get(_CLASS) == _WHOLE_SLIDE,
        not {"LABEL", "OVERVIEW", "THUMBNAIL"} & set(kinds),
        found.get(_STUDY, ""),
        bool(found.get(_IMAGE_TYPE)),
    )


def check_nesting(path: Path) -> None:
    """Refuse a file beside which, or in which, items lie in one another deeper than any slide's: libraries that read
    all files of the folder crash there.

    Raises:
        SlideError: there is one.
    """
    for file in sorted(path.parent.iterdir()):
        if file.is_file() and is_dicom(file) and _depth(file) > _DEEPEST:
            beside = "" if file == path else f" of {file.name} beside it"
            what = f"{path.name}: the DICOM sequences{beside} are nested deeper than any slide's"
            raise SlideError(what, f"{file.name} is damaged: copy it again, or move it elsewhere")


def _depth(path: Path) -> int:
    """How deep items of no stated length lie in one another, or a number above what is allowed."""
    depth = deepest = 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(_PIXELS)
        for found in _NESTING.finditer(content, 0, end if end >= 0 else len(content)):
            depth += 1 if content[found.start() + 2] == 0 else -1
            deepest = max(deepest, depth)
            if deepest > _DEEPEST:
                break
    return deepest


def identity_of(path: Path) -> dict[str, str]:
    """UIDs of a slide's study and series by DICOM keyword, for :class:`~stride_monai.findings.SlideSource`.

    Empty where the file is no DICOM.
    """
    header = read_header(path)
    named = {} if header is None else {"StudyInstanceUID": header.study, "SeriesInstanceUID": header.series}
    return {keyword: uid for keyword, uid in named.items() if uid}


def _elements(head: bytes) -> dict[tuple[int, int], str]:
    """The texts of the elements that are asked for, up to the series' UID."""
    found: dict[tuple[int, int], str] = {}
    at, explicit = 132, True
    while at < len(head):
        (group,) = struct.unpack_from("<H", head, at)
        if group != 0x0002 and _SYNTAX in found:
            syntax = found.pop(_SYNTAX)
            if syntax in (_COMPRESSED_HEAD, _BIG_ENDIAN):
                return {}
            explicit = syntax != _IMPLICIT
        tag, start, length = _element(head, at, explicit or group == 0x0002)
        if tag > _SERIES:
            return found
        if length == _UNDEFINED:
            at = _after_sequence(head, start, explicit)
            continue
        if start + length > len(head):
            return {}
        if tag in (_SYNTAX, _CLASS, _IMAGE_TYPE, _STUDY, _SERIES):
            found[tag] = head[start : start + length].decode("latin-1").rstrip("\0 ")
        at = start + length
    return found


def _element(head: bytes, at: int, explicit: bool) -> tuple[tuple[int, int], int, int]:
    """Tag, where the value begins, and its length."""
    group, element = struct.unpack_from("<HH", head, at)
    if not explicit or group == 0xFFFE:
        return (group, element), at + 8, struct.unpack_from("<I", head, at + 4)[0]
    if head[at + 4 : at + 6] in _LONG:
        return (group, element), at + 12, struct.unpack_from("<I", head, at + 8)[0]
    return (group, element), at + 8, struct.unpack_from("<H", head, at + 6)[0]


def _after_sequence(head: bytes, at: int, explicit: bool) -> int:
    """Where a sequence, or an item, of undefined length ends, however deep others are nested in it."""
    depth = 1
    while depth:
        tag, at, length = _element(head, at, explicit)
        if tag in (_SEQUENCE_END, _ITEM_END):
            depth -= 1
        elif length == _UNDEFINED:
            depth += 1
        else:
            at += length
    return at
