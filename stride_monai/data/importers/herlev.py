"""Herlev (smear2005): one cell per picture, a folder per class, and a mask beside each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.pictures import header, upright_pixels
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import PLAIN_SUFFIXES, ImageIndex, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.errors import ManifestError
from stride_monai.files import files_below
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_MASKS = ("-d", "-cyt")
_RED, _CYTOPLASM, _NUCLEUS = 64, 64, 192  # nucleus (0, 0, 255), cytoplasm (0, 0, 128); grey is unknown, red background


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<class>/NAME.BMP`` with ``<class>/NAME-d.bmp``.

    The box and the outlines of a cell are those of the mask; without a mask the cell is the whole picture.
    """
    folder = options.images or source
    if not folder.is_dir():
        raise ManifestError(f"{folder} is no folder", "name the folder that holds a folder per class")
    index = ImageIndex(folder, skip=_MASKS)
    files = [path for path in files_below(folder) if path.suffix.lower() in PLAIN_SUFFIXES]
    masks = {stem: path for path in files if (stem := path.with_suffix("").as_posix().lower()).endswith("-d")}
    result = Source()
    pictures = {path.with_suffix("").as_posix().lower() for path in index.paths}
    for stem, mask in sorted(masks.items()):
        if stem.removesuffix("-d") not in pictures:
            problems.add(place_of(mask, folder), "mask", "the mask has no picture", mask.stem)
    for path in index.paths:
        slide_id, place = index.id_of(path), place_of(path, folder)
        mask_of = masks.get(f"{path.with_suffix('').as_posix()}-d".lower())
        size: tuple[int, int] | None = None
        shape: dict[str, Any] = {}
        with problems.catching(place_of(mask_of or path, folder), "mask", slide_id):
            if mask_of is None:
                problems.note(place, "mask", "there is no mask: the whole picture is taken for the cell")
            else:
                size, shape = _outlines(mask_of, path)
            result.cells.append(SourceCell(slide_id, path.parent.name, place, cell_id="1", **shape))
        result.images.append(SourceImage(slide_id, path, place, size=size))
    result.notes = index.remarks(index.paths)
    return result


def _outlines(mask: Path, picture: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Size of the mask; box of the cell, outline of the cell and of its nucleus, by their names in a SourceCell."""
    shown, facts = header(mask), header(picture)
    size = shown.upright
    if size not in {facts.stored, facts.upright}:  # which of them it is, is for the labels of all pictures
        raise ManifestError(f"the mask is {size[0]}x{size[1]} px, the picture another size")
    pixels = upright_pixels(mask).astype(np.int16)
    blue = (pixels[..., 0] < _RED) & (pixels[..., 2] >= _CYTOPLASM)
    if not blue.any():
        raise ManifestError("the mask shows no cell", "nucleus and cytoplasm are blue in it")
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    nucleus = _contour(blue & (pixels[..., 2] >= _NUCLEUS))
    return size, {"box": box, "outline": _contour(blue), "nucleus": nucleus}


def _contour(mask: npt.NDArray[np.bool_]) -> Polygon:
    """The longest border of a mask, to half a pixel; empty for an empty mask."""
    from skimage.measure import approximate_polygon, find_contours

    borders: list[npt.NDArray[Any]] = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    if not borders:
        return ()
    border = approximate_polygon(max(borders, key=len), 0.5)[:-1]
    # Contours run through pixel centres of the padded mask: -1 for the padding, +0.5 to its level-0 px.
    corners = tuple((round(float(x) - 0.5, 1), round(float(y) - 0.5, 1)) for y, x in border)
    return corners if len(corners) >= 3 else ()


FORMAT = Format(
    name="herlev",
    title="Herlev",
    layout="a folder per class with NAME.BMP and its mask NAME-d.bmp",
    unit="cell",
    labels={
        "normal_superficiel": MappedLabel("NILM", False, "superficial"),
        "normal_superficial": MappedLabel("NILM", False, "superficial"),
        "normal_intermediate": MappedLabel("NILM", False, "intermediate"),
        "normal_columnar": MappedLabel("NILM", False, "columnar"),
        "light_dysplastic": MappedLabel("LSIL", True, "light dysplasia"),
        "moderate_dysplastic": MappedLabel("HSIL", False, "moderate dysplasia"),
        "severe_dysplastic": MappedLabel("HSIL", False, "severe dysplasia"),
        "carcinoma_in_situ": MappedLabel("HSIL", False, "carcinoma in situ"),
    },
    read=read,
    license="research use; see the terms of the MDE-Lab, University of the Aegean",
    citation="Jantzen et al., Pap-smear benchmark data for pattern classification, NiSIS 2005",
    preparation="conventional",
    mpp=0.201,
    bethesda=False,
)
