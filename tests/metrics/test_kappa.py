"""Kappas against scikit-learn and statsmodels, which stride_monai.metrics.kappa stands in for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as reference

from stride_monai.metrics import cohen_kappa, confusion_matrix, fleiss_kappa, kappa_weights

CLASSES = 4
pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", ["none", "linear", "quadratic"])
@given(read=pairs)
def test_two_readers(kind: str, read: list[tuple[int, int]]) -> None:
    one, other = np.array(read).T
    found = float(cohen_kappa(confusion_matrix(one, other, CLASSES), kappa_weights(CLASSES, kind)))
    if len({*one, *other}) == 1:
        assert math.isnan(found)
    else:
        weights = None if kind == "none" else kind
        assert found == pytest.approx(cohen_kappa_score(one, other, labels=range(CLASSES), weights=weights))


@given(readers=st.integers(2, 5), items=st.integers(1, 8), seed=st.integers(0, 999))
def test_any_number_of_readers(readers: int, items: int, seed: int) -> None:
    said = np.random.default_rng(seed).integers(0, 3, (items, readers))
    counts = np.stack([(said == name).sum(axis=1) for name in range(3)], axis=1)
    if len(np.unique(said)) == 1:
        assert math.isnan(fleiss_kappa(counts))
    else:
        assert fleiss_kappa(counts) == pytest.approx(reference(counts))


def test_many_tables_at_once_are_each_alone() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    assert cohen_kappa(tables) == pytest.approx([float(cohen_kappa(table)) for table in tables])
