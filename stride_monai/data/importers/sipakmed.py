"""SIPaKMeD: fields with polygons of cytoplasm and nucleus in ``.dat`` files; also its cut-out cells."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from stride_monai.bethesda import ABNORMAL
from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import hull
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.texts import text_of, to_number
from stride_monai.errors import ConfigError, ManifestError

__all__ = ["FORMAT", "read"]

_CELL = re.compile(r"(?P<image>\d+)_(?P<part>cyt|nuc)(?P<cell>\d+)", re.IGNORECASE)
_CROPPED = re.compile(r"(?P<image>\d+)_(?P<cell>\d+)_(?P<part>cyt|nuc)", re.IGNORECASE)
_PARTS = ("fields", "cropped")


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``im_<Class>/.../NNN.bmp`` with ``NNN_cytMM.dat`` and ``NNN_nucMM.dat``, or, with ``part=cropped``, the
    cells of the folders ``CROPPED``: ``NNN_MM.bmp`` with ``NNN_MM_cyt.dat`` and ``NNN_MM_nuc.dat``.

    The specimen of a cut-out cell is the field that it is from.
    """
    part = options.values.get("part", _PARTS[0])
    if part not in _PARTS:
        raise ConfigError(f"part is '{part}'", f"use one of {', '.join(_PARTS)}")
    cropped = part == "cropped"
    polygons: dict[tuple[Path, str, str], dict[str, Path]] = defaultdict(dict)
    for path in files_in(source, "*.dat"):
        if _is_cropped(path) != cropped:
            continue
        match = (_CROPPED if cropped else _CELL).fullmatch(path.stem)
        if match is None:
            problems.add(place_of(path, source), "name", "the file's name says no image and cell")
            continue
        polygons[path.parent, match["image"], match["cell"]][match["part"].lower()] = path
    index = ImageIndex(source)
    pictures = {(path.parent, path.stem): path for path in reversed(index.paths)}  # of NNN.bmp and NNN.png the first
    result = Source(unit="cell" if cropped else "field")
    images: dict[str, SourceImage] = {}
    for (folder, number, cell), files in sorted(polygons.items()):
        label = _class_of(folder, source)
        name = f"{number}_{cell}" if cropped else number
        slide_id = f"{label}-{name}"
        place = place_of(files.get("cyt") or files["nuc"], source)
        picture = pictures.get((folder, name), folder / f"{name}.bmp")
        specimen = f"{label}-{number}" if cropped else None
        images.setdefault(slide_id, SourceImage(slide_id, picture, place, specimen=specimen))
        with problems.catching(place, "polygon", slide_id):
            if "cyt" not in files:
                raise ManifestError("the cell has a nucleus but no cytoplasm", "add its _cyt file")
            outline = _polygon(files["cyt"], options.encoding)
            nucleus = _polygon(files["nuc"], options.encoding) if "nuc" in files else ()
            if not nucleus:
                problems.note(place, "polygon", "the cell has no nucleus")
            box = hull([*outline, *nucleus])
            result.cells.append(
                SourceCell(slide_id, label, place, box=box, cell_id=cell, outline=outline, nucleus=nucleus)
            )
    result.images = list(images.values())
    other = [path for path in index.paths if _is_cropped(path) != cropped]
    result.notes = index.remarks([*other, *(image.path for image in result.images)])
    return result


def _is_cropped(path: Path) -> bool:
    return "cropped" in path.parent.name.lower()


def _class_of(folder: Path, source: Path) -> str:
    """The class that the nearest folder ``im_<Class>`` names."""
    for name in (folder.name, *(parent.name for parent in folder.parents), source.name):
        if name.lower().startswith("im_"):
            return name[3:]
    return folder.name


def _polygon(path: Path, encoding: str) -> Polygon:
    """One ``x,y`` per line."""
    corners = []
    for number, line in enumerate(text_of(path, encoding).splitlines(), start=1):
        if not line.strip():
            continue
        numbers = re.split(r"[,;\s]+", line.strip())
        try:
            if len(numbers) != 2:
                raise ManifestError(f"'{line.strip()}' is no 'x,y'")
            corners.append((to_number(numbers[0], "x"), to_number(numbers[1], "y")))
        except ManifestError as error:
            raise ManifestError(f"{path.name} line {number}: {error}") from None
    if len(corners) < 3:
        raise ManifestError(f"{path.name} has {len(corners)} corners", "a polygon has three or more")
    return tuple(corners)


FORMAT = Format(
    name="sipakmed",
    title="SIPaKMeD",
    layout="im_<Class>/.../NNN.bmp with NNN_cytMM.dat and NNN_nucMM.dat, or CROPPED/NNN_MM.bmp (--option part=cropped)",
    unit="field",
    labels={
        **{name: MappedLabel("NILM", False, name) for name in ("Superficial-Intermediate", "Parabasal", "Metaplastic")},
        "Koilocytotic": MappedLabel("LSIL", False, "koilocytotic"),
        "Dyskeratotic": MappedLabel(ABNORMAL, True, "dyskeratotic"),
    },
    read=read,
    license="research use; see the terms of the University of Ioannina",
    citation="Plissiti et al., SIPaKMeD, ICIP 2018",
    preparation="conventional",
    options={"part": "fields (default) or cropped"},
    bethesda=False,
)
