"""Leakage between the splits of a cohort: what is on both sides, by name, by content, by looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stride_monai.artifacts import fingerprint
from stride_monai.data.cells import CellRecord, read_cells
from stride_monai.data.manifest import SPLITS, SlideRecord, read_manifest
from stride_monai.data.near_duplicates import THUMB_MPP, THUMB_PX, find_twins, to_grey
from stride_monai.errors import ManifestError, StrideError
from stride_monai.slides import open_slide
from stride_monai.units import Box

__all__ = ["Audit", "Finding", "audit_cohort"]

_SCHEMA_VERSION = "1.0"
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One leak, or one image that could not be looked at.

    Attributes:
        kind: ``patient`` or ``specimen`` in two splits, the same ``content`` (bytes of the file), cells that are
            ``near-duplicate``, or an image that is ``unreadable``.
        images: slide ids, in the order of their splits.
        splits: of the images.
        what: the sentence for the user.
        cells: pairs of cell ids, of near-duplicates.
        correlation: the highest of these pairs, up to 1.
    """

    kind: Literal["patient", "specimen", "content", "near-duplicate", "unreadable"]
    images: tuple[str, ...]
    splits: tuple[str, ...]
    what: str
    cells: tuple[tuple[str, str], ...] = ()
    correlation: float | None = None


@dataclass(slots=True)
class Audit:
    """What was looked at and what was found.

    Attributes:
        images: number of images by split; those without a split are compared with nothing.
        cells: number of cells whose looks were compared.
    """

    images: dict[str, int]
    cells: int = 0
    findings: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": _SCHEMA_VERSION,
            "images": self.images,
            "cells_compared": self.cells,
            "findings": [asdict(finding) for finding in self.findings],
        }


def audit_cohort(folder: Path | str, looks: bool = True, on_image: Callable[[int, int], None] | None = None) -> Audit:
    """Look for leakage between the splits of a cohort folder.

    Args:
        folder: cohort folder whose manifest has splits.
        looks: compare the pictures of the marked cells as well; every image is then read.
        on_image: called with the number of images looked at, and of all.

    Raises:
        ManifestError: broken tables, or fewer than two splits.
    """
    folder = Path(folder)
    everything = read_manifest(folder / "manifest.csv")
    records = [record for record in everything if record.split]
    counts = {name: sum(record.split == name for record in everything) for name in (*SPLITS, None)}
    if len({record.split for record in records}) < 2:
        raise ManifestError("manifest.csv has fewer than two splits", "split the cohort first: stride-monai data split")
    audit = Audit({name or "none": count for name, count in counts.items() if count})
    audit.findings += _shared("patient", records, lambda record: record.patient)
    audit.findings += _shared("specimen", records, lambda record: record.specimen)
    same = _same_content(records, audit)
    if looks and (folder / "cells.csv").exists():
        _near_duplicates(records, read_cells(folder / "cells.csv"), same, audit, on_image)
    return audit


def _order(record: SlideRecord) -> tuple[int, str]:
    return SPLITS.index(record.split or SPLITS[0]), record.slide_id


def _shared(
    kind: Literal["patient", "specimen"], records: Iterable[SlideRecord], name: Callable[[SlideRecord], str | None]
) -> list[Finding]:
    groups: dict[str, list[SlideRecord]] = defaultdict(list)
    for record in records:
        key = name(record)
        if key:
            groups[key].append(record)
    findings = []
    for key, members in sorted(groups.items()):
        if len({record.split for record in members}) > 1:
            members.sort(key=_order)
            listed = ", ".join(f"{record.slide_id} ({record.split})" for record in members)
            findings.append(_finding(kind, members, f"{kind} '{key}' is in two splits: {listed}"))
    return findings


def _finding(kind: Any, members: Sequence[SlideRecord], what: str, **facts: Any) -> Finding:
    ids, splits = tuple(m.slide_id for m in members), tuple(m.split or "" for m in members)
    return Finding(kind, ids, splits, what, **facts)


