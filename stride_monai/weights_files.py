"""Weights files as bytes: whether there is one, and of which kind. Imports nothing heavy: a wrong file costs nothing.

What a file is says its content, not its name: checkpoints are called ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal

from stride_monai.errors import BundleError

__all__ = ["WEIGHTS_SUFFIXES", "kind_of_weights"]

WEIGHTS_SUFFIXES = (".pt", ".safetensors")
"""Of the files that trainings of this package write."""

_CHECKPOINT = "give a checkpoint that training wrote (model.pt), or a .safetensors file"
_PICKLE = b"\x80"
_ZIP = b"PK\x03\x04"
_KNOWN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "fetch it: git lfs pull"),
    (b"<", "a web page or XML, no weights", "download the file itself"),
    (b"\x89HDF", "an HDF5 file, no weights of PyTorch", _CHECKPOINT),
)


def kind_of_weights(path: Path) -> Literal["safetensors", "torch"]:
    """How a weights file is to be read.

    Raises:
        BundleError: there is no such file, or it is no weights file; the message has its full path and what it is.
    """
    full = path.absolute()
    if path.is_dir():
        inside = path / "model.pt"
        raise BundleError(
            f"{full} is a folder, no weights file", f"name a file in it{f', {inside}' if inside.is_file() else ''}"
        )
    if not path.exists():
        raise BundleError(f"there is no weights file {full}", _near(path))
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"{full} cannot be read ({error.strerror})", "check who may read it") from error
    if start.startswith(_ZIP):
        return _archive(path, full)
    if _is_safetensors(path, start, size):  # first: the length of a header may begin with the byte of a pickle
        return "safetensors"
    if start.startswith(_PICKLE):
        return "torch"  # the format before 2020, or a bare pickle; which it is says who reads it
    for magic, what, advice in _KNOWN:
        if start.startswith(magic):
            raise BundleError(f"{full} is {what}", advice)
    raise BundleError(f"{full} is {'empty' if size == 0 else 'no weights file, or is damaged'}", _CHECKPOINT)


def _archive(path: Path, full: Path) -> Literal["torch"]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BundleError(f"{full} is cut short or damaged", "copy it again") from error
    if "constants.pkl" in names:
        raise BundleError(f"{full} is a network exported to TorchScript, no weights file", _CHECKPOINT)
    if "data.pkl" not in names:
        raise BundleError(f"{full} is an archive, but no checkpoint of PyTorch", _CHECKPOINT)
    return "torch"


def _is_safetensors(path: Path, start: bytes, size: int) -> bool:
    """Whether the file begins with a header as long as it says, and is as long as that says."""
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or not 2 <= length <= size - 8:
        return False
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.read(8 + length)[8:])
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return False
    if size < 8 + length + max(ends, default=0):
        raise BundleError(f"{path.absolute()} is cut short", "copy it again")
    return True


def _near(path: Path) -> str:
    """Advice that names what is there instead."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder.absolute()} either; check the path"
    others = sorted(file.name for file in folder.iterdir() if file.suffix in WEIGHTS_SUFFIXES)
    return f"in its folder are {', '.join(others)}" if others else "train the bundle that makes it, or check the path"
