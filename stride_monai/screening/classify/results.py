"""What is said of single cells, as ``cells.csv``, and of what made it, as ``classify.json``."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.files import config_hash
from stride_monai.findings import DISCLAIMER, Description
from stride_monai.names import printable
from stride_monai.run_index import without_folders
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.inputs import CellInput
from stride_monai.screening.store import About
from stride_monai.spreadsheet import harmless

__all__ = ["FACTS_NAME", "TABLE_NAME", "CellTable", "ClassifiedCell", "Tally", "Used", "facts_bytes", "failed_cell"]

TABLE_NAME, FACTS_NAME = "cells.csv", "classify.json"
SCHEMA_VERSION = "1.0"
_SEPARATOR = "|"
_WORDS = ("descriptions", "description_similarity", "description_fits_class")


@dataclass(frozen=True, slots=True)
class ClassifiedCell:
    """What was said of one cell; or ``error``, why nothing can be.

    Attributes:
        cell_class: the most probable one of :data:`~stride_monai.bethesda.CELL_CLASSES`.
        probabilities: of these classes.
        center: of the crop, x, y in level-0 px.
        mpp, mpp_source: um/px at level 0 that was used, and where it is from: ``given``, ``metadata``, ``objective``.
        fit: what was done to the picture for the field of view: ``cut`` (a single cell's alone), ``padded``, both, or
            nothing.
        note: what the reader decided where the file leaves a choice.
    """

    cell: CellInput
    cell_class: str | None = None
    probabilities: tuple[float, ...] = ()
    descriptions: tuple[Description, ...] = ()
    center: tuple[float, float] | None = None
    mpp: float | None = None
    mpp_source: str | None = None
    fit: str = ""
    note: str = ""
    error: str = ""


def failed_cell(cell: CellInput, reason: str) -> ClassifiedCell:
    """A cell of which nothing can be said; names of folders, which may be those of patients, stay out of the reason."""
    reason = " ".join(without_folders(reason, cell.path).split())
    return ClassifiedCell(cell, error=printable(reason.removeprefix(f"{cell.path.name}: ")))


@dataclass(frozen=True, slots=True)
class Used:
    """What classified, without the networks.

    Attributes:
        crop_px, crop_mpp: side of the crops in px, and their um/px.
    """

    about: About
    device: str
    crop_px: int
    crop_mpp: float

    @property
    def field_um(self) -> float:
        """Side of the field of view."""
        return self.crop_px * self.crop_mpp


@dataclass(slots=True)
class Tally:
    """Counts over the cells of a run.

    Attributes:
        classes, fits: how many cells have each.
        spacings: um/px that was used and where it is from -> of how many cells.
    """

    cells: int = 0
    failed: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    fits: Counter[str] = field(default_factory=Counter)
    spacings: Counter[tuple[float, str]] = field(default_factory=Counter)

    def add(self, one: ClassifiedCell) -> None:
        self.cells += 1
        if one.error:
            self.failed += 1
            return
        self.classes[str(one.cell_class)] += 1
        self.fits[one.fit] += 1
        self.spacings[round(one.mpp or 0.0, 6), str(one.mpp_source)] += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the same for the same cells in any order."""
        return {
            "cells": self.cells,
            "failed": self.failed,
            "by_class": {name: self.classes[name] for name in CELL_CLASSES},
            "by_fit": {name or "whole": self.fits[name] for name in sorted(self.fits)},
            "by_mpp": [
                {"mpp": mpp, "mpp_source": source, "cells": count}
                for (mpp, source), count in sorted(self.spacings.items())
            ],
        }


class CellTable:
    """``cells.csv``, written as the cells come; one row a cell, in order.

    Args:
        carried: columns of the lists that it has too.
        described: whether it has columns for descriptions.

    As a context manager it closes the file with the block.
    """

    def __init__(self, path: Path, carried: Sequence[str], described: bool) -> None:
        self._carried, self._described = tuple(carried), described
        self._stream: TextIO = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._writer.writerow(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """In order."""
        return (
            *("path", *self._carried, "class", *(f"p_{name}" for name in CELL_CLASSES)),
            *(_WORDS if self._described else ()),
            *("crop_x", "crop_y", "mpp", "mpp_source", "fit", "note", "error"),
        )

    def add(self, one: ClassifiedCell) -> None:
        """Write a cell. Text that a spreadsheet would take for a formula has an apostrophe before it."""
        cell, nothing = one.cell, [""] * len(CELL_CLASSES)
        words = one.descriptions
        row = [
            *(cell.name, *(cell.carried.get(name, "") for name in self._carried), one.cell_class or ""),
            *([f"{p:.6f}" for p in one.probabilities] or nothing),
        ]
        if self._described:
            row.append(_SEPARATOR.join(text.text for text in words))
            row.append(_SEPARATOR.join(f"{text.similarity:.6f}" for text in words))
            row.append(_SEPARATOR.join("yes" if text.fits_class else "no" for text in words))
        row += [f"{side:.12g}" for side in one.center] if one.center else ["", ""]
        row += ["" if one.mpp is None else f"{one.mpp:.6g}", one.mpp_source or "", one.fit, one.note, one.error]
        self._writer.writerow(map(harmless, row))

    def __enter__(self) -> CellTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def facts_bytes(
    config: ClassifyConfig, used: Used | None, tally: Tally, inputs: Sequence[Path], passed_over: Mapping[str, int]
) -> bytes:
    """``classify.json``: what was asked, what was used, and of how many cells. Full paths stand in it alone.

    Args:
        used: None where nothing could be tried.
        inputs: files and folders as they were named.
        passed_over: suffix -> files of the folders that are no pictures by it.
    """
    requested = config.for_table()
    about = None if used is None else used.about
    resolved = None
    if used is not None and about is not None:
        resolved = {
            "classifier": about.classifier._asdict(),
            "crop_px": used.crop_px,
            "crop_mpp": used.crop_mpp,
            "field_um": used.field_um,
            "device": used.device,
            "precision": "float32",
            "descriptions": about.descriptions.to_dict(),
        }
    weights = {} if about is None else dict(about.weights)
    content = {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "disclaimer": DISCLAIMER,
        "config_hash": config_hash({"requested": requested, "used": resolved, "weights": weights}),
        "requested": requested,
        "used": resolved,
        "weights_sha256": weights,
        "weights_from": {} if about is None else about.info()["weights_from"],
        "weights_note": "" if about is None else about.note,
        "counts": tally.to_dict(),
        "inputs": [printable(str(path.absolute())) for path in inputs],
        "passed_over": dict(sorted(passed_over.items())),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
