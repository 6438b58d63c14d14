"""From a data set to a cohort folder: read, check, map the labels, write."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai import __version__
from stride_monai.bethesda import ABNORMAL, CELL_CLASSES, NEGATIVE, UNLABELED, cell_class_of, slide_class_of
from stride_monai.data.cells import WITHOUT_CLASS, CellRecord, write_cells, write_regions
from stride_monai.data.cohort_files import COHORT_FILES, CohortFiles
from stride_monai.data.importers.checks import KnownImage, boxed_cells, known_images, whole_regions
from stride_monai.data.importers.labels import EXCLUDED, LabelMap, MappedLabel
from stride_monai.data.importers.pictures import LABELS_ON, labels_upright
from stride_monai.data.importers.problems import PROBLEMS_NAME, ProblemLog
from stride_monai.data.importers.reading import data_folder
from stride_monai.data.importers.records import (
    Format,
    ImportOptions,
    Source,
    SourceCell,
    SourceImage,
    SourceRegion,
    Unit,
)
from stride_monai.data.importers.split_lists import with_splits
from stride_monai.data.manifest import SlideRecord, write_manifest
from stride_monai.data.splits import leak_warning
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.files import write_bytes
from stride_monai.ownership import LIST_NAME, refuse_within
from stride_monai.slides.parts import own_folders
from stride_monai.units import Box

__all__ = ["IMPORT_NAME", "LABELS_NAME", "ImportReport", "import_dataset"]

IMPORT_NAME = "import.json"
LABELS_NAME = "labels.json"
_SCHEMA_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        folder: the cohort folder.
        labels: label of the data set -> ``label``, ``lossy``, ``subtype``, ``count``.
        counts: images, cells, cells by class ...
        warnings: sentences that the user must read.
        problems: number of problems by kind.
        licence: notice that the user must see.
    """

    folder: Path
    labels: Mapping[str, Mapping[str, Any]]
    counts: Mapping[str, Any]
    warnings: Sequence[str]
    problems: Mapping[str, int]
    license: str


def import_dataset(
    source: Path | str,
    out: Path | str,
    form: Format,
    options: ImportOptions | None = None,
    own_map: Mapping[str, MappedLabel] | None = None,
    skip_broken: bool = False,
    overwrite: bool = False,
) -> ImportReport:
    """Import a data set: write a cohort folder that the bundles train on. Images are referenced, not copied.

    Writes ``manifest.csv``, ``cells.csv``, ``regions.csv`` where regions were annotated, ``labels.json`` (the map that
    was used), ``import.json`` (source, counts, licence, warnings) and, if there is something to note, ``problems.csv``.

    Args:
        source: folder or file of the data set.
        out: folder to write to.
        form: of the data set (:func:`~stride_monai.data.importers.records.load_format`).
        options: what the user says of it.
        own_map: labels that are mapped otherwise than by the format.
        skip_broken: go on without broken rows and images; by default one is enough to refuse.
        overwrite: replace a cohort that stands in ``out``.

    Raises:
        ManifestError: a label without a target, naming all of them; broken rows, of which the first ten are named and
            all are in ``problems.csv``; nothing to import.
        ConfigError: an option that the format does not know, or um/px that nobody states.
        OutputError: ``out`` holds a cohort and ``overwrite`` is False; holds files of such names that no import wrote,
            or that somebody has changed since, whatever ``overwrite`` says; or cannot be written.
    """
    source, out, options = Path(source), Path(out), options or ImportOptions()
    _check_options(form, options)
    files, problems = CohortFiles.free(out, overwrite), ProblemLog()
    read = _read(form, source, out, options, problems)
    labels = LabelMap(form.labels, own_map, form.bethesda)
    met = [cell.label for cell in read.cells if cell.label] + [image.label for image in read.images if image.label]
    labels.refuse_missing(met, _name_of(source))
    cohort = _checked(form, read, options, labels, problems)
    _refuse_broken(cohort, source, files, problems, skip_broken)
    report = ImportReport(
        folder=out,
        labels=labels.table(met),
        counts=_counts(cohort),
        warnings=[*read.notes, *_warnings(form, options, cohort, labels.unused(met))],
        problems=problems.counts(),
        license=form.license,
    )
    with files.replacing(COHORT_FILES) as made:
        write_cells(made / "cells.csv", cohort.cells)
        if cohort.regions:
            write_regions(made, ((region.slide_id, region.box) for region in cohort.regions))
        _write_facts(made, form, cohort.unit, options, source, report)
        if problems.found:
            problems.write(made)
        # The manifest comes last: where it stands, the cohort is complete.
        write_manifest(made / "manifest.csv", cohort.slides, out)
    return report


class _Cohort(NamedTuple):
    """What can be true of a data set, in the Bethesda vocabulary; and how many cells the map excludes, by label."""

    slides: list[SlideRecord]
    cells: list[CellRecord]
    regions: list[SourceRegion]
    unit: Unit
    excluded: Counter[str]


