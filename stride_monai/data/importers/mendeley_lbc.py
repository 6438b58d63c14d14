"""Mendeley LBC (zddtpgzv63): liquid-based fields in a folder per class; the class is that of the whole field."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from stride_monai.data.importers.folder import read_folders
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.records import Format, ImportOptions, Source
from stride_monai.errors import ManifestError

__all__ = ["FORMAT", "read"]

_GROUP = re.compile(r"([A-Za-z]+_\d+)(?!\d)")


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<class>/NAME.jpg``, at any depth. What a name begins with, letters and a number (``hsil_7`` of
    ``hsil_7_014.jpg``), is the specimen: fields of one prefix look alike, whether it is a slide or a patient."""
    if not source.is_dir():
        raise ManifestError(f"{source} is no folder", "name the folder that holds a folder per class")
    found = read_folders(source, problems, fields=True)
    groups = {image.slide_id: _GROUP.match(image.path.stem) for image in found.images}
    found.images = [
        replace(image, specimen=match.group(1).lower()) if (match := groups[image.slide_id]) else image
        for image in found.images
    ]
    without = sum(match is None for match in groups.values())
    if without:
        found.notes.append(f"{without} names begin with no letters and number: these fields are in no group")
    return found


FORMAT = Format(
    name="mendeley_lbc",
    title="Mendeley LBC",
    layout="<class>/NAME.jpg, the class of the whole field; NAME begins with its group, e.g. hsil_7",
    unit="field",
    labels={  # and those of the Bethesda System
        "NL": MappedLabel("NILM"),
        "Negative for Intraepithelial malignancy": MappedLabel("NILM"),
        "Low squamous intra-epithelial lesion": MappedLabel("LSIL"),
        "High squamous intra-epithelial lesion": MappedLabel("HSIL"),
        "Squamous cell carcinoma": MappedLabel("SCC"),
    },
    read=read,
    license="CC BY 4.0",
    citation="Hussain et al., Liquid based cytology pap smear images, Mendeley Data (2020), doi 10.17632/zddtpgzv63",
    preparation="liquid-based",
)
