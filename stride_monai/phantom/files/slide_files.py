"""What stands in a slide file beside the pixels: the scanner's metadata, the label and the macro picture.

A real file names its patient on the label, which the macro picture shows as well, and often in its metadata. So does a
synthetic one: :data:`CANARY` is planted there, and nothing that reads a slide may ever pass it on.
"""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "CANARY",
    "GLASS_MM",
    "LEICA_STEP",
    "Layout",
    "aperio_description",
    "label_picture",
    "leica_description",
    "macro_picture",
    "objective_of",
]

CANARY = "CANARY PATIENT, JANE 19700101 ID 4711"
"""The patient of every synthetic slide."""

GLASS_MM = (25.4, 76.2)
"""Width and length of a microscope slide."""

Pixels = NDArray[np.uint8]
LEICA_STEP = 64
"""px to which places and sizes of Leica files are rounded, so that every level starts on a whole pixel."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a description states.

    Attributes:
        sizes: (width, height) of every level, finest first.
        tile: side of a tile, px.
        origin_mm: (x, y) of the scanned region on the stage.
        patient: whether the patient is named.
    """

    sizes: tuple[tuple[int, int], ...]
    tile: int
    mpp: float
    quality: int
    origin_mm: tuple[float, float]
    patient: bool


def objective_of(mpp: float) -> int:
    """Magnification of the objective that scanners use for a um/px."""
    return 40 if mpp < 0.36 else 20


def aperio_description(layout: Layout) -> str:
    """ImageDescription of an Aperio file: readers take um/px and objective power from it."""
    width, height = layout.sizes[0]
    patient = f"|Patient = {CANARY}" if layout.patient else ""
    return (
        f"Aperio Image Library (stride-monai phantom, synthetic)\r\n{width}x{height} "
        f"[0,0 {width}x{height}] ({layout.tile}x{layout.tile}) JPEG/RGB Q={layout.quality}"
        f"|AppMag = {objective_of(layout.mpp)}|MPP = {layout.mpp:.4f}{patient}"
    )


def leica_description(layout: Layout) -> str:
    """ImageDescription of a Leica SCN file: the scanned region lies somewhere on the whole glass slide.

    Readers that follow it show the whole glass as the canvas and the region as its bounds. The origin is rounded to
    :data:`LEICA_STEP`.
    """
    nm = layout.mpp * 1000
    width, height = layout.sizes[0]
    offset = [round(mm * 1e6 / nm / LEICA_STEP) * LEICA_STEP for mm in layout.origin_mm]
    glass = [
        max(round(mm * 1e6 / nm), start + side)
        for mm, start, side in zip(GLASS_MM, offset, (width, height), strict=True)
    ]
    glass_nm, offset_nm, size_nm = ([round(px * nm) for px in pair] for pair in (glass, offset, (width, height)))
    levels = "".join(
        f'<dimension ifd="{i}" r="{i}" z="0" c="0" sizeX="{w}" sizeY="{h}"/>' for i, (w, h) in enumerate(layout.sizes)
    )
    macro = ""
    if layout.patient:
        macro_ifd, (macro_width, macro_height) = len(layout.sizes), _MACRO
        macro = (
            f'<image name="macro"><creationDate>2000-01-01T00:00:00Z</creationDate><device model="phantom"/>'
            f'<pixels sizeX="{macro_height}" sizeY="{macro_width}">'
            f'<dimension ifd="{macro_ifd}" r="0" z="0" c="0" sizeX="{macro_height}" sizeY="{macro_width}"/></pixels>'
            f'<view sizeX="{glass_nm[0]}" sizeY="{glass_nm[1]}" offsetX="0" offsetY="0" spacingZ="0"/>'
            f"{_leica_settings(1)}</image>"
        )
    barcode = base64.b64encode(CANARY.encode()).decode() if layout.patient else ""
    return (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="synthetic">'
        f'<collection name="phantom" sizeX="{glass_nm[0]}" sizeY="{glass_nm[1]}"><barcode>{barcode}</barcode>'
        f"{macro}"
        '<image name="main"><creationDate>2000-01-01T00:00:00Z</creationDate>'
        f'<device model="{escape("stride-monai phantom, synthetic")}"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{levels}</pixels>'
        f'<view sizeX="{size_nm[0]}" sizeY="{size_nm[1]}" offsetX="{offset_nm[0]}" offsetY="{offset_nm[1]}" '
        f'spacingZ="0"/>{_leica_settings(objective_of(layout.mpp))}</image></collection></scn>'
    )


def _leica_settings(objective: int) -> str:
    return (
        f"<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        "</scanSettings>"
    )


_LABEL = (420, 440)
_MACRO = (1280, 427)


def label_picture(slide_id: str) -> Pixels:
    """The paper label, ``[440, 420, 3]``: slide, patient and a bar code."""
    picture = Image.new("RGB", _LABEL, (244, 243, 236))
    pen = ImageDraw.Draw(picture)
    lines = [slide_id, *textwrap.wrap(CANARY, 21), "SYNTHETIC"]
    for i, line in enumerate(lines):
        pen.text((18, 20 + 44 * i), line[:26], fill=(20, 20, 24), font=ImageFont.load_default(26))
    bits = np.unpackbits(np.frombuffer(CANARY.encode(), np.uint8))
    for i, bit in enumerate(bits[: (_LABEL[0] - 36) // 2]):
        if bit:
            pen.line((18 + 2 * i, 330, 18 + 2 * i, 420), fill=(20, 20, 24), width=2)
    return np.asarray(picture)


def macro_picture(slide_id: str, overview: Pixels, mpp: float, width: int) -> Pixels:
    """The whole glass as a camera sees it, ``[427, 1280, 3]``: the label on the left, the deposit on the right.

    Args:
        overview: any reduced picture of the slide.
        mpp, width: um/px and width of level 0, px.
    """
    picture = Image.new("RGB", _MACRO, (228, 230, 229))
    px_per_mm = _MACRO[0] / GLASS_MM[1]
    side = round(25 * px_per_mm)
    picture.paste(Image.fromarray(label_picture(slide_id)).resize((side, _MACRO[1])), (0, 0))
    shown = min(round(width * mpp / 1000 * px_per_mm), _MACRO[1])
    deposit = Image.fromarray(overview).resize(
        (max(shown, 1), max(round(shown * overview.shape[0] / overview.shape[1]), 1))
    )
    left = side + (_MACRO[0] - side - deposit.width) // 2
    picture.paste(deposit, (left, (_MACRO[1] - deposit.height) // 2))
    return np.asarray(picture)