def _read(form: Format, source: Path, out: Path, options: ImportOptions, problems: ProblemLog) -> Source:
    """What the format reads, its labels on upright pictures, with splits, patients and slides."""
    read = form.read(source, options, problems)
    refuse_within(out, {folder for image in read.images for folder in own_folders(image.path)}, "choose another --out")
    labels_upright(read, options.labels_on)
    root = options.images or data_folder(source)
    with_splits(read, source, root, options.encoding, problems)
    read.images[:] = _grouped(read.images, options, root, problems)
    read.notes += [f"{count} {what}" for what, count in read.tally.items()]
    return read


def _checked(form: Format, read: Source, options: ImportOptions, labels: LabelMap, problems: ProblemLog) -> _Cohort:
    """What can be used of what was read; all else becomes problems."""
    images = {image.source.slide_id: image for image in known_images(read, options.mpp, form.mpp, problems)}
    boxed = boxed_cells(read, images, options.point_um or form.point_um, problems)
    slides = [_slide_record(image, labels) for image in images.values()]
    cells, excluded = _cell_records(boxed, labels, {slide.slide_id: slide.slide_class for slide in slides}, problems)
    complete = form.complete if options.complete is None else options.complete
    unit = read.unit or form.unit
    # Of which images a cell was left out, by id or stem; an empty name where nobody knows of which.
    doubtful = {p.image for p in problems.fatal if p.kind not in {"region", "patient", "slide", "split"}}
    regions = whole_regions(read, images, complete and unit != "cell", doubtful, problems)
    return _Cohort(slides, cells, regions, unit, excluded)


def _refuse_broken(cohort: _Cohort, source: Path, files: CohortFiles, problems: ProblemLog, skip_broken: bool) -> None:
    """List the problems in the folder, and refuse what cannot be imported for them."""
    listing = files.folder / PROBLEMS_NAME
    if problems.found:
        problems.write(files.folder)
        if files.standing([LIST_NAME]):
            files.note([PROBLEMS_NAME])
    if problems.fatal and not skip_broken:
        raise problems.refusal(_name_of(source), listing)
    if not cohort.slides or not (cohort.cells or any(slide.slide_class for slide in cohort.slides)):
        advice = f"see {listing}" if problems.found else "check the folder"
        raise ManifestError(f"{_name_of(source)} holds no labelled cell or image that can be used", advice)


def _name_of(source: Path) -> str:
    """Name of the data set's folder or file, also where it is named ``.``."""
    return source.name if source.name.strip(".") else source.resolve().name


