"""A reader study as arrays: which reads there are of which reader, case and arm, and what is counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stride_monai.data.tables import first_of
from stride_monai.errors import ManifestError
from stride_monai.evaluation.readers.reads import PanelCase, Read

__all__ = ["OPEN", "Block", "Study", "reader_study"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
OPEN = -1
"""Stands for a severity, or a yes or no, that a bare ``positive`` leaves open."""


class Block(NamedTuple):
    """Reads in which every reader has read every case in every arm.

    Attributes:
        reads: ``[arms, readers, cases]``, places in the study's reads. cases: ``[cases]``, numbers of the cases.
        left_out: cases that some of these readers has not read, or not with a stated class, in some arm.
        readers_left_out: readers without a read in some arm.
    """

    reads: Ints
    cases: Ints
    left_out: int
    readers_left_out: int

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return not self.left_out and not self.readers_left_out


class Study(NamedTuple):
    """Reads whose case has a label, n of them.

    Attributes:
        readers, cases, arms: names, sorted; arms in the order of the table. panel: of ``cases``.
        reader, case, arm: ``[n]``, numbers. reads: ``[n]``.
        severity: ``[n]``, rank of what was said, or :data:`OPEN`. truth: ``[n]``, rank of the panel's label, or
            :data:`OPEN`.
        rating: ``[n]``, by which a reader ranks cases: the score where all reads have one, else the severity, NaN where
            that is open. scored: which of the two.
        without_label: cases that were read and have no label. unread: cases with a label that nobody has read.
    """

    readers: tuple[str, ...]
    cases: tuple[str, ...]
    arms: tuple[str, ...]
    panel: tuple[PanelCase, ...]
    reads: tuple[Read, ...]
    reader: Ints
    case: Ints
    arm: Ints
    severity: Ints
    truth: Ints
    rating: Floats
    scored: bool
    without_label: tuple[str, ...]
    unread: tuple[str, ...]

    def within(self, group: str) -> tuple[Ints, Ints]:
        """Whether the reads, and the labels of their cases, are at or above a threshold: ``[n]`` each, 1, 0 or
        :data:`OPEN`."""
        said = [_open(read.diagnosis.within(group)) for read in self.reads]
        true = [_open(self.panel[case].label.within(group)) for case in self.case]
        return np.array(said, np.int64), np.array(true, np.int64)

    def of(self, arms: Sequence[str]) -> Bools:
        """The reads of these arms, ``[n]``."""
        chosen: Bools = np.isin(self.arm, [self.arms.index(arm) for arm in arms])
        return chosen

    def block(self, arms: Sequence[str], usable: Bools) -> Block:
        """The cases that all readers of these arms have read in each of them, in reads that are usable ``[n]``."""
        numbers = [self.arms.index(arm) for arm in arms]
        place = np.full((len(arms), len(self.readers), len(self.cases)), -1, np.int64)
        for k, number in enumerate(numbers):
            chosen = np.flatnonzero((self.arm == number) & usable)
            place[k, self.reader[chosen], self.case[chosen]] = chosen
        reads = (place >= 0).any(axis=2)  # [arms, readers]
        of_all = reads.all(axis=0)
        touched = (place[:, of_all] >= 0).any(axis=(0, 1))
        whole = (place[:, of_all] >= 0).all(axis=(0, 1)) & touched
        left_out = int((touched & ~whole).sum()), int((reads.any(axis=0) & ~of_all).sum())
        return Block(place[:, of_all][:, :, whole], np.flatnonzero(whole), *left_out)


def reader_study(reads: Sequence[Read], panel: Sequence[PanelCase]) -> Study:
    """Put reads and labels together; reads of cases without a label are left out and named.

    Raises:
        ManifestError: no read has a label.
    """
    of_case = {case.case: case for case in panel}
    known = tuple(read for read in reads if read.case in of_case)
    without = tuple(sorted({read.case for read in reads} - {*of_case}))
    if not known:
        raise ManifestError(
            f"none of the {len(without)} cases that were read has a label (they are called {first_of(without)})",
            "write the case's name in both tables in one way",
        )
    readers, cases = (sorted({getattr(read, name) for read in known}) for name in ("reader", "case"))
    arms = tuple(dict.fromkeys(read.arm for read in known))
    severity = np.array([_severity(read.diagnosis.severity) for read in known], np.int64)
    scored = all(read.score is not None for read in known)
    ranks = np.where(severity == OPEN, np.nan, severity)
    ratings = np.array([read.score for read in known], np.float64) if scored else ranks
    return Study(
        readers=tuple(readers),
        cases=tuple(cases),
        arms=arms,
        panel=tuple(of_case[case] for case in cases),
        reads=known,
        reader=_numbers([read.reader for read in known], readers),
        case=_numbers([read.case for read in known], cases),
        arm=_numbers([read.arm for read in known], arms),
        severity=severity,
        truth=np.array([_severity(of_case[read.case].label.severity) for read in known], np.int64),
        rating=ratings,
        scored=scored,
        without_label=without,
        unread=tuple(sorted({*of_case} - {*cases})),
    )


def _numbers(names: Sequence[str], known: Sequence[str]) -> Ints:
    place = {name: k for k, name in enumerate(known)}
    return np.array([place[name] for name in names], np.int64)


def _severity(rank: int | None) -> int:
    return OPEN if rank is None else rank


def _open(answer: bool | None) -> int:
    return OPEN if answer is None else int(answer)
