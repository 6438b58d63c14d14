"""Pages of what the phantom draws, to be looked at: cells by kind, one field per centre, a slide with its truth.

``python -m stride_monai.phantom.gallery cells --which lesions --out lesions.jpg`` and so on; ``docs/phantom.md`` shows
every page beside its command. The same arguments give the same pixels. Every page is uint8 ``[H, W, 3]`` RGB;
``ConfigError`` where the phantom draws nothing of a name that is asked for.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from stride_monai.bethesda import CELL_COLORS, NEGATIVE
from stride_monai.errors import StrideError
from stride_monai.phantom.cells.hard_negatives import HARD_NEGATIVES, RARE
from stride_monai.phantom.cells.kinds import NORMAL
from stride_monai.phantom.cells.lesions import LESIONS
from stride_monai.phantom.cells.organisms import ORGANISMS
from stride_monai.phantom.centres import CENTRES, SITES, centre_named
from stride_monai.phantom.counterfactual import PROPERTIES, counterfactual
from stride_monai.phantom.render import draw_cell, render_field, render_slide
from stride_monai.phantom.scenes.artefacts import ARTEFACTS
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.phantom.sheets import GAP, Pixels, Tile, framed, page, save, square, through_jpeg
from stride_monai.slides.resample import resample
from stride_monai.slides.slide import Slide, open_slide
from stride_monai.units import Box

__all__ = [
    "PAGES",
    "artefacts_page",
    "cells_page",
    "centres_page",
    "counterfactuals_page",
    "fields_page",
    "slide_page",
]

PAGES: Mapping[str, tuple[str, ...]] = {
    "normal": tuple(NORMAL),
    "hard": (*HARD_NEGATIVES, *RARE),
    "organisms": tuple(ORGANISMS),
    "lesions": tuple(LESIONS),
}
"""What each page of cells shows, one row each."""

_GROUPS = frozenset({"AGC", "SCC", "clump", "folded_sheet", "mucus", "candida", "herpes", "actinomyces"})
"""Kinds that are larger than a cell and get larger tiles, at the same scale."""

_FIELD_LESIONS: Mapping[str, int] = {"ASC-US": 3, "LSIL": 5, "AGC": 2}
"""Lesions on a field of :func:`fields_page`; 9 of the others."""

_CELL_VIEW_UM, _GROUP_VIEW_UM = 60.0, 92.0
_SPARSE = 25.0
_WIDTH = 1376


def cells_page(
    names: Sequence[str] = PAGES["lesions"],
    *,
    centre: str = "north",
    seed: int = 0,
    mpp: float = 0.36,
    width: int = _WIDTH,
) -> Pixels:
    """A row of examples of each kind of cell or Bethesda label, all at one scale.

    Args:
        names: as :func:`stride_monai.phantom.draw_cell` takes them, e.g. ``intermediate`` or ``LSIL``.
        mpp: um/px of the page.
        width: px; how many examples fit into a row follows from it.
    """
    rows = []
    for row, name in enumerate(names):
        side = round((_GROUP_VIEW_UM if name in _GROUPS else _CELL_VIEW_UM) / mpp)
        tiles = []
        for i in range(max((width - GAP) // (side + GAP), 1)):
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
    """
    tiles = []
    size = round(field_um[0] / mpp), round(field_um[1] / mpp)
    for name in names:
        centre = centre_named(name)
        pixels, _ = render_field(
            *field_um, mpp=centre.mpp, centre=centre, seed=seed, density_per_mm2=500, lesions={"LSIL": 1, "HSIL": 2}
        )
        pixels = through_jpeg(pixels, centre.jpeg_quality)
        high, wide = pixels.shape[:2]
        caption = f"{name}: {centre.mpp:g} um/px, JPEG {centre.jpeg_quality}"
        tiles.append(Tile(resample(pixels, 0, 0, wide, high, *size), caption))
    return page([("", tiles[i : i + columns]) for i in range(0, len(tiles), columns)], mpp)


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
        field_um: width and height.
        mpp: um/px of the page.
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
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        truth = render_slide(path, label, seed=seed, diameter_mm=diameter_mm, centre=centre)
        with open_slide(path) as slide:
            x, y = _interesting(truth)
            near, close = (Box.around(x, y, um / slide.mpp) for um in (700.0, 130.0))
            whole, step = slide.overview(side)
            overview = framed(square(whole, side), near.on_tile(slide.box, 1 / step))
            middle = framed(_view(slide, near, side), close.on_tile(near, side / near.width))
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
    """
    tiles, mpp = [], 1.0
    with TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / f"{name}.tiff"
            render_slide(path, seed=seed, diameter_mm=diameter_mm, mpp=0.5, centre=centre, artefacts=(name,))
            with open_slide(path) as slide:
                tiles.append(Tile(square(slide.overview(side)[0], side), name))
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


_COMMANDS: Mapping[str, tuple[Callable[..., Pixels], str]] = {
    "cells": (cells_page, "rows of cells by kind"),
    "fields": (fields_page, "one field of each label"),
    "artefacts": (artefacts_page, "each disturbance on a small deposit"),
    "centres": (centres_page, "one field as each centre shows it"),
    "counterfactuals": (counterfactuals_page, "pairs of cells that differ by one property"),
    "slide": (slide_page, "a whole slide, two zooms and the truth"),
}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"centre": {"choices": list(CENTRES)}, "seed": {"type": int}, "label": {}}
"""By argument of a page, what the command lets one set; the page's own defaults hold."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one page to a JPEG or PNG file."""
    parser = argparse.ArgumentParser(prog="python -m stride_monai.phantom.gallery", description=main.__doc__)
    pages = parser.add_subparsers(dest="page", required=True)
    sub = {}
    for name, (draw, text) in _COMMANDS.items():
        sub[name] = pages.add_parser(name, help=text, argument_default=argparse.SUPPRESS)
        sub[name].add_argument("--out", type=Path, required=True, help="JPEG or PNG file")
        for option in inspect.signature(draw).parameters:
            if option in _OPTIONS:
                sub[name].add_argument(f"--{option}", **_OPTIONS[option])
    sub["cells"].add_argument("--which", choices=list(PAGES))
    sub["centres"].add_argument(
        "--centre", action="append", dest="names", choices=list(CENTRES), help="only these; all sites by default"
    )
    sub["slide"].add_argument("--diameter", type=float, dest="diameter_mm", help="mm")
    given = vars(parser.parse_args(arguments))
    draw, path = _COMMANDS[given.pop("page")][0], given.pop("out")
    if "which" in given:
        given["names"] = PAGES[given.pop("which")]
    try:
        save(draw(**given), path)
    except StrideError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
