"""Which readers there are, and which of them opens a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.errors import MissingExtraError, SlideError, StrideError
from stride_monai.plugins import Plugins
from stride_monai.slides.orientation import orientation_of, upright_reader
from stride_monai.slides.protocol import PictureChoice, Reader, ReaderClass, UnknownFormatError

__all__ = ["AUTO", "READERS", "ReaderReport", "is_slide_path", "open_reader", "probe_readers"]

# What tifffile logs quotes tags, and those of a scanner name patients; what is wrong is said by our own errors.
logging.getLogger("tifffile").addFilter(lambda record: False)

AUTO = "auto"
READERS: Plugins[ReaderClass] = Plugins(
    "reader",
    "stride_monai.readers",
    {
        "tiff": "stride_monai.slides.readers.tiff:TiffReader",
        "openslide": "stride_monai.slides.readers.openslide:OpenSlideReader",
        "image": "stride_monai.slides.readers.image:ImageReader",
        "dicom": "stride_monai.slides.readers.dicom:DicomReader",
        "kfb": "stride_monai.slides.readers.kfb:KfbReader",
        "cucim": "stride_monai.slides.readers.cucim:CuCIMReader",
    },
    also=(AUTO,),
)
_ONLY_BY_NAME = "cucim"  # importing it can hang the process

_SUFFIXES = frozenset(
    {
        ".svs",
        ".tif",
        ".tiff",
        ".ndpi",
        ".mrxs",
        ".vms",
        ".vmu",
        ".scn",
        ".bif",
        ".svslide",
        ".dcm",
        ".dicom",
        ".czi",
        ".kfb",
    }
    | {".btf", ".tf2", ".tf8", ".bigtiff", ".qptiff"}
    | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".dib"}
    | {".jp2", ".j2k", ".j2c", ".jpf", ".jpx"}
)


class ReaderReport(NamedTuple):
    """What one reader says of a file: whether it opens it, and the format or the reason."""

    name: str
    ok: bool
    detail: str


def is_slide_path(path: Path) -> bool:
    """Whether a file found in a folder is to be taken for a slide, by its suffix; hidden files are not.

    A third-party reader adds its suffixes by a class attribute ``suffixes``, e.g. ``(".sdpc",)``.
    """
    others = READERS.values().keys() - READERS.built_in.keys()
    theirs = {suffix.lower() for name in others for suffix in getattr(READERS.load(name), "suffixes", ())}
    return path.suffix.lower() in _SUFFIXES | theirs and not path.name.startswith(".")


def open_reader(path: Path, name: str = AUTO, choice: PictureChoice | None = None) -> Reader:
    """The file opened by the named reader, or by the first that can (``auto``: in the order of ``READERS``).

    Raises:
        SlideError: no such file, nothing opens it, or it does not hold what is chosen. A named reader that cannot open
            it is never replaced by another.
        ConfigError: no reader of that name.
        MissingExtraError: the named reader's library is not installed.
    """
    _check_file(path)
    if name != AUTO:
        return _opened(name, path, choice)
    reasons: dict[str, StrideError] = {}
    advice = "check or copy it again"
    for candidate in READERS.values():
        if candidate == _ONLY_BY_NAME:
            continue
        try:
            return _opened(candidate, path, choice)
        except UnknownFormatError:
            continue
        except StrideError as error:
            reasons.setdefault(error.what.removeprefix(f"{path.name}: "), error)
            if isinstance(error, MissingExtraError) or candidate == "dicom":  # what could still help
                advice = error.advice
    if len(reasons) == 1:
        raise next(iter(reasons.values()))
    if reasons:
        raise SlideError(f"{path.name} cannot be opened ({'; '.join(reasons)})", advice)
    if choice is not None and not choice.first:
        what = f"{path.name}: pictures and planes can be chosen in TIFFs only"
        raise SlideError(what, "leave out --image and --plane")
    raise SlideError(f"{path.name} is no slide or image of a known format", "check the file")


def _opened(name: str, path: Path, choice: PictureChoice | None) -> Reader:
    """The file opened by one reader, upright."""
    factory: Any = READERS.load(name)
    if choice not in (None, PictureChoice()) and getattr(factory, "chooses", False):
        reader = factory(path, choice)
    elif choice is None or choice.first:
        reader = factory(path)
    else:
        raise UnknownFormatError(
            f"{path.name}: the reader '{name}' knows one picture per file", "leave out --image and --plane"
        )
    return upright_reader(reader, getattr(reader, "orientation", orientation_of(1)))


def probe_readers(path: Path) -> list[ReaderReport]:
    """What each reader says of the file, for ``doctor``; no reader's failure stops the others.

    cuCIM is asked too, where it is installed: its probe runs in a process of its own.

    Raises:
        SlideError: there is no such file.
    """
    _check_file(path)
    return [_probe(path, name) for name in READERS.values()]


def _probe(path: Path, name: str) -> ReaderReport:
    try:
        reader = _opened(name, path, None)
    except MissingExtraError as error:
        return ReaderReport(name, False, f"not installed ({error.advice})")
    except StrideError as error:
        return ReaderReport(name, False, str(error))
    try:
        sizes = ", ".join(f"{width}x{height}" for width, height in reader.level_sizes)
        return ReaderReport(name, True, f"{reader.format}, levels {sizes}")
    finally:
        reader.close()


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise SlideError(f"{path.name} is a folder, not a slide file", "name the files or let a batch scan it")
        if not path.exists():
            raise SlideError(f"{path.name} does not exist", "check the path")
        if not path.is_file():  # opening a pipe would wait for whoever writes to it
            raise SlideError(f"{path.name} is a pipe, socket or device, not a file", "give a file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise SlideError(f"{path.name} is empty", "copy it again from the scanner")
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror or error})", "check its permissions") from error
