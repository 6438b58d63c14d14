"""From the id of a slide, as anybody may send it, to its file: inside the folder of slides, or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from stride_monai.annotations.errors import AccessError
from stride_monai.files import files_below
from stride_monai.names import readable
from stride_monai.slides.parts import FolderView, is_suffixless_dicom, parts_of, slide_of_folder
from stride_monai.slides.readers.registry import is_slide_path

__all__ = ["SlideFolder", "inside", "is_plain_id"]

_MAX = 1024
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[\d¹²³]|lpt[\d¹²³])(\..*)?", re.IGNORECASE)
_NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f\ud800-\udfff<>:"|?*\\/]')


def is_plain_id(text: object) -> bool:
    """Whether a text can be an id: one plain name on every system.

    No separator, drive or NTFS stream (``:``), control character, name of a device, or dot or space at the end; not
    hidden; at most 220 bytes long.
    """
    if not isinstance(text, str) or not text or text[0] == "." or text[-1] in ". " or _NOT_IN_A_NAME.search(text):
        return False
    return not _RESERVED.fullmatch(text) and len(text.encode()) <= 220


def inside(folder: Path, text: str) -> Path:
    """The file or folder at a relative path below a folder, links followed, where it really is inside.

    Args:
        text: parts separated by ``/``, each a plain name (:func:`is_plain_id`); nothing is decoded, so ``%2e%2e`` is a
            name like another.

    Raises:
        AccessError: it leads out of the folder in whatever way, or to nothing.
    """
    refused = AccessError("there is no such file among the slides", "check its name")
    if not isinstance(text, str) or len(text) > _MAX or not all(map(is_plain_id, text.split("/"))):
        raise refused
    return _within(folder, folder / text, refused)


def _within(folder: Path, path: Path, refused: AccessError) -> Path:
    try:
        root, real = folder.resolve(strict=True), path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise refused from error
    if not real.is_relative_to(root) or not (real.is_file() or real.is_dir()):
        raise refused
    return real


class SlideFolder:
    """The slides that may be looked at.

    An id is looked up among the slides that were listed and never becomes a path. Where the file, or another file
    that the slide consists of, lies outside the folder (by a link), it is refused, each time that it is asked for.

    Args:
        folder: of slides; nothing outside it is read.
        slides: id -> path, as a run or a manifest lists them; None: all slides below the folder, called as screening
            calls them. Pictures of labels and whole slides are none.

    Raises:
        AccessError: there is no such folder, or two slides in it are called the same.
    """

    def __init__(self, folder: Path | str, slides: Mapping[str, Path] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise AccessError(f"there is no folder of slides '{folder}'", "name an existing folder")
        self._slides = _listed(self.folder) if slides is None else dict(slides)

    def ids(self) -> list[str]:
        """Ids of the slides that can be opened, in order."""
        return [slide_id for slide_id in self._slides if self._is_open(slide_id)]

    def _is_open(self, slide_id: str) -> bool:
        try:
            self.path_of(slide_id)
        except AccessError:
            return False
        return True

    def path_of(self, slide_id: str) -> Path:
        """The file of a slide, as it was listed.

        Raises:
            AccessError: no slide has this id, its file is gone, or it or one of its parts lies outside the folder.
        """
        refused = AccessError("there is no such slide among the slides", "check its id")
        path = self._slides.get(slide_id) if is_plain_id(slide_id) else None
        if path is None:
            raise refused
        _within(self.folder, path, refused)
        try:
            for part in parts_of(path):
                _within(self.folder, part, refused)
        except OSError as error:
            raise refused from error
        return Path(os.path.abspath(path))  # noqa: PTH100 - a slide of several files is found by its own name


def _listed(folder: Path) -> dict[str, Path]:
    slides: dict[str, Path] = {}
    views: dict[Path, FolderView] = {}
    for path in files_below(folder):
        if not (is_slide_path(path) or is_suffixless_dicom(path)) or slide_of_folder(path.parent) is not None:
            continue
        view = views.get(path.parent) or views.setdefault(path.parent, FolderView(path.parent))
        whole = view.whole_of(path)
        if path in view.aside or (whole is not None and path != whole.main):
            continue
        slide_id = (whole.name if whole else "") or readable(path.stem)
        if slide_id in slides:
            raise AccessError(f"two slides in {folder} are called '{slide_id}'", "rename one of them")
        slides[slide_id] = path
    return slides
