"""What a TIFF is, decided from its own tags before any reader is chosen.

Which picture is read, and in which levels; what else is in the file (labels, macro images, thumbnails, other pictures,
planes); um/px; which way is up; and whether OpenSlide's drivers, which take other things for granted, would show the
same. What cannot be read rightly is refused here, with what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import openslide

from stride_monai.errors import SlideError
from stride_monai.slides.orientation import TAG, Orientation, orientation_of
from stride_monai.slides.protocol import PictureChoice, StatedFacts
from stride_monai.slides.tiff import ome, stated
from stride_monai.slides.tiff.color import highest_value
from stride_monai.slides.tiff.decode import first_tile_contradicts, uses_16_bits
from stride_monai.slides.tiff.directory import (
    Directory,
    FileBytes,
    TiffError,
    is_tiff,
    read_directories,
    sub_directories,
)
from stride_monai.slides.tiff.page import JPEG, Page, check_segment_size, has_picture, read_page

__all__ = ["TiffLayout", "open_layout", "read_layout"]

_WORDS = "(?:label|macro|thumbnail|overview)"
_ASIDE = re.compile(rf"^\s*(?:\w+[ _-])?{_WORDS}\b(?![-\w])", re.IGNORECASE | re.MULTILINE)  # a line that begins so
_ASIDE_IN_XML = re.compile(rf"<ImageType>\s*{_WORDS}", re.IGNORECASE)
_OPENSLIDE_CODECS = {1, 5, 7, 8, 32773, 32946, 50000, 50001}
_OPENSLIDE_TILE = 2**24  # px: it holds four bytes of each, several tiles at a time
_APERIO_CODECS = {33003, 33005}


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """What is read of a TIFF.

    Attributes:
        vendor: ``aperio``, ``ome-tiff``, ``imagej`` or ``tiff``; else the format that OpenSlide's own driver reads.
        levels: pages of the chosen picture, finest first; empty for a format that only OpenSlide reads.
        white: sample value that is white.
        stated: um/px and objective power.
        orientation: how the stored picture becomes the upright one.
        notes: sentences on what else the file holds and is not read.
        not_openslide: why OpenSlide's drivers for Aperio and plain TIFFs would show another picture; "" where not.
    """

    vendor: str
    levels: tuple[Page, ...] = ()
    white: int = 255
    stated: StatedFacts = field(default_factory=StatedFacts)
    orientation: Orientation = field(default_factory=lambda: orientation_of(1))
    notes: tuple[str, ...] = ()
    not_openslide: str = ""
    focal_planes: int = 1

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple(page.size for page in self.levels)

    def disagrees(self, sizes: tuple[tuple[int, int], ...]) -> str:
        """Why a library that works as OpenSlide, and found levels of these sizes, shows another picture; "" if not."""
        other = self.levels and sizes != self.level_sizes
        return self.not_openslide or ("it takes other pages for levels" if other else "")

    def lacks(self, level: int, x: int, y: int, width: int, height: int) -> bool:
        """Whether the file holds nothing of a tile of a region, given in the level's pixels."""
        if level >= len(self.levels) or not self.levels[level].segments.incomplete:
            return False
        page = self.levels[level]
        rows = slice(y // page.segment_height, (y + height - 1) // page.segment_height + 1)
        columns = slice(x // page.segment_width, (x + width - 1) // page.segment_width + 1)
        return bool(page.segments.absent[rows, columns].any())


def read_layout(path: Path, choice: PictureChoice | None = None) -> TiffLayout | None:
    """The layout of a TIFF; None for a file that is none. See :func:`open_layout`."""
    try:
        file = FileBytes(path) if is_tiff(path) else None
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror or error})", "check its permissions") from error
    if file is None:
        return None
    with closing(file):
        return open_layout(path, file, choice)


def open_layout(path: Path, file: FileBytes, choice: PictureChoice | None = None) -> TiffLayout:
    """The layout of a TIFF whose bytes are at hand; the pages read on from them.

    Args:
        choice: which picture and plane; None for the largest picture and its first plane.

    Raises:
        SlideError: the file is damaged, of a kind that cannot be read rightly, or does not hold what is chosen.
    """
    try:
        return _layout(path, file, choice or PictureChoice())
    except TiffError as error:
        raise SlideError(f"{path.name}: {error.what}", error.advice) from error


