"""Pascal VOC: one XML file per image, boxes by their first and last pixel, counted from 1."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from stride_monai.data._tables import read_text
from stride_monai.data.importers.geometry import from_voc
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of, split_in_path, to_number
from stride_monai.data.importers.records import Format, Options, Source, SourceCell, SourceImage
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(source: Path, options: Options, problems: ProblemLog) -> Source:
    """Read ``Annotations/NAME.xml``, the images they name, and the splits of ``ImageSets/Main/*.txt``."""
    origin = options.values.get("origin", "1")
    if origin not in {"0", "1"}:
        raise ConfigError(f"origin is '{origin}'", "give 1 where pixels are counted from 1 (Pascal VOC), else 0")
    folder = source if source.is_dir() else source.parent
    index = ImageIndex(options.images or (folder.parent if folder.name == "Annotations" else folder))
    splits = _splits(index.folder, options.encoding)
    result = Source()
    for table in files_in(source, "*.xml"):
        file = place_of(table, source)
        with problems.catching(file, "file", table.stem):
            text = read_text(table, options.encoding)
            root = _parsed(text, table)
            name = (root.findtext("filename") or table.stem).strip()
            path = index.find(name if index.find(name).is_file() else table.stem)
            slide_id = index.id_of(path)
            split = splits.get(path.stem) or split_in_path(path, index.folder)
            result.add_image(SourceImage(slide_id, path, file, split=split, size=_size(root)))
            objects = list(root.iter("object"))
            lines = [text.count("\n", 0, match.start()) + 1 for match in re.finditer(r"<object[\s>]", text)]
            exact = len(lines) == len(objects)
            for number, element in enumerate(objects):
                place = file._replace(where=f"line {lines[number]}" if exact else f"object {number + 1}")
                with problems.catching(place, "row", slide_id):
                    label = (element.findtext("name") or "").strip()
                    result.cells.append(SourceCell(slide_id, label, place, box=_box(element, int(origin))))
    result.notes = index.not_named(image.path for image in result.images)
    zeros = sum(cell.box is not None and min(cell.box.x0, cell.box.y0) == -1 for cell in result.cells)
    if zeros:
        result.notes.append(f"{zeros} boxes begin at pixel 0, where the first is number 1: should it be origin=0?")
    return result


def _parsed(text: str, table: Path) -> ElementTree.Element:
    try:
        # The declared encoding no longer holds: the text is decoded.
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise ManifestError(f"{table.name} line {error.position[0]} is no XML ({error})", "correct it") from error


def _splits(folder: Path, encoding: str) -> dict[str, str]:
    """Stem of an image -> split.

    Raises:
        ManifestError: an image is in the lists of two splits.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("ImageSets/Main/*.txt")):
        try:
            split = parse_split(path.stem)
        except ManifestError:
            continue  # a class's list, or trainval
        for number, line in enumerate(read_text(path, encoding).splitlines(), start=1):
            if line.strip() and found.setdefault(line.split()[0], split) != split:
                raise ManifestError(
                    f"{path.name} line {number}: '{line.split()[0]}' is in the list of another split too",
                    "leave it in one of them",
                )
    return found


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    sides = [to_number(root.findtext(f"size/{name}") or "0", name) for name in ("width", "height")]
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _box(element: ElementTree.Element, origin: int) -> Box:
    if element.find("bndbox") is None:
        raise ManifestError("the object has no bndbox")
    corners = [to_number(element.findtext(f"bndbox/{name}"), name) for name in _CORNERS]
    return from_voc(corners[0], corners[1], corners[2], corners[3], origin=origin)


FORMAT = Format(
    name="voc",
    title="Pascal VOC",
    layout="Annotations/NAME.xml and the images below",
    unit="field",
    labels=BETHESDA,
    read=read,
    complete=True,
    options={"origin": "1 (default) where the first pixel is number 1, 0 where boxes are edges counted from 0"},
)
