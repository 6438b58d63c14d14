"""Kappas against their formulas written out, and the time of readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from annotation_samples import reviewed
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.annotations import Action, Kind, agreement, meaning
from stride_monai.annotations.state import CellState, Read, SlideState
from stride_monai.units import Box

LABELS = ["NILM", "LSIL", "HSIL", "not_a_lesion", "cannot_tell"]


def slide(ratings: Sequence[Sequence[str | None]]) -> SlideState:
    """Cells (rows) by readers ``r0``, ``r1`` ... (columns); None is not read."""
    cells = {
        f"c{row}": CellState(
            f"c{row}",
            Box(0, 0, 1, 1),
            reads={f"r{column}": Read(given) for column, given in enumerate(labels) if given is not None},
        )
        for row, labels in enumerate(ratings)
    }
    return SlideState("s", cells=cells)


def slow_cohen(pairs: Sequence[tuple[str, str]]) -> float | None:
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    categories = {x for pair in pairs for x in pair}
    chance = sum(sum(a == c for a, _ in pairs) / n * sum(b == c for _, b in pairs) / n for c in categories)
    return None if len(categories) == 1 else (observed - chance) / (1 - chance)


def slow_fleiss(rows: Sequence[Sequence[str]]) -> float | None:
    n, readers = len(rows), len(rows[0])
    categories = {x for row in rows for x in row}
    shares = [sum(row.count(c) for row in rows) / (n * readers) for c in categories]
    within = [sum(row.count(c) * (row.count(c) - 1) for c in categories) / (readers * (readers - 1)) for row in rows]
    chance = sum(share**2 for share in shares)
    return None if len(categories) == 1 else (sum(within) / n - chance) / (1 - chance)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.none() | st.sampled_from(LABELS), min_size=3, max_size=3), min_size=1, max_size=12))
def test_kappas_are_those_of_the_formulas(ratings: list[list[str | None]]) -> None:
    found = agreement([slide(ratings)], [])
    for pair in found.pairs:
        one, other = int(pair.one[1]), int(pair.other[1])
        both = [(meaning(row[one]), meaning(row[other])) for row in ratings if row[one] and row[other]]
        assert pair.items == len(both)
        assert pair.kappa == (None if slow_cohen(both) is None else pytest.approx(slow_cohen(both)))
    for group in found.groups:
        rows = [[meaning(one) for one in row if one] for row in ratings]
        rows = [row for row in rows if len(row) == group.readers]
        assert group.items == len(rows)
        assert group.kappa == (None if slow_fleiss(rows) is None else pytest.approx(slow_fleiss(rows)))
    counts = {sum(one is not None for one in row) for row in ratings}
    assert {group.readers for group in found.groups} == {count for count in counts if count > 1}


def test_a_published_example_of_fleiss() -> None:
    """Ten subjects, five categories, fourteen raters: kappa 0.210 (Fleiss 1971, as often reprinted)."""
    table = [
        *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
        *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
    ]
    names = ["NILM", "ASC-US", "LSIL", "HSIL", "AGC"]
    ratings = [[name for name, count in zip(names, row, strict=True) for _ in range(count)] for row in table]
    (group,) = agreement([slide(ratings)], []).groups
    assert group.kappa == pytest.approx(0.210, abs=0.0005)


def test_readers_and_their_time(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    store.append(Action("chief", "切片 1", Kind.ARBITRATION, ids[2], None, "LSIL", seconds=9.0))
    found = agreement([store.state(one) for one in store.slide_ids()], store.actions())
    ana, bo, chief = found.readers
    assert (ana.who, ana.cells, ana.slides, ana.seconds, ana.seconds_per_cell) == ("ana", 4, 1, 12.0, 3.0)
    assert (bo.cells, bo.added, bo.settled, bo.as_settled) == (3, 1, 2, 0.5)  # HSIL agreed, ASC-US overruled
    assert (chief.cells, chief.seconds, chief.seconds_per_cell) == (0, 9.0, None)


def test_labels_of_one_meaning_agree() -> None:
    (pair,) = agreement([slide([["HSIL", "ASC-H"], ["NILM", "not_a_lesion"], ["LSIL", "AGC"]])], []).pairs
    assert (pair.items, pair.agree) == (3, pytest.approx(2 / 3))
