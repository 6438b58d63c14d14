"""Files of other tools, told by what they hold: their boxes must not be taken for those of a format that is read."""

from __future__ import annotations

from typing import Any

__all__ = ["json_of", "xml_of"]

_XML = {
    "annotations": "CVAT's own XML (or Aperio's): export it as Pascal VOC or COCO",
    "asap_annotations": "ASAP's XML: open it in QuPath, and export GeoJSON",
}


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
    if content.get("type") in {"Feature", "FeatureCollection"}:
        return "GeoJSON: import it as geojson"
    return ""


def xml_of(tag: str) -> str:
    """Which tool's XML has such a root, and what to do; empty where it is not known."""
    return _XML.get(tag, "")