def _same_content(records: Sequence[SlideRecord], audit: Audit) -> set[frozenset[str]]:
    """Pairs of images with one content; what is found and what cannot be read goes to the audit."""
    by_hash: dict[str, list[SlideRecord]] = defaultdict(list)
    for record in records:
        try:
            by_hash[fingerprint(record.path)].append(record)
        except OSError as error:
            what = f"{record.slide_id} ({record.split}) cannot be read ({error.strerror or error})"
            audit.findings.append(_finding("unreadable", [record], what))
    same: set[frozenset[str]] = set()
    for members in by_hash.values():
        members.sort(key=_order)
        same |= {frozenset((a.slide_id, b.slide_id)) for k, a in enumerate(members) for b in members[:k]}
        if len({record.split for record in members}) > 1:
            listed = ", ".join(f"{record.slide_id} ({record.split})" for record in members)
            audit.findings.append(_finding("content", members, f"the same file in two splits: {listed}"))
    return same


def _near_duplicates(
    records: Sequence[SlideRecord],
    cells: Iterable[CellRecord],
    same: set[frozenset[str]],
    audit: Audit,
    on_image: Callable[[int, int], None] | None,
) -> None:
    """Images whose cells look the same, one finding for a pair of images; pairs of one content are known already."""
    marked: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in cells:
        marked[cell.slide_id].append(cell)
    unreadable = {finding.images[0] for finding in audit.findings if finding.kind == "unreadable"}
    chosen = [record for record in records if marked[record.slide_id] and record.slide_id not in unreadable]
    thumbs: list[npt.NDArray[np.uint8]] = []
    owners: list[tuple[SlideRecord, CellRecord]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = pool.map(_thumbnails, chosen, [marked[record.slide_id] for record in chosen])
        for done, (record, result) in enumerate(zip(chosen, jobs, strict=True), start=1):
            if isinstance(result, str):
                what = f"{record.slide_id} ({record.split}) cannot be read ({result})"
                audit.findings.append(_finding("unreadable", [record], what))
            else:
                thumbs.append(result)
                owners += [(record, cell) for cell in marked[record.slide_id]]
            if on_image:
                on_image(done, len(chosen))
    audit.cells = len(owners)
    if not owners:
        return
    parts = np.array([SPLITS.index(record.split or SPLITS[0]) for record, _ in owners])
    pairs: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)
    for first, second, correlation in find_twins(np.concatenate(thumbs), parts):
        ids = owners[first][0].slide_id, owners[second][0].slide_id
        if frozenset(ids) not in same:
            pairs[ids].append((correlation, first, second))
    for twins in pairs.values():
        audit.findings.append(_looks_alike(sorted(twins, reverse=True), owners))


def _looks_alike(twins: Sequence[tuple[float, int, int]], owners: Sequence[tuple[SlideRecord, CellRecord]]) -> Finding:
    best, first, second = twins[0]
    (a, cell_a), (b, cell_b) = owners[first], owners[second]
    number = "a cell" if len(twins) == 1 else f"{len(twins)} cells"
    what = (
        f"{number} of {a.slide_id} ({a.split}) and {b.slide_id} ({b.split}) look the same, "
        f"e.g. cells {cell_a.cell_id} and {cell_b.cell_id} (correlation {best:.3f})"
    )
    ids = tuple((owners[i][1].cell_id, owners[j][1].cell_id) for _, i, j in twins)
    return _finding("near-duplicate", (a, b), what, cells=ids, correlation=round(best, 4))


def _thumbnails(record: SlideRecord, cells: Sequence[CellRecord]) -> npt.NDArray[np.uint8] | str:
    """Grey thumbnails of the cells, or why there are none."""
    thumbs = np.empty((len(cells), THUMB_PX, THUMB_PX), np.uint8)
    try:
        with open_slide(record.path, mpp=record.mpp) as slide:
            side = THUMB_PX * THUMB_MPP / slide.mpp
            for k, cell in enumerate(cells):
                thumbs[k] = to_grey(slide.read(Box.around(*cell.box.centre, side), mpp=THUMB_MPP))
    except StrideError as error:
        return str(error)
    return thumbs
