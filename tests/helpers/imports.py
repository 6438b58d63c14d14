"""An import as the tests of importers run it, and the smallest data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dataset_samples as samples

from stride_monai.data.importers import ImportOptions, ImportReport, import_dataset, load_format

HEADER = "image_filename,cell_id,bethesda_system,nucleus_x,nucleus_y\n"


def one_field(folder: Path, rows: str, encoding: str = "utf-8") -> Path:
    """A data set of CRIC with the field ``aa.png`` and these rows."""
    samples.field(folder / "aa.png", [(50, 60)])
    samples.text(folder / "classifications.csv", HEADER + rows, encoding)
    return folder


def run_import(
    name: str, source: Path, out: Path, skip: bool = False, own_map: Any = None, **options: Any
) -> ImportReport:
    overwrite = options.pop("overwrite", False)
    options = {"mpp": 0.25, **options}
    return import_dataset(source, out, load_format(name), ImportOptions(**options), own_map, skip, overwrite)
