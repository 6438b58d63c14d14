"""Annotated regions, one per row in ``regions.csv``: where every lesion was marked.

Outside the annotated regions of a slide nothing is known: a place without a mark is unlabelled there, not negative.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stride_monai.data.tables import read_table, refuse, table_text
from stride_monai.errors import ManifestError
from stride_monai.files import write_bytes
from stride_monai.units import Box

__all__ = ["COLUMNS", "REGIONS_NAME", "read_regions", "write_regions"]

REGIONS_NAME = "regions.csv"
COLUMNS: tuple[str, ...] = ("slide_id", "x0", "y0", "x1", "y1")


def read_regions(folder: Path | str) -> dict[str, list[Box]]:
    """Annotated regions by slide id, level-0 px, in the order of the file; none without a ``regions.csv``.

    Raises:
        ManifestError: a missing column, or naming every broken line.
    """
    path = Path(folder) / REGIONS_NAME
    if not path.exists():
        return {}
    present, rows = read_table(path, COLUMNS, {"slide": "slide_id"})
    missing = [name for name in COLUMNS if name not in present]
    if missing:
        raise ManifestError(
            f"{path.absolute()} has no column {', '.join(missing)}", f"columns are {', '.join(COLUMNS)}"
        )
    problems: list[str] = []
    regions: dict[str, list[Box]] = {}
    for row in rows:
        try:
            box = Box(*(row.number(name, "number") for name in COLUMNS[1:]))
            if not box.area > 0:
                raise ManifestError(f"region {tuple(box)} is empty or non-finite", "use x0 < x1 and y0 < y1")
            regions.setdefault(row.get("slide_id"), []).append(box)
        except ManifestError as error:
            problems.append(f"{row.place}: {error}")
    refuse(problems, path.name)
    return regions


def write_regions(folder: Path | str, regions: Iterable[tuple[str, Box]]) -> None:
    """Write ``regions.csv``: slide ids, each with a rectangle in level-0 px.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = ([slide_id, *(f"{side:.12g}" for side in box)] for slide_id, box in regions)
    write_bytes(Path(folder) / REGIONS_NAME, table_text(COLUMNS, rows))
