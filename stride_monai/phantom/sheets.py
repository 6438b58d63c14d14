"""Sheets of pictures: tiles in rows with headings, captions and a scale bar, and the file that they end in."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import write_bytes
from stride_monai.phantom.files.products import SIGNATURE, is_signed
from stride_monai.units import Box, TilePx

__all__ = ["GAP", "Pixels", "Tile", "framed", "page", "save", "square", "through_jpeg"]

Pixels = NDArray[np.uint8]

GAP, _TEXT = 6, 13
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture ``[h, w, 3]`` uint8 with the line of text below it."""

    pixels: Pixels
    caption: str = ""


def page(rows: Sequence[tuple[str, Sequence[Tile]]], mpp: float, bar_um: float = 20.0) -> Pixels:
    """Rows of tiles, each under its heading, with a scale bar in the first tile of all.

    Args:
        rows: heading and tiles of each row; the tiles of a row are equally high.
        mpp: um/px of the tiles.
        bar_um: length of the scale bar.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is nothing to show.
    """
    if not rows or not all(tiles for _, tiles in rows):
        raise ConfigError("a page without tiles", "name something to show and at least one column")
    font = ImageFont.load_default(_TEXT)
    line = _TEXT + 6
    heights = [
        line * bool(heading) + tiles[0].pixels.shape[0] + line * any(t.caption for t in tiles) + GAP
        for heading, tiles in rows
    ]
    width = max(sum(tile.pixels.shape[1] + GAP for tile in tiles) for _, tiles in rows) + GAP
    sheet = Image.new("RGB", (width, sum(heights) + GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for (heading, tiles), height in zip(rows, heights, strict=True):
        pen.text((GAP, top), heading, _INK, font)
        left, at = GAP, top + line * bool(heading)
        for i, tile in enumerate(tiles):
            high, wide = tile.pixels.shape[:2]
            sheet.paste(Image.fromarray(tile.pixels), (left, at))
            pen.text((left, at + high + 2), tile.caption, _INK, font)
            if i == 0 and top == GAP and bar_um > 0:
                text, length, start, bottom = f"{bar_um:g} um", bar_um / mpp, left + 6, at + high - 8
                end = start + max(length, pen.textlength(text, font)) + 3
                pen.rectangle((start - 3, bottom - _TEXT - 8, end, bottom + 4), _PAPER)
                pen.text((start, bottom - _TEXT - 8), text, _INK, font)
                pen.rectangle((start, bottom - 1, start + length, bottom + 1), _INK)
            left += wide + GAP
        top += height
    return np.asarray(sheet)


def through_jpeg(pixels: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def square(pixels: Pixels, side: int) -> Pixels:
    """Filled up with white to ``side`` px on both axes."""
    cut = pixels[:side, :side]
    return np.pad(cut, ((0, side - cut.shape[0]), (0, side - cut.shape[1]), (0, 0)), constant_values=255)


def framed(pixels: Pixels, box: Box[TilePx]) -> Pixels:
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).rectangle(tuple(box), outline=_INK, width=2)
    return np.asarray(picture)


def save(pixels: Pixels, path: Path) -> None:
    kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if path.suffix.lower() not in kinds:
        raise ConfigError(f"'{path.name}' is neither JPEG nor PNG", "end the name in .jpg or .png")
    if os.path.lexists(path) and not is_signed(path):
        raise OutputError(f"{path} is no picture of synthetic cells, and is not replaced", "choose another name")
    stream, note = io.BytesIO(), PngInfo()
    note.add_text("Software", SIGNATURE)
    kind, options = kinds[path.suffix.lower()], {"pnginfo": note, "comment": SIGNATURE.encode()}
    Image.fromarray(pixels).save(stream, kind, quality=82, optimize=True, **options)
    write_bytes(path, stream.getvalue())
