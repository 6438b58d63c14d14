"""What describes a YOLO data set: names of the classes, key points and splits, in YAML files or in Darknet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, NameFinder, parts_of, place_of, plain_name
from stride_monai.data.importers.records import ImportOptions, Listed
from stride_monai.data.importers.split_lists import list_entries
from stride_monai.data.importers.split_names import split_in_path
from stride_monai.data.importers.texts import load_yaml, text_of, to_id
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ConfigError, ManifestError

__all__ = ["NAME_FILES", "YoloData", "yolo_data"]

NAME_FILES = frozenset({"classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "labels.names"})
_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")


@dataclass(slots=True)
class YoloData:
    """What the data set says of itself.

    Attributes:
        names: number of a class as text -> its name.
        source: the file that names the classes; empty where none does.
        key_shape: number of key points and of values for each; None where there are none.
        lists: of images, by split, with the folder that they lie next to.
        notes: sentences for the user.
    """

    names: dict[str, str] = field(default_factory=dict)
    source: str = ""
    key_shape: tuple[int, int] | None = None
    lists: list[tuple[str, Sequence[Listed], Path | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def label(self, number: str) -> str:
        """Name of a class.

        Raises:
            ManifestError: the classes have names, but this has none.
        """
        if not self.source:
            return f"class {number}"
        name = self.names.get(number, "")
        if not name:
            raise ManifestError(f"class {number} has no name in {self.source}", "add it, or correct the line")
        return name


def yolo_data(
    source: Path, files: Sequence[Path], index: ImageIndex, options: ImportOptions, problems: ProblemLog
) -> YoloData:
    """Read what describes the data set.

    Args:
        files: all files of the data set.
        index: its images.

    Raises:
        ManifestError: a file that cannot be read, or two that name the classes or the key points otherwise.
        ConfigError: there is no YAML file of the name that the option ``data`` says.
    """
    data, encoding, chosen = YoloData(), options.encoding, options.values.get("data", "")
    if chosen and chosen not in {path.name for path in files}:
        raise ConfigError(f"data is '{chosen}', but {source.name} holds no such file", "name the YAML file to read")
    named: dict[Path, dict[str, str]] = {}
    shapes: dict[Path, tuple[int, int]] = {}
    lists = _Lists(source, files, index, encoding)
    for path in files:
        suffix = path.suffix.lower()
        if path.name.lower() in NAME_FILES:
            named[path] = _lines(path, encoding)
        elif suffix == ".data":
            content = _darknet(path, encoding)
            lists.add(content, path, path.parent, problems)
        elif (
            suffix in {".yaml", ".yml"}
            and chosen in {"", path.name}
            and isinstance(content := load_yaml(path, encoding), dict)
        ):
            if "names" in content:
                named[path] = _names(content, path)
            if content.get("kpt_shape"):
                shapes[path] = _key_shape(content["kpt_shape"], path)
            if "names" in content or "nc" in content:
                lists.add(content, path, path.parent / str(content.get("path") or ""), problems)
    _same(named, "the classes")
    _same(shapes, "the key points")
    if named:
        first, data.names = next(iter(named.items()))
        data.source = place_of(first, source).file
    data.key_shape = next(iter(shapes.values()), None)
    data.lists, data.notes = lists.found, lists.notes(problems)
    return data


def _same(found: dict[Path, Any], what: str) -> None:
    for path, other in found.items():
        first = next(iter(found))
        if other != found[first]:
            raise ManifestError(
                f"{first.name} and {path.name} name {what} otherwise", "keep one of them, or say --option data=NAME"
            )


def _names(content: dict[str, Any], path: Path) -> dict[str, str]:
    names = content["names"]
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ManifestError(f"{path.name}: names is no list or map of texts", "write names: [NILM, LSIL]")
    found = {to_id(number, f"{path.name}: the number of class '{name}'"): name for number, name in names.items()}
    if len(found) < len(names):
        raise ManifestError(f"{path.name}: names has a number twice", "give each class its own")
    wrong = [number for number in found if not number.isdecimal()]
    if wrong:
        raise ManifestError(f"{path.name}: names has '{wrong[0]}' for the number of a class", "number them from 0")
    count = content.get("nc")
    if isinstance(count, str) and count.isdecimal() and int(count) != len(found):
        raise ManifestError(f"{path.name}: nc is {count}, but names has {len(found)} classes", "correct one of them")
    return found


def _lines(path: Path, encoding: str) -> dict[str, str]:
    lines = [line.strip() for line in text_of(path, encoding).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return {str(number): line for number, line in enumerate(lines)}


def _key_shape(value: Any, path: Path) -> tuple[int, int]:
    parts = value if isinstance(value, list) else [value]
    if len(parts) != 2 or not all(str(part).isdecimal() for part in parts) or str(parts[1]) not in {"2", "3"}:
        raise ManifestError(f"{path.name}: kpt_shape is {value}", "write the number of key points and 2 or 3: [17, 3]")
    return int(parts[0]), int(parts[1])


def _darknet(path: Path, encoding: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text_of(path, encoding).splitlines())
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


class _Lists:
    """Finds the images of every split: those of a folder or of a list of names, or of several of these."""

    def __init__(self, source: Path, files: Sequence[Path], index: ImageIndex, encoding: str) -> None:
        self._source, self._index, self._encoding = source, index, encoding
        self._texts = NameFinder([path for path in files if path.suffix.lower() == ".txt"], source)
        self.found: list[tuple[str, Sequence[Listed], Path | None]] = []
        self._dead: list[Place] = []

    def add(self, content: Mapping[str, Any], path: Path, base: Path, problems: ProblemLog) -> None:
        """Take what a file says of splits; its paths begin at ``base``."""
        for key in _SPLIT_KEYS:
            value = content.get(key)
            for entry in value if isinstance(value, list) else [value]:
                text = str(entry or "").strip()
                place = place_of(path, self._source, f"{key}: {text}")
                with problems.catching(place, "split"):
                    if text and not self._add(parse_split(key), text, place, base):
                        self._dead.append(place)

    def _add(self, split: str, text: str, place: Place, base: Path) -> bool:
        folder = _folder(text, base, self._index)
        if folder is not None:
            inside = [Listed(str(image), place) for image in self._index.inside(folder)]
            self.found.append((split, inside, None))
        elif (table := self._list(text, base)) is not None:
            self.found.append((split, list_entries(table, self._source, self._encoding), table.parent))
        elif (image := self._index.search(text)) is not None:
            self.found.append((split, [Listed(str(image), place)], None))
        else:
            return False
        return True

    def _list(self, text: str, base: Path) -> Path | None:
        if not text.lower().endswith(".txt"):
            return None
        here = base / text
        return here if here.is_file() else self._texts.search(text, near=base)

    def notes(self, problems: ProblemLog) -> list[str]:
        """On what leads nowhere; a problem where nothing else says a split."""
        what = "there is no such folder, list or image"
        if not self.found:
            for place in self._dead:
                problems.add(place, "split", what)
            return []
        return [f"{place}: {what}, and no image is in this split by it" for place in self._dead]


def _folder(text: str, base: Path, index: ImageIndex) -> Path | None:
    """The folder with images that a text means: where it says, else the only one that has the most of its end."""
    parts = [part for part in parts_of(text) if "*" not in part]
    if not parts:
        return base if index.inside(base) else None
    for start in (base / text, index.folder / text):
        place = Path(*(part for part in start.parts if "*" not in part))
        if place.is_dir() and index.inside(place):
            return place
    root, places = index.folder, {image.parent for image in index.paths}
    folders = {up for place in places for up in (place, *place.parents) if up == root or root in up.parents}
    # What is in the folder of another split than the text says is not meant: that split is not there.
    split = split_in_path(Path(*parts, "_"), Path())
    folders = {place for place in folders if not split or split_in_path(place / "_", index.folder) in {None, split}}
    for at in range(len(parts)):
        tail = [plain_name(part) for part in parts[at:]]
        found = [f for f in folders if [plain_name(part) for part in f.parts][-len(tail) :] == tail]
        if len(found) == 1:
            return found[0]
    return None
