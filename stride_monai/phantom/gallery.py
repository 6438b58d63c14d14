"""Pages of what the phantom draws, to be looked at: cells by kind, one field per centre, a slide with its truth.

``python -m stride_monai.phantom.gallery cells --which lesions --out lesions.jpg`` and so on; ``docs/phantom.md`` shows
every page beside its command. The same arguments give the same pixels.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from stride_monai.bethesda import CELL_COLORS, NEGATIVE
from stride_monai.errors import ConfigError, OutputError, StrideError
from stride_monai.files import write_bytes
from stride_monai.phantom.cells.kinds import HARD_NEGATIVES, NORMAL
from stride_monai.phantom.cells.lesions import LESIONS
from stride_monai.phantom.centres import CENTRES, SITES, centre_named
from stride_monai.phantom.counterfactual import PROPERTIES, counterfactual
from stride_monai.phantom.files.products import SIGNATURE, is_picture
from stride_monai.phantom.render import draw_cell, render_field, render_slide
from stride_monai.phantom.scenes.artefacts import ARTEFACTS
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.slides.resample import resample
from stride_monai.slides.slide import Slide, open_slide
from stride_monai.units import Box, TilePx

__all__ = [
    "PAGES",
    "Tile",
    "artefacts_page",
    "cells_page",
    "centres_page",
    "counterfactuals_page",
    "fields_page",
    "page",
    "slide_page",
]

Pixels = NDArray[np.uint8]

PAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"normal": tuple(NORMAL), "hard": tuple(HARD_NEGATIVES), "lesions": tuple(LESIONS)}
)
"""What each page of cells shows, one row each."""

_GROUPS = frozenset({"AGC", "SCC", "clump", "folded_sheet", "mucus", "candida"})
"""Kinds that are larger than a cell and get larger tiles, at the same scale."""

_FIELD_LESIONS: Mapping[str, int] = MappingProxyType({"ASC-US": 3, "LSIL": 5, "AGC": 2})
"""Lesions on a field of :func:`fields_page`; 9 of the others."""

_CELL_VIEW_UM, _GROUP_VIEW_UM = 60.0, 92.0
_SPARSE = 25.0
_WIDTH = 1376
_GAP, _TEXT = 6, 13
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
        line * bool(heading) + tiles[0].pixels.shape[0] + line * any(t.caption for t in tiles) + _GAP
        for heading, tiles in rows
    ]
    width = max(sum(tile.pixels.shape[1] + _GAP for tile in tiles) for _, tiles in rows) + _GAP
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for (heading, tiles), height in zip(rows, heights, strict=True):
        pen.text((_GAP, top), heading, _INK, font)
        left, at = _GAP, top + line * bool(heading)
        for i, tile in enumerate(tiles):
            high, wide = tile.pixels.shape[:2]
            sheet.paste(Image.fromarray(tile.pixels), (left, at))
            pen.text((left, at + high + 2), tile.caption, _INK, font)
            if i == 0 and top == _GAP and bar_um > 0:
                _bar(pen, left + 6, at + high - 8, bar_um, mpp, font)
            left += wide + _GAP
        top += height
    return np.asarray(sheet)


def _bar(
    pen: ImageDraw.ImageDraw,
    left: int,
    bottom: int,
    bar_um: float,
    mpp: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    text = f"{bar_um:g} um"
    length = bar_um / mpp
    pen.rectangle(
        (left - 3, bottom - _TEXT - 8, left + max(length, pen.textlength(text, font)) + 3, bottom + 4), _PAPER
    )
    pen.text((left, bottom - _TEXT - 8), text, _INK, font)
    pen.rectangle((left, bottom - 1, left + length, bottom + 1), _INK)


def cells_page(
    names: Sequence[str], *, centre: str = "north", seed: int = 0, mpp: float = 0.36, width: int = _WIDTH
) -> Pixels:
    """A row of examples of each kind of cell or Bethesda label, all at one scale.

    Args:
        names: as :func:`stride_monai.phantom.draw_cell` takes them, e.g. ``intermediate`` or ``LSIL``.
        mpp: um/px of the page.
        width: px; how many examples fit into a row follows from it.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is no such cell or centre.
    """
    rows = []
    for row, name in enumerate(names):
        side = round((_GROUP_VIEW_UM if name in _GROUPS else _CELL_VIEW_UM) / mpp)
        tiles = []
        for i in range(max((width - _GAP) // (side + _GAP), 1)):
            # On three times the view the one neighbour that there always is seldom covers the cell. A finer drawing
            # averaged down has the sharpness of a scan that is looked at from afar.
            pixels, truth = draw_cell(
                name, seed=seed + 50 * row + i, mpp=mpp / 2, size_px=6 * side, centre=centre, density_per_mm2=_SPARSE
            )
            small = resample(pixels, 2 * side, 2 * side, 4 * side, 4 * side, side, side)
            tiles.append(Tile(small, _caption(truth.kind, name)))
        rows.append((name.replace("_", " "), tiles))
    return page(rows, mpp)


def counterfactuals_page(
    names: Sequence[str] = tuple(PROPERTIES),
    *,
    centres: Sequence[str] = ("north", "coast", "valley"),
    seed: int = 0,
    side: int = 144,
    mpp: float = 0.36,
) -> Pixels:
    """A row for each property: pairs of the same cell, as drawn and with the property changed.

    Args:
        names: of :data:`stride_monai.phantom.counterfactual.PROPERTIES`.
        centres: a pair of each.
        side: px of a crop.
        mpp: um/px of the page.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is no such property or centre.
    """
    rows = []
    for row, name in enumerate(names):
        tiles = []
        for i, centre in enumerate(centres):
            pair = counterfactual(
                name, seed=seed + 50 * row + i, centre=centre, crop_px=side, crop_mpp=mpp, density_per_mm2=_SPARSE
            )
            tiles += [Tile(pair.original), Tile(pair.changed)]
        told = [
            f"{verb}: {', '.join(text.partition(',')[0] for text in sorted(texts))}"
            for verb, texts in (("goes", pair.lost), ("comes", pair.gained))
            if texts
        ]
        rows.append((f"{name.replace('_', ' ')}   ({'; '.join(told) or 'no text changes'})", tiles))
    return page(rows, mpp)


def _caption(kind: str, heading: str) -> str:
    """The kind, unless the heading says as much."""
    said = "".join(filter(str.isalnum, heading.lower()))
    return "" if "".join(filter(str.isalnum, kind)) == said else kind.replace("_", " ")


def centres_page(
    names: Sequence[str] = SITES,
    *,
    seed: int = 3,
    columns: int = 3,
    field_um: tuple[float, float] = (190.0, 130.0),
    mpp: float = 0.42,
) -> Pixels:
    """The same field, as far as a centre's geometry allows, as each centre stains and scans it.

    Args:
        names: of :data:`stride_monai.phantom.CENTRES`.
        field_um: width and height.
        mpp: um/px of the page; every field is rendered at its centre's own um/px first and passes through its JPEG.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is no such centre.
    """
    tiles = []
    size = round(field_um[0] / mpp), round(field_um[1] / mpp)
    for name in names:
        centre = centre_named(name)
        pixels, _ = render_field(
            *field_um, mpp=centre.mpp, centre=centre, seed=seed, density_per_mm2=500, lesions={"LSIL": 1, "HSIL": 2}
        )
        pixels = _through_jpeg(pixels, centre.jpeg_quality)
        high, wide = pixels.shape[:2]
        caption = f"{name}: {centre.mpp:g} um/px, JPEG {centre.jpeg_quality}"
        tiles.append(Tile(resample(pixels, 0, 0, wide, high, *size), caption))
    return page([("", tiles[i : i + columns]) for i in range(0, len(tiles), columns)], mpp)


def _through_jpeg(pixels: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def fields_page(
    labels: Sequence[str] = (NEGATIVE, *LESIONS),
    *,
    centre: str = "north",
    seed: int = 8,
    columns: int = 3,
    field_um: tuple[float, float] = (200.0, 140.0),
    mpp: float = 0.44,
) -> Pixels:
    """A field of each label: singles and groups among the cells they lie with.

    Args:
        labels: Bethesda labels.
        field_um: width and height.
        mpp: um/px of the page.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is no such label or centre.
    """
    tiles = []
    size = round(field_um[0] / mpp), round(field_um[1] / mpp)
    for label in labels:
        lesions = {} if label == NEGATIVE else {label: _FIELD_LESIONS.get(label, 9)}
        pixels, _ = render_field(
            *field_um, mpp=mpp / 2, label=label, lesions=lesions, centre=centre, seed=seed, density_per_mm2=350
        )
        high, wide = pixels.shape[:2]
        tiles.append(Tile(resample(pixels, 0, 0, wide, high, *size), label))
    return page([("", tiles[i : i + columns]) for i in range(0, len(tiles), columns)], mpp)


def slide_page(
    label: str = "HSIL", *, diameter_mm: float = 3.0, centre: str = "north", seed: int = 5, side: int = 440
) -> Pixels:
    """A whole slide three times: from afar, nearer, and near with its truth drawn over it.

    The slide is written to a temporary file and read back by the package's own reader.

    Args:
        label: Bethesda label of the slide.
        side: px of each of the three pictures.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: an argument makes no slide.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        truth = render_slide(path, label, seed=seed, diameter_mm=diameter_mm, centre=centre)
        with open_slide(path) as slide:
            x, y = _interesting(truth)
            near, close = (Box.around(x, y, um / slide.mpp) for um in (700.0, 130.0))
            whole, step = slide.overview(side)
            overview = _framed(_square(whole, side), [near.on_tile(slide.box, 1 / step)], [_INK])
            middle = _framed(_view(slide, near, side), [close.on_tile(near, side / near.width)], [_INK])
            detail = _view(slide, close, side)
            mpp = slide.mpp
    captions = (
        f"{label}, {diameter_mm:g} mm, {truth.width} x {truth.height} px",
        f"{near.width * mpp:g} um wide",
        f"{close.width * mpp:g} um wide",
        "its truth: boxes, outlines, nuclei",
    )
    pictures = (overview, middle, detail, _with_truth(detail, close, truth))
    return page([("", [Tile(p, text) for p, text in zip(pictures, captions, strict=True)])], mpp, bar_um=0)


