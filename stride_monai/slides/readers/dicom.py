"""DICOM slides that OpenSlide refuses, through wsidicom (extra ``dicom``): JPEG-LS, JPEG XL, RLE, focal planes."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from stride_monai.errors import MissingExtraError, RegionError, SlideError
from stride_monai.slides.dicom_header import DicomHeader, check_nesting, is_dicom, read_header
from stride_monai.slides.protocol import PictureChoice, Pixels, StatedFacts, UnknownFormatError

__all__ = ["DicomReader"]

# What it logs names files and quotes tags, and those of a scanner name patients.
logging.getLogger("wsidicom").addHandler(logging.NullHandler())
logging.getLogger("wsidicom").propagate = False

_EXPORT = "export it again from the scanner's or the archive's software"


class DicomReader:
    """All levels of one DICOM series (:class:`~stride_monai.slides.Reader`), whichever of its files is named.

    The files of the series are gathered from the file's folder. Label and overview are not opened. A frame that a
    sparse file leaves out was not scanned and is white.

    Attributes:
        notes: sentences on what else the series holds.
    """

    name = format = "dicom"
    chooses = True

    def __init__(self, path: Path, choice: PictureChoice | None = None) -> None:
        self._path, self._slide = path, None
        files, damaged = _volumes(path)
        slide: Any = _opened(path, files)
        try:
            self._check(slide, files)
            self._levels = list(slide.levels)
            self._plane, notes = self._chosen(slide, choice or PictureChoice())
        except BaseException:
            slide.close()
            raise
        self._slide = slide
        self.focal_planes = len(slide.levels.base_level.focal_planes)
        self.notes = notes + ((f"{damaged} may belong to it, too, but cannot be read",) if damaged else ())
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(
            (level.size.width, level.size.height) for level in self._levels
        )
        self.bounds = (0, 0, *self.level_sizes[0])
        spacing = self._levels[0].mpp
        self.stated = StatedFacts(float(spacing.width), float(spacing.height))

    def _check(self, slide: Any, files: list[Path]) -> None:
        """Raises:
        SlideError: the library passed over a file of the series, or it holds other pixels than colours of 8 bits.
        """
        left_out = {file.name for file in files} - {Path(str(file)).name for file in slide.files}
        if left_out:  # it says nothing, and the slide would have other levels, perhaps not the finest
            raise SlideError(f"{self._path.name}: {', '.join(sorted(left_out))} of its series cannot be read", _EXPORT)
        data = slide.levels.base_level.default_instance.image_data
        if data.bits != 8:
            raise SlideError(f"{self._path.name}: {data.bits}-bit samples are not supported", "convert it to 8 bits")

    def _chosen(self, slide: Any, choice: PictureChoice) -> tuple[float | None, tuple[str, ...]]:
        """The focal plane to be read (um; None for the only one) and the notes."""
        if choice.image not in (None, 1):
            raise SlideError(f"{self._path.name}: a DICOM series is one image", "leave out --image")
        planes = sorted(slide.levels.base_level.focal_planes)
        number = 1 if choice.plane is None else int(choice.plane)
        if not 1 <= number <= len(planes):
            has = f"it has {len(planes)} focal plane{'' if len(planes) == 1 else 's'}, there is no plane {number}"
            raise SlideError(f"{self._path.name}: {has}", "choose another --plane")
        notes = []
        if len(planes) > 1:
            notes.append(f"the slide has {len(planes)} focal planes; plane {number} was read, the others were not")
        paths = slide.levels.base_level.optical_paths
        if len(paths) > 1:
            notes.append(f"the slide has {len(paths)} optical paths; the first was read, the others were not")
        return (planes[number - 1] if len(planes) > 1 else None), tuple(notes)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        slide = self._slide
        if slide is None:
            raise SlideError(f"{self._path.name} is closed")
        number = self._levels[level].level
        try:
            region = slide.read_region((x, y), number, (width, height), z=self._plane, as_array=True)
        except Exception as error:  # every codec raises errors of its own kind
            why = str(error) or type(error).__name__
            raise RegionError(
                f"{self._path.name}: region {width}x{height} at ({x}, {y}) of level {level} cannot be decoded ({why})"
            ) from error
        pixels = np.asarray(region, np.uint8).reshape(height, width, -1)
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)

    def close(self) -> None:
        slide, self._slide = self._slide, None
        if slide is not None:
            slide.close()


def _volumes(path: Path) -> tuple[list[Path], str]:
    """The files with pixels of the slide that a file belongs to, and the names of those that nobody can tell of.

    Raises:
        UnknownFormatError: it is no DICOM.
        SlideError: it is DICOM, but no slide.
    """
    header = read_header(path) if is_dicom(path) else None
    if not is_dicom(path):
        raise UnknownFormatError(f"{path.name}: not a DICOM file")
    check_nesting(path)
    if header is None:
        raise SlideError(f"{path.name}: its DICOM header is damaged, or of a kind that is not read", _EXPORT)
    if not header.whole_slide:
        raise SlideError(f"{path.name}: DICOM, but no whole slide image", "give the slide's files")
    if not header.states_kind:
        what = f"{path.name}: it states no ImageType, which says whether it is the slide or its label"
        raise SlideError(what, _EXPORT)
    beside = [file for file in sorted(path.parent.iterdir()) if file.is_file() and is_dicom(file)]
    headers = {file: read_header(file) for file in beside if file.name.upper() != "DICOMDIR"}
    volumes = [file for file, other in headers.items() if _belongs(other, header)]
    if not volumes:
        raise SlideError(f"{path.name}: the label, overview or thumbnail of a slide", "give the slide's other files")
    return volumes, ", ".join(file.name for file, other in headers.items() if other is None)


def _belongs(other: DicomHeader | None, header: DicomHeader) -> bool:
    return other is not None and other.series == header.series and other.whole_slide and other.volume


def _opened(path: Path, files: list[Path]) -> Any:
    try:
        wsidicom = importlib.import_module("wsidicom")
    except ImportError as error:
        what = f"{path.name}: DICOM of a kind that OpenSlide does not read; reading it"
        raise MissingExtraError("wsidicom", "dicom", what) from error
    try:
        return wsidicom.WsiDicom.open(files)
    except Exception as error:  # of its own kinds, and pydicom's
        if type(error).__name__ == "WsiDicomNotFoundError":  # its words are "None of Level files was found"
            what = "it lacks what a slide must state, or its transfer syntax or kind of pixels is not read"
            raise SlideError(
                f"{path.name}: neither OpenSlide nor wsidicom reads this DICOM ({what})", _EXPORT
            ) from error
        why = str(error) or type(error).__name__
        raise SlideError(f"{path.name}: neither OpenSlide nor wsidicom reads this DICOM ({why})", _EXPORT) from error
