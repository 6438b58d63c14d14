"""What is checked of an odd TIFF: each reader shows the true picture or says why it refuses the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from slide_files import textured
from tiff_files import RATIONAL, SHORT, Page, tiff_bytes

from stride_monai.errors import SlideError, SpacingError
from stride_monai.slides import open_slide

READERS = ("auto", "openslide", "tiff", "image")


@dataclass(frozen=True)
class Pixels:
    """Samples of a page as stored and the RGB picture that they mean."""

    samples: Any
    picture: Any
    photometric: int
    bits: int = 8
    extra: int | None = None
    white: int | None = None  # MaxSampleValue
    refused: str = ""  # what the error says


def pixels_of(kind: str, height: int, width: int) -> Pixels:
    rgb = textured(height, width, seed=3)
    gray = rgb[..., :1]
    alpha = np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width, 1)
    cover = alpha.astype(int)
    on_white = ((rgb.astype(int) * cover + 255 * (255 - cover)) / 255 + 0.5).astype(np.uint8)
    premultiplied = (rgb.astype(int) * cover / 255 + 0.5).astype(np.uint8)
    inks = np.concatenate([255 - rgb, alpha // 2], 2)
    three = lambda one: np.repeat(one, 3, axis=2)  # noqa: E731
    deep = {bits: (rgb.astype(np.uint32) * ((1 << bits) - 1) + 127) // 255 for bits in (10, 12, 16)}
    dark = (deep[12]).astype(np.uint16)
    return {
        "rgb": Pixels(rgb, rgb, 2),
        "gray": Pixels(gray, three(gray), 1),
        "white is zero": Pixels(255 - gray, three(gray), 0),
        "1 bit": Pixels(gray >> 7, three(np.where(gray >> 7, 255, 0).astype(np.uint8)), 1, 1),
        "4 bits": Pixels(gray >> 4, three((gray >> 4) * 17), 1, 4),
        "palette": Pixels(gray, np.stack([gray[..., 0], 255 - gray[..., 0], gray[..., 0] // 2], axis=2), 3),
        "alpha": Pixels(np.concatenate([rgb, alpha], 2), on_white, 2, extra=2),
        "premultiplied": Pixels(np.concatenate([premultiplied, alpha], 2), on_white, 2, extra=1),
        "unspecified": Pixels(np.concatenate([rgb, alpha], 2), rgb, 2, extra=0),
        "no word of it": Pixels(np.concatenate([rgb, alpha], 2), rgb, 2),
        "cmyk": Pixels(inks, np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), 5),
        "10 bits": Pixels(deep[10], rgb, 2, 10),
        "12 bits": Pixels(deep[12], rgb, 2, 12),
        "12 of 16 bits": Pixels(dark, rgb, 2, 16, white=4095),
        "16 of 16 bits": Pixels(deep[16].astype(np.uint16), rgb, 2, 16, white=65535),
        "16 bright bits": Pixels(deep[16].astype(np.uint16), rgb, 2, 16),
        "16 bits": Pixels(dark, rgb, 2, 16, refused="16-bit samples, and no tag says which value is white"),
    }[kind]


KINDS = [
    *("rgb", "gray", "white is zero", "1 bit", "4 bits", "palette", "alpha", "premultiplied", "unspecified"),
    *("no word of it", "cmyk", "10 bits", "12 bits", "12 of 16 bits", "16 of 16 bits", "16 bright bits", "16 bits"),
]


def made(page: Page, pixels: Pixels) -> Page:
    if pixels.extra is not None:
        page.set(338, SHORT, pixels.extra)
    if pixels.white is not None:
        page.set(281, SHORT, *[pixels.white] * pixels.samples.shape[2])
    if pixels.photometric == 3:
        steps = np.arange(256)
        page.set(320, SHORT, *(np.concatenate([steps, 255 - steps, steps // 2]) * 257).tolist())
    return page


def with_mpp(page: Page, mpp: float, unit: int = 3) -> Page:
    per = {2: 25_400, 3: 10_000}[unit]
    page.set(282, RATIONAL, round(per / mpp * 1000), 1000).set(283, RATIONAL, round(per / mpp * 1000), 1000)
    return page.set(296, SHORT, unit)


def seen(path: Path, reader: str, mpp: float | None = 0.25, **options: int) -> Any:
    """The whole picture, or the reason why the reader refuses the file."""
    try:
        with open_slide(path, mpp, reader, **options) as slide:
            return slide.read(slide.box)
    except SlideError as error:
        said = str(error)
    assert path.name in said
    return said


def assert_true(path: Path, picture: Any, tolerance: int, must_read: bool = True) -> None:
    """Each reader shows the picture or refuses the file; ``auto`` shows it."""
    for reader in READERS:
        got = seen(path, reader)
        if isinstance(got, str):
            assert not (must_read and reader in ("auto", "tiff")), got
        else:
            assert got.shape == picture.shape, reader
            assert np.abs(got.astype(int) - picture).max() <= tolerance, reader


OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'


def ome_image(
    number: int,
    width: int,
    height: int,
    size: str = "",
    planes: str = "",
    name: str = "",
    z: int = 1,
    c: int = 3,
    t: int = 1,
) -> str:
    pixels = f'ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" {size}'
    return (
        f'<Image ID="Image:{number}" Name="{name}"><Pixels {pixels} SizeZ="{z}" SizeC="{c}" SizeT="{t}">'
        f"{planes}</Pixels></Image>"
    )


def write(path: Path, *pages: Page, **options: Any) -> Path:
    path.write_bytes(tiff_bytes(pages, **options))
    return path


def picture(height: int, width: int, seed: int = 0) -> Any:
    return textured(height, width, seed)


def ome_file(path: Path, *pages: Page, images: str) -> Path:
    pages[0].text(270, OME.format(images))
    return write(path, *pages)


def mpp_of(path: Path, reader: str = "auto") -> float | str:
    """um/px, or why the file is refused; every reader that opens the file says the same."""
    found: dict[str, float | str] = {}
    for name in (reader, *READERS):
        try:
            with open_slide(path, reader=name) as slide:
                found[name] = slide.mpp
        except SpacingError as error:
            found[name] = str(error)
        except SlideError:
            pass
    assert len({value if isinstance(value, str) else round(value, 6) for value in found.values()}) == 1, found
    return found[reader]