def artefacts_page(
    names: Sequence[str] = ARTEFACTS, *, centre: str = "north", seed: int = 2, side: int = 266, diameter_mm: float = 1.6
) -> Pixels:
    """A small deposit with each of the disturbances that may be asked for.

    Args:
        names: of :data:`stride_monai.phantom.scenes.artefacts.ARTEFACTS`.
        side: px of each picture.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ConfigError: there is no such artefact or centre.
    """
    tiles, mpp = [], 1.0
    with TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / f"{name}.tiff"
            render_slide(path, seed=seed, diameter_mm=diameter_mm, mpp=0.5, centre=centre, artefacts=(name,))
            with open_slide(path) as slide:
                tiles.append(Tile(_square(slide.overview(side)[0], side), name))
                mpp = slide.mpp * slide.width / side
    return page([("", tiles)], mpp, bar_um=500)


def _interesting(truth: SlideTruth) -> tuple[float, float]:
    """A sharp lesion with a few others within 60 um: what a slide shows best."""
    cells = truth.positives or truth.cells
    points = np.array([(cell.x, cell.y) for cell in cells])
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) * truth.mpp
    few = np.minimum((apart < 60).sum(axis=1), 5)
    best = points[int((few - [4 * cell.defocus_um for cell in cells]).argmax())]
    return float(best[0]), float(best[1])


