"""The bags of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from stride_monai.data.bags.bag import BAG_SUFFIX
from stride_monai.errors import BagError

__all__ = ["bag_files", "holds_bags"]


def holds_bags(path: Any) -> bool:
    """Whether a path, or each of several, is that of a bag file or of a folder with some, at any depth; false for
    anything else."""
    paths = path if isinstance(path, list | tuple) else [path]
    return bool(paths) and all(isinstance(one, str | Path) and bool(_bag_paths(Path(one))) for one in paths)


def _bag_paths(path: Path) -> list[Path]:
    return list(path.rglob(f"*{BAG_SUFFIX}")) if path.is_dir() else [path] if path.name.endswith(BAG_SUFFIX) else []


def bag_files(folder: Path | str | Sequence[Path | str]) -> list[dict[str, Any]]:
    """All bags in a folder, at any depth, by slide id: dictionaries with ``bag`` (path) and ``slide_id``.

    Args:
        folder: or the path of a single bag file, or several of both.

    Raises:
        BagError: there is none, or two of one slide.
    """
    places = [Path(one).absolute() for one in ([folder] if isinstance(folder, str | Path) else folder)]
    paths: list[Path] = []
    for place in places:
        if not place.exists():
            raise BagError(f"there is no {place}", "check the path, or run detection's inference first")
        paths += _bag_paths(place)
    if not paths:
        raise BagError(
            f"there is no bag file (*{BAG_SUFFIX}) in {', '.join(map(str, places))}", "run detection's inference first"
        )
    paths.sort(key=lambda path: path.name)
    items = [{"bag": str(path), "slide_id": path.name.removesuffix(BAG_SUFFIX)} for path in paths]
    for first, second in pairwise(items):
        if first["slide_id"] == second["slide_id"]:
            raise BagError(f"there are two bags of '{first['slide_id']}'", "keep one")
    return items
