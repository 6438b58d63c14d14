"""RIVA: boxes about nuclei in fields of conventional smears; x and y are the CENTRES of the boxes."""

from __future__ import annotations

from pathlib import Path

from stride_monai.data.importers.geometry import from_centre
from stride_monai.data.importers.labels import Target
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import ImageIndex, csv_rows, files_in, place_of, to_number
from stride_monai.data.importers.records import Format, Options, Source, SourceCell, SourceImage
from stride_monai.data.manifest import parse_split
from stride_monai.errors import ManifestError

__all__ = ["FORMAT", "read"]

_COLUMNS = {
    "image": ("image_filename",),
    **{name: (name,) for name in ("x", "y", "width", "height")},
    "label": ("class_name",),  # the numbers in the column 'class' differ between editions
}


def read(source: Path, options: Options, problems: ProblemLog) -> Source:
    """Read ``train.csv``, ``val.csv`` and ``test.csv`` (or one CSV file) and the images of ``images/<split>``.

    Other CSV files of the folder (samples, submissions) are passed over where one has the name of a split.
    """
    tables = files_in(source, "*.csv")
    named = [table for table in tables if _split(table)]
    tables = named or tables
    folder = source if source.is_dir() else source.parent
    index = ImageIndex(options.images or (folder.parent if folder.name == "annotations" else folder))
    images: dict[str, SourceImage] = {}
    result = Source()
    for table in tables:
        split, file = _split(table), place_of(table, source)
        for row in csv_rows(table, _COLUMNS, options.encoding, problems):
            place = file._replace(where=row.place)
            with problems.catching(place, "row", Path(row.get("image")).stem):
                path = index.find(row.get("image"), under=table.stem)
                slide_id = index.id_of(path)
                first = images.setdefault(slide_id, SourceImage(slide_id, path, place, split=split))
                if first.split != split:
                    raise ManifestError(f"image '{slide_id}' is in another split too, {first.place}", "leave it in one")
                x, y, width, height = (to_number(row.get(n), n) for n in ("x", "y", "width", "height"))
                box = from_centre(x, y, width, height)
                result.cells.append(SourceCell(slide_id, row.get("label"), place, box=box, fixed=True))
    result.images = list(images.values())
    result.notes = index.not_named(image.path for image in result.images)
    return result


def _split(table: Path) -> str | None:
    try:
        return parse_split(table.stem)
    except ManifestError:
        return None


FORMAT = Format(
    name="riva",
    title="RIVA",
    layout="train.csv, val.csv, test.csv (image_filename, x, y, width, height, class_name) and the images below",
    unit="field",
    labels={
        "NILM": Target("NILM"),
        "ENDO": Target("NILM", False, "endocervical"),
        "INFL": Target("NILM", False, "inflammatory"),
        "ASCUS": Target("ASC-US"),
        "LSIL": Target("LSIL"),
        "ASCH": Target("ASC-H"),
        "HSIL": Target("HSIL"),
        "SCC": Target("SCC"),
    },
    read=read,
    licence="CC BY 4.0",
    citation="RIVA cervical cytology dataset (LIA-DiTella)",
    preparation="conventional",
    complete=True,
)
