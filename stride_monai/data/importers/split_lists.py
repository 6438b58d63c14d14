"""The split of every image: as the data set's lists say, else as its folders are named. None is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import NameFinder, data_folder, place_of
from stride_monai.data.importers.records import Listed, Source, SourceImage
from stride_monai.data.importers.split_names import split_in_path, split_named
from stride_monai.data.importers.texts import text_of
from stride_monai.errors import ManifestError
from stride_monai.files import files_below
from stride_monai.slides import is_slide_path

__all__ = ["list_entries", "with_splits"]

_BOTH = "trainval"  # of Pascal VOC: what is in train or in val
_UNSAID: tuple[str | None, Place] = (None, Place(""))
_LISTS = frozenset({".txt", ".lst"})
_FLAGS = frozenset({"-1", "0", "1"})  # of Pascal VOC's lists by class


def list_entries(path: Path, source: Path, encoding: str) -> list[Listed]:
    """The lines of a list; of a table the cell that looks like the name of an image, and not its heading.

    Raises:
        ManifestError: it cannot be read.
    """
    lines = text_of(path, encoding).splitlines()
    entries = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    if path.suffix.lower() == ".csv":
        entries = [(number, name) for number, line in entries if (name := _image_in(line))]
    return [Listed(text, place_of(path, source, f"line {n}")) for n, text in entries if text and text[0] != "#"]


def _image_in(line: str) -> str:
    # Not the reader of tables: a list has no heading, and a stray quotation mark must not join its lines.
    cells = [cell.strip(" \"'") for cell in re.split(r"[,;\t]", line)]
    return next((cell for cell in cells if is_slide_path(Path(cell))), "")


class _Splits:
    """Gathers what lists say of images."""

    def __init__(self, images: Sequence[SourceImage], root: Path, problems: ProblemLog) -> None:
        self.names = NameFinder([image.path for image in images], root)
        self._root = root
        self._problems = problems
        self.said: dict[Path, tuple[str, Place]] = {}
        self.torn: set[Path] = set()
        self._twice: dict[tuple[str, str], list[str]] = {}

    def add(self, split: str, entries: Iterable[Listed], near: Path | None, strict: bool = True) -> None:
        """Take the entries of one list; those that name no image are noted.

        Args:
            near: folder of the list: the images nearest to it are meant.
            strict: a list of which no entry names an image is a problem; else it may be something else, and is noted.
        """
        entries, missing = list(entries), []
        for entry in entries:
            try:
                path = _found(self.names, entry.name, near)
            except ManifestError as error:
                self._problems.add(entry.place, "split", str(error))
                continue
            if path is None:
                missing.append(entry)
                continue
            self._put(path, split, entry)
        if entries and len(missing) == len(entries):
            what = f"the list for '{split}' names none of the images that are imported, e.g. not '{entries[0].name}'"
            lost = strict or any(is_slide_path(Path(entry.name.split()[0].split(",")[0])) for entry in entries)
            if lost and not self._known_otherwise(entries, near):
                self._problems.add(entries[0].place, "split", what)
            else:
                self._problems.note(entries[0].place, "split", what)
        else:
            for entry in missing:
                self._problems.note(entry.place, "split", f"'{entry.name}' is none of the images that are imported")

    def _known_otherwise(self, entries: Sequence[Listed], near: Path | None) -> bool:
        """Whether a list is of images that are there, but not imported, e.g. of a test set without labels."""
        names = NameFinder([path for path in files_below(self._root) if is_slide_path(path)], self._root)
        try:
            return any(_found(names, entry.name, near) for entry in entries)
        except ManifestError:  # several are meant, and none of them is imported
            return True

    def _put(self, path: Path, split: str, entry: Listed) -> None:
        first, place = self.said.setdefault(path, (split, entry.place))
        if first == split:
            return
        names = self._twice.setdefault((place.file, entry.place.file), [])
        names.append(entry.name)
        self.torn.add(path)
        if len(names) == 1:
            what = f"'{entry.name}' is in the list of another split too, {place}"
            self._problems.add(entry.place, "split", f"{what}: leave it in one of them")

    def many_twice(self) -> list[str]:
        """How many images two lists share, for each two that share more than the one that is a problem already."""
        return [
            f"{len(names)} images are in {two} and in {one}, which are of different splits"
            for (one, two), names in self._twice.items()
            if len(names) > 1
        ]


def _found(names: NameFinder, name: str, near: Path | None) -> Path | None:
    """By the whole line, else without what a list may add: ``name  1``, ``name,label``."""
    words = name.split()
    texts = [name]
    texts += [" ".join(words[:-1])] if len(words) > 1 and words[-1] in _FLAGS else []
    texts += [name.split(mark)[0].strip() for mark in (",", ";", "\t", " ") if mark in name]
    return next((path for text in texts if text and (path := names.search(text.strip("'\""), near))), None)


def with_splits(read: Source, source: Path, images_root: Path, encoding: str, problems: ProblemLog) -> None:
    """Give every image its split, in place.

    What the format read itself counts most (``split`` of an image, :attr:`Source.lists`), then lists of names in text
    files that are named after a split (``train.txt``, ``ImageSets/Main/val.txt``, those by class), then folders.
    Images of which two lists differ are a problem; a folder that differs from a list is told.
    """
    splits = _Splits(read.images, images_root, problems)
    for name, entries, near in read.lists:
        splits.add(name, entries, near)
    folder = data_folder(source)
    taken = {entry.place.file for _, entries, _ in read.lists for entry in entries}
    # Where the annotations or the folders say the splits, a table named after one is of labels.
    known = any(i.split for i in read.images) or all(split_in_path(i.path, images_root) for i in read.images)
    suffixes = _LISTS if known else _LISTS | {".csv"}
    notes = _from_files((folder, images_root), suffixes, encoding, splits, taken, problems)
    other: list[SourceImage] = []
    for number, image in enumerate(read.images):
        by_folder = split_in_path(image.path, images_root)
        said, place = splits.said.get(image.path, _UNSAID)
        if said and image.split and image.split != said:
            what = f"{place} says that the image is in '{said}', the annotations say '{image.split}'"
            problems.add(image.place, "split", f"{what}: correct one of them")
        split = image.split or said or by_folder
        read.images[number] = replace(image, split=None if image.path in splits.torn else split)
        if by_folder and read.images[number].split not in {None, by_folder}:
            other.append(read.images[number])
    read.notes += [*notes, *splits.many_twice(), *_told(read.images, other)]


def _told(images: Sequence[SourceImage], other: Sequence[SourceImage]) -> list[str]:
    notes: list[str] = []
    without = [image for image in images if image.split is None]
    if without and len(without) < len(images):
        named = f"e.g. {without[0].path.name}"
        notes.append(f"{len(without)} of {len(images)} images are in no split that the data set names, {named}")
    if other:
        image = other[0]
        what = f"{len(other)} images lie in a folder of another split than their list or file says"
        notes.append(f"{what}, which counts: e.g. {image.path.name} is '{image.split}'")
    return notes


def _from_files(
    places: tuple[Path, Path],
    suffixes: Collection[str],
    encoding: str,
    splits: _Splits,
    taken: Collection[str],
    problems: ProblemLog,
) -> list[str]:
    """Take the lists that are files of their own; returns notes.

    Args:
        places: folder of the data set, and that of its images.
        suffixes: of lists.
        taken: files that are read already.
    """
    folder, root = places
    links: dict[Path, Path] = {}
    found = files_below(folder, links=links)
    if root != folder and folder not in root.parents and root.is_dir():
        found += files_below(root, links=links)
    found = [path for path in found if path.suffix.lower() in suffixes]
    notes = _from_links(links, folder, splits, problems)
    both: list[tuple[Path, list[Listed]]] = []
    for place, lists in _by_folder(found).items():
        plain = [path for path in lists if _bare(path) or path.stem.lower() == _BOTH]
        for path in plain or lists:
            split = split_named(path.stem)
            is_both = path.stem.lower() == _BOTH
            if not (split or is_both) or place_of(path, folder).file in taken:
                continue
            with problems.catching(place_of(path, folder), "split"):
                entries = list_entries(path, folder, encoding)
                if not entries or _numbers(entries[0].name):
                    continue  # a label file of an image that is named so
                if is_both:
                    both.append((path, entries))
                elif split:
                    splits.add(split, entries, place, strict="imagesets" in map(str.lower, place.parts[-2:]))
    return [*notes, *(note for path, entries in both for note in _train_or_val(path, folder, entries, splits))]


def _from_links(links: Mapping[Path, Path], folder: Path, splits: _Splits, problems: ProblemLog) -> list[str]:
    """Take linked folders that are named after a split and lead to one with another name; returns a note on links."""
    for link, target in sorted(links.items()):
        if split := split_in_path(link / "_", folder):
            inside = [path for path in splits.names.paths if target in path.parents]
            if any(split_in_path(path, folder) not in {None, split} for path in inside):
                what = f"the link leads to {place_of(target, folder).file}, which is of another split"
                problems.add(place_of(link, folder), "split", what)
            splits.add(split, [Listed(str(path), place_of(link, folder)) for path in inside], None)
    if not links:
        return []
    link, target = min(links.items())
    named = f"{place_of(link, folder).file} to {place_of(target, folder).file if target != folder else 'all of it'}"
    return [f"{len(links)} linked folders lead to folders of the data set, which are read once, e.g. {named}"]


def _by_folder(lists: Iterable[Path]) -> dict[Path, list[Path]]:
    """Lists by their folder; of ``ImageSets``, those of ``Main``, where it has them: others are of other tasks."""
    found: dict[Path, list[Path]] = {}
    for path in lists:
        if "labels" not in {part.lower() for part in path.parts[-3:-1]}:
            found.setdefault(path.parent, []).append(path)
    main = {place.parent for place in found if place.name.lower() == "main"}
    return {place: paths for place, paths in found.items() if place.parent not in main or place.name.lower() == "main"}


def _bare(path: Path) -> bool:
    """Whether a list is of a split, not of a class in one."""
    return split_named(path.stem) is not None and len(path.stem.replace("-", "_").split("_")) == 1


def _train_or_val(path: Path, folder: Path, entries: Sequence[Listed], splits: _Splits) -> list[str]:
    """Images of ``trainval`` that no other list names are training's, where no list says which of them are."""
    name = place_of(path, folder).file
    has_train = any(split == "train" for split, _ in splits.said.values())
    before = set(splits.said)
    images = {image for entry in entries if (image := _found(splits.names, entry.name, path.parent))}
    new = sorted(images - before)
    if not new:
        return []
    if has_train:
        return [f"{len(new)} images are in {name}, but in neither of train and val, and have no split"]
    for image in new:
        splits.said[image] = ("train", Place(name))
    return [f"{len(new)} images of {name} are in 'train': no list says which of them are for validation"]


def _numbers(line: str) -> bool:
    """Whether a line holds numbers only, five or more: a label of YOLO."""
    words = line.split()
    try:
        return len(words) >= 5 and all(float(word) is not None for word in words)
    except ValueError:
        return False
