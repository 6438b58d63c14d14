"""What OME-XML says of an OME-TIFF: its images, which page holds which plane, um/px and how many bits are used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from stride_monai.slides.tiff.directory import TiffError

__all__ = ["OmeImage", "is_ome", "parse_ome", "read_xml"]

_MAX_PLANES = 100_000
_DEEPEST = 100  # elements in one another; OME has about ten, and annotations may hold XML of others
_ADVICE = "convert it to an OME-TIFF of one file"
_DECLARATION = re.compile(r"^<\?xml[^>]*\?>")  # of an encoding, which is behind us
_SI = {"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "": 0, "d": -1, "c": -2}
_SI |= {"m": -3, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24}
_UNITS_IN_UM = {f"{prefix}m": 10.0 ** (power + 6) for prefix, power in _SI.items()}
_UNITS_IN_UM |= {"Å": 1e-4, "thou": 25.4, "li": 25_400.0 / 12, "in": 25_400.0, "ft": 304_800.0, "yd": 914_400.0}
_UNITS_IN_UM |= {"pt": 25_400.0 / 72}


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of the file.

    Attributes:
        name: as the file states it; "label" and "macro" images are known by it.
        width, height: of a plane, px.
        z, c, t: numbers of focal planes, channels and time points. Colours of one pixel count as channels here.
        planes: number of a plane, in the file's order of z, c and t -> number of the page; None for one that stands in
            another file.
        stated_mpp: (x, y) um/px; None where it is not stated, or in no unit of length.
        states_size: whether the file states a size of pixels at all, in whatever unit.
        significant_bits: how many bits of a sample are used; None where it is not stated.
    """

    name: str
    width: int
    height: int
    z: int
    c: int
    t: int
    planes: dict[int, int | None]
    stated_mpp: tuple[float | None, float | None]
    states_size: bool
    significant_bits: int | None


def is_ome(description: str) -> bool:
    """Whether the text of a first page is OME-XML."""
    head = description.lstrip("\ufeff \t\r\n")[:4096]
    return head.startswith("<") and ("<OME" in head or ":OME" in head)


def parse_ome(xml: str, file_name: str, pages: int, samples: list[int]) -> list[OmeImage]:
    """The images of OME-XML, in its order.

    Args:
        file_name: of the TIFF, to tell the planes that stand in it.
        pages: how many pages the file has.
        samples: per pixel, of each page.

    Raises:
        TiffError: the XML is damaged, or it stands in another file.
    """
    root = read_xml(xml)
    if next(_all(root, "BinaryOnly"), None) is not None:
        raise TiffError("its OME-XML stands in another file", _ADVICE)
    others = _other_files(root, file_name)
    images: list[OmeImage] = []
    following = 0  # page of the next image where no TiffData says it
    for element in _all(root, "Image"):
        pixels = next(_all(element, "Pixels"), None)
        if pixels is None:
            continue
        image = _image(element, pixels, others, pages, samples, following)
        following = max([following, *(page + 1 for page in image.planes.values() if page is not None)])
        images.append(image)
    if not images:
        raise TiffError("its OME-XML describes no image")
    return images


def read_xml(xml: str) -> ElementTree.Element:
    """The root of OME-XML, whose elements lie in one another no deeper than is sensible: each of them may then be asked
    for all that it holds.

    Raises:
        TiffError: the XML is damaged.
    """
    try:
        root = ElementTree.fromstring(_DECLARATION.sub("", xml.strip("\ufeff \t\r\n\0")))
    except ElementTree.ParseError as error:
        raise TiffError(f"its OME-XML is damaged ({error})") from error
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
        if not level:
            return root
    raise TiffError("its OME-XML is damaged (its elements are nested too deep)")


def _image(
    element: ElementTree.Element,
    pixels: ElementTree.Element,
    others: frozenset[str],
    pages: int,
    samples: list[int],
    following: int,
) -> OmeImage:
    width, height, z, c, t = (_whole(pixels, f"Size{axis}") for axis in "XYZCT")
    letters = [letter for letter in pixels.get("DimensionOrder", "XYZCT") if letter in "ZCT"]
    order = "".join(letters) if sorted(letters) == ["C", "T", "Z"] else "ZCT"
    data = next(_all(pixels, "TiffData"), None)
    first = following if data is None else _number(data, "IFD", 0)
    per_pixel = math.gcd(c, samples[first] if 0 <= first < len(samples) else 1)
    numbers = {"Z": z, "C": c // per_pixel, "T": t}
    sizes = {axis: numbers[axis] for axis in order}
    x, y = (_length(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY")
    bits = pixels.get("SignificantBits")
    return OmeImage(
        name=element.get("Name", ""),
        width=width,
        height=height,
        z=z,
        c=sizes["C"],
        t=t,
        planes=_planes(pixels, sizes, others, pages, following),
        stated_mpp=(x, y),
        states_size=pixels.get("PhysicalSizeX") is not None or pixels.get("PhysicalSizeY") is not None,
        significant_bits=int(bits) if bits and bits.isdecimal() else None,
    )


def _other_files(root: ElementTree.Element, file_name: str) -> frozenset[str]:
    """Names of the other files that hold planes. A file that was renamed is known by its UUID; where it states none, by
    being the only one that is named."""
    named = {uuid.get("FileName", ""): (uuid.text or "").strip() for uuid in _all(root, "UUID")}
    if file_name in named:
        own = {file_name}
    else:
        alone = len(named) == 1 and "UUID" not in root.attrib
        own = {name for name, uuid in named.items() if alone or not name or uuid == root.get("UUID")}
    return frozenset(named.keys() - own)


def _planes(
    pixels: ElementTree.Element, sizes: dict[str, int], others: frozenset[str], pages: int, following: int
) -> dict[int, int | None]:
    """Which page holds which plane, of the planes that the file has pages for; the fastest axis comes first."""
    total = math.prod(sizes.values())
    blocks = list(_all(pixels, "TiffData"))
    planes: dict[int, int | None] = {}
    if not blocks:
        planes = {step: following + step for step in range(min(total, max(0, pages - following)))}
    steps = 0
    for block in blocks:
        start, stride = 0, 1
        for axis, size in sizes.items():
            start += _number(block, f"First{axis}", 0) * stride
            stride *= size
        page = _number(block, "IFD", 0)
        default = 1 if block.get("IFD") is not None or len(blocks) > 1 else total
        count = _number(block, "PlaneCount", default)
        elsewhere = any(uuid.get("FileName") in others for uuid in _all(block, "UUID"))
        steps += (count := min(count, pages, max(0, total - start)))
        if steps > _MAX_PLANES:
            raise TiffError("its OME-XML is damaged (too many planes)")
        for step in range(count):
            planes[start + step] = None if elsewhere else page + step
    return planes


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element.iter() if child.tag.rpartition("}")[2] == name)


def _whole(element: ElementTree.Element, name: str) -> int:
    value = _number(element, name, 1)
    if not 0 < value < 2**31:
        raise TiffError(f"its OME-XML is damaged ({name} is {value})")
    return value


def _number(element: ElementTree.Element, name: str, default: int) -> int:
    text = element.get(name)
    if text is None:
        return default
    if not text.strip().isdecimal() or len(text) > 18:
        raise TiffError(f"its OME-XML is damaged (invalid {name})")
    return int(text)


def _length(value: str | None, unit: str) -> float | None:
    """um; None for no positive number, or a unit that is no length ("pixel", "reference frame")."""
    try:
        length = float((value or "").replace(",", ".")) * _UNITS_IN_UM[unit.strip()]
    except (ValueError, KeyError):
        return None
    return length if math.isfinite(length) and length > 0 else None
