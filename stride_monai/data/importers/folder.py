"""A folder per class, one cell per picture."""

from __future__ import annotations

import re
from pathlib import Path

from stride_monai.data.importers.labels import BETHESDA
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.data.importers.reading import ImageIndex, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.split_names import is_split
from stride_monai.errors import ManifestError

__all__ = ["FORMAT", "read"]

_MASK = re.compile(r"([-_](mask|seg|segmentation|gt|cyt)|-d)$", re.IGNORECASE)  # -d and -cyt as in Herlev


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``<class>/NAME.png``, ``<split>/<class>/NAME.png`` or ``<class>/<split>/NAME.png``; the label is the name of
    the innermost folder that is not named after a split."""
    if not source.is_dir():
        raise ManifestError(f"{source} is no folder", "name the folder that holds a folder per class")
    index = ImageIndex(source)
    stems = {(path.parent, path.stem.casefold()) for path in index.paths}
    result = Source()
    for path in index.paths:
        slide_id, place = index.id_of(path), Place(path.relative_to(source).as_posix())
        folders = [name for name in path.relative_to(source).parts[:-1] if not is_split(name)]
        if not folders:
            problems.add(place, "label", "the picture lies in no class's folder", slide_id)
            continue
        bare = _MASK.sub("", path.stem)
        if bare != path.stem and (path.parent, bare.casefold()) in stems:
            problems.add(
                place, "mask", f"it looks like a mask of {bare}, which lies beside it, not like a cell", slide_id
            )
            continue
        result.images.append(SourceImage(slide_id, path, place))
        result.cells.append(SourceCell(slide_id, folders[-1], place, cell_id="1"))
    result.notes += index.remarks(index.paths)
    other = [path for path in files_in(source, "*") if index.at(path) is None] if index.paths else []
    if other:
        named = place_of(other[0], source).file
        result.notes.append(f"{len(other)} files are no images that can be read, e.g. {named}, and are not imported")
    return result


FORMAT = Format(
    name="folder",
    title="a folder per class",
    layout="<class>/NAME.png, with folders of splits above or below, one cell per picture",
    unit="cell",
    labels=BETHESDA,
    read=read,
)
