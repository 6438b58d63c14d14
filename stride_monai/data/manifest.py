"""Manifests: which slides there are, whose they are, and what is known of each.

A manifest is a CSV file (or a JSON list, or a Parquet file) with one slide per row; only ``path`` is required. A cohort
folder holds ``manifest.csv``, ``cells.csv`` (see :mod:`stride_monai.data.cells`) and the slides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from stride_monai.bethesda import SLIDE_CLASSES, slide_class_of
from stride_monai.data.tables import LIST_SUFFIXES, Row, other_columns, read_table, refuse, table_text
from stride_monai.errors import ManifestError
from stride_monai.files import write_bytes
from stride_monai.names import found, name_key, readable, why_no_folder_name

__all__ = [
    "COLUMNS",
    "LIST_SUFFIXES",
    "SPLITS",
    "SPLIT_NAMES",
    "SlideRecord",
    "located",
    "own_columns",
    "parse_split",
    "read_manifest",
    "write_manifest",
]

COLUMNS: tuple[str, ...] = (
    *("slide_id", "path", "mpp", "patient", "centre", "slide_class", "split"),
    *("specimen", "source"),
)
SPLITS: tuple[str, ...] = ("train", "validation", "test")
_ALWAYS = 7  # columns that are written whether they are used or not

_COLUMN_ALIASES = {
    "image": "path",
    "file": "path",
    "label": "slide_class",
    "center": "centre",
    "patient_id": "patient",
    "slide": "slide_id",
}
_MAY_BE_UNKNOWN = ("slide_id", "patient", "centre", "slide_class", "split", "specimen", "source")
SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    **{"training": "train", "val": "validation", "valid": "validation", "testing": "test"},
}
"""A split's names, in lower case, as people write them -> the name in :data:`SPLITS`."""


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """One slide of a manifest.

    Attributes:
        slide_id: unique in the manifest; names the slide's output folder, so it holds no path separator.
        path: the slide file, absolute after reading.
        mpp: um/px at level 0 as the user states it, None to take it from the file.
        patient: None where it is not known; the slide then counts as a patient of its own.
        centre: hospital or scanner site, None where it is not known.
        slide_class: one of :data:`~stride_monai.bethesda.SLIDE_CLASSES` (SCC has become HSIL), None if not labelled.
        split: one of :data:`SPLITS`, None if not assigned.
        specimen: the glass slide, or the larger picture, that this image was cut from; None where the image is a whole
            slide or this is not known.
        source: the cohort that it came from, where several were joined (:func:`stride_monai.data.join_cohorts`).
    """

    slide_id: str
    path: Path
    mpp: float | None = None
    patient: str | None = None
    centre: str | None = None
    slide_class: str | None = None
    split: str | None = None
    specimen: str | None = None
    source: str | None = None

    @property
    def group(self) -> str:
        """What a split must not tear apart, by this slide alone: its patient, else its specimen, else itself."""
        if self.patient:
            return f"patient:{self.patient}"
        return f"specimen:{self.specimen}" if self.specimen else f"slide:{self.slide_id}"

    def __post_init__(self) -> None:
        if why := why_no_folder_name(self.slide_id):
            raise ManifestError(f"invalid slide id '{self.slide_id}': {why}", "use a short plain name without / or \\")
        if self.mpp is not None and not 0 < self.mpp < float("inf"):
            raise ManifestError(f"um/px of {self.slide_id} is {self.mpp}", "give it in um/px, e.g. 0.25")
        if self.slide_class is not None and self.slide_class not in SLIDE_CLASSES:
            raise ManifestError(
                f"unknown slide class '{self.slide_class}'", f"use one of {', '.join(SLIDE_CLASSES)}, or leave it out"
            )
        if self.split is not None and self.split not in SPLITS:
            raise ManifestError(f"unknown split '{self.split}'", f"use one of {', '.join(SPLITS)}, or leave it out")


