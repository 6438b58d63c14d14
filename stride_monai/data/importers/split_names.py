"""The split that a folder or a file is named after."""

from __future__ import annotations

import re
from pathlib import Path

from stride_monai.data.manifest import SPLIT_NAMES, SPLITS, parse_split
from stride_monai.errors import ManifestError

__all__ = ["is_split", "split_in_path", "split_named", "stated_split"]

_SPLIT = "|".join(SPLIT_NAMES)
_WORD = re.compile(rf"(?:^|[^a-z])({_SPLIT})(?![a-z])", re.IGNORECASE | re.ASCII)
_AT_AN_END = re.compile(
    rf"({_SPLIT})([^a-z].*)?|.*[^a-z]({_SPLIT})[^a-z]*", re.IGNORECASE | re.ASCII
)  # not obj_train_data of CVAT


def is_split(name: str) -> bool:
    """Whether a name is nothing but a split's (``train``, ``val``)."""
    return name.lower() in SPLIT_NAMES


def split_named(name: str) -> str | None:
    """The split that a name is made of (``val``, ``instances_train2017``, ``HSIL_test``); None for none, and where it
    names several (``train_test``)."""
    words = [name] if is_split(name) else _WORD.findall(name)
    splits = {SPLIT_NAMES[word.lower()] for word in words}
    return splits.pop() if len(splits) == 1 else None


def stated_split(text: object, before: str | None = None) -> str | None:
    """The split that a data set states of an image, None where it states none.

    Args:
        before: what its file says.

    Raises:
        ManifestError: it is none, or another than ``before``.
    """
    words = str(text or "").strip()
    if not words:
        return before
    split = split_named(words)
    if split is None:
        raise ManifestError(f"unknown split '{words}'", f"use one of {', '.join(SPLITS)}, or leave it out")
    if before not in {None, split}:
        raise ManifestError(f"its split is '{split}' here, but its file is of '{before}'", "correct one of them")
    return split


def split_in_path(path: Path, root: Path) -> str | None:
    """The split that a folder on the path from ``root`` is named after, if any: the first that is nothing but a
    split's name, else that on which the others agree, which begin or end with one (``train2017``, ``images_val``)."""
    if not path.is_relative_to(root):
        return None
    names = path.relative_to(root).parts[:-1]
    if first := next(filter(is_split, names), ""):
        return parse_split(first)
    splits = {split_named(name) for name in names if _AT_AN_END.fullmatch(name)} - {None}
    return splits.pop() if len(splits) == 1 else None
