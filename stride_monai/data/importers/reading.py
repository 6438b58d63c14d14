"""Files of data sets, linked ones among them, and images by the names that annotations give them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from stride_monai.data.importers.problems import Place
from stride_monai.data.importers.split_names import split_in_path, split_named
from stride_monai.data.importers.texts import tool_of
from stride_monai.errors import ManifestError
from stride_monai.files import files_below
from stride_monai.ownership import LIST_NAME, read_list
from stride_monai.slides import is_slide_path

__all__ = [
    *("PLAIN_SUFFIXES", "ImageIndex", "NameFinder", "files_in"),
    *("data_folder", "image_ids", "only_table", "parts_of", "place_of", "plain_name"),
]

PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp"})
"""Pictures whose size Pillow reads from the header; anything else is opened as a slide."""


def files_in(source: Path, *patterns: str) -> list[Path]:
    """The file itself, or the files below a folder that match any of the patterns, sorted, hidden ones left out.

    Patterns are in lower case; that of the files does not matter. Linked folders are followed. The files of a cohort
    that an import wrote into the folder are none of the data set.

    Raises:
        ManifestError: there is nothing at ``source``, or nothing that matches.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ManifestError(f"{source} does not exist", "check the path")
    found = files_below(source)
    lists = {path.parent: own for path in found if path.name == LIST_NAME and (own := read_list(path.parent))}
    ours = {folder / name for folder, own in lists.items() for name in (LIST_NAME, *own.files)}
    found = [path for path in found if path not in ours]
    kept = [path for path in found if any(fnmatchcase(path.name.lower(), end) for end in patterns)]
    if not kept:
        raise ManifestError(f"{source.name} holds no {' or '.join(patterns)}", tool_of(found) or "check the folder")
    return kept


def data_folder(source: Path) -> Path:
    """The folder of a data set that is named by itself, by a file in it, or by its folder ``annotations``."""
    folder = source if source.is_dir() else source.parent
    whole = folder.absolute()
    return whole.parent if whole.name.lower() == "annotations" else folder


def only_table(tables: Sequence[Path], source: Path) -> Path:
    """The one table of a data set.

    Raises:
        ManifestError: there are several.
    """
    if len(tables) > 1:
        named = " and ".join(place_of(table, source).file for table in tables[:2])
        raise ManifestError(f"{source.name} holds {len(tables)} tables, {named} among them", "name the one to read")
    return tables[0]


