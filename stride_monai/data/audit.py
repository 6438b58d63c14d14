"""Leakage between the splits of a cohort: what is on both sides, by name, by content, by looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stride_monai.data.cells import CellRecord, cells_of
from stride_monai.data.manifest import SPLITS, SlideRecord, read_manifest
from stride_monai.data.near_duplicates import THUMB_MPP, THUMB_PX, find_twins, to_gray
from stride_monai.errors import ManifestError, StrideError
from stride_monai.slides import open_slide
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.units import Box

__all__ = ["Audit", "Finding", "audit_cohort"]

_SCHEMA_VERSION = "1.0"
_THREADS = 4
_FINEST_MPP = 0.25

_Pairs = dict[tuple[str, str], dict[tuple[str, str], float]]
"""Ids of two images -> ids of two cells -> correlation."""


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


class _Look(NamedTuple):
    """An image with thumbnails of its cells, and its shorter side in um."""

    record: SlideRecord
    thumbs: npt.NDArray[np.uint8]
    side: float


def audit_cohort(folder: Path | str, looks: bool = True) -> Audit:
    """Look for leakage between the splits of a cohort folder.

    Args:
        folder: cohort folder whose manifest has splits.
        looks: compare the pictures of the marked cells as well; every image is then read.

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
    audit.findings += _shared("patient", records) + _shared("specimen", records)
    same = _same_content(records, audit)
    if looks:
        cells = cells_of(folder, {record.slide_id for record in everything})
        _near_duplicates(records, cells, same, audit)
    return audit


def _order(record: SlideRecord) -> tuple[int, str]:
    return SPLITS.index(record.split or SPLITS[0]), record.slide_id


def _shared(kind: Literal["patient", "specimen"], records: Iterable[SlideRecord]) -> list[Finding]:
    groups: dict[str, list[SlideRecord]] = defaultdict(list)
    for record in records:
        if key := getattr(record, kind):
            groups[key].append(record)
    return [found for key in sorted(groups) for found in _torn(kind, groups[key], f"{kind} '{key}' is in two splits")]


def _torn(kind: Literal["patient", "specimen", "content"], members: list[SlideRecord], what: str) -> list[Finding]:
    """A finding where images that belong together are in several splits; puts them in the order of these."""
    members.sort(key=_order)
    listed = ", ".join(f"{record.slide_id} ({record.split})" for record in members)
    several = len({record.split for record in members}) > 1
    return [_finding(kind, members, f"{what}: {listed}")] if several else []


def _finding(kind: Any, members: Sequence[SlideRecord], what: str, **facts: Any) -> Finding:
    ids, splits = tuple(m.slide_id for m in members), tuple(m.split or "" for m in members)
    return Finding(kind, ids, splits, what, **facts)


def _same_content(records: Sequence[SlideRecord], audit: Audit) -> set[frozenset[str]]:
    """Pairs of images with one content; what is found and what cannot be read goes to the audit."""
    by_hash: dict[str, list[SlideRecord]] = defaultdict(list)
    for record in records:
        try:
            by_hash[slide_fingerprint(record.path)].append(record)
        except OSError as error:
            what = f"{record.slide_id} ({record.split}) cannot be read ({error.strerror or error})"
            audit.findings.append(_finding("unreadable", [record], what))
    same: set[frozenset[str]] = set()
    for members in by_hash.values():
        same |= {frozenset((a.slide_id, b.slide_id)) for a, b in combinations(members, 2)}
        audit.findings += _torn("content", members, "the same file in two splits")
    return same


def _near_duplicates(
    records: Sequence[SlideRecord], cells: Iterable[CellRecord], same: set[frozenset[str]], audit: Audit
) -> None:
    """Images whose cells look the same, one finding for a pair of images; pairs of one content are known already."""
    marked: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in cells:
        marked[cell.slide_id].append(cell)
    unreadable = {finding.images[0] for finding in audit.findings if finding.kind == "unreadable"}
    chosen = [record for record in records if marked[record.slide_id] and record.slide_id not in unreadable]
    looks = _looks(chosen, marked, THUMB_MPP, audit)
    audit.cells = sum(len(look.thumbs) for look in looks)
    pairs: _Pairs = defaultdict(dict)
    large = [look for look in looks if look.side >= THUMB_PX * THUMB_MPP]
    _compare(large, marked, pairs)
    if len(large) < len(looks):
        # A thumbnail of a small image would be white around it, and equal frames would look the same.
        mpp = max(_FINEST_MPP, min(look.side for look in looks) / THUMB_PX)
        _compare(_looks([look.record for look in looks], marked, mpp, audit), marked, pairs)
    by_id = {record.slide_id: record for record in records}
    for ids, twins in pairs.items():
        if frozenset(ids) not in same:
            audit.findings.append(_looks_alike(by_id[ids[0]], by_id[ids[1]], twins))


def _looks(
    records: Sequence[SlideRecord], marked: Mapping[str, Sequence[CellRecord]], mpp: float, audit: Audit
) -> list[_Look]:
    """The images that can be read, with thumbnails of their cells; the others go to the audit."""
    looks: list[_Look] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = pool.map(lambda record: _look(record, marked[record.slide_id], mpp), records)
        for record, result in zip(records, jobs, strict=True):
            if isinstance(result, str):
                what = f"{record.slide_id} ({record.split}) cannot be read ({result})"
                audit.findings.append(_finding("unreadable", [record], what))
            else:
                looks.append(result)
    return looks


def _look(record: SlideRecord, cells: Sequence[CellRecord], mpp: float) -> _Look | str:
    """An image with thumbnails of its cells, or why there are none."""
    thumbs = np.empty((len(cells), THUMB_PX, THUMB_PX), np.uint8)
    try:
        with open_slide(record.path, mpp=record.mpp) as slide:
            side = THUMB_PX * mpp / slide.mpp
            for k, cell in enumerate(cells):
                thumbs[k] = to_gray(slide.read(Box.around(*cell.box.center, side), mpp=mpp))
            return _Look(record, thumbs, min(slide.extent.width, slide.extent.height))
    except StrideError as error:
        return str(error)


def _compare(looks: Sequence[_Look], marked: Mapping[str, Sequence[CellRecord]], pairs: _Pairs) -> None:
    """Add the cells that look the same: images, cells -> correlation."""
    owners = [(look.record, cell) for look in looks for cell in marked[look.record.slide_id]]
    if not owners:
        return
    parts = np.array([SPLITS.index(record.split or SPLITS[0]) for record, _ in owners])
    for first, second, correlation in find_twins(np.concatenate([look.thumbs for look in looks]), parts):
        (a, cell_a), (b, cell_b) = owners[first], owners[second]
        cells = cell_a.cell_id, cell_b.cell_id
        known = pairs[a.slide_id, b.slide_id]
        known[cells] = max(correlation, known.get(cells, 0.0))


def _looks_alike(a: SlideRecord, b: SlideRecord, twins: Mapping[tuple[str, str], float]) -> Finding:
    cells = sorted(twins, key=lambda pair: (-twins[pair], pair))
    best = twins[cells[0]]
    number = "a cell" if len(twins) == 1 else f"{len(twins)} pairs of cells"
    what = (
        f"{number} of {a.slide_id} ({a.split}) and {b.slide_id} ({b.split}) look the same, "
        f"e.g. cells {cells[0][0]} and {cells[0][1]} (correlation {best:.3f})"
    )
    return _finding("near-duplicate", (a, b), what, cells=tuple(cells), correlation=round(best, 4))
