"""Several cohort folders as one, so that a training learns from all of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.data.cells import CellRecord, cells_of, read_regions, write_cells, write_regions
from stride_monai.data.cohort_files import COHORT_FILES, CohortFiles
from stride_monai.data.manifest import SlideRecord, own_columns, read_manifest, write_manifest
from stride_monai.data.splits import refuse_straddling
from stride_monai.errors import ManifestError
from stride_monai.files import write_bytes
from stride_monai.names import name_key, readable
from stride_monai.ownership import read_json, refuse_within
from stride_monai.slides.parts import own_folders
from stride_monai.units import Box

__all__ = ["join_cohorts"]

_SCHEMA_VERSION = "1.0"
_NOT_STATED = "not stated by this cohort: follow the licence of your data"
_KEPT = ("title", "source", "unit", "preparation", "license", "citation", "counts")


@dataclass(frozen=True, slots=True)
class _Cohort:
    """One of the cohorts; ``others`` are the columns of its manifest that mean nothing here."""

    name: str
    slides: list[SlideRecord]
    cells: list[CellRecord]
    regions: dict[str, list[Box]]
    others: Mapping[str, Sequence[str]]
    sources: Mapping[str, Any]


def join_cohorts(folders: Iterable[Path | str], out: Path | str, overwrite: bool = False) -> dict[str, Any]:
    """Write a cohort folder that holds the slides, cells and regions of several. Images stay where they are.

    Centres and splits are kept. Each slide's ``source`` becomes the name of the folder that it came from (or what a
    folder that was joined before says), by which a training can give each source its share. A slide id that two cohorts
    have gets the folder's name in front in both. So does a patient or specimen, since patient 7 here and patient 7
    there are two women, unless all of them are of one centre.

    Args:
        folders: two or more cohort folders, of different names.
        out: folder to write ``manifest.csv``, ``cells.csv``, ``regions.csv`` and ``import.json`` to.
        overwrite: replace a cohort that stands in ``out``.

    Returns:
        The content of ``import.json``: ``sources`` with their licences, ``counts``, ``warnings``.

    Raises:
        ManifestError: fewer than two cohorts, two of one name, broken tables, or an image that is in two of them.
        OutputError: as of :func:`stride_monai.data.import_dataset`.
    """
    places, out = [Path(folder) for folder in folders], Path(out)
    _refuse_alike(places, out)
    files = CohortFiles.free(out, overwrite)
    cohorts = [_read(folder) for folder in places]
    refuse_within(out, {folder for c in cohorts for s in c.slides for folder in own_folders(s.path)}, "choose another")
    _refuse_shared_images(cohorts)
    warnings: list[str] = []
    cohorts = _told_apart(cohorts, warnings)
    slides = [slide for cohort in cohorts for slide in cohort.slides]
    cells = [cell for cohort in cohorts for cell in cohort.cells]
    warnings += _about_splits(cohorts, slides)
    facts = {
        "schema_version": _SCHEMA_VERSION,
        "package_version": __version__,
        "format": "join",
        "title": "joined cohorts",
        "sources": {name: facts for cohort in cohorts for name, facts in cohort.sources.items()},
        "counts": _counts(slides, cells),
        "warnings": warnings,
    }
    with files.replacing(COHORT_FILES) as made:
        write_cells(made / "cells.csv", cells)
        regions = [(key, box) for cohort in cohorts for key, boxes in cohort.regions.items() for box in boxes]
        if regions:
            write_regions(made, regions)
        write_bytes(made / "import.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
        write_manifest(made / "manifest.csv", slides, out, _columns(cohorts))
    return facts


def _refuse_alike(places: Sequence[Path], out: Path) -> None:
    if len(places) < 2:
        raise ManifestError("there is nothing to join", "name two or more cohort folders")
    names = Counter(name_key(place.resolve().name) for place in places)
    twice = next((place for place in places if names[name_key(place.resolve().name)] > 1), None)
    if twice is not None:
        what = f"two cohorts are named '{twice.resolve().name}'"
        raise ManifestError(what, "rename a folder: the names tell the sources apart")
    if out.resolve() in {place.resolve() for place in places}:
        raise ManifestError(f"{out} is one of the cohorts", "choose another --out")


def _read(folder: Path) -> _Cohort:
    name = readable(folder.resolve().name)
    slides = [replace(s, source=s.source or name) for s in read_manifest(folder / "manifest.csv")]
    cells = cells_of(folder, {slide.slide_id for slide in slides})
    return _Cohort(
        name, slides, cells, read_regions(folder), own_columns(folder / "manifest.csv"), _facts(folder, name)
    )


def _facts(folder: Path, name: str) -> dict[str, Any]:
    """What is known of the sources of a cohort, by name."""
    known = read_json(folder / "import.json")
    if isinstance(known, dict) and isinstance(known.get("sources"), dict):
        return dict(known["sources"])
    if isinstance(known, dict):
        return {name: {key: known[key] for key in _KEPT if key in known}}
    if isinstance(read_json(folder / "cohort.json"), dict):
        return {name: {"title": "synthetic slides", "license": "made with stride-monai, free to use"}}
    return {name: {"title": name, "license": _NOT_STATED}}


def _refuse_shared_images(cohorts: Sequence[_Cohort]) -> None:
    first: dict[str, str] = {}
    for cohort in cohorts:
        for slide in cohort.slides:
            holder = first.setdefault(os.path.realpath(slide.path), cohort.name)
            if holder != cohort.name:
                what = f"{slide.path} is an image of '{holder}' and of '{cohort.name}'"
                raise ManifestError(what, "leave one of the two cohorts out: each image would count twice")


def _told_apart(cohorts: Sequence[_Cohort], warnings: list[str]) -> list[_Cohort]:
    """The cohorts with a slide id for each slide, and with patients and specimens that are not taken for one."""
    ids = _in_several({cohort.name: {name_key(slide.slide_id) for slide in cohort.slides} for cohort in cohorts})
    if ids:
        warnings.append(
            f"{len(ids)} slide ids occur in more than one cohort and have the cohort's name in front;"
            " bags of these slides have to be made anew"
        )
    shared = {kind: _other_women(cohorts, kind) for kind in ("patient", "specimen")}
    return [_renamed(cohort, ids, shared) for cohort in cohorts]


def _in_several(names: Mapping[str, set[str]]) -> set[str]:
    counts = Counter(name for of in names.values() for name in of)
    return {name for name, count in counts.items() if count > 1}


def _other_women(cohorts: Sequence[_Cohort], kind: str) -> set[str]:
    """Names of patients (or specimens) that several cohorts have, and that not one centre alone gave."""
    names = {c.name: {name for slide in c.slides if (name := getattr(slide, kind))} for c in cohorts}
    centres: dict[str, set[str | None]] = {name: set() for name in _in_several(names)}
    for slide in (slide for cohort in cohorts for slide in cohort.slides):
        if (name := getattr(slide, kind)) in centres:
            centres[name].add(slide.centre)
    return {name for name, of in centres.items() if len(of) > 1 or of == {None}}


def _renamed(cohort: _Cohort, ids: set[str], shared: Mapping[str, set[str]]) -> _Cohort:
    def apart(name: str, of: set[str]) -> str:
        return f"{cohort.name}-{name}" if name in of else name

    new = {
        s.slide_id: f"{cohort.name}-{s.slide_id}" if name_key(s.slide_id) in ids else s.slide_id for s in cohort.slides
    }
    slides = [
        replace(
            slide,
            slide_id=new[slide.slide_id],
            patient=slide.patient and apart(slide.patient, shared["patient"]),
            specimen=slide.specimen and apart(slide.specimen, shared["specimen"]),
        )
        for slide in cohort.slides
    ]
    cells = [replace(cell, slide_id=new[cell.slide_id]) for cell in cohort.cells]
    regions = {new[key]: boxes for key, boxes in cohort.regions.items() if key in new}
    return replace(cohort, slides=slides, cells=cells, regions=regions)


def _about_splits(cohorts: Sequence[_Cohort], slides: Sequence[SlideRecord]) -> list[str]:
    """What the user must know of the splits."""
    notes = []
    without = [cohort.name for cohort in cohorts if not all(slide.split for slide in cohort.slides)]
    if without:
        notes.append(f"images of {', '.join(without)} are in no split and train nothing: split each cohort, then join")
    try:
        refuse_straddling(slides, "manifest.csv")
    except ManifestError as error:
        notes.append(f"{error.what}; split the joined cohort anew (stride-monai data split --overwrite)")
    return notes


def _counts(slides: Sequence[SlideRecord], cells: Sequence[CellRecord]) -> dict[str, Any]:
    source_of = {slide.slide_id: slide.source or "" for slide in slides}
    return {
        "images": len(slides),
        "cells": len(cells),
        "images_by_source": dict(Counter(source_of.values())),
        "cells_by_source": dict(Counter(source_of[cell.slide_id] for cell in cells)),
        "images_by_split": dict(sorted(Counter(slide.split or "none" for slide in slides).items())),
    }


def _columns(cohorts: Sequence[_Cohort]) -> dict[str, list[str]]:
    """The columns of the users' own, empty for the slides of cohorts that lack them."""
    names = list(dict.fromkeys(name for cohort in cohorts for name in cohort.others))
    return {name: [x for c in cohorts for x in c.others.get(name, [""] * len(c.slides))] for name in names}