class _Picture(NamedTuple):
    """One picture of the file: its planes, of one size; None for a plane that cannot be read from this file."""

    planes: Sequence[Page | None]
    kinds: str  # what the planes are, for a note
    stated: StatedFacts
    significant_bits: int | None = None
    refused: str = ""  # why none of the planes is read unless one is chosen
    aside: bool = False  # by its name it is a label, macro or thumbnail

    @property
    def first(self) -> Page | None:
        return next((page for page in self.planes if page is not None), None)

    @property
    def area(self) -> int:
        return self.first.area if self.first else 0


def _layout(path: Path, file: FileBytes, choice: PictureChoice) -> TiffLayout:
    directories = read_directories(file)
    foreign = _foreign(path, directories)
    if foreign:
        return _foreign_layout(path, foreign, directories, choice)
    pages = [read_page(directory) for directory in directories if has_picture(directory)]
    if not pages:
        raise TiffError("it holds no picture")
    first = pages[0].description
    if first.startswith("Aperio"):
        return _aperio_layout(pages, choice)
    if ome.is_ome(first):
        every = [read_page(directory) if has_picture(directory) else None for directory in directories]
        return _chosen("ome-tiff", _ome_pictures(path, first, every), pages, choice)
    vendor = "imagej" if first.startswith("ImageJ=") else "tiff"
    return _chosen(vendor, _plain_pictures(vendor, pages), pages, choice)


def _foreign(path: Path, directories: list[Directory]) -> str:
    """The format of OpenSlide's that the first tags name, if OpenSlide agrees; else ""."""
    first = directories[0]
    if has_picture(first):
        read_page(first)  # no library sees a picture without a size
    if 65420 in first:
        return "hamamatsu"
    software = first.text(305, 1 << 16) if first.count(305) <= 1 << 16 else ""
    hints = (
        software.startswith(("Philips", "MedScan")),
        "www.leica-microsystems.com/scn/" in first.text(270),
        any(b"iScan" in bytes(d.numbers(700, 1 << 20).astype("u1")) for d in directories[:3]),
    )
    found = openslide.OpenSlide.detect_format(path) if any(hints) else None
    return "" if found in (None, "generic-tiff", "aperio") else str(found)


def _foreign_layout(path: Path, vendor: str, directories: list[Directory], choice: PictureChoice) -> TiffLayout:
    if choice != PictureChoice():
        raise TiffError(f"pictures and planes of the format {vendor} cannot be chosen", "leave out --image and --plane")
    tag = orientation_of(directories[0].number(TAG, 1)).tag
    if tag != 1:
        raise TiffError(f"a turned picture (TIFF orientation {tag}) of the format {vendor}", "export it upright")
    notes = _gaps(vendor, directories)
    heights = {directory.number(65424, 0) for directory in directories if 65424 in directory}
    if vendor == "hamamatsu" and len(heights) > 1:
        notes += (f"the file holds {len(heights)} focal planes; the middle one was read, the others were not",)
    return TiffLayout(vendor, notes=notes)


def _gaps(vendor: str, directories: list[Directory]) -> tuple[str, ...]:
    """That the library will show white where its largest page has tiles that the file does not hold. Philips leaves out
    what is empty; NDPI has no tiles."""
    pages = [read_page(directory) for directory in directories if has_picture(directory)]
    tiled = [page for page in pages if page.tiled]
    for page in tiled:
        check_segment_size(page)
    if not tiled or vendor in ("philips", "hamamatsu"):
        return ()
    absent = max(tiled, key=lambda page: page.area).segments.absent
    return (f"{absent.sum()} of {absent.size} tiles are not in the file",) if absent.any() else ()


def _aperio_layout(pages: list[Page], choice: PictureChoice) -> TiffLayout:
    """Aperio's levels are its tiled pages; nothing calls them reductions, but label and macro are called by name."""
    first = pages[0]
    alike = [p for p in pages[1:] if p.tiled and p.size == first.size and p.kind == first.kind and not _set_aside(p)]
    planes = [first, *alike] if first.tiled else [first]
    picture = _Picture(planes, "focal planes", stated.stated_by_aperio(first))
    layout = _chosen("aperio", [picture], pages, choice)
    levels = list(layout.levels)
    if first.tiled and levels[0] is first:
        for page in pages[1:]:
            is_level = page.tiled and not _set_aside(page) and _reduces(page, first)
            if is_level and page.width < levels[-1].width:
                levels.append(page)
    return _with_levels(replace(layout, levels=tuple(levels)), pages)


