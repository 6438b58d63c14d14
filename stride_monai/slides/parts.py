"""Slides of several files: which files belong together, which of them stands for the slide, and what is none.

DICOM keeps every level, the label and the overview of a slide in a file of its own; Hamamatsu (VMS, VMU) has a key file
beside its pictures, MIRAX a folder beside its file, and OME-TIFF may spread an image over files. Label and macro
pictures show a patient's name: they are parts of their slide, never slides.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from stride_monai.files import fingerprint
from stride_monai.names import name_key, readable
from stride_monai.slides.dicom_header import DicomHeader, is_dicom, read_header
from stride_monai.slides.readers.registry import is_slide_path
from stride_monai.slides.tiff.directory import FileBytes, TiffError, read_directories
from stride_monai.slides.tiff.ome import read_xml

__all__ = [
    "FolderView",
    "Whole",
    "is_suffixless_dicom",
    "own_folders",
    "parts_of",
    "slide_fingerprint",
    "slide_of_folder",
]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_KEY_FILES = frozenset({".vms", ".vmu"})
# Formats that keep their pixels in a folder beside the file, by its name.
_BESIDE = {".mrxs": "{}", ".vsi": "_{}_", ".dzi": "{}_files"}
_OME = re.compile(r"\.ome\.(tiff?|tf[28]|btf)$", re.IGNORECASE)
_DESCRIPTION = 270  # TIFF's tag
_MAX_KEY_FILE = 1 << 20  # bytes
_PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".gif", ".heic"}
)
_WORDS = r"[\s_.\-#(\[]*(?:associated|slide)?[\s_.\-]*"
_ABOUT_ANOTHER = re.compile(rf"{_WORDS}(?:label|macro|overview|thumb(?:nail)?)(?:[\s_.\-]*(?:image|picture))?[)\]]*")
_NAMES_SOMEBODY = re.compile(r"(?:.*[\s_.\-#(\[])?(?:label|macro)(?:[\s_.\-]*(?:image|picture))?[)\]]*")


@dataclass(frozen=True, slots=True)
class Whole:
    """A slide of several files.

    Attributes:
        main: the file that is opened.
        parts: the others that it consists of.
        name: the slide's, where it is not the main file's stem.
        any_part_opens: a reader takes any of the files for the slide, as with DICOM.
    """

    main: Path
    parts: tuple[Path, ...]
    name: str = ""
    any_part_opens: bool = False


@dataclass(frozen=True, slots=True)
class Aside:
    """Why a file is no slide, in words that follow its name.

    Attributes:
        slide: that it tells something about.
        alone: its slide is not to be seen, so nobody knows whether it is missed.
    """

    why: str
    slide: Path | None = None
    alone: bool = False


class FolderView:
    """The files of one folder as slides and parts of slides.

    Args:
        folder: its files are listed, not those of folders in it. One that cannot be listed counts as empty.

    Attributes:
        wholes: the slides of several files.
        aside: what is no slide, though it may look like one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [file for file in _files_in(folder) if not file.name.startswith(".")]
        self.aside: dict[Path, Aside] = {}
        self.wholes: list[Whole] = [*_keyed(files), *_with_folders(files), *_ome_sets(files), *self._dicom(files)]
        self._whole_of = {path: whole for whole in self.wholes for path in (whole.main, *whole.parts)}
        self._pictures_about(files)

    def whole_of(self, path: Path) -> Whole | None:
        """The slide of several files that a file of this folder is, or is a part of."""
        return self._whole_of.get(path)

    def _dicom(self, files: Sequence[Path]) -> list[Whole]:
        """DICOM files by series. A series without pixels of a slide, and a report beside slides, are set aside."""
        headers: dict[Path, DicomHeader] = {}
        for path in files:
            if path.suffix.lower() in DICOM_SUFFIXES or is_suffixless_dicom(path):
                header = read_header(path)
                if header is not None:
                    headers[path] = header
                elif path.name.upper() == "DICOMDIR":
                    self.aside[path] = Aside("is a list of DICOM files, not a slide")
        slides = {header.series for header in headers.values() if header.whole_slide and header.volume}
        series: dict[str, list[Path]] = defaultdict(list)
        for path, header in headers.items():
            if header.series in slides and header.whole_slide:
                series[header.series].append(path)
            elif header.whole_slide:
                self.aside[path] = Aside("is the label, overview or thumbnail of a slide")
            elif slides:
                self.aside[path] = Aside("is DICOM, but no slide")
        several = {uid: paths for uid, paths in series.items() if len(paths) > 1}
        return [self._series(uid, paths, headers, len(several)) for uid, paths in several.items()]

    def _series(self, uid: str, paths: list[Path], headers: dict[Path, DicomHeader], several: int) -> Whole:
        main = max((path for path in paths if headers[path].volume), key=lambda path: path.stat().st_size)
        name = readable(self.folder.resolve().name) or "slide"
        if several > 1:  # each slide of the folder keeps its name when another one comes or goes
            name = f"{name}-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"
        return Whole(main, tuple(path for path in paths if path != main), name, any_part_opens=True)

    def _pictures_about(self, files: Sequence[Path]) -> None:
        """Set aside exported label, macro and overview pictures, by their names."""
        pictures = [path for path in files if path.suffix.lower() in _PICTURES and path not in self._whole_of]
        slides = [path for path in files if is_slide_path(path) and not _NAMES_SOMEBODY.fullmatch(name_key(path.stem))]
        by_start = {start: path for path in slides for start in (name_key(path.stem), name_key(path.name))}
        for path in pictures:
            stem = name_key(path.stem)
            found = next((at for at in range(len(stem) - 1, 0, -1) if _is_about(stem, at, by_start, path)), None)
            if found is not None:
                self.aside[path] = Aside("is a picture of a slide's label, or of all of it", by_start[stem[:found]])
            elif _NAMES_SOMEBODY.fullmatch(stem):
                why = "is called as pictures of a slide's label are, which show a patient's name, and is not screened"
                self.aside[path] = Aside(why, alone=True)


