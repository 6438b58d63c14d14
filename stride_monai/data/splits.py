"""Splits by patient, specimen or image: test first, the rest into training and validation; equal on every machine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stride_monai import __version__
from stride_monai.bethesda import ABNORMAL, SEVERITY, cell_class_of
from stride_monai.data.cells import CellRecord, cells_of
from stride_monai.data.cohort_files import CohortFiles
from stride_monai.data.hashing import digest
from stride_monai.data.manifest import SPLITS, SlideRecord, own_columns, read_manifest, write_manifest
from stride_monai.errors import ManifestError
from stride_monai.files import free_name, temporary_folder, write_bytes

__all__ = [
    "KNOWN",
    "SPLIT_NAME",
    "labels_by_slide",
    "leak_groups",
    "leak_warning",
    "refuse_straddling",
    "split_by_patient",
    "split_cohort",
]

SPLIT_NAME = "split.json"
KNOWN: tuple[str, ...] = ("patient", "slide", "image")
"""By what images are kept together, the best first."""

_SCHEMA_VERSION = "1.0"


def split_by_patient(
    records: Sequence[SlideRecord],
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
    seed: int = 0,
    held_out_centres: Collection[str] = (),
    labels: Mapping[str, Sequence[str]] | None = None,
    keep_test: bool = False,
) -> list[SlideRecord]:
    """Assign every slide to ``train``, ``validation`` or ``test``; all slides of a patient go the same way.

    Patients are ordered by the most severe class of their slides, then by SHA-256 of the seed and the patient's name,
    and every n-th is taken: so each class is represented in proportion, to within one patient.

    Args:
        records: slides; a split they already have is overwritten, but see ``keep_test``. Where the patient is not
            known, the specimen takes its place, and where that is not known either, the slide itself
            (:func:`leak_groups`).
        test_fraction: share of the patients (those of held-out centres aside) that go to the test set, 0-1.
        validation_fraction: share of the patients that are left which go to validation, 0-1; 0.2 is the paper's 8:2.
        seed: another seed gives another split.
        held_out_centres: every patient with a slide from one of these goes to the test set as a whole.
        labels: labels by slide id that stand for the class of a slide that has none (:func:`labels_by_slide`).
        keep_test: the test set is what is for testing already, and every patient of it; only the rest is split.

    Returns:
        The records in the order given, each with its split.

    Raises:
        ManifestError: a fraction is outside 0-1, no slide is from a centre that is to be held out, or there is no test
            set to keep.
    """
    for name, fraction in (("test_fraction", test_fraction), ("validation_fraction", validation_fraction)):
        if not 0 <= fraction <= 1:
            raise ManifestError(f"{name} is {fraction}", "give a share between 0 and 1")
    absent = sorted(set(held_out_centres) - {record.centre or "" for record in records})
    if absent:
        raise ManifestError(f"no slide is from centre '{absent[0]}', which is to be held out", "check its name")
    group_of = leak_groups(records)
    held_out = {group_of[record.slide_id] for record in records if record.centre in set(held_out_centres)}
    if keep_test:
        test_fraction = 0.0
        held_out |= {group_of[record.slide_id] for record in records if record.split == "test"}
        if not held_out:
            raise ManifestError("no slide is for testing yet", "leave --keep-test out")
    strata: dict[str, str] = {}
    for record in records:
        group = group_of[record.slide_id]
        if group not in held_out:
            own = [record.slide_class] if record.slide_class else (labels or {}).get(record.slide_id, ())
            known = [strata.get(group, ""), *own]  # the most severe of them
            strata[group] = max(known, key=lambda label: (_RANKS.get(label, -1), label))
    groups = sorted(strata, key=lambda group: (strata[group], digest(seed, group)))
    test = _every_nth(groups, test_fraction) | held_out
    validation = _every_nth([group for group in groups if group not in test], validation_fraction)
    split_of = dict.fromkeys(group_of.values(), "train")
    split_of |= dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    return [replace(record, split=split_of[group_of[record.slide_id]]) for record in records]


def leak_groups(records: Sequence[SlideRecord]) -> dict[str, str]:
    """Which slides must stay together: slide id -> name of its group.

    Slides that share a patient or a specimen are in one group, also by way of a third. A group is named by its first
    patient, else by its first specimen, else by its slide.
    """
    keys = {record.slide_id: _keys(record) for record in records}
    names = sorted({name for own in keys.values() for name in own})  # the rank in front puts patients first
    place = {name: k for k, name in enumerate(names)}
    pairs = np.array([(place[own[0]], place[name]) for own in keys.values() for name in own]).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(names), len(names)))
    group = connected_components(links, directed=False)[1] if names else []
    first = dict(zip(reversed(group), reversed(names), strict=True))
    return {slide_id: first[group[place[own[0]]]][1:] for slide_id, own in keys.items()}


def _keys(record: SlideRecord) -> list[str]:
    facts = (("0patient", record.patient), ("1specimen", record.specimen))
    return [f"{kind}:{name}" for kind, name in facts if name] or [f"2slide:{record.slide_id}"]


def labels_by_slide(cells: Iterable[CellRecord]) -> dict[str, list[str]]:
    """The labels of the cells of each slide."""
    labels: dict[str, list[str]] = {}
    for cell in cells:
        labels.setdefault(cell.slide_id, []).append(cell.label)
    return labels


_RANKS: Mapping[str, int] = {**SEVERITY, cell_class_of("HSIL"): SEVERITY["HSIL"], ABNORMAL: SEVERITY["ASC-US"]}


def leak_warning(records: Sequence[SlideRecord]) -> str:
    """What is to be said of images whose patient is not known; empty where every patient is."""
    without = [record for record in records if not record.patient]
    if not without:
        return ""
    alone = sum(not record.specimen for record in without)
    return (
        f"the patient of {len(without)} of {len(records)} images is not known"
        + (f", nor the slide of {alone}" if alone else "")
        + ": a random split can put pictures of one woman on both sides, and figures from it are too good."
        " Where you know better, fill in the columns 'patient' and 'specimen' of manifest.csv before you split"
    )


def _every_nth(groups: Sequence[str], fraction: float) -> set[str]:
    """Evenly spaced members, ``round(len * fraction)`` of them: whenever the running share passes the next half."""
    return {
        group
        for place, group in enumerate(groups)
        if floor((place + 1) * fraction + 0.5) > floor(place * fraction + 0.5)
    }


def refuse_straddling(records: Sequence[SlideRecord], file_name: str) -> None:
    """Refuse a manifest in which a patient's slides are in different splits.

    Raises:
        ManifestError: naming one such patient and how many there are.
    """
    group_of = leak_groups(records)
    splits: dict[str, set[str]] = {}
    for record in records:
        splits.setdefault(group_of[record.slide_id], set()).add(record.split or "none")
    torn = sorted(group for group, found in splits.items() if len(found) > 1)
    if torn:
        kind, _, name = torn[0].partition(":")
        more = f" and {len(torn) - 1} more" if len(torn) > 1 else ""
        raise ManifestError(
            f"{file_name}: slides of {kind} '{name}'{more} are in different splits",
            f"put all slides of a {kind} into one split",
        )


def split_cohort(
    folder: Path | str,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
    seed: int = 0,
    held_out_centres: Collection[str] = (),
    at_least: str = "image",
    overwrite: bool = False,
    keep_test: bool = False,
) -> dict[str, Any]:
    """Split a cohort folder: write the splits into ``manifest.csv`` and what they were made from into ``split.json``.

    Images are kept together by patient; where that is not known, by specimen; where neither is, each stands alone.
    Columns of the manifest that mean nothing here stay in it.

    Args:
        folder: cohort folder; the labels of its cells stand in for classes of slides that have none.
        test_fraction, validation_fraction, seed, held_out_centres: as for :func:`split_by_patient`.
        at_least: one of :data:`KNOWN`; refuse where an image's patient, or its patient and slide, are not known.
        overwrite: replace a split that is there.
        keep_test: keep the test set that is there, such as the publisher's, and split the rest.

    Returns:
        The content of ``split.json``; ``manifest_before`` names the copy of a manifest that was written by somebody and
        holds more than what is written now, or is spelt otherwise.

    Raises:
        ManifestError: broken tables, a split that stands there, or less known of an image than ``at_least``.
        OutputError: a ``split.json`` stands there that is not ours or was changed since.
    """
    folder, files = Path(folder), CohortFiles(Path(folder))
    files.refuse([SPLIT_NAME])
    records = read_manifest(folder / "manifest.csv")
    if any(record.split for record in records) and not (overwrite or keep_test):
        raise ManifestError(
            f"{folder / 'manifest.csv'} has splits already, maybe those of the data set",
            "add --overwrite to replace them, or --keep-test to split the rest",
        )
    _refuse_unknown(records, at_least)
    cells = cells_of(folder, {record.slide_id for record in records})
    others = own_columns(folder / "manifest.csv")
    kept = _keep_manifest(files, records, others)
    records = split_by_patient(
        records, test_fraction, validation_fraction, seed, held_out_centres, labels_by_slide(cells), keep_test
    )
    split_of = {record.slide_id: record.split or "" for record in records}
    kinds = Counter(group.partition(":")[0] for group in set(leak_groups(records).values()))
    facts: dict[str, Any] = {
        "schema_version": _SCHEMA_VERSION,
        "package_version": __version__,
        "seed": seed,
        "test_fraction": test_fraction,
        "validation_fraction": validation_fraction,
        "held_out_centres": sorted(held_out_centres),
        "test_kept": keep_test,
        "groups": {"patients": kinds["patient"], "specimens": kinds["specimen"], "single images": kinds["slide"]},
        "images": {name: sum(split == name for split in split_of.values()) for name in SPLITS},
        "cells": {
            name: dict(
                sorted(Counter(c.cell_class or c.label for c in cells if split_of.get(c.slide_id) == name).items())
            )
            for name in SPLITS
        },
        "lacking": _lacking(records, cells),
        "warning": leak_warning(records),
        "manifest_before": kept,
    }
    write_bytes(folder / SPLIT_NAME, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
    write_manifest(folder / "manifest.csv", records, others=others)
    files.note([SPLIT_NAME, "manifest.csv"])
    return facts


def _keep_manifest(
    files: CohortFiles, records: Sequence[SlideRecord], others: Mapping[str, Sequence[str]]
) -> str | None:
    """Copy a manifest that is not ours to a name beside it, where writing it anew would lose something: comments, the
    spelling of things, splits that somebody gave. The name of the copy; None where nothing would be lost."""
    path = files.folder / "manifest.csv"
    if files.own("manifest.csv"):
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror})", "check its permissions") from error
    with temporary_folder(files.folder) as made:
        write_manifest(made / path.name, records, files.folder, others)
        plain = (made / path.name).read_bytes() == content
    if plain and not any(record.split for record in records):
        return None
    kept = free_name(path)
    write_bytes(kept, content)
    return kept.name


def _lacking(records: Sequence[SlideRecord], cells: Iterable[CellRecord]) -> dict[str, list[str]]:
    """What a split has none of though the cohort has: images, slide classes, cell classes."""
    split_of = {record.slide_id: record.split or "" for record in records}
    has: dict[str, set[str]] = {name: set() for name in SPLITS}
    for record in records:
        has[record.split or ""] |= {"images"} | ({f"{record.slide_class} slides"} if record.slide_class else set())
    for cell in cells:
        has[split_of[cell.slide_id]].add(f"{cell.cell_class or cell.label} cells")
    every = set().union(*has.values())
    return {name: ["images"] if not own else sorted(every - own) for name, own in has.items() if every - own}


def _refuse_unknown(records: Sequence[SlideRecord], at_least: str) -> None:
    if at_least not in KNOWN:
        raise ManifestError(f"'{at_least}' is nothing to split by", f"use one of {', '.join(KNOWN)}")
    lacking = [
        record.slide_id
        for record in records
        if (at_least != "image" and not record.patient) and (at_least == "patient" or not record.specimen)
    ]
    if lacking:
        raise ManifestError(
            f"the {at_least} of {len(lacking)} of {len(records)} images is not known, e.g. of '{lacking[0]}'",
            "fill in the columns 'patient' and 'specimen' of manifest.csv, or split by less",
        )
