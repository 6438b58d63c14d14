"""A label that a viewer sends, whatever it is written in, as objects."""

from __future__ import annotations

import json
from pathlib import Path

from lib.exchange.asap import asap_features
from lib.exchange.cvat import cvat_features
from lib.exchange.dsa import dsa_features
from stride_monai.data.importers.texts import load_xml
from stride_monai.errors import ManifestError
from stride_monai.geojson import Feature, features_of_bytes

_SUFFIXES = (".geojson.gz", ".geojson", ".json", ".xml")


def label_suffix(path: Path) -> str:
    """Raises:
    ManifestError: a label is none of these files.
    """
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ManifestError("the label is of a kind that nobody reads", f"send one of {', '.join(_SUFFIXES)}")


def read_label(path: Path) -> list[Feature]:
    """The objects of a label: ASAP's XML, GeoJSON, a document of the Digital Slide Archive, or shapes of CVAT.

    Raises:
        ManifestError: it is none of these, or broken.
    """
    if label_suffix(path) == ".xml":
        _, root = load_xml(path)
        if root.tag != "asap_annotations":
            raise ManifestError("the XML is not ASAP's", "send ASAP's XML or GeoJSON")
        return asap_features(root)
    content = path.read_bytes()
    if label_suffix(path) == ".json":
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ManifestError("the label is no JSON", "export it again") from error
        if isinstance(parsed, dict):
            inner = parsed.get("annotation", parsed)
            if isinstance(inner, dict) and isinstance(inner.get("elements"), list):
                return dsa_features(inner["elements"])
            if isinstance(parsed.get("shapes"), list):
                return cvat_features(parsed["shapes"])
        elif isinstance(parsed, list) and parsed and isinstance(parsed[0], dict) and "points" in parsed[0]:
            return cvat_features(parsed)
    return features_of_bytes(content, "the label")
