"""A folder per class: one cell per picture, or fields whose class is that of the whole picture."""

from __future__ import annotations

import re
from pathlib import Path

from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.split_names import is_split
from stride_monai.errors import ConfigError, ManifestError

__all__ = ["FORMAT", "read", "read_folders"]

_MASK = re.compile(r"([-_](mask|seg|segmentation|gt|cyt)|-d)$", re.IGNORECASE)  # -d and -cyt as in Herlev
_PICTURES = ("cells", "fields")


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<class>/NAME.png``, ``<split>/<class>/NAME.png`` or ``<class>/<split>/NAME.png``; the label is the name of
    the innermost folder that is not named after a split."""
    pictures = options.values.get("pictures", _PICTURES[0])
    if pictures not in _PICTURES:
        raise ConfigError(f"pictures is '{pictures}'", f"use one of {', '.join(_PICTURES)}")
    return read_folders(source, problems, fields=pictures == "fields")


def read_folders(source: Path, problems: ProblemLog, fields: bool) -> Source:
    """Read a folder per class.

    Args:
        fields: a picture is a field, and its label is that of the whole; else it is one cell.
    """
    if not source.is_dir():
        raise ManifestError(f"{source} is no folder", "name the folder that holds a folder per class")
    index = ImageIndex(source)
    stems = {(path.parent, path.stem.casefold()) for path in index.paths}
    result = Source(unit="field" if fields else "cell")
    for path in index.paths:
        slide_id, place = index.id_of(path), Place(path.relative_to(source).as_posix())
        folders = [name for name in path.relative_to(source).parts[:-1] if not is_split(name)]
        if not folders:
            if fields:  # an example or a mask of the camera, not a field that lost its class
                problems.note(place, "label", "the picture lies in no class's folder and is not imported")
            else:
                problems.add(place, "label", "the picture lies in no class's folder", slide_id)
            continue
        bare = _MASK.sub("", path.stem)
        if bare != path.stem and (path.parent, bare.casefold()) in stems:
            problems.add(
                place, "mask", f"it looks like a mask of {bare}, which lies beside it, not like a picture", slide_id
            )
            continue
        result.images.append(SourceImage(slide_id, path, place, label=folders[-1] if fields else ""))
        if not fields:
            result.cells.append(SourceCell(slide_id, folders[-1], place, cell_id="1"))
    result.notes += index.remarks(index.paths)
    other = [path for path in files_in(source, "*") if index.at(path) is None] if index.paths else []
    if other:
        named = place_of(other[0], source).file
        result.notes.append(f"left out, as they cannot be read as images: {len(other)}, e.g. {named}")
    return result


FORMAT = Format(
    name="folder",
    title="a folder per class",
    layout="<class>/NAME.png, with folders of splits above or below, one cell per picture",
    unit="cell",
    labels=BETHESDA,
    read=read,
    options={"pictures": "cells (default), or fields: the class is that of the whole picture"},
)
