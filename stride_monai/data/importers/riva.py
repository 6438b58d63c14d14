"""RIVA: boxes about nuclei in fields of conventional smears; x and y are the CENTRES of the boxes."""

from __future__ import annotations

from pathlib import Path

from stride_monai.data.importers.geometry import from_center
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.problems import ProblemLog
from stride_monai.data.importers.reading import ImageIndex, data_folder, files_in, place_of
from stride_monai.data.importers.records import Format, ImportOptions, Source, SourceCell, SourceImage
from stride_monai.data.importers.split_names import is_split, split_named, stated_split
from stride_monai.data.importers.texts import csv_rows, to_number
from stride_monai.data.tables import NOT_KNOWN, Row
from stride_monai.errors import ManifestError

__all__ = ["FORMAT", "read"]

_SIDES = ("x", "y", "width", "height")
_COLUMNS = {
    "image": ("image_filename",),
    **{name: (name,) for name in _SIDES},
    "label": ("class_name",),  # the numbers in the column 'class' differ between editions
    "split": ("split",),
}


def read(source: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """Read ``train.csv``, ``val.csv`` and ``test.csv`` (or one CSV file) and the images of ``images/<split>``.

    Other CSV files of the folder (samples, submissions) are passed over where one has the name of a split.
    """
    tables = files_in(source, "*.csv")
    exact = [table for table in tables if is_split(table.stem)]
    others = tables
    tables = exact or [table for table in tables if split_named(table.stem)] or tables
    index = ImageIndex(options.images or data_folder(source))
    images: dict[str, SourceImage] = {}
    result = Source()
    for table in tables:
        split, file = split_named(table.stem), place_of(table, source)
        rows: list[Row] = []
        with problems.catching(file, "file", table.stem):
            rows = csv_rows(table, _COLUMNS, options.encoding, problems, optional=("split",))
        for row in rows:
            place = file._replace(where=row.place)
            if row.get("image").lower() in {"", *NOT_KNOWN}:
                problems.add(place, "image", "the row names no image")
                continue
            with problems.catching(place, "row", Path(row.get("image")).stem):
                path = index.find(row.get("image"), under=table.stem)
                slide_id = index.id_of(path)
                own = stated_split(row.get("split"), split)
                first = images.setdefault(slide_id, SourceImage(slide_id, path, place, split=own))
                if first.split != own:
                    raise ManifestError(f"image '{slide_id}' is in another split too, {first.place}", "leave it in one")
                box = from_center(*(to_number(row.get(name), name, row.decimal_comma) for name in _SIDES))
                result.cells.append(SourceCell(slide_id, row.get("label"), place, box=box, fixed=True))
    result.images = list(images.values())
    result.notes = index.remarks(image.path for image in result.images)
    passed = sorted(set(others) - set(tables))
    if passed:
        named = place_of(passed[0], source).file
        result.notes.append(f"{len(passed)} tables are named after no split and are passed over, e.g. {named}")
    return result


FORMAT = Format(
    name="riva",
    title="RIVA",
    layout="train.csv, val.csv, test.csv (image_filename, x, y, width, height, class_name) and the images below",
    unit="field",
    labels={  # and those of the Bethesda System
        "ENDO": MappedLabel("NILM", False, "endocervical"),
        "INFL": MappedLabel("NILM", False, "inflammatory"),
    },
    read=read,
    license="CC BY 4.0",
    citation="RIVA cervical cytology dataset (LIA-DiTella)",
    preparation="conventional",
    complete=True,
)
