"""The cells that were found, on slides whose cells are marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stride_monai.bethesda import ABNORMAL, NEGATIVE
from stride_monai.data.cells import CellRecord
from stride_monai.errors import ConfigError
from stride_monai.evaluation.found_cells import evaluate_cells, read_found_cells
from stride_monai.evaluation.found_cells_page import cells_section, cells_tables
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.study.part import Part
from stride_monai.files import sha256_of

__all__ = ["cells_part"]

_MOST_NEGATIVE = 2000
"""NILM slides whose false boxes are counted; a rate per slide needs no more, and each has hundreds of cells to read."""


def cells_part(cohort: JudgedCohort, cells: Sequence[CellRecord], table: Path) -> Part:
    """Recall, precision of what is shown, classes and descriptions of the marked cells.

    Args:
        cells: the marked cells, of ``table``.

    Raises:
        ConfigError: the predictions are no results folder, which alone says where cells lie.
        ManifestError: no slide that was judged has marked cells.
    """
    if cohort.results is None:
        raise ConfigError("--cells needs the results folder of screen", "name the folder, not a table")
    label_of = dict(zip(cohort.slide_id.tolist(), cohort.label.tolist(), strict=True))
    negative = [slide_id for slide_id, label in label_of.items() if label == NEGATIVE]
    taken = {*negative[:: -(-len(negative) // _MOST_NEGATIVE)]} if negative else set()
    marked = {cell.slide_id for cell in cells}
    classes = {
        slide_id: label
        for slide_id, label in label_of.items()
        if label != ABNORMAL and (label != NEGATIVE or slide_id in taken or slide_id in marked)
    }
    found = evaluate_cells(read_found_cells(cohort.results, cells, classes))
    notes = list(found.notes)
    if len(taken) < len(negative):
        notes.append(f"false boxes are counted on {len(taken):,} of {len(negative):,} NILM slides, evenly taken")
    if outside := len(marked - {*classes}):
        notes.append(f"{outside:,} slides of {table.name} were not judged or have no grade; their cells do not count")
    found = found._replace(notes=notes)
    numbers = {"table": table.name, "sha256": sha256_of(table), **found.report()}
    return Part("cells", numbers, cells_section(found), cells_tables(found))
