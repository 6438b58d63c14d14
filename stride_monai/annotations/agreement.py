"""How much readers agree, and how long they take: tables over the states of slides."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stride_monai.annotations.actions import CANNOT_TELL, Action, Kind, meaning
from stride_monai.annotations.state import SlideState
from stride_monai.bethesda import slide_class_of
from stride_monai.metrics.cell import confusion_matrix
from stride_monai.metrics.kappa import cohen_kappa, fleiss_kappa

__all__ = ["Agreement", "Group", "Pair", "Reader", "agreement"]

Ratings = Sequence[Mapping[str, str]]
"""One item each: reader -> category."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What one reader did.

    Attributes:
        who: the reader.
        cells: that stand with a label by this reader.
        blind: of them, read with the model's scores and calls hidden.
        added: cells that the reader drew and that stand.
        slides: that stand with a call by this reader.
        actions: all, undone ones and undo itself included.
        seconds: over all actions.
        seconds_per_cell: over the actions about cells, per cell; None without.
        settled: cells with a label by this reader that stand by several readers' agreement or by arbitration.
        as_settled: of them, those where the reader's label means what stands; None where nothing is settled.
    """

    who: str
    cells: int
    blind: int
    added: int
    slides: int
    actions: int
    seconds: float
    seconds_per_cell: float | None
    settled: int
    as_settled: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two readers.

    Attributes:
        of: ``cells`` or ``slides``.
        one, other: the readers.
        items: that both have read.
        agree: share of them on which they agree.
        kappa: Cohen's kappa, unweighted; None where it is not defined (both always say one and the same).
    """

    of: str
    one: str
    other: str
    items: int
    agree: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """All items that were read by the same number of readers, whoever these were.

    Attributes:
        of: ``cells`` or ``slides``.
        readers: per item.
        items: how many there are.
        kappa: Fleiss' kappa; None where it is not defined (all say one and the same).
    """

    of: str
    readers: int
    items: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """The tables: readers by name, pairs by names, groups by number of readers; cells before slides."""

    readers: tuple[Reader, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]


def agreement(states: Iterable[SlideState], actions: Iterable[Action]) -> Agreement:
    """Agreement of readers on cells and on slides, and their time.

    Categories of cells are those of :func:`~stride_monai.annotations.meaning` (cell classes, a lesion of no known
    class, cannot tell), of slides the slide classes and cannot tell. Every reader's own label counts, before
    arbitration. Reads that were not blind saw the model's call, and agree for that reason too.

    Args:
        states: of the slides.
        actions: all of the same slides, for the times.
    """
    states = list(states)
    cells = [
        {who: meaning(read.label) for who, read in cell.reads.items() if read.label is not None}
        for state in states
        for cell in state.present
    ]
    slides = [
        {who: call if call == CANNOT_TELL else slide_class_of(call) for who, call in state.calls.items()}
        for state in states
    ]
    tables = (("cells", cells), ("slides", slides))
    return Agreement(
        tuple(_readers(states, list(actions))),
        tuple(pair for of, ratings in tables for pair in _pairs(of, ratings)),
        tuple(group for of, ratings in tables for group in _groups(of, ratings)),
    )


def _readers(states: Sequence[SlideState], actions: Sequence[Action]) -> Iterable[Reader]:
    done, seconds, on_cells = Counter[str](), defaultdict[str, float](float), defaultdict[str, float](float)
    for action in actions:
        done[action.who] += 1
        seconds[action.who] += action.seconds
        if action.cell_id is not None and action.kind != Kind.ARBITRATION:
            on_cells[action.who] += action.seconds
    for who in sorted(done):
        present = [cell for state in states for cell in state.present]
        read = [cell for cell in present if who in cell.reads and cell.reads[who].label is not None]
        settled = [cell for cell in read if cell.label and (cell.arbitrated or len(cell.labels) > 1)]
        same = sum(meaning(cell.reads[who].label or "") == meaning(cell.label or "") for cell in settled)
        yield Reader(
            who,
            cells=len(read),
            blind=sum(cell.reads[who].blind for cell in read),
            added=sum(cell.added_by == who for cell in present),
            slides=sum(who in state.calls for state in states),
            actions=done[who],
            seconds=seconds[who],
            seconds_per_cell=on_cells[who] / len(read) if read else None,
            settled=len(settled),
            as_settled=same / len(settled) if settled else None,
        )


def _pairs(of: str, ratings: Ratings) -> Iterable[Pair]:
    for one, other in combinations(sorted({who for item in ratings for who in item}), 2):
        both = [(item[one], item[other]) for item in ratings if one in item and other in item]
        if both:
            agree = sum(first == second for first, second in both) / len(both)
            yield Pair(of, one, other, len(both), agree, _cohen(both))


def _cohen(both: Sequence[tuple[str, str]]) -> float | None:
    categories = sorted({category for pair in both for category in pair})
    said = np.array([[categories.index(category) for category in pair] for pair in both])
    return _known(float(cohen_kappa(confusion_matrix(said[:, 0], said[:, 1], len(categories)))))


def _groups(of: str, ratings: Ratings) -> Iterable[Group]:
    by_readers: defaultdict[int, list[Counter[str]]] = defaultdict(list)
    for item in ratings:
        if len(item) > 1:
            by_readers[len(item)].append(Counter(item.values()))
    for readers, counts in sorted(by_readers.items()):
        yield Group(of, readers, len(counts), _fleiss(counts))


def _fleiss(counts: Sequence[Counter[str]]) -> float | None:
    categories = sorted({category for row in counts for category in row})
    return _known(fleiss_kappa(np.array([[row[category] for category in categories] for row in counts])))


def _known(kappa: float) -> float | None:
    return kappa if math.isfinite(kappa) else None