def read_manifest(path: Path | str) -> list[SlideRecord]:
    """Read a manifest.

    Args:
        path: a CSV file (comma, semicolon or tab; header with the names of :data:`COLUMNS`) or a JSON file: a list of
            objects with those names, or decathlon style, lists named ``training``, ``validation``, ``test``; or, by
            its suffix, a Parquet file.
            Relative slide paths are relative to the manifest's folder, ``~`` is the home folder, and a path is found
            whichever way its accents are spelt. ``slide_id`` defaults to the file stem,
            ``image`` stands for ``path`` and ``label`` for ``slide_class``. Whether the slides exist is not checked:
            a missing slide is that slide's failure, not the batch's.

    Raises:
        ManifestError: naming every broken line: no path, a duplicate slide id, a um/px that is no positive number, an
            unknown class or split; or naming a misspelt column.
    """
    path = Path(path)
    present, rows = read_table(path, COLUMNS, _COLUMN_ALIASES, _MAY_BE_UNKNOWN)
    if "path" not in present and (rows or path.suffix.lower() != ".json"):
        advice = f"its first line must name the columns: path, and of {', '.join(COLUMNS)} what is known"
        raise ManifestError(f"{path.absolute()} has no column 'path'", advice)
    if not rows:
        raise ManifestError(f"{path.absolute()} lists no slide", "give it a line for each slide")
    folder = path.resolve().parent
    problems: list[str] = []
    records: list[SlideRecord] = []
    place_of: dict[str, str] = {}
    for row in rows:
        try:
            record = _record(row, folder)
        except ManifestError as error:
            slide_id = row.get("slide_id") or readable(Path(row.get("path")).stem)
            problems.append(f"{row.place}: {error}" + (f" (slide '{slide_id}')" if slide_id else ""))
            continue
        key = name_key(record.slide_id)  # ids name files, and some file systems take A and a for one
        if key in place_of:
            what = f"slide id '{record.slide_id}' is that of {place_of[key]} too"
            problems.append(f"{row.place}: {what} (give each slide its own slide_id)")
        place_of.setdefault(key, row.place)
        records.append(record)
    refuse(problems, path.name)
    return records


def _record(row: Row, folder: Path) -> SlideRecord:
    if not row.get("path"):
        raise ManifestError("no path")
    path = located(folder, row.get("path"))
    label, split = row.get("slide_class"), row.get("split")
    return SlideRecord(
        slide_id=row.get("slide_id") or readable(Path(path.name.rsplit("\\", 1)[-1]).stem),
        path=path,
        mpp=row.number("mpp", "um/px", "give it in um/px, e.g. 0.25") if row.get("mpp") else None,
        patient=row.get("patient") or None,
        centre=row.get("centre") or None,
        slide_class=slide_class_of(label) if label else None,
        split=parse_split(split) if split else None,
        specimen=row.get("specimen") or None,
        source=row.get("source") or None,
    )


def located(folder: Path, text: str) -> Path:
    """The path that a cell of a list names; ``~`` is the home folder.

    Args:
        folder: of the list.
    """
    try:
        return found(folder / Path(text).expanduser())
    except RuntimeError:  # ~name of nobody
        return found(folder / text)


def parse_split(text: str) -> str:
    """The name in :data:`SPLITS` of a split as people write it (``training``, ``val`` ...).

    Raises:
        ManifestError: it names none.
    """
    if text.lower() not in SPLIT_NAMES:
        raise ManifestError(f"unknown split '{text}'", f"use one of {', '.join(SPLITS)}")
    return SPLIT_NAMES[text.lower()]


def own_columns(path: Path | str) -> dict[str, list[str]]:
    """Columns that somebody has put into a manifest and that mean nothing here: heading -> a cell for each slide.

    Raises:
        ManifestError: as of :func:`read_manifest`.
    """
    return other_columns(Path(path), COLUMNS, _COLUMN_ALIASES)


def write_manifest(
    path: Path | str,
    records: Iterable[SlideRecord],
    home: Path | None = None,
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write a manifest as CSV; slides in or below its folder get relative paths, so that the folder can be moved.

    The columns ``specimen`` and ``source`` are left out where no record has one.

    Args:
        home: the folder that the manifest is for, where it is not that of ``path``.
        others: columns that follow: heading -> a cell for each record.

    Raises:
        ManifestError: two records share a slide id.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    folder = home.resolve() if home else path.resolve().parent
    seen: set[str] = set()
    rows: list[list[str]] = []
    for record in records:
        if record.slide_id in seen:
            raise ManifestError(f"slide id '{record.slide_id}' occurs twice", "give each slide its own slide_id")
        seen.add(record.slide_id)
        facts = (record.patient, record.centre, record.slide_class, record.split, record.specimen, record.source)
        mpp = "" if record.mpp is None else repr(float(record.mpp))
        rows.append([record.slide_id, _relative(record.path, folder), mpp, *(fact or "" for fact in facts)])
    used = [k for k in range(len(COLUMNS)) if k < _ALWAYS or any(row[k] for row in rows)]
    tails = zip(*others.values(), strict=True) if others else [()] * len(rows)
    lines = [[*(row[k] for k in used), *tail] for row, tail in zip(rows, tails, strict=True)]
    write_bytes(path, table_text([*(COLUMNS[k] for k in used), *others], lines))


def _relative(path: Path, folder: Path) -> str:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that names the slide
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)
