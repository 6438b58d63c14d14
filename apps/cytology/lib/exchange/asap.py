"""ASAP's XML, which QuPath's MONAI Label extension exchanges. Written by a library, so names are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from stride_monai.errors import ManifestError
from stride_monai.geojson import Classification, Feature, Geometry

_NO_GROUP = frozenset({"", "none"})


def asap_xml(features: Sequence[Feature], about: Mapping[str, Any]) -> str:
    """Objects as ASAP's annotations, their class as the group.

    Args:
        about: ``name``, ``description``, ``model``, ``location`` and ``size`` of the whole.
    """
    root = ElementTree.Element("ASAP_Annotations")
    (x, y), (width, height) = about["location"], about["size"]
    place = {"X": str(x), "Y": str(y), "W": str(width), "H": str(height)}
    named = {"Name": about["name"], "Description": about["description"], "Model": about["model"]}
    annotations = ElementTree.SubElement(root, "Annotations", {**named, **place})
    colors: dict[str, str] = {}
    for feature in features:
        color = "#%02x%02x%02x" % (feature.classification.color or (0, 0, 0)) if feature.classification else "#000000"
        colors[feature.class_name] = color
        made = ElementTree.SubElement(
            annotations,
            "Annotation",
            {"Name": feature.class_name, "Type": "Polygon", "PartOfGroup": feature.class_name, "Color": color},
        )
        corners = ElementTree.SubElement(made, "Coordinates")
        for order, (left, top) in enumerate(feature.geometry.corners()):
            ElementTree.SubElement(corners, "Coordinate", {"Order": str(order), "X": f"{left:.2f}", "Y": f"{top:.2f}"})
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for name, color in colors.items():
        group = ElementTree.SubElement(groups, "Group", {"Name": name, "PartOfGroup": "None", "Color": color})
        ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def asap_features(root: ElementTree.Element) -> list[Feature]:
    """The objects of a parsed file whose names of elements are in lower case.

    Raises:
        ManifestError: a coordinate is no number; names the annotation.
    """
    found = []
    for number, one in enumerate(root.iter("annotation"), start=1):
        group, name = one.get("PartOfGroup", ""), one.get("Name", "")
        label = name if group.lower() in _NO_GROUP else group
        try:
            corners = sorted(
                (int(corner.get("Order", at)), float(corner.get("X", "")), float(corner.get("Y", "")))
                for at, corner in enumerate(one.iter("coordinate"))
            )
        except ValueError as error:
            raise ManifestError(f"annotation {number}: a coordinate is no number", "export it again") from error
        points = tuple((x, y) for _, x, y in corners)
        geometry = Geometry.polygon(points) if len(points) > 2 else Geometry("MultiPoint", points)
        found.append(Feature(geometry, classification=Classification.of(label) if label else None))
    return found
