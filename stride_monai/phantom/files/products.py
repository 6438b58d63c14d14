"""Which files are synthetic slides, bags and truths of ours: told by what they hold, not by their names."""

from __future__ import annotations

from pathlib import Path

from stride_monai.data.bags.bag import is_bag
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.ownership import read_json

__all__ = ["SIGNATURE", "is_dicom", "is_product", "is_signed", "is_slide", "is_truth"]

SIGNATURE = "stride-monai phantom"
"""Stands in the metadata of every synthetic slide."""
_HEAD = 1 << 18  # bytes; the metadata of level 0 stand before its pixels


def is_product(path: Path) -> bool:
    """Whether a file is a slide, a bag or a truth of ours, by its suffix and what it holds."""
    if path.name.endswith(BAG_SUFFIX):
        return not path.is_symlink() and is_bag(path)
    return is_truth(path) if path.suffix == ".geojson" else is_slide(path)


def is_slide(path: Path) -> bool:
    """Whether a file is a synthetic slide, or a folder holds the DICOM files of one and nothing else."""
    if path.is_symlink() or not path.is_dir():
        return is_signed(path)
    try:
        return all(is_dicom(file) for file in list(path.iterdir()))
    except OSError:
        return False


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file of a synthetic slide."""
    return path.suffix == ".dcm" and is_signed(path)


def is_signed(path: Path) -> bool:
    """Whether a file says in its head that we drew it; a link is nobody's."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as stream:
            return SIGNATURE.encode() in stream.read(_HEAD)
    except OSError:
        return False


def is_truth(path: Path) -> bool:
    """Whether a file is the truth of a synthetic slide."""
    raw = None if path.is_symlink() else read_json(path)
    slide = raw.get("slide") if isinstance(raw, dict) else None
    return isinstance(slide, dict) and "parameters" in slide