def image_ids(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """A slide id for every image: its stem, or the path from ``root`` where another image has the same stem."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_stem[plain_name(path.stem)].append(path)
    ids: dict[Path, str] = {}
    for same in by_stem.values():
        folders = Counter(path.parent for path in same)
        for path in same:
            name = path.stem if len(same) == 1 else _long_id(path, root, folders[path.parent] == 1)
            ids[path] = unicodedata.normalize("NFC", name)
    return ids


def _long_id(path: Path, root: Path, alone: bool) -> str:
    """The path from ``root``; with the suffix where the folder has another image of the stem."""
    relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    folders = "--".join((*relative.parts[:-1], relative.stem))
    return folders if alone else f"{folders}{relative.suffix}"


def plain_name(name: str) -> str:
    """A file name without regard to case, and to whether an accent is a character of its own, as on macOS."""
    return unicodedata.normalize("NFC", name).casefold()


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the file of a path as others write it, on whatever machine."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in {"/", ".", ".."})


def place_of(path: Path, source: Path, where: str = "") -> Place:
    """Where something stands in a data set: the path from its folder, since several files may have one name."""
    return Place(path.relative_to(source).as_posix() if source in path.parents else path.name, where)


class NameFinder:
    """Files by the names that others give them: paths of another machine, names alone, names without suffix.

    Args:
        paths: the files.
        folder: that relative names begin at.
    """

    def __init__(self, paths: Sequence[Path], folder: Path) -> None:
        self.folder, self.paths = folder, list(paths)
        self._by_real = {os.path.realpath(path): path for path in self.paths}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[plain_name(path.name)].append(path)
            self._by_stem[plain_name(path.stem)].append(path)

    def at(self, path: Path) -> Path | None:
        """The file that a path leads to, by whatever link."""
        return self._by_real.get(os.path.realpath(path))

    def search(self, name: str, near: Path | None = None, under: str = "") -> Path | None:
        """The file that a name means; None where there is none.

        Where several have its last part, the one that shares most of its path's end is meant, else the one in a folder
        of the split, or of the name, ``under``, else the one nearest to the folder ``near``. A file in the folder of
        another split than the name's own path says is not meant.

        Raises:
            ManifestError: several are meant.
        """
        parts = parts_of(name)
        if not parts:
            return None
        base = plain_name(parts[-1])
        found = self._by_name.get(base) or self._by_stem.get(base) or []
        if not found and is_slide_path(Path(base)):  # the same image, saved in another format
            found = self._by_stem.get(base.rsplit(".", 1)[0], [])
        # The innermost folder counts: a name may begin anywhere on another machine.
        named = next((split for part in reversed(parts[:-1]) if (split := split_named(part))), None)
        found = [path for path in found if not named or split_in_path(path, self.folder) in {None, named}]
        if all(path.parent == found[0].parent for path in found):  # one is the name's own, another differs in its case
            found = [path for path in found if path.name == parts[-1]] or found
        if len(found) > 1:
            found = _longest_tail(found, parts)
        if len(found) > 1 and under:
            split = split_named(under)
            splits = [path for path in found if split and split_in_path(path, self.folder) == split]
            found = splits or [path for path in found if under in path.parts] or found
        if len(found) > 1 and near is not None:
            found = _nearest(found, near)
        if len(found) > 1:
            raise ManifestError(f"{len(found)} images are named '{name}'", "name each by its path, or rename them")
        return found[0] if found else None


def _longest_tail(paths: Sequence[Path], parts: Sequence[str]) -> list[Path]:
    """The paths whose folders agree with the most of a name's last parts."""
    kept = list(paths)
    for depth in range(2, len(parts) + 1):
        folder = plain_name(parts[-depth])
        agree = [path for path in kept if len(path.parts) >= depth and plain_name(path.parts[-depth]) == folder]
        if not agree:
            break
        kept = agree
    return kept


def _nearest(paths: Sequence[Path], near: Path) -> list[Path]:
    for folder in (near, *near.parents):
        inside = [path for path in paths if folder in path.parents]
        if inside:
            return inside
    return list(paths)


class ImageIndex(NameFinder):
    """The images of a folder, by the names that annotations give them.

    A file that several links lead to is one image; where only some of its paths lie in a split's folder, it has one of
    these paths.

    Args:
        folder: where they are, at any depth.
        skip: ends of stems (in lower case) of files that are no images in their own right, e.g. masks.

    Attributes:
        ids: slide id of every image.
        links: folders that are listed under another name -> the folder of that name.
    """

    def __init__(self, folder: Path, skip: Sequence[str] = ()) -> None:
        self.links: dict[Path, Path] = {}
        found = files_below(folder, links=self.links) if folder.is_dir() else []
        images = [p for p in found if is_slide_path(p) and not p.stem.lower().endswith(tuple(skip))]
        super().__init__(_one_each(images, folder), folder)
        self._dead = [path for path in found if not path.exists() and path not in set(images)]
        self._same = len(images) - len(self.paths)
        self.ids = image_ids(self.paths, folder)

    def find(self, name: str, under: str = "", near: Path | None = None) -> Path:
        """The image of a name as annotations write it: a relative path, a file name, or the stem of one.

        Args:
            under: a split, or a folder, whose name must be on the path, where several images have the name.
            near: folder of the annotations; of several images of the name, that nearest to it is meant.

        Returns:
            Its path; where there is none, the path at which it would be.

        Raises:
            ManifestError: several images have that name.
        """
        relative = name.replace("\\", "/").lstrip("/")
        exact = self.folder / relative
        if relative and exact.is_file():
            return self.at(exact) or exact
        return self.search(name, near, under) or exact

    def inside(self, folder: Path) -> list[Path]:
        """The images in a folder, by the names of both or by what they are links to."""
        named, real = os.path.normpath(folder.absolute()) + os.sep, os.path.realpath(folder) + os.sep
        places = {place: os.path.realpath(place) + os.sep for place in {path.parent for path in self.paths}}
        return [
            path
            for target, path in self._by_real.items()
            if os.path.normpath(path.absolute()).startswith(named)
            or places[path.parent].startswith(real)
            or target.startswith(real)
        ]

    def remarks(self, used: Iterable[Path]) -> list[str]:
        """Notes: on images that no annotation names, and on what several links lead to."""
        notes: list[str] = []
        others = sorted(set(self.paths) - set(used))
        if others:
            what = "images are named by no annotation and are not imported"
            notes.append(f"{len(others)} {what}, e.g. {others[0].name}")
        if self._same:
            notes.append(f"{self._same} links lead to images that are there under another name too: each is read once")
        if self._dead:
            named = place_of(self._dead[0], self.folder).file
            notes.append(f"{len(self._dead)} links lead nowhere, and what they stand for is not read, e.g. {named}")
        return notes

    def id_of(self, path: Path) -> str:
        """Slide id of an image, also of one that does not exist."""
        return self.ids.get(path, path.stem)


def _one_each(paths: Sequence[Path], root: Path) -> list[Path]:
    """One path for every file: one in a split's folder, else one that is no link."""
    by_real: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_real[os.path.realpath(path)].append(path)
    kept = []
    for same in by_real.values():
        splits = {split_in_path(path, root) for path in same} - {None}
        if len(splits) > 1:
            named = " and ".join(place_of(path, root).file for path in same[:2])
            raise ManifestError(f"{named} are links to one image, in two splits", "leave it in one of them")
        kept.append(min(same, key=lambda path: (split_in_path(path, root) is None, path.is_symlink(), path)))
    return sorted(kept)
