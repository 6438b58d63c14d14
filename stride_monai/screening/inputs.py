"""From what the user typed to the list of slides: files, folders and lists."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.data.manifest import LIST_SUFFIXES, read_manifest
from stride_monai.errors import SlideError, StrideError
from stride_monai.files import files_below
from stride_monai.names import found, name_key, readable, why_no_folder_name
from stride_monai.run_index import ERRORS_NAME, INDEX_NAMES
from stride_monai.screening.config import ScreeningConfig
from stride_monai.slides import Slide, is_slide_path, open_slide
from stride_monai.slides.parts import FolderView, is_suffixless_dicom, slide_fingerprint, slide_of_folder
from stride_monai.slides.urls import is_url

__all__ = ["SlideInput", "collect", "collect_bags", "is_bag_path", "one_input", "open_input", "slide_fingerprint_of"]

_RESERVED = {name_key(name) for name in (*INDEX_NAMES, ERRORS_NAME)}
UNREADABLE_SUFFIXES = frozenset(
    {".sdpc", ".mdsx", ".tmap", ".isyntax", ".vsi", ".dzi", ".lif", ".zvi", ".heic", ".heif", ".avif"}
)
"""Slides and photographs of formats without a reader here: found in a folder, they fail by name."""
PARQUET = ".parquet"
"""Of lists too, which are taken where a list is named; nobody looks for one in a folder."""
SPREADSHEETS = frozenset({".xlsx", ".xls", ".ods"})
_ITS_SLIDE = "name its slide; rename it, or put it in a list, if it is one itself"
NOBODYS_FOLDERS = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information"})
"""Folders of operating systems and storage boxes: thumbnails, halves of files, what was thrown away."""


@dataclass(frozen=True, slots=True)
class SlideInput:
    """One slide to screen.

    Attributes:
        mpp: um/px from the manifest; None leaves it to the command line or the file.
        problem: why this input cannot even be tried; empty for a slide.
        skipped: it need not be tried, and ``problem`` says why.
    """

    path: Path
    slide_id: str
    mpp: float | None = None
    problem: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class _Claim:
    """A slide as an argument, a folder or a row of a list names it.

    Attributes:
        given: what was named, where that is only a part of the slide.
        listed: a list says so, and its id and um/px hold.
    """

    path: Path
    slide_id: str
    mpp: float | None = None
    given: Path | None = None
    listed: bool = False


def collect(arguments: Sequence[Path]) -> list[SlideInput]:
    """Slides named by files, folders (searched through, sorted) and lists, in order, each slide once.

    A file is one slide, however often and by whatever path or link it is named: a list says its id and um/px, whichever
    comes first. Two lists, or two rows, that say different things of one file are refused. The files of a slide of
    several files are that slide (:mod:`stride_monai.slides.parts`); the files of one DICOM series are named after their
    folder. A bag file, where it is named itself, stands for its slide.

    A slide id names the output folder, so two different slides with one id are both refused: nobody could tell later
    whose findings they are. So is the name of a file of the run itself, and one that names no folder.
    """
    views = _Views()
    claims: dict[object, list[_Claim]] = defaultdict(list)
    order: list[SlideInput | object] = []
    for argument in arguments:
        for item in _expand(argument, views):
            if isinstance(item, SlideInput):
                order.append(item)
                continue
            identity = _identity(item.path)
            if identity not in claims:
                order.append(identity)
            claims[identity].append(item)
    slides = [item for entry in order for item in ([entry] if isinstance(entry, SlideInput) else _one(claims[entry]))]
    if all(item.problem for item in slides):  # then something that was looked for is missing
        slides = [replace(item, skipped=False) for item in slides]
    uses = Counter(name_key(item.slide_id) for item in slides if not item.problem)
    return [
        item if item.problem else replace(item, problem=_wrong_id(item, uses[name_key(item.slide_id)]))
        for item in slides
    ]


def one_input(slide: SlideInput | Path | str) -> SlideInput:
    """The one slide that a file (of the slide, or its bag), a folder, a list or a URL names.

    Raises:
        SlideError: it cannot be a slide, or there are several.
    """
    if isinstance(slide, SlideInput):
        return slide
    if is_url(slide):
        from stride_monai.slides.remote import fetched

        slide = fetched([str(slide)], lambda name: None)[0]
    items = collect_bags([Path(slide)]) if is_bag_path(Path(slide)) else collect([Path(slide)])
    if len(items) > 1:
        raise SlideError(f"{slide} holds {len(items)} slides", "name one of them; stride-monai screen takes them all")
    if items[0].problem:
        raise SlideError(items[0].problem)
    return items[0]


def is_bag_path(path: Path) -> bool:
    """Whether it is named as a bag file is: a slide's cells in the place of the slide."""
    return path.name.endswith(BAG_SUFFIX)


def slide_fingerprint_of(path: Path) -> str:
    """Of the slide that a file is or, for a bag file, that it was made from; empty where that is not known."""
    if not is_bag_path(path):
        return slide_fingerprint(path)
    from stride_monai.data.bags.bag import BagFile

    return BagFile(path).header.slide_fingerprint


