"""Which files of a cohort folder are ours: those that its list names and that nobody has changed since."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import temporary_folder
from stride_monai.ownership import (
    LIST_NAME,
    FileList,
    Written,
    hand_over,
    read_json,
    read_list,
    refuse_foreign,
    written,
)

__all__ = ["COHORT_FILES", "CohortFiles"]

COHORT_FILES = (
    *("manifest.csv", "cells.csv", "regions.csv", "truth.csv", "problems.csv"),
    *("labels.json", "import.json", "split.json", "cohort.json"),
)
"""All that may be written into a cohort folder, beside slides, bags and their truth."""

_HEADS = {
    "manifest.csv": "slide_id,path,mpp,patient,centre,slide_class,split",
    "cells.csv": "slide_id,cell_id,x0,y0,x1,y1,label,cell_class,descriptions",
    "regions.csv": "slide_id,x0,y0,x1,y1",
    "truth.csv": "slide_id,patient,centre,split,label,true_class",
    "problems.csv": "file,line,kind,left_out,problem",
}
_KEYS = {
    "labels.json": {"schema_version", "package_version", "format", "labels"},
    "import.json": {"schema_version", "package_version", "format", "counts"},
    "split.json": {"schema_version", "package_version", "seed", "test_fraction"},
    "cohort.json": {"stride_monai", "design", "made"},
}


class CohortFiles:
    """The files of a cohort folder.

    A list says which we wrote. A cohort of a version that wrote no lists is told by its ``import.json`` or
    ``cohort.json``; its files are ours where their headings are. A folder with neither holds nothing of ours but the
    listing of problems that a refused import leaves, and what ``data split`` says of a split.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._list = read_list(folder)
        told = any(self._looks_ours(name) for name in ("import.json", "cohort.json"))
        self._made_before_lists = self._list is None and told

    @classmethod
    def free(cls, folder: Path, overwrite: bool = False) -> CohortFiles:
        """The files of a folder that a cohort may be written to.

        Raises:
            OutputError: it holds a cohort and ``overwrite`` is False, a cohort of synthetic slides, or files of such
                names that are not ours or that somebody has changed.
        """
        files = cls(folder)
        files.refuse(COHORT_FILES)
        standing = files.standing(name for name in COHORT_FILES if name != "problems.csv")
        if standing and not overwrite:
            raise OutputError(f"{folder} holds a {standing[0]} already", "choose another folder, or add --overwrite")
        if "cohort.json" in standing:
            raise OutputError(f"{folder} holds a cohort of synthetic slides", "choose another folder")
        return files

    def own(self, name: str) -> bool:
        """Whether a file may be replaced and removed."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        if name == LIST_NAME:
            return self._list is not None
        if self._list is not None and name in self._list.files:
            # Where the machine stopped while files were replaced, the old ones are ours as well.
            return not self._list.complete or self._list.as_written(self.folder, name)
        if self._made_before_lists or name in {"problems.csv", "split.json"}:
            return self._looks_ours(name)
        return False

    def standing(self, names: Iterable[str]) -> list[str]:
        """Which of these names are taken, by whatever."""
        return [name for name in names if os.path.lexists(self.folder / name)]

    def refuse(self, names: Iterable[str]) -> None:
        """Refuse to write where something stands that is not ours, or that somebody has changed.

        Raises:
            OutputError: naming what stands there.
        """
        refuse_foreign(self.folder, [*names, LIST_NAME], self.own, "move it elsewhere, or choose another folder")

    @contextmanager
    def replacing(self, names: Iterable[str]) -> Iterator[Path]:
        """A folder to write files to, which take the place of ours of these names when the block ends without an error.

        Files of these names that are not written are removed. The list says at any moment what is complete.

        Raises:
            OutputError: something that is not ours has one of the names, or they cannot be written.
        """
        names = list(names)
        self.refuse(names)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self.folder) as made:
                yield made
                others = {name: one for name, one in self._listed().items() if name not in names}
                earlier = FileList({name: written(self.folder / name) for name in names if self.own(name)})
                hand_over(made, self.folder, "cohort", earlier, last="manifest.csv")
                new = read_list(self.folder) or FileList()
                self._list = FileList({**others, **new.files}, "cohort")
                self._list.write(self.folder)
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder} ({error.strerror})", "check the folder") from error

    def write(self, name: str, writer: Callable[[Path], object]) -> None:
        """Write one file in its place, and note it in the list.

        Raises:
            OutputError: something that is not ours has the name, or it cannot be written.
        """
        self.refuse([name])
        writer(self.folder / name)
        self.note([name])

    def note(self, names: Iterable[str]) -> None:
        """Note files as ours as they are now.

        Raises:
            OutputError: the list cannot be written.
        """
        names = list(names)
        with contextlib.suppress(FileNotFoundError):
            new = {name: written(self.folder / name) for name in names}
            self._list = FileList({**self._listed(), **new}, "cohort")
            self._list.write(self.folder)

    def remove(self, names: Iterable[str]) -> None:
        """Remove those files that are ours.

        Raises:
            OutputError: one is somebody's, or cannot be removed.
        """
        names = self.standing(names)
        self.refuse(names)
        left = {name: one for name, one in self._listed().items() if name not in names}
        for name in names:
            (self.folder / name).unlink()
        if self._list is not None:
            self._list = FileList(left, "cohort")
            self._list.write(self.folder)

    def _listed(self) -> dict[str, Written]:
        """What is ours now, by name."""
        if self._list is not None:
            return dict(self._list.files)
        if self._made_before_lists:
            return {name: written(self.folder / name) for name in COHORT_FILES if self.own(name)}
        return {}

    def _looks_ours(self, name: str) -> bool:
        path = self.folder / name
        if name in _KEYS:
            raw = read_json(path)
            return isinstance(raw, dict) and _KEYS[name] <= set(raw)
        try:
            with path.open("rb") as stream:
                head = stream.readline(4096).decode("utf-8", "replace").rstrip("\n")
        except OSError:
            return False
        return head == _HEADS[name] or head.startswith(f"{_HEADS[name]},")
