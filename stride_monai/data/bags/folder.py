"""The bags of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stride_monai.errors import BagError
from stride_monai.files import paths_of

__all__ = ["BAG_SUFFIX", "bag_files", "bag_paths", "by_slide", "holds_bags"]

BAG_SUFFIX = ".bag.arrow"


def holds_bags(path: Any) -> bool:
    """Whether a path, or each of several, is that of a bag file or of a folder with some, at any depth; false for
    anything else."""
    paths = path if isinstance(path, list | tuple) else [path]
    return bool(paths) and all(isinstance(one, str | Path) and bool(bag_paths(Path(one))) for one in paths)


def bag_paths(path: Path) -> list[Path]:
    """The bags of a folder, at any depth; or of a path, if it is that of one."""
    return list(path.rglob(f"*{BAG_SUFFIX}")) if path.is_dir() else [path] if path.name.endswith(BAG_SUFFIX) else []


def bag_files(folder: Path | str | Sequence[Path | str]) -> list[dict[str, Any]]:
    """All bags in a folder, at any depth, by slide id: dictionaries with ``bag`` (path) and ``slide_id``.

    Args:
        folder: or the path of a single bag file, or several of both.

    Raises:
        BagError: there is none, or two of one slide.
    """
    places = [path.absolute() for path in paths_of(folder)]
    paths: list[Path] = []
    for place in places:
        if not place.exists():
            raise BagError(f"there is no {place}", "check the path, or run detection's inference first")
        paths += bag_paths(place)
    if not paths:
        raise BagError(
            f"there is no bag file (*{BAG_SUFFIX}) in {', '.join(map(str, places))}", "run detection's inference first"
        )
    return [{"bag": str(path), "slide_id": slide_id} for slide_id, path in by_slide(paths).items()]


def by_slide(paths: Iterable[Path]) -> dict[str, Path]:
    """Bags by slide id, in the order of their names.

    Raises:
        BagError: two are of one slide.
    """
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.name):
        if (slide_id := path.name.removesuffix(BAG_SUFFIX)) in found:
            raise BagError(f"there are two bags of '{slide_id}'", f"keep one of {found[slide_id]} and {path}")
        found[slide_id] = path
    return found