def collect_bags(places: Sequence[Path]) -> list[SlideInput]:
    """The bag files of folders, or bag files, each in the place of its slide and named by its file.

    Raises:
        BagError: there is none, or two of one slide.
    """
    from stride_monai.data.bags.folder import bag_files

    bags = [SlideInput(Path(bag["bag"]), str(bag["slide_id"])) for bag in bag_files(list(places))]
    return [replace(item, problem=_wrong_id(item, 1)) for item in bags]


def open_input(item: SlideInput, config: ScreeningConfig) -> Slide:
    """The slide, opened as the configuration says.

    Raises:
        SlideError: it cannot be opened or its um/px is not known.
    """
    mpp = item.mpp or config.mpp
    return open_slide(item.path, mpp=mpp, reader=config.reader, image=config.image, plane=config.plane)


class _Views:
    """The folders that were looked at, each once."""

    def __init__(self) -> None:
        self._views: dict[Path, FolderView] = {}
        self._owners: dict[Path, Path | None] = {}

    def __getitem__(self, folder: Path) -> FolderView:
        if folder not in self._views:
            self._views[folder] = FolderView(folder)
        return self._views[folder]

    def owner(self, folder: Path) -> Path | None:
        """The file whose pixels the folder holds; None for an ordinary folder."""
        if folder not in self._owners:
            self._owners[folder] = slide_of_folder(folder.absolute())
        return self._owners[folder]


def _identity(path: Path) -> object:
    """Equal for two paths of one file, through links of both kinds too."""
    try:
        facts = path.stat()
    except OSError:
        return os.path.abspath(path)  # noqa: PTH100 - resolve() fails where stat() does
    return (facts.st_dev, facts.st_ino) if facts.st_ino else os.path.realpath(path)


def _one(claims: Sequence[_Claim]) -> list[SlideInput]:
    """What is to be done with one file that was named once or more often."""
    first = claims[0]
    if all(claim.given is not None for claim in claims):
        advice = f"name {readable(first.path.name)} itself"
        parts = dict.fromkeys(claim.given for claim in claims if claim.given is not None)
        what = _part_of(first.path)
        return [_problem(part, what, advice) for part in parts]
    listed = [claim for claim in claims if claim.listed]
    if listed:
        return _as_listed(listed)
    named = {name_key(claim.slide_id): claim for claim in reversed([c for c in claims if c.given is None])}
    slide = next(claim for claim in claims if claim.given is None)
    del named[name_key(slide.slide_id)]
    why = f"is the same file as {readable(slide.path.name)}, which is screened"
    others = [replace(_problem(c.path, why, "name it once"), skipped=True) for c in reversed(named.values())]
    return [SlideInput(slide.path, slide.slide_id), *others]


def _as_listed(claims: Sequence[_Claim]) -> list[SlideInput]:
    ids = list(dict.fromkeys(claim.slide_id for claim in claims))
    sizes = sorted({claim.mpp for claim in claims if claim.mpp is not None})
    path, what = claims[0].path, ""
    if len(ids) > 1:
        what = f"the same slide is listed under the ids {', '.join(ids)}"
    elif len(sizes) > 1:
        what = f"it is listed with {' and with '.join(f'{size:g}' for size in sizes)} um/px"
    if what:
        problem = f"{readable(path.name)}: {what}: keep one row for it"
        return [SlideInput(path, slide_id, problem=problem) for slide_id in ids]
    return [SlideInput(path, ids[0], sizes[0] if sizes else None)]


def _wrong_id(item: SlideInput, uses: int) -> str:
    """Why a slide's results cannot be named after it; empty where they can."""
    name, remedy = readable(item.path.name), "rename it, or give each slide a slide_id in a manifest"
    if uses > 1:
        return f"{name}: another slide of this run has the same id '{item.slide_id}': {remedy}"
    why = why_no_folder_name(item.slide_id)
    if why or name_key(item.slide_id) in _RESERVED or item.slide_id.startswith("."):
        because = f" ({why})" if why else ""
        return f"{name}: '{item.slide_id}' cannot name a folder of results{because}: {remedy}"
    return ""


def _expand(argument: Path, views: _Views) -> Iterable[SlideInput | _Claim]:
    argument = found(argument)
    suffix = argument.suffix.lower()
    try:
        if argument.is_dir():
            return _of_folder(argument, views)
        if not argument.exists():
            return [_problem(argument, "no such file or folder", "check the path")]
    except OSError as error:
        return [_problem(argument, f"it cannot be looked at ({error.strerror})", "check the path")]
    if not argument.is_file():
        return [_problem(argument, "it is a pipe, socket or device, not a file", "save it as a file first")]
    if suffix in SPREADSHEETS:
        return [_problem(argument, "it is a spreadsheet, not a list", "save it as CSV")]
    if suffix in LIST_SUFFIXES or suffix == PARQUET:
        return list(_of_list(argument, views))
    if argument.name.upper() == "DICOMDIR":
        return _of_folder(argument.parent, views)
    return [_claim(argument, views)]


