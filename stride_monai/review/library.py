"""The slides of a results folder, and their files in the folder of slides.

A slide is found by its id among those that were listed: an id that comes from outside never becomes part of a path.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stride_monai.annotations import AccessError, SlideFolder
from stride_monai.errors import ConfigError, SlideError
from stride_monai.files import config_hash, walk_files
from stride_monai.findings import Findings
from stride_monai.names import readable
from stride_monai.slides import Slide, is_slide_path, open_slide
from stride_monai.slides.parts import is_suffixless_dicom, slide_fingerprint

__all__ = ["Library", "SlideEntry", "UnknownSlideError"]

_FINDINGS_FILE = "findings.json"
_KEPT = 32  # findings in memory


class UnknownSlideError(SlideError):
    """No slide of this id was screened."""


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """A screened slide.

    Attributes:
        path: of its findings file.
        stamp: of the findings file: when it was written, and its size.
    """

    slide_id: str
    path: Path
    stamp: tuple[int, int]

    @property
    def version(self) -> str:
        """Names these findings; others of the same slide, or of another, have another name."""
        return config_hash({"slide": self.slide_id, "stamp": self.stamp})


class Library:
    """The screened slides of a results folder.

    Args:
        results: folder that ``stride-monai screen`` wrote.
        studies: folder of the slide files. A link that leads out of it is not followed.

    Raises:
        ConfigError: one of them is no folder.
    """

    def __init__(self, results: Path, studies: Path) -> None:
        for name, folder in (("results", results), ("slides", studies)):
            if not folder.is_dir():
                raise ConfigError(f"there is no folder of {name} at {folder}", "check the path")
        self.results, self.studies = results, studies.resolve()
        self._lock = threading.Lock()
        self._entries: dict[str, SlideEntry] = {}
        self._read = lru_cache(maxsize=_KEPT)(_read_findings)
        self._files: dict[str, list[Path]] | None = None
        self.refresh()

    def refresh(self) -> list[SlideEntry]:
        """The slides that are there now, by id; a run that goes on adds some."""
        found: dict[str, SlideEntry] = {}
        for path in sorted(self.results.glob(f"*/{_FINDINGS_FILE}")):
            stat = path.stat()
            found[path.parent.name] = SlideEntry(readable(path.parent.name), path, (stat.st_mtime_ns, stat.st_size))
        with self._lock:
            self._entries = {entry.slide_id: entry for entry in found.values()}
            return list(self._entries.values())

    def entry(self, slide_id: str) -> SlideEntry:
        """The slide of this id.

        Raises:
            UnknownSlideError: there is none.
        """
        entry = self._entries.get(slide_id)
        if entry is None:
            self.refresh()
            entry = self._entries.get(slide_id)
        if entry is None:
            raise UnknownSlideError(f"no slide '{slide_id:.80}' was screened", "choose one from the list")
        return entry

    def findings(self, slide_id: str) -> Findings:
        """What screening found on it.

        Raises:
            UnknownSlideError: there is no such slide.
            OutputError: its findings cannot be read.
        """
        entry = self.entry(slide_id)
        return self._read(entry.path, entry.stamp)

    def open(self, entry: SlideEntry) -> Slide:
        """The slide's file, opened as it was screened.

        Raises:
            SlideError: it is not among the slides, is another file than the one that was screened, or cannot be opened.
        """
        facts = self.findings(entry.slide_id).slide
        path = self._file(entry.slide_id, facts.file_name or "", facts.fingerprint or "")
        asked = self.findings(entry.slide_id).provenance.requested
        reader = asked.get("reader") or "auto"
        mpp = facts.mpp if facts.mpp_source == "given" else None
        return open_slide(path, mpp=mpp, reader=reader, image=asked.get("image"), plane=asked.get("plane"))

    def _file(self, slide_id: str, name: str, fingerprint: str) -> Path:
        inside = [path for path in self._files_of(name) if self._is_inside(path)]
        if not inside:
            raise SlideError(f"the file of slide '{slide_id}' is not among the slides", "give its folder as --studies")
        for path in inside:
            if not fingerprint or _fingerprint(path) == fingerprint:
                return path
        raise SlideError(
            f"the file of slide '{slide_id}' is not the one that was screened", "bring it back, or screen the new one"
        )

    def _is_inside(self, path: Path) -> bool:
        """Whether the file, and all others that the slide consists of, really lie in the folder of slides."""
        try:
            SlideFolder(self.studies, {"slide": path}).path_of("slide")
        except AccessError:
            return False
        return True

    def _files_of(self, name: str) -> list[Path]:
        with self._lock:
            if self._files is None or not all(path.is_file() for path in self._files.get(name, [])):
                self._files = None
            if self._files is None or name not in self._files:
                self._files = _slide_files(self.studies)
            return self._files.get(name, [])


def _slide_files(studies: Path) -> dict[str, list[Path]]:
    """What may be a slide below a folder, by its readable name."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in walk_files(studies, on_error=lambda error: None):
        if is_slide_path(path) or is_suffixless_dicom(path):
            found[readable(path.name)].append(path)
    return dict(found)


def _fingerprint(path: Path) -> str:
    try:
        return slide_fingerprint(path)
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror})", "check its permissions") from error


def _read_findings(path: Path, stamp: tuple[int, int]) -> Findings:
    del stamp  # findings that were written anew are read anew
    try:
        return Findings.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SlideError(f"the findings of '{path.parent.name}' cannot be read", "screen the slide again") from error
