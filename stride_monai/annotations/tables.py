"""Files that annotations are written to: never in place of somebody else's."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from stride_monai.annotations.agreement import Agreement, Group, Pair, Reader
from stride_monai.data.tables import table_text
from stride_monai.errors import OutputError
from stride_monai.files import write_bytes

__all__ = ["AGREEMENT_NAME", "READERS_NAME", "write_agreement", "write_ours"]

READERS_NAME = "readers.csv"
AGREEMENT_NAME = "agreement.csv"
_READER_COLUMNS = [part.name for part in dataclasses.fields(Reader)]
_AGREEMENT_COLUMNS = ["of", "statistic", "readers", "items", "agree", "kappa"]
_HEAD = 4096  # bytes that say whose a file is


def write_ours(path: Path, content: bytes, mark: str, overwrite: bool) -> None:
    """Write a file; one that is there is replaced only if it is ours and that was asked for.

    Args:
        mark: what the first 4 KiB of such a file of ours hold.

    Raises:
        OutputError: something stands there that is not to be replaced, or it cannot be written.
    """
    if os.path.lexists(path):
        if not overwrite:
            raise OutputError(f"{path} is there already", "choose another name, or add --overwrite")
        if path.is_symlink() or not path.is_file() or mark.encode() not in _head_of(path):
            raise OutputError(f"{path} was not written by this command", "move it elsewhere, or choose another name")
    write_bytes(path, content)


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror})", "choose another name") from error


def write_agreement(found: Agreement, folder: Path, overwrite: bool = False) -> None:
    """Write ``readers.csv`` and ``agreement.csv``; what is not defined is empty.

    Raises:
        OutputError: as of :func:`write_ours`.
    """
    readers = [[_text(value) for value in dataclasses.astuple(reader)] for reader in found.readers]
    rows = [*map(_pair, found.pairs), *map(_group, found.groups)]
    for name, header, lines in (
        (READERS_NAME, _READER_COLUMNS, readers),
        (AGREEMENT_NAME, _AGREEMENT_COLUMNS, rows),
    ):
        write_ours(folder / name, table_text(header, lines), ",".join(header), overwrite)


def _pair(pair: Pair) -> list[str]:
    return _row(pair.of, "cohen", f"{pair.one} | {pair.other}", pair.items, pair.agree, pair.kappa)


def _group(group: Group) -> list[str]:
    return _row(group.of, "fleiss", str(group.readers), group.items, None, group.kappa)


def _row(*values: object) -> list[str]:
    return list(map(_text, values))


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
