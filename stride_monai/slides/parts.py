"""Folders that belong to a slide: those that hold parts of it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["own_folders"]

_BESIDE = {".mrxs": "{}", ".vsi": "_{}_"}  # formats that keep their pixels in a folder beside the file, by its name
_DICOM_SUFFIXES = {".dcm", ".dicom", ""}


def own_folders(path: Path, slide_id: str = "") -> list[Path]:
    """The folders of a slide; nothing else is to be written there.

    Args:
        path: the slide's file; of DICOM slides, one of its files.
        slide_id: a DICOM slide that is named by its folder is all that the folder holds.
    """
    suffix = path.suffix.lower()
    if suffix in _DICOM_SUFFIXES and path.parent.name == slide_id:
        return [path.parent]
    beside = path.with_name(_BESIDE[suffix].format(path.stem)) if suffix in _BESIDE else None
    return [beside] if beside is not None and beside.is_dir() else []