def _view(slide: Slide, box: Box, side: int) -> Pixels:
    return slide.read(box, box.width * slide.mpp / side)[:side, :side]


def _square(pixels: Pixels, side: int) -> Pixels:
    """Filled up with white to ``side`` px on both axes."""
    out = np.full((side, side, 3), 255, np.uint8)
    height, width = pixels.shape[:2]
    out[: min(height, side), : min(width, side)] = pixels[:side, :side]
    return out


def _framed(pixels: Pixels, boxes: Sequence[Box[TilePx]], colors: Sequence[tuple[int, int, int]]) -> Pixels:
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for box, color in zip(boxes, colors, strict=True):
        pen.rectangle(tuple(box), outline=color, width=2)
    return np.asarray(picture)


def _with_truth(pixels: Pixels, box: Box, truth: SlideTruth) -> Pixels:
    """Boxes, cell outlines and nuclei of the truth over a picture of ``box``, in the colours of their classes."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    factor = pixels.shape[1] / box.width
    for cell in truth.cells:
        if cell.box.x1 < box.x0 or cell.box.x0 > box.x1 or cell.box.y1 < box.y0 or cell.box.y0 > box.y1:
            continue
        color = CELL_COLORS[cell.cell_class]
        pen.rectangle(tuple(cell.box.on_tile(box, factor)), outline=color, width=2)
        for polygon in (*cell.outlines, *cell.nuclei):
            points = [((x - box.x0) * factor, (y - box.y0) * factor) for x, y in [*polygon, polygon[0]]]
            pen.line(points, color, 1)
    return np.asarray(picture)


def _save(pixels: Pixels, path: Path) -> None:
    kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if path.suffix.lower() not in kinds:
        raise ConfigError(f"'{path.name}' is neither JPEG nor PNG", "end the name in .jpg or .png")
    if os.path.lexists(path) and not is_picture(path):
        raise OutputError(f"{path} is no picture of synthetic cells, and is not replaced", "choose another name")
    stream, note = io.BytesIO(), PngInfo()
    note.add_text("Software", SIGNATURE)
    kind, options = kinds[path.suffix.lower()], {"pnginfo": note, "comment": SIGNATURE.encode()}
    Image.fromarray(pixels).save(stream, kind, quality=82, optimize=True, **options)
    write_bytes(path, stream.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one page to a JPEG or PNG file."""
    parser = argparse.ArgumentParser(prog="python -m stride_monai.phantom.gallery", description=main.__doc__)
    pages = parser.add_subparsers(dest="page", required=True)
    cells = pages.add_parser("cells", help="rows of cells by kind")
    cells.add_argument("--which", choices=list(PAGES), default="lesions")
    cells.add_argument("--centre", choices=list(CENTRES), default="north")
    cells.add_argument("--seed", type=int, default=0)
    fields = pages.add_parser("fields", help="one field of each label")
    fields.add_argument("--centre", choices=list(CENTRES), default="north")
    fields.add_argument("--seed", type=int, default=8)
    artefacts = pages.add_parser("artefacts", help="each disturbance on a small deposit")
    artefacts.add_argument("--centre", choices=list(CENTRES), default="north")
    artefacts.add_argument("--seed", type=int, default=2)
    centres = pages.add_parser("centres", help="one field as each centre shows it")
    centres.add_argument("--centre", action="append", choices=list(CENTRES), help="only these; all sites by default")
    centres.add_argument("--seed", type=int, default=3)
    pairs = pages.add_parser("counterfactuals", help="pairs of cells that differ by one property")
    pairs.add_argument("--seed", type=int, default=0)
    slide = pages.add_parser("slide", help="a whole slide, two zooms and the truth")
    slide.add_argument("--label", default="HSIL")
    slide.add_argument("--diameter", type=float, default=3.0, help="mm")
    slide.add_argument("--centre", choices=list(CENTRES), default="north")
    slide.add_argument("--seed", type=int, default=5)
    for sub in (cells, fields, artefacts, centres, pairs, slide):
        sub.add_argument("--out", type=Path, required=True, help="JPEG or PNG file")
    given = parser.parse_args(arguments)
    try:
        _save(_drawn(given), given.out)
    except StrideError as error:
        sys.exit(str(error))


def _drawn(given: argparse.Namespace) -> Pixels:
    if given.page == "cells":
        return cells_page(PAGES[given.which], centre=given.centre, seed=given.seed)
    if given.page == "fields":
        return fields_page(centre=given.centre, seed=given.seed)
    if given.page == "artefacts":
        return artefacts_page(centre=given.centre, seed=given.seed)
    if given.page == "centres":
        return centres_page(given.centre or SITES, seed=given.seed)
    if given.page == "counterfactuals":
        return counterfactuals_page(seed=given.seed)
    return slide_page(given.label, diameter_mm=given.diameter, centre=given.centre, seed=given.seed)


if __name__ == "__main__":
    main()
