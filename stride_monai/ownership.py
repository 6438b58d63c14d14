"""What in a folder is ours: nothing else is ever replaced or removed.

A folder that we fill holds ``files.json``, the list of the files that we wrote there. A file is ours if the list has
its name and it is a regular file; everything else in the folder belongs to somebody, and is refused by name where one
of our files would take its place. The list also says whether the folder is whole: every file there with the size and
SHA-256 that it was written with.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai import __version__
from stride_monai.errors import OutputError
from stride_monai.files import free_name, moved, sha256_of, to_disk, write_bytes

__all__ = [
    "LIST_NAME",
    "FileList",
    "Written",
    "dissolve",
    "hand_over",
    "named",
    "read_json",
    "read_list",
    "refuse_foreign",
    "refuse_inputs",
    "refuse_within",
    "remove_files",
    "set_down",
    "written",
]

LIST_NAME = "files.json"
_SCHEMA_VERSION = "1.0"
_NOTE = "written by stride-monai, which replaces and removes the files of this list and no others"
_LARGEST = 256 << 20  # bytes; no list or index of ours is larger, and nobody's other file is read into memory
_SHOWN = 5


class Written(NamedTuple):
    """A file as it was written."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileList:
    """The files that we wrote into a folder.

    Attributes:
        files: by their path relative to the folder, with ``/``.
        of: what the folder is about, such as a slide id; empty where nothing in particular.
        complete: False from before the first file is replaced until the last one is there.
        writers: names of those that wrote the files, where the folder is one of results.
    """

    files: Mapping[str, Written] = field(default_factory=dict)
    of: str = ""
    complete: bool = True
    writers: tuple[str, ...] = ()

    def whole(self, folder: Path) -> bool:
        """Whether all files are there as they were written."""
        return self.complete and bool(self.files) and all(self.as_written(folder, name) for name in self.files)

    def as_written(self, folder: Path, name: str) -> bool:
        """Whether a file is listed and has not changed since."""
        wanted, path = self.files.get(name), folder / name
        try:
            return (
                wanted is not None
                and path.is_file()
                and path.stat().st_size == wanted.size
                and sha256_of(path) == wanted.sha256
            )
        except OSError:
            return False

    def own(self, folder: Path, name: str) -> bool:
        """Whether a file is listed and still a regular file, which may be replaced and removed."""
        path = folder / name
        return name in self.files and path.is_file() and not path.is_symlink()

    def write(self, folder: Path) -> None:
        """Write the list into its folder.

        Raises:
            OutputError: it cannot be written.
        """
        content = {
            "schema_version": _SCHEMA_VERSION,
            "package_version": __version__,
            "note": _NOTE,
            "of": self.of,
            "complete": self.complete,
            "files": {name: written._asdict() for name, written in sorted(self.files.items())},
            **({"writers": list(self.writers)} if self.writers else {}),
        }
        write_bytes(
            folder / LIST_NAME,
            (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"),
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is no such regular file, or it holds anything else."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return None


def read_list(folder: Path) -> FileList | None:
    """The list of a folder; None where it has none of ours."""
    raw = read_json(folder / LIST_NAME)
    try:
        if raw["note"] != _NOTE:
            return None
        files = {str(name): Written(int(one["size"]), str(one["sha256"])) for name, one in raw["files"].items()}
        of, complete = str(raw["of"]), raw["complete"] is True
        writers = tuple(map(str, raw.get("writers", ())))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return None
    return FileList({name: one for name, one in files.items() if _below(name)}, of, complete, writers)


def _below(name: str) -> bool:
    """Whether a listed path stays in its folder, whoever wrote it there."""
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def written(path: Path) -> Written:
    """What is noted of a file."""
    return Written(path.stat().st_size, sha256_of(path))


def refuse_foreign(folder: Path, names: Iterable[str], own: Callable[[str], bool], advice: str = "") -> None:
    """Refuse to write files where something stands that is not ours.

    Args:
        own: whether what stands under a name is ours.

    Raises:
        OutputError: naming what stands there, or the folder where it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder", advice or "choose another output folder")
    foreign = [name for name in names if os.path.lexists(folder / name) and not own(name)]
    if foreign:
        raise OutputError(
            f"{folder} holds {named(foreign)}, not written by stride-monai or changed since, which would be replaced",
            advice or "move it elsewhere, or choose another output folder",
        )


def named(names: Sequence[str]) -> str:
    """The first names of a list, and how many there are more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def hand_over(
    made: Path,
    folder: Path,
    of: str,
    earlier: FileList | None,
    last: str,
    names: Iterable[str] | None = None,
    writers: Iterable[str] = (),
) -> None:
    """Move the files of one folder into another, in place of those that we wrote there before.

    From before the first change until after the last one, the list in ``folder`` says that it is not complete. A file
    that somebody has changed since it was written is kept under another name.

    Args:
        made: where the files are.
        earlier: what of ``folder`` is ours; None for nothing.
        last: the file that is removed first and moved last, as its presence speaks for all of them.
        names: of the files, relative to ``made``; None for all that are there.
        writers: names of those that wrote them, for the list.

    Raises:
        OutputError: a name is taken by something that is not ours; a file cannot be moved.
    """
    before = earlier or FileList()
    if names is None:
        names = (path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    names = sorted(names, key=lambda name: (name == last, name))
    if LIST_NAME in names:
        raise OutputError(f"a writer of {of or folder.name} writes {LIST_NAME}", "rename its file: that is the list")
    refuse_foreign(folder, names, lambda name: before.own(folder, name))
    refuse_foreign(folder, [LIST_NAME], lambda _: read_list(folder) is not None)
    try:
        for name in names:
            to_disk(made / name)
        files = {name: written(made / name) for name in names}
        folder.mkdir(exist_ok=True)
        _keep_changed(folder, before)
        FileList({**before.files, **files}, of, complete=False).write(folder)
        remove_files(folder, before, [last, *sorted(set(before.files) - set(names))])
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            moved(made / name, folder / name)
        FileList(files, of, writers=tuple(writers)).write(folder)
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror})", "check the disk space") from error


def set_down(folder: Path, place: Path, of: str, earlier: FileList) -> None:
    """Move our files of a folder into another one beside or below it, where they are not taken for current ones.

    Raises:
        OutputError: they cannot be moved.
    """
    there = read_list(place)
    names = [name for name in earlier.files if earlier.own(folder, name)]
    own = there or FileList()
    refuse_foreign(place, [LIST_NAME], lambda _: there is not None)
    refuse_foreign(place, names, lambda name: own.own(place, name))
    try:
        place.mkdir(exist_ok=True)
        _keep_changed(place, own)
        FileList({**own.files, **earlier.files}, of, complete=False).write(place)
        remove_files(place, own, own.files)
        FileList(earlier.files, of, complete=False).write(folder)
        for name in names:
            (place / name).parent.mkdir(exist_ok=True)
            moved(folder / name, place / name)
        FileList(earlier.files, of, earlier.complete, earlier.writers).write(place)
        FileList({}, of, complete=False).write(folder)
    except OSError as error:
        raise OutputError(
            f"cannot set aside the earlier results of {of} ({error.strerror})", "check the disk"
        ) from error


def remove_files(folder: Path, ours: FileList, names: Iterable[str]) -> None:
    """Remove those of our files that are still there.

    Raises:
        OSError: one cannot be removed.
    """
    for name in names:
        if ours.own(folder, name):
            (folder / name).unlink(missing_ok=True)


def _keep_changed(folder: Path, ours: FileList) -> None:
    """Rename those of our files that somebody has changed: what was written into them is theirs.

    Where the list is not complete, a run was cut off, and files differ from it for that.
    """
    for name in ours.files if ours.complete else ():
        if ours.own(folder, name) and not ours.as_written(folder, name):
            (folder / name).rename(free_name(folder / name))


def dissolve(folder: Path, ours: FileList) -> None:
    """Remove our files, their list, and the folder where nothing else is in it; changed files as for :func:`hand_over`.

    Raises:
        OSError: one cannot be removed.
    """
    _keep_changed(folder, ours)
    remove_files(folder, ours, ours.files)
    (folder / LIST_NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path], advice: str) -> None:
    """Refuse to write where an input stands.

    Args:
        outputs: files that may be replaced, and folders in which files may be.
        inputs: files and folders that are read.

    Raises:
        OutputError: an input is, or is inside, one of the outputs, whatever links and spellings lead there; naming the
            first ones.
    """
    known: dict[str, set[object]] = {}
    places = _identities(map(os.path.realpath, outputs), known)
    caught = dict.fromkeys(str(path) for path in inputs if places & _identities(_with_parents(path), known))
    if caught:
        raise OutputError(f"results would be written over {named(list(caught))}, which is an input", advice)


def refuse_within(output: Path, folders: Iterable[Path], advice: str) -> None:
    """Refuse to write into a folder that belongs to an input.

    Raises:
        OutputError: the output is one of the folders, or inside of one.
    """
    known: dict[str, set[object]] = {}
    here = _identities(_with_parents(output), known)
    for folder in folders:
        if here & _identities([os.path.realpath(folder)], known):
            raise OutputError(f"results would be written into {folder}, which belongs to a slide", advice)


def _with_parents(path: Path) -> set[str]:
    """A path and all folders that it is in: as it is named, and where links lead."""
    as_named, real = Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))
    return {str(place) for start in (as_named, real) for place in (start, *start.parents)}


def _identities(paths: Iterable[str], known: dict[str, set[object]]) -> set[object]:
    """What tells that two paths are one: the path, and the number of what is there, as names may differ in case."""
    for path in (paths := list(paths)):
        if path not in known:
            known[path] = {path}
            with contextlib.suppress(OSError, ValueError):
                facts = Path(path).stat()
                known[path] |= {(facts.st_dev, facts.st_ino)} if facts.st_ino else set()
    return set().union(*(known[path] for path in paths))