def _plain_pictures(vendor: str, pages: list[Page]) -> list[_Picture]:
    """Pages of one size and kind are planes of one picture; reductions, labels and the like are no pictures."""
    full = [page for page in pages if not page.reduced and not page.subfile & ~3]
    named = [page for page in full if not _set_aside(page)]
    inner = [page for page in _inner(pages[0]) if not page.reduced and page.area > pages[0].area]
    candidates = [*(named or full), *inner] or pages[:1]
    alike: dict[tuple[object, ...], list[Page]] = {}
    for page in candidates:
        alike.setdefault((page.size, page.kind), []).append(page)
    first, *others = alike.values()
    thumbnail = len(first) == 1 and any(first[0].same_picture(other[0]) for other in others)
    groups = others if thumbnail else [first, *others]  # a picture may come after a small version of itself
    if vendor == "imagej":
        return [_imagej_picture(groups[0], stated.stated_by_imagej(pages[0])), *map(_plain, groups[1:])]
    return [_plain(group) for group in groups]


def _plain(group: list[Page]) -> _Picture:
    return _Picture(group, "pages of one size", stated.stated_by_tags(group[0]))


def _imagej_picture(group: list[Page], facts: StatedFacts) -> _Picture:
    values = stated.imagej_values(group[0].description)
    numbers = {key: int(values.get(key, "1")) if values.get(key, "1").isdecimal() else 1 for key in _IMAGEJ_AXES}
    total = max(len(group), numbers.pop("images"))
    channels = numbers["channels"]
    planes: list[Page | None] = [*group, *[None] * min(total - len(group), 1 << 16)]
    kinds = _counted({name: numbers[key] for key, name in _IMAGEJ_AXES.items() if key != "images"}) or "pages"
    return _Picture(planes, kinds, facts, refused=_channels(channels) if channels > 1 else "")


_IMAGEJ_AXES = {"images": "planes", "channels": "channels", "slices": "focal planes", "frames": "time points"}


def _ome_pictures(path: Path, xml: str, pages: list[Page | None]) -> list[_Picture]:
    images = ome.parse_ome(xml, path.name, len(pages), [page.samples if page else 1 for page in pages])
    pictures = [_ome_picture(image, pages) for image in images]
    kept = [picture for picture in pictures if not picture.aside]
    return kept or pictures


def _ome_picture(image: ome.OmeImage, pages: list[Page | None]) -> _Picture:
    total = min(image.z * image.c * image.t, 1 << 20)
    planes: list[Page | None] = [None] * max(total, 1)
    for at, number in image.planes.items():
        if number is not None and number < len(pages) and at < len(planes):
            planes[at] = pages[number]
    for page in planes:
        if page is not None and page.size != (image.width, image.height):
            sizes_said = f"{image.width}x{image.height} px in its OME-XML, {page.width}x{page.height} in its tags"
            raise TiffError(f"it contradicts itself ({sizes_said})")
    first = next((page for page in planes if page is not None), None)
    return _Picture(
        planes,
        _counted({"channels": image.c, "focal planes": image.z, "time points": image.t}),
        StatedFacts() if first is None else stated.stated_by_ome(image, first),
        image.significant_bits,
        refused=_channels(image.c) if image.c > 1 else "",
        aside=bool(_ASIDE.search(image.name)),
    )


def _channels(number: int) -> str:
    return f"{number} channels in separate planes, no colour picture"


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number > 1)


def _chosen(vendor: str, pictures: list[_Picture], pages: list[Page], choice: PictureChoice) -> TiffLayout:
    """The layout of the chosen picture: by default the largest, of several as large the first."""
    largest = max(range(len(pictures)), key=lambda i: pictures[i].area)
    at = largest if choice.image is None else choice.image - 1
    _check_held(at + 1, len(pictures), "image")
    picture = pictures[at]
    number = int(choice.plane or 1)
    _check_held(number, len(picture.planes), "plane")
    if picture.refused and choice.plane is None:
        raise TiffError(picture.refused, "choose one by --plane, or convert it to RGB")
    full = picture.planes[number - 1]
    if full is None:
        held = next((i for i, page in enumerate(picture.planes, 1) if page is not None), None)
        raise TiffError(
            f"plane {number} of image {at + 1} does not stand in this file, or not in a page of its own",
            (f"choose --plane {held}, which does, or " if held else "") + "convert it to a TIFF of one file",
        )
    notes = []
    if len(pictures) > 1:
        notes.append(f"the file holds {len(pictures)} images; image {at + 1} was read, the others were not")
    if len(picture.planes) > 1:
        what = f"{len(picture.planes)} planes ({picture.kinds})"
        notes.append(f"the picture has {what}; plane {number} was read, the others were not")
    full.check()
    white = highest_value(full, picture.significant_bits)
    if white is None:
        white = _white_of_16_bits(full)
        notes.append(f"no tag says which of the 16-bit values is white; {white} was taken, since all bits are used")
    absent = full.segments.absent
    if absent.any():
        notes.append(f"{absent.sum()} of {absent.size} {'tiles' if full.tiled else 'strips'} are not in the file")
    orientation = orientation_of(full.orientation)
    focal = len(picture.planes) if not picture.refused and "time points" not in picture.kinds else 1
    layout = TiffLayout(vendor, (full,), white, picture.stated, orientation, tuple(notes), focal_planes=focal)
    return layout if vendor == "aperio" else _with_levels(replace(layout, levels=_levels(full, pages)), pages)


