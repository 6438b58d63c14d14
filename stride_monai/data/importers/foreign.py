"""Files of other tools, told by what they hold: their boxes must not be taken for those of a format that is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stride_monai.data.importers.texts import load_json, load_xml
from stride_monai.errors import ManifestError

__all__ = ["json_of", "tool_of", "xml_of"]

_XML = {
    "annotation": "Pascal VOC: import it as voc",
    "annotations": "CVAT's own XML (or Aperio's): export it as Pascal VOC or COCO",
    "asap_annotations": "ASAP's XML: open it in QuPath, and export GeoJSON",
}


def tool_of(paths: Iterable[Path]) -> str:
    """Which tool's annotations are among files, by the first JSON and XML file of them, and what to do; empty where
    none is known."""
    for suffix in (".json", ".xml"):
        path = next((path for path in paths if path.suffix.lower() == suffix), None)
        if path is None:
            continue
        try:
            said = json_of(load_json(path)) if suffix == ".json" else xml_of(load_xml(path)[1].tag)
        except ManifestError:
            continue
        if said:
            return f"{path.name} is {said}"
    return ""


def json_of(content: Any) -> str:
    """Which tool's JSON this is, and what to do; empty where it is not known."""
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and ("annotations" in first or "completions" in first) and "data" in first:
            return "Label Studio's own JSON: export it as COCO or YOLO"
        if isinstance(first, dict) and {"x", "y", "w", "h"} <= set(first):
            return "a list of Tianchi: import it as tianchi"
        return ""
    if not isinstance(content, dict):
        return ""
    if "shapes" in content and "imagePath" in content:
        return "LabelMe's JSON: convert it to COCO or Pascal VOC"
    if "_via_img_metadata" in content or any(isinstance(v, dict) and "regions" in v for v in content.values()):
        return "VIA's JSON: export it as COCO"
    if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
        return "a COCO file: import it as coco"
    if content.get("type") in {"Feature", "FeatureCollection"}:
        return "GeoJSON: name it .geojson, and import it as geojson"
    return ""


def xml_of(tag: str) -> str:
    """Which tool's XML has such a root, and what to do; empty where it is not known."""
    return _XML.get(tag, "")
