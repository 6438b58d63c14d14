"""The split that a folder or a file is named after."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from stride_monai.data.manifest import parse_split
from stride_monai.errors import ManifestError

__all__ = ["split_in_path", "split_in_words", "split_named"]

_WORD = re.compile(r"(?:^|[^a-z])(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)


def split_named(name: str) -> str | None:
    """The split that a name is made of (``val``, ``instances_train2017``, ``HSIL_test``); None for none, and where it
    names several (``train_test``)."""
    try:
        return parse_split(name)
    except ManifestError:
        splits = {parse_split(word) for word in _WORD.findall(name)}
        return splits.pop() if len(splits) == 1 else None


def split_in_words(names: Iterable[str]) -> str | None:
    """The split that one of the names is made of: the first that is nothing but a split's name, else that on which all
    others agree."""
    names = list(names)
    for name in names:
        try:
            return parse_split(name)
        except ManifestError:
            continue
    splits = {split_named(name) for name in names} - {None}
    return splits.pop() if len(splits) == 1 else None


def split_in_path(path: Path, root: Path) -> str | None:
    """The split that a folder on the path from ``root`` is named after, if any."""
    return split_in_words(path.relative_to(root).parts[:-1]) if path.is_relative_to(root) else None