def _files_in(folder: Path) -> list[Path]:
    """Its files by name; none where it cannot be listed."""
    try:
        return sorted(folder / entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return []


def _is_about(stem: str, at: int, by_start: dict[str, Path], path: Path) -> bool:
    other = by_start.get(stem[:at])
    return other is not None and other != path and _ABOUT_ANOTHER.fullmatch(stem[at:]) is not None


def is_suffixless_dicom(path: Path) -> bool:
    """Whether a file without a suffix of its own, as ``IM0001`` or a UID, holds DICOM."""
    suffix = path.suffix[1:]
    return (not suffix or suffix.isdigit()) and is_dicom(path)


def _keyed(files: Sequence[Path]) -> list[Whole]:
    """Key files and the pictures that they name."""
    by_name = {name_key(path.name): path for path in files}
    wholes = []
    for path in files:
        if path.suffix.lower() in _KEY_FILES:
            named = {by_name[key] for key in _values(path) if key in by_name and by_name[key] != path}
            wholes.append(Whole(path, tuple(sorted(named))))
    return wholes


def _values(key_file: Path) -> set[str]:
    """What the keys of a key file are set to, as keys of names; folders before a name are dropped."""
    try:
        if key_file.stat().st_size > _MAX_KEY_FILE:
            return set()
        text = key_file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return set()
    values = (line.partition("=")[2].strip() for line in text.splitlines() if "=" in line)
    return {name_key(value.replace("\\", "/").rpartition("/")[2]) for value in values if value}


def _with_folders(files: Sequence[Path]) -> list[Whole]:
    """Files with a folder of pixels beside them."""
    wholes = []
    for path in files:
        beside = _beside(path)
        if beside is not None:
            parts = (part for part in _files_in(beside) if not part.name.startswith("."))
            wholes.append(Whole(path, tuple(parts)))
    return wholes


def _ome_sets(files: Sequence[Path]) -> list[Whole]:
    """OME-TIFFs that hold planes of one image; its first plane's file stands for it."""
    by_name = {path.name: path for path in files if _OME.search(path.name)}
    wholes: dict[Path, Whole] = {}
    for path in by_name.values() if len(by_name) > 1 else ():
        for names in _files_of_images(path):
            there = list(dict.fromkeys(by_name[name] for name in names if name in by_name))
            if len(there) > 1 and path in there:
                wholes.setdefault(there[0], Whole(there[0], tuple(sorted(there[1:]))))
    return list(wholes.values())


def _files_of_images(path: Path) -> list[list[str]]:
    """For each image of an OME-TIFF the files that its planes stand in, in order; none where that is not to be read."""
    try:
        with closing(FileBytes(path)) as file:
            root = read_xml(read_directories(file)[0].text(_DESCRIPTION))
        images = [e for e in root.iter() if e.tag.rpartition("}")[2] == "Image"]
    except (TiffError, OSError, ValueError):
        return []
    return [[uuid.get("FileName", "") for uuid in image.iter() if uuid.tag.endswith("UUID")] for image in images]


def _beside(path: Path) -> Path | None:
    pattern = _BESIDE.get(path.suffix.lower())
    beside = path.with_name(pattern.format(path.stem)) if pattern else None
    return beside if beside is not None and beside.is_dir() else None


def slide_of_folder(folder: Path) -> Path | None:
    """The file whose pixels a folder holds; None where it is an ordinary folder."""
    return next((path for path in _files_in(folder.parent) if _beside(path) == folder), None)


def own_folders(path: Path, slide_id: str = "") -> list[Path]:
    """The folders of a slide; nothing else is to be written there.

    Args:
        path: the slide's file; of DICOM slides, one of its files.
        slide_id: a DICOM slide that is named by its folder is all that the folder holds.
    """
    if path.absolute().parent.name == slide_id and (path.suffix.lower() in DICOM_SUFFIXES or is_suffixless_dicom(path)):
        return [path.parent]
    beside = _beside(path)
    return [beside] if beside is not None else []


def parts_of(path: Path) -> tuple[Path, ...]:
    """The other files of a slide, sorted; none for one that is a single file."""
    suffix = path.suffix.lower()
    several = suffix in _KEY_FILES | _BESIDE.keys() | DICOM_SUFFIXES or _OME.search(path.name)
    if not several and not is_suffixless_dicom(path):
        return ()
    whole = FolderView(path.parent).whole_of(path)
    if whole is None or (path != whole.main and not whole.any_part_opens):
        return ()
    return tuple(sorted({whole.main, *whole.parts} - {path}))


def slide_fingerprint(path: Path) -> str:
    """:func:`~stride_monai.files.fingerprint` of a slide, which changes with any of its files.

    Raises:
        OSError: one of them cannot be read.
    """
    prints = sorted(fingerprint(part) for part in (path, *parts_of(path)))
    return prints[0] if len(prints) == 1 else hashlib.sha256("\n".join(prints).encode()).hexdigest()
