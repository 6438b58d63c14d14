"""Pascal VOC: one XML file per image, boxes by their first and last pixel, counted from 1."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.geometry import TURNED, from_center, from_voc, hull, turned
from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, data_folder, files_in, place_of, plain_name
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.texts import load_xml, to_number, xml_of
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``Annotations/NAME.xml`` and the images they name."""
    origin = options.values.get("origin", "1")
    if origin not in {"0", "1"}:
        raise ConfigError(f"origin is '{origin}'", "give 1 where pixels are counted from 1 (Pascal VOC), else 0")
    index = ImageIndex(options.images or data_folder(source))
    result = Source()
    for table in files_in(source, "*.xml"):
        file = place_of(table, source)
        with problems.catching(file, "file", table.stem):
            text, root = load_xml(table, options.encoding)
            if root.tag != "annotation":
                what = xml_of(root.tag) or "Pascal VOC has 'annotation'"
                raise ManifestError(f"its root is '{root.tag}', so that it is no Pascal VOC", what)
            path = _image(root, table, index)
            slide_id = index.id_of(path)
            result.add_image(SourceImage(slide_id, path, file, size=_size(root)))
            for place, element in _objects(root, text, file):
                with problems.catching(place, "row", slide_id):
                    label = (element.findtext("name") or "").strip()
                    box, outline = _shape(element, int(origin), result.tally)
                    result.cells.append(SourceCell(slide_id, label, place, box=box, outline=outline))
    result.notes = index.remarks(image.path for image in result.images)
    zeros = sum(cell.box is not None and -1 in cell.box[:2] and not cell.outline for cell in result.cells)
    if zeros:
        result.notes.append(f"{zeros} boxes begin at pixel 0, where the first is number 1: should it be origin=0?")
    return result


def _image(root: ElementTree.Element, table: Path, index: ImageIndex) -> Path:
    """The image that the file names, else the one of the file's own name."""
    name = (root.findtext("filename") or table.stem).strip()
    folder = (root.findtext("folder") or "").strip()
    named = index.find(name, folder, table.parent)
    if named.is_file() and plain_name(named.stem) == plain_name(table.stem):
        return named  # masks of the same stem, as in SegmentationClass, are not asked for
    own = index.find(table.stem, folder, table.parent)
    if named.is_file() and own.is_file() and own != named:
        raise ManifestError(
            f"it names {named.name}, but {own.name} has the file's own name: of which of them is it?",
            "correct its <filename>, as a copied file keeps that of the first",
        )
    return named if named.is_file() else own


def _objects(root: ElementTree.Element, text: str, file: Place) -> Iterator[tuple[Place, ElementTree.Element]]:
    """Every object with its line or, where lines cannot be told, its number."""
    objects = list(root.iter("object"))
    lines = [text.count("\n", 0, match.start()) + 1 for match in re.finditer(r"<(?:\w+:)?object[\s>]", text, re.I)]
    for number, element in enumerate(objects):
        exact = len(lines) == len(objects)
        yield file._replace(where=f"line {lines[number]}" if exact else f"object {number + 1}"), element


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    sides = [to_number(root.findtext(f"size/{name}") or "0", name) for name in ("width", "height")]
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _shape(element: ElementTree.Element, origin: int, tally: Counter[str]) -> tuple[Box, Polygon]:
    """Box of an object, and its outline where it is a turned rectangle."""
    shapes = [child for child in element if child.tag in {"bndbox", "robndbox"}]
    if len(shapes) != 1:
        what = "no bndbox" if not shapes else f"{len(shapes)} boxes, not one"
        raise ManifestError(f"the object has {what}")
    (shape,) = shapes
    if any(child.tag in {"polygon", "segmentation", "mask"} for child in element):
        tally["objects have a polygon or mask besides their box, of which only the box is taken"] += 1
    degrees = _rotation(element)
    if shape.tag == "robndbox":  # roLabelImg: centre, size, and radians clockwise
        x, y, width, height, angle = (to_number(shape.findtext(n), n) for n in ("cx", "cy", "w", "h", "angle"))
        if abs(angle) > 2 * math.pi + 0.01:
            raise ManifestError(f"the robndbox is turned by angle {angle:g}, which is no number of radians")
        box, degrees = from_center(x, y, width, height), math.degrees(angle)
    else:
        corners = [to_number(shape.findtext(name), name) for name in _CORNERS]
        box = from_voc(corners[0], corners[1], corners[2], corners[3], origin=origin)
        if box.width <= 0 or box.height <= 0:
            raise ManifestError(f"xmin, ymin, xmax, ymax are {', '.join(f'{c:g}' for c in corners)}: the box is empty")
    if not degrees % 360:
        return box, ()
    tally[TURNED] += 1
    outline = turned(box, degrees)
    return hull(outline), outline


def _rotation(element: ElementTree.Element) -> float:
    """Degrees clockwise by which the box is turned about its middle (CVAT).

    Raises:
        ManifestError: it is turned by an angle whose unit and direction nobody knows.
    """
    for name in ("angle", "theta", "rotation"):
        for place in (name, f"bndbox/{name}"):
            text = (element.findtext(place) or "").strip()
            if text and to_number(text, name):
                raise ManifestError(
                    f"the box is turned by {name} {text}, of which nobody knows unit and direction",
                    "export the turned box as a polygon to COCO",
                )
    for attribute in element.iterfind("attributes/attribute"):
        text = (attribute.findtext("value") or "").strip()
        if (attribute.findtext("name") or "").strip().lower() == "rotation" and text:
            return to_number(text, "rotation")
    return 0.0


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