def _claim(path: Path, views: _Views, listed: tuple[str, float | None] | None = None) -> SlideInput | _Claim:
    """A file that somebody names, or a row of a list with its id and um/px."""
    view = views[path.parent]
    whole = view.whole_of(path)
    aside = view.aside.get(path)
    if aside is not None and aside.alone and listed:
        aside = None  # whoever writes a list of slides knows that it is one
    if aside is not None and aside.slide is None:
        return replace(_problem(path, aside.why, _ITS_SLIDE), skipped=not listed)
    slide, given = path, None
    name = readable(path.name.removesuffix(BAG_SUFFIX) if is_bag_path(path) else path.stem)
    if whole is not None and (path == whole.main or whole.any_part_opens):
        slide, name = whole.main, whole.name or name
    elif whole is not None:
        slide, given = whole.main, path
    elif aside is not None and aside.slide is not None:
        slide, given = aside.slide, path
    slide_id, mpp = listed or (name, None)
    if listed and given is not None:
        what = f"{readable(given.name)}: {_part_of(slide)}: list {readable(slide.name)} itself"
        return SlideInput(given, slide_id, problem=what)
    return _Claim(slide, slide_id, mpp, given, listed is not None)


def _part_of(slide: Path) -> str:
    return f"it is a part of the slide {readable(slide.name)}, or a picture about it"


def _of_list(path: Path, views: _Views) -> Iterator[SlideInput | _Claim]:
    try:
        records = read_manifest(path)
    except StrideError as error:
        yield SlideInput(path, _id_of(path), problem=str(error))
        return
    for record in records:
        place, listed = record.path, (record.slide_id, record.mpp)
        if not place.is_dir():
            yield _claim(place, views, listed)
            continue
        slides = list({item.path: item for item in _of_folder(place, views)}.values())
        if len(slides) == 1 and isinstance(slides[0], _Claim):
            yield replace(slides[0], slide_id=record.slide_id, mpp=record.mpp, listed=True)
        else:
            why = f"the folder {readable(place.name)} holds {len(slides)} files that may be slides"
            yield SlideInput(place, record.slide_id, problem=f"{why}: list each slide by its file")


def _of_folder(folder: Path, views: _Views) -> list[SlideInput | _Claim]:
    """The slides below a folder, sorted by path."""
    items: dict[Path, SlideInput | _Claim] = {}
    slide = views.owner(folder)
    if slide is not None:
        why = f"the folder holds the pixels of {readable(slide.name)}"
        return [_problem(folder, why, "name that file, or the folder that it is in")]

    def cannot_list(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename)) if error.filename is not None else folder
        items[place] = _problem(place, f"the folder cannot be listed ({error.strerror})", "check its permissions")

    suffixes: Counter[str] = Counter()
    for path in files_below(folder, cannot_list):
        within = path.relative_to(folder).parts[:-1]
        if any(part.lower() in NOBODYS_FOLDERS for part in within):
            continue
        if any(views.owner(folder.joinpath(*within[:depth])) for depth in range(1, len(within) + 1)):
            continue
        item = _of_found(path, views)
        if item is None:
            suffixes[readable(path.suffix.lower()) or "nothing"] += 1
        elif item is not _PART:
            items.setdefault(item.path, item)
    if items:
        return [items[path] for path in sorted(items)]
    most = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))[:5]
    ends = ", ".join(f"{suffix} ({count})" for suffix, count in most)
    what = "the folder holds no slide" + (f": its files end in {ends}" if ends else "")
    return [_problem(folder, what, "name a folder with slide files, or the files themselves")]


_PART = _Claim(Path(), "")  # a file that belongs to a slide, which is found by its main file


def _of_found(path: Path, views: _Views) -> SlideInput | _Claim | None:
    """A file that was found in a folder; None where it is of no kind that is a slide."""
    if not is_slide_path(path):
        if path.suffix.lower() in UNREADABLE_SUFFIXES:
            what = f"there is no reader for {path.suffix.lower()} files"
            return _problem(path, what, "convert it, e.g. to a tiled TIFF, or install a reader for it")
        if not is_suffixless_dicom(path):
            return None
    view = views[path.parent]
    whole = view.whole_of(path)
    if whole is not None:
        return _Claim(whole.main, whole.name or readable(whole.main.stem)) if path == whole.main else _PART
    aside = view.aside.get(path)
    if aside is not None:
        return replace(_problem(path, aside.why, _ITS_SLIDE), skipped=True) if aside.alone else _PART
    return _Claim(path, readable(path.stem))


def _problem(path: Path, what: str, advice: str) -> SlideInput:
    name = readable(path.name) or str(path)
    return SlideInput(path, _id_of(path), problem=f"{name}: {what}: {advice}")


def _id_of(path: Path) -> str:
    """An id for what is no slide; that of ``.`` and ``..`` is the folder's name."""
    name = path.stem if path.stem.strip(".") else path.absolute().resolve().name
    return readable(name) or "input"
