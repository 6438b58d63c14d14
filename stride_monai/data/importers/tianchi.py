"""Tianchi 2019 (cervical cancer risk): slides with regions of interest and the lesions in them."""

from __future__ import annotations

from pathlib import Path

from stride_monai.bethesda import ABNORMAL
from stride_monai.data.importers.geometry import from_corner
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of, plain_name
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage, SourceRegion
from stride_monai.data.importers.texts import json_of, load_json, to_number
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.units import Box

__all__ = ["FORMAT", "read"]

_ROI = "roi"
_NEGATIVE = "negative slide"


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<slide>.json``, a list of ``{"x", "y", "w", "h", "class"}`` in px at 20x, and the slide of the same stem.

    Entries of class ``roi`` are annotated regions: outside them a slide is unlabelled. A slide without annotations is
    negative as a whole where its folder's name begins with ``neg``. A slide or image of the same stem that was
    converted from a KFB file is preferred to it.
    """
    scale = to_number(options.values.get("scale", "1"), "scale")
    if scale <= 0:
        raise ConfigError(f"scale is {scale:g}", "give level-0 px of the converted slides per px of the annotations")
    root = options.images or (source if source.is_dir() else source.parent)
    index = ImageIndex(root)
    result = Source()
    seen: set[str] = set()
    for table in files_in(source, "*.json"):
        place = place_of(table, source)
        with problems.catching(place, "image", table.stem):
            seen.add(table.stem)
            path = _slide(table.stem, index)
            result.add_image(SourceImage(table.stem, path, place))
            _entries(table, place, scale, options, result, problems)
    negative = [path for path in index.paths if path.parent.name.lower().startswith("neg")]
    for stem in sorted({path.stem for path in negative} - seen):
        place = Place(next(path for path in negative if path.stem == stem).relative_to(root).as_posix())
        with problems.catching(place, "image", stem):
            result.images.append(SourceImage(stem, _slide(stem, index), place, label=_NEGATIVE))
    result.notes = index.remarks(image.path for image in result.images)
    return result


def _slide(stem: str, index: ImageIndex) -> Path:
    same = [path for path in index.paths if plain_name(path.stem) == plain_name(stem)]
    chosen = [path for path in same if path.suffix.lower() != ".kfb"] or same
    if len(chosen) > 1:
        raise ManifestError(f"{len(chosen)} images are named '{stem}'", "keep one")
    if chosen:
        return chosen[0]
    raise ManifestError(f"there is no slide '{stem}'", "add it, or give its folder with --images")


def _entries(
    table: Path, file: Place, scale: float, options: ImportOptions, result: Source, problems: ProblemLog
) -> None:
    content = load_json(table, options.encoding)
    if not isinstance(content, list):
        raise ManifestError(f"{table.name} is no list", json_of(content) or "use the JSON file as it is published")
    boxes: list[tuple[Place, str, Box]] = []
    for number, entry in enumerate(content, start=1):
        place = file._replace(where=f"entry {number}")
        with problems.catching(place, "row", table.stem):
            if not isinstance(entry, dict):
                raise ManifestError("the entry is no object")
            box = from_corner(*(to_number(entry.get(name), name) * scale for name in ("x", "y", "w", "h")))
            boxes.append((place, str(entry.get("class") or ""), box))
    regions = [(place, box) for place, label, box in boxes if label.lower() == _ROI]
    result.regions += [SourceRegion(table.stem, box, place) for place, box in regions]
    for place, label, box in boxes:
        if label.lower() == _ROI:
            continue
        result.cells.append(SourceCell(table.stem, label, place, box=box))
        x, y = box.center
        if not any(roi.x0 <= x < roi.x1 and roi.y0 <= y < roi.y1 for _, roi in regions):
            problems.note(place, "region", f"the {label} lies in no roi: no detector is trained on it")


FORMAT = Format(
    name="tianchi",
    title="Tianchi 2019 cervical cancer risk",
    layout="<slide>.json (x, y, w, h, class; roi and lesions) and the slide of the same stem, as KFB or converted",
    unit="slide",
    labels={  # and those of the Bethesda System
        "pos": MappedLabel(ABNORMAL, True),
        "Candida": MappedLabel("NILM", False, "Candida"),
        "Trichomonas": MappedLabel("NILM", False, "Trichomonas"),
        _NEGATIVE: MappedLabel("NILM"),
    },
    read=read,
    license="terms of the Tianchi competition; not to be passed on",
    citation="Tianchi 2019, cervical cancer risk intelligent diagnosis",
    preparation="liquid-based",
    options={"scale": "level-0 px of the converted slides per px of the annotations (20x); 1"},
)