def _white_of_16_bits(page: Page) -> int:
    """Raises:
    TiffError: perhaps not all of the bits are used; the picture would look black if so.
    """
    if uses_16_bits(page):
        return 0xFFFF
    raise TiffError(
        "16-bit samples, and no tag says which value is white (MaxSampleValue, or SignificantBits of OME-XML)",
        "convert it to 8 bits, by the range that its values really have",
    )


def _levels(full: Page, pages: list[Page]) -> tuple[Page, ...]:
    """The page and its reductions: its SubIFDs, and pages that are said to be reductions and that follow no other page
    of which they could be one."""
    found = _inner(full)
    owners: list[Page] = []
    for page in pages:
        if not page.reduced:
            owners.append(page)
        elif not _set_aside(page):
            owner = next((other for other in reversed(owners) if _reduces(page, other)), None)
            found += [page] if owner is full else []
    levels = [full]
    for page in sorted(found, key=lambda page: -page.width):
        if page.width < levels[-1].width and page.tiled == full.tiled and _reduces(page, full):
            levels.append(page)
    return tuple(levels)


def _with_levels(layout: TiffLayout, pages: list[Page]) -> TiffLayout:
    for page in layout.levels[1:]:
        page.check()
    return replace(layout, not_openslide=_not_openslide(layout, pages))


def _not_openslide(layout: TiffLayout, pages: list[Page]) -> str:
    """Why OpenSlide's driver would read other levels, or other pixels."""
    first = layout.levels[0]
    if layout.vendor not in ("aperio", "tiff"):
        return f"it knows nothing of {layout.vendor}"
    if layout.orientation.turned:
        return "the picture is turned"
    if not first.tiled:
        return "it reads tiles, this file has strips"
    aperio = layout.vendor == "aperio"
    taken = [page for page in pages if page.tiled and (aperio or page is pages[0] or page.reduced)]
    levels = sorted(taken, key=lambda page: -page.width)
    if [id(page) for page in levels] != [id(page) for page in layout.levels]:
        return "it takes other pages for levels"
    codecs = _OPENSLIDE_CODECS | (_APERIO_CODECS if aperio else set())
    for page in levels:
        plain = (page.photometric, page.samples) in ((1, 1), (2, 3)) or (page.photometric == 6 and page.samples == 3)
        if not plain or page.bits != (8,) or page.planar or page.fill_order != 1 or page.compression not in codecs:
            return "it does not read such pixels"
        if page.photometric == 6 and page.compression not in JPEG | _APERIO_CODECS:
            return "it does not read such pixels"
        if first_tile_contradicts(page):
            return "its tiles contradict the tags"
        pixels = page.segment_width * page.segment_height
        if pixels > _OPENSLIDE_TILE:
            return "its tiles are too large"
        if page.compression == 1 and pixels * page.samples % 1024:
            return "it does not read the last of such tiles"  # libtiff rounds their bytes up
    return ""


def _inner(page: Page) -> list[Page]:
    found = [read_page(directory) for directory in sub_directories(page.directory) if has_picture(directory)]
    return [other for other in found if not other.subfile & ~3 and not _set_aside(other)]


def _reduces(page: Page, full: Page) -> bool:
    return page.same_picture(full) and page.kind == full.kind


def _set_aside(page: Page) -> bool:
    """Whether its tags call a page a label, macro or thumbnail image, or a mask."""
    if page.subfile & ~3:
        return True
    text = page.description[:4000].lstrip("\ufeff \t\r\n")
    structured = text.startswith(("<", "{", "ImageJ="))
    return bool((_ASIDE_IN_XML if structured else _ASIDE).search(text))


def _check_held(number: int, held: int, what: str) -> None:
    if not 1 <= number <= held:
        has = f"it has {held} {what}{'' if held == 1 else 's'}"
        raise TiffError(f"{has}, there is no {what} {number}", f"choose another --{what}")
