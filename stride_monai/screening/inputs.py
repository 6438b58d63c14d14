"""From what the user typed to the list of slides: files, folders and manifests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stride_monai.data.manifest import read_manifest
from stride_monai.errors import StrideError
from stride_monai.run_index import ERRORS_NAME, RUN_NAME, SUMMARY_NAME
from stride_monai.slides import is_slide_path
from stride_monai.slides.openslide_reader import dicom_series

__all__ = ["SlideInput", "collect"]

_MANIFEST_SUFFIXES = {".csv", ".json"}
_DICOM_SUFFIXES = {".dcm", ".dicom"}
_RESERVED = {SUMMARY_NAME, RUN_NAME, ERRORS_NAME}


@dataclass(frozen=True, slots=True)
class SlideInput:
    """One slide to screen.

    Attributes:
        mpp: um/px from the manifest; None leaves it to the command line or the file.
        problem: why this input cannot even be tried; empty for a slide.
    """

    path: Path
    slide_id: str
    mpp: float | None = None
    problem: str = ""


def collect(arguments: Sequence[Path]) -> list[SlideInput]:
    """Slides named by files, folders (searched through, sorted) and manifests, in order, each file once.

    The DICOM files of one series in a folder are one slide, which has the folder's name.

    A slide id names the output folder, so two different files with one id are both refused: nobody could tell later
    whose findings they are. So is the name of a file of the run itself, and a name that hides the folder.
    """
    found = {item.path.absolute(): item for argument in arguments for item in _expand(argument)}
    slides = list(found.values())
    uses = Counter(item.slide_id for item in slides if not item.problem)
    return [item if item.problem else replace(item, problem=_wrong_id(item, uses[item.slide_id])) for item in slides]


def _wrong_id(item: SlideInput, uses: int) -> str:
    """Why a slide's results cannot be named after it; empty where they can."""
    remedy = "rename it, or give each slide a slide_id in a manifest"
    if uses > 1:
        return f"{item.path.name}: another slide of this run has the same id '{item.slide_id}': {remedy}"
    if item.slide_id in _RESERVED or item.slide_id.startswith("."):
        return f"{item.path.name}: '{item.slide_id}' cannot name a folder of results: {remedy}"
    return ""


def _expand(argument: Path) -> Iterable[SlideInput]:
    if argument.is_dir() and not is_slide_path(argument):
        slides = sorted(p for p in argument.rglob("*") if p.is_file() and is_slide_path(p) and not _hidden(p, argument))
        if not slides:
            return [_problem(argument, "the folder holds no slide", "name a folder with slide files")]
        return _one_per_series(slides)
    if not argument.exists():
        return [_problem(argument, "no such file or folder", "check the path")]
    if argument.suffix.lower() in _MANIFEST_SUFFIXES:
        try:
            return [SlideInput(record.path, record.slide_id, record.mpp) for record in read_manifest(argument)]
        except StrideError as error:
            return [SlideInput(argument, argument.stem, problem=str(error))]
    return [SlideInput(argument, argument.stem)]


def _one_per_series(paths: Sequence[Path]) -> list[SlideInput]:
    """The slides of a folder: DICOM keeps every level, the label and the overview of one in a file of its own."""
    beside = Counter(path.parent for path in paths if path.suffix.lower() in _DICOM_SUFFIXES)
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in paths:
        part = path.suffix.lower() in _DICOM_SUFFIXES and beside[path.parent] > 1
        groups[path.parent, (dicom_series(path) if part else None) or path.name].append(path)
    return [
        SlideInput(files[0], files[0].stem)
        if len(files) == 1
        else SlideInput(max(files, key=lambda file: file.stat().st_size), files[0].parent.name)
        for files in groups.values()
    ]


def _problem(path: Path, what: str, advice: str) -> SlideInput:
    return SlideInput(path, path.stem or path.name, problem=f"{path.name or path}: {what}: {advice}")


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