def _check_options(form: Format, options: ImportOptions) -> None:
    unknown = [name for name in options.values if name not in form.options]
    if unknown:
        known = ", ".join(f"{name} ({what})" for name, what in form.options.items()) or "none"
        raise ConfigError(f"the importer '{form.name}' has no option '{unknown[0]}'", f"its options are: {known}")
    if options.labels_on not in {"", *LABELS_ON}:
        raise ConfigError(f"--labels-on is '{options.labels_on}'", f"use {' or '.join(LABELS_ON)}")
    if options.images is not None and not options.images.is_dir():
        raise ConfigError(f"{options.images}, the folder of --images, does not exist", "check the path")
    for name, value in (("--mpp", options.mpp), ("--point-um", options.point_um)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{name} is {value}", "give a positive number of um")


def _grouped(
    images: Sequence[SourceImage], options: ImportOptions, root: Path, problems: ProblemLog
) -> list[SourceImage]:
    """The images with the centre, and with the patients and slides that the user's expressions find in their paths."""
    rules = [(name, rule) for name, rule in (("patient", options.patient_from), ("slide", options.slide_from)) if rule]
    patterns = {name: _pattern(name, rule) for name, rule in rules}
    result: list[SourceImage] = []
    for image in images:
        path = image.path.relative_to(root) if image.path.is_relative_to(root) else Path(image.path.name)
        found: dict[str, str] = {}
        for name, pattern in patterns.items():
            match = pattern.search(path.as_posix())
            if match and match.group(1):
                found[name] = match.group(1)
            else:
                what = f"--{name}-from '{pattern.pattern}' finds nothing in {path.as_posix()}"
                problems.add(image.place, name, what, image.slide_id)
        result.append(
            replace(
                image,
                centre=options.centre or image.centre,
                patient=found.get("patient", image.patient),
                specimen=found.get("slide", image.specimen),
            )
        )
    return result


def _pattern(name: str, rule: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"--{name}-from '{rule}' is an invalid regular expression ({error})", "correct it") from error
    if pattern.groups < 1:
        raise ConfigError(f"--{name}-from '{rule}' has no group", f"put the {name} in brackets, e.g. '^([^_]+)_'")
    return pattern


def _slide_record(image: KnownImage, labels: LabelMap) -> SlideRecord:
    facts = image.source
    target = labels.get(facts.label) if facts.label else None
    label = None if target is None or target.label in {*WITHOUT_CLASS, EXCLUDED} else target.label
    return SlideRecord(
        slide_id=facts.slide_id,
        path=facts.path.absolute(),
        mpp=image.stated,
        patient=facts.patient,
        centre=facts.centre,
        slide_class=None if label is None else slide_class_of("HSIL" if label == cell_class_of("HSIL") else label),
        split=facts.split,
        specimen=facts.specimen,
    )


def _cell_records(
    boxed: Sequence[tuple[SourceCell, Box]],
    labels: LabelMap,
    slide_classes: Mapping[str, str | None],
    problems: ProblemLog,
) -> tuple[list[CellRecord], Counter[str]]:
    """The cells in the Bethesda vocabulary, and how many of each label the map excludes."""
    records: list[CellRecord] = []
    excluded: Counter[str] = Counter()
    numbers = {slide_id: count(1) for slide_id in slide_classes}
    taken = {(cell.slide_id, cell.cell_id) for cell, _ in boxed}
    for cell, box in boxed:
        target = labels.get(cell.label)
        if target is None or target.label == EXCLUDED:
            excluded[cell.label] += 1
            continue
        free = (str(n) for n in numbers[cell.slide_id] if (cell.slide_id, str(n)) not in taken)
        record = CellRecord(
            cell.slide_id,
            cell.cell_id or next(free),
            *box,
            label=target.label,
            raw_label=cell.label,
            subtype=target.subtype,
            lossy=target.lossy,
            outline=cell.outline,
            nucleus=cell.nucleus,
        )
        if record.positive and slide_classes[cell.slide_id] == NEGATIVE:
            what = f"a cell of label '{cell.label}' on image '{cell.slide_id}', which is {NEGATIVE} as a whole"
            problems.add(cell.place, "contradiction", what, cell.slide_id)
        else:
            records.append(record)
    return records, excluded


def _counts(cohort: _Cohort) -> dict[str, Any]:
    slides, cells = cohort.slides, cohort.cells
    classes = Counter(cell.cell_class or cell.label for cell in cells)
    return {
        "images": len(slides),
        "cells": len(cells),
        "cells_by_class": {name: classes[name] for name in (*CELL_CLASSES, ABNORMAL, UNLABELED) if classes[name]},
        "cells_excluded": dict(cohort.excluded),
        "lossy_cells": sum(cell.lossy for cell in cells),
        "images_by_class": dict(sorted(Counter(slide.slide_class or "none" for slide in slides).items())),
        "images_by_split": dict(sorted(Counter(slide.split or "none" for slide in slides).items())),
        "images_without_cells": len({slide.slide_id for slide in slides} - {cell.slide_id for cell in cells}),
        "annotated_regions": len(cohort.regions),
        "patients": len({slide.patient for slide in slides if slide.patient}),
        "specimens": len({slide.specimen for slide in slides if slide.specimen}),
    }


def _warnings(form: Format, options: ImportOptions, cohort: _Cohort, unused: Sequence[str]) -> list[str]:
    warnings: list[str] = []
    if options.mpp is None and form.mpp is not None:
        warnings.append(f"um/px is {form.mpp:g} as reported for {form.title}, not read from the files (see --mpp)")
    leak = leak_warning(cohort.slides)
    if leak:
        warnings.append(leak)
    if unused:
        warnings.append(f"labels of --map that the data set does not have: {', '.join(unused)}")
    if cohort.cells and not cohort.regions and cohort.unit != "cell":
        warnings.append(
            "a place without a mark counts as unlabelled, not as negative: no image is known to be annotated completely"
            " (say --complete if every lesion was marked)"
        )
    return warnings


def _write_facts(
    out: Path, form: Format, unit: Unit, options: ImportOptions, source: Path, report: ImportReport
) -> None:
    head = {"schema_version": _SCHEMA_VERSION, "package_version": __version__, "format": form.name}
    asked = {"mpp": options.mpp, "point_um": options.point_um, "centre": options.centre, "complete": options.complete}
    asked |= {"patient_from": options.patient_from, "slide_from": options.slide_from, **options.values}
    asked |= {"labels_on": options.labels_on or None}
    facts = {
        "title": form.title,
        "source": _name_of(source),
        "unit": unit,
        "preparation": form.preparation,
        "license": form.license,
        "citation": form.citation,
        "options": {name: value for name, value in asked.items() if value is not None},
        "point_um": options.point_um or form.point_um,
        "counts": report.counts,
        "problems": report.problems,
        "warnings": report.warnings,
    }
    for name, content in ((LABELS_NAME, {"labels": report.labels}), (IMPORT_NAME, facts)):
        text = json.dumps({**head, **content}, indent=1, ensure_ascii=False)
        write_bytes(out / name, (text + "\n").encode())
