"""Annotations as a cohort folder that the bundles train on as it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.annotations.errors import AnnotationError
from stride_monai.annotations.records import cell_records, is_reviewed, slide_class
from stride_monai.annotations.screened import slides_of
from stride_monai.annotations.state import SlideState
from stride_monai.annotations.store import AnnotationStore
from stride_monai.bethesda import NEGATIVE
from stride_monai.data.cells import CellRecord, write_cells, write_regions
from stride_monai.data.cohort_files import COHORT_FILES, CohortFiles
from stride_monai.data.manifest import SlideRecord, write_manifest
from stride_monai.files import write_bytes
from stride_monai.ownership import named, refuse_within
from stride_monai.slides.parts import own_folders

__all__ = ["export_cohort", "export_store"]

_SCHEMA_VERSION = "1.0"


def export_store(store: AnnotationStore, slides: Path, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """:func:`export_cohort` of all that a store holds.

    Args:
        slides: says where the slides are: results of screening, a cohort's folder, or a manifest.
    """
    return export_cohort(map(store.state, store.slide_ids()), slides_of(slides), out, overwrite)


def export_cohort(
    states: Iterable[SlideState], slides: Sequence[SlideRecord], out: Path, overwrite: bool = False
) -> dict[str, Any]:
    """Write ``manifest.csv``, ``cells.csv``, ``regions.csv`` (where regions were marked) and ``import.json``.

    Slides of which nobody has said anything are left out. A slide's class is that of its readers, else the one in
    ``slides``; a slide that is called NILM and has a lesion among its cells gets none, and is told.

    Args:
        states: of the store.
        slides: where the slides are and what is known of them: patient, centre, split.
        out: folder to write to; images are referenced, not copied.
        overwrite: replace a cohort that stands there.

    Returns:
        The content of ``import.json``: ``counts``, ``warnings``.

    Raises:
        AnnotationError: nothing was reviewed, or ``slides`` lacks a slide that was.
        OutputError: ``out`` holds a cohort and ``overwrite`` is False, or files that are not ours.
    """
    reviewed = [state for state in states if is_reviewed(state)]
    if not reviewed:
        raise AnnotationError("nothing has been reviewed yet", "review some cells first")
    by_id = {slide.slide_id: slide for slide in slides}
    unknown = [state.slide_id for state in reviewed if state.slide_id not in by_id]
    if unknown:
        raise AnnotationError(
            f"nobody says where the slides {named(unknown)} are", "give their results or a manifest by --slides"
        )
    refuse_within(
        out, {folder for slide in slides for folder in own_folders(slide.path)}, "choose another folder to write to"
    )
    warnings: list[str] = []
    cells = [cell for state in reviewed for cell in cell_records(state)]
    lesions = {cell.slide_id for cell in cells if cell.positive}
    records = [_slide(by_id[state.slide_id], state, lesions, warnings) for state in reviewed]
    regions = [(state.slide_id, box) for state in reviewed for box in state.regions.values()]
    facts = {
        "schema_version": _SCHEMA_VERSION,
        "package_version": __version__,
        "format": "annotations",
        "title": "reviewed cells",
        "license": "of the annotators and the owners of the slides",
        "counts": _counts(reviewed, records, cells, len(regions)),
        "warnings": warnings,
    }
    files = CohortFiles.free(out, overwrite)
    with files.replacing(COHORT_FILES) as made:
        write_cells(made / "cells.csv", cells)
        if regions:
            write_regions(made, regions)
        write_bytes(made / "import.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
        write_manifest(made / "manifest.csv", records, out)  # last: where it stands, the cohort is complete
    return facts


def _slide(known: SlideRecord, state: SlideState, lesions: Collection[str], warnings: list[str]) -> SlideRecord:
    called = slide_class(state)
    if called and known.slide_class and called != known.slide_class:
        warnings.append(f"slide '{state.slide_id}' was {known.slide_class} and is {called} by its readers")
    standing = None if state.satisfactory is False else called or known.slide_class
    if standing == NEGATIVE and state.slide_id in lesions:
        warnings.append(f"slide '{state.slide_id}' is called {NEGATIVE} but has a lesion: it gets no class")
        standing = None
    return replace(known, slide_class=standing)


def _counts(
    states: Sequence[SlideState], slides: Sequence[SlideRecord], cells: Sequence[CellRecord], regions: int
) -> dict[str, Any]:
    present = [cell for state in states for cell in state.present]
    return {
        "images": len(slides),
        "cells": len(cells),
        "cells_by_label": dict(Counter(cell.label for cell in cells)),
        "cells_by_state": dict(Counter(cell.state.value for cell in present)),
        "images_by_class": dict(Counter(slide.slide_class or "none" for slide in slides)),
        "regions": regions,
        "readers": len({who for state in states for who in state.seconds}),
    }
