"""What every topic of an evaluation gives: numbers for machines, tables for spreadsheets, a section for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError
from stride_monai.evaluation.page.page import PageTable, Section
from stride_monai.evaluation.statistics import LEVEL, Interval, Proportion

__all__ = [
    "PREVALENCES",
    "Part",
    "Settings",
    "bounds_text",
    "interval_cells",
    "joined_words",
    "names_tables",
    "share_text",
    "shown",
    "thinned",
]

PREVALENCES = (0.01, 0.05, 0.10, 0.20)
"""Shares of positive slides for which predictive values are given, where none is asked for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be chosen of an evaluation.

    Attributes:
        threshold: slides with a score at or above it count as called positive; None: as the system called them.
        threshold_from: where it comes from, in words.
        by: columns of the truth table for tables of subgroups; None: those that are usual and there.
        prevalences: shares of positive slides, above 0 and below 1.
        replicates: of the bootstrap; 0 for none. seed: of whatever is drawn.

    Raises:
        ConfigError: one of them is outside its range, named by its option.
    """

    threshold: float | None = None
    threshold_from: str = ""
    by: tuple[str, ...] | None = None
    prevalences: tuple[float, ...] = PREVALENCES
    replicates: int = 1000
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        for share in self.prevalences:
            if not 0 < share < 1:
                raise ConfigError(f"invalid --prevalence {share:g}", "give a share above 0 and below 1, such as 0.05")
        if self.replicates < 0 or self.replicates == 1:
            raise ConfigError(f"invalid --replicates {self.replicates}", "give 1000, or 0 for none")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError(f"invalid --threshold {self.threshold}", "give a finite number")


@dataclass(frozen=True, slots=True)
class Part:
    """One topic of an evaluation.

    Attributes:
        key: its name in ``metrics.json``.
        numbers: JSON types. section: of the report.
        tables: ``<name>.csv``: headings and rows.
        key_figures: of the report's head: name, value, remark.
    """

    key: str
    numbers: Mapping[str, Any]
    section: Section
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=dict)
    key_figures: Sequence[tuple[str, str, str]] = ()


def share_text(found: Proportion, digits: int = 3) -> str:
    """``0.984 (0.982-0.987)`` of Wilson's interval; a dash for what is not defined."""
    return shown(found.wilson, digits)


def shown(found: Interval, digits: int = 3) -> str:
    """An interval as tables show it."""
    return found.typeset(digits)


def bounds_text(found: Interval, digits: int = 3) -> str:
    """``95 % interval 0.982–0.987``; says where there is none."""
    if not found.known:
        return "no interval"
    return f"{100 * found.level:g} % interval {found.low:.{digits}f}–{found.high:.{digits}f}"


def interval_cells(found: Interval) -> list[float | str]:
    """Estimate and bounds for a table; empty where not defined."""
    return ["" if not math.isfinite(value) else round(value, 6) for value in (found.estimate, found.low, found.high)]


def names_tables(drawn: Mapping[str, str]) -> list[PageTable]:
    """A table of the names that figures write otherwise, since no font of this machine has their letters; or none."""
    rows = [(there, name) for name, there in drawn.items() if there != name]
    note = "No font of the machine that drew the figures has the letters of these names."
    return [PageTable("Names in the figures", ("in the figure", "name"), rows, note, words=True)] if rows else []


def thinned(*lines: NDArray[np.float64], most: int = 1000) -> list[NDArray[np.float64]]:
    """Curves that rise together, by as many points as can be seen; the first and the last stay.

    Args:
        lines: ``[P]`` each, from 0 to 1. most: points that are kept.
    """
    length = len(lines[0])
    if length <= most:
        return list(lines)
    steps = np.abs(np.diff(np.stack(lines), axis=1, prepend=np.stack(lines)[:, :1]))
    way = steps.sum(axis=0).cumsum()
    wanted = np.linspace(0, way[-1], most)
    kept = np.unique(np.concatenate([[0], np.searchsorted(way, wanted).clip(0, length - 1), [length - 1]]))
    return [line[kept] for line in lines]


def joined_words(words: Iterable[str]) -> str:
    """``a, b and c``."""
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
