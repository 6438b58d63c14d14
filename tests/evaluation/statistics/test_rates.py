"""Rates, predictive values and thresholds by counting and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.bethesda import LABELS, REPORT_GROUPS, SLIDE_CLASSES
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.statistics import (
    positive_from,
    predictive_values,
    rates,
    rates_by,
    rates_of_counts,
    score_of,
    tasks,
)
from stride_monai.metrics.slide import positive_scores

SLIDES = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from(["north", "south", ""])), max_size=30)


@given(SLIDES)
def test_rates_count(slides: list[tuple[bool, bool, str]]) -> None:
    found = rates([c for c, *_ in slides], [p for _, p, _ in slides])
    assert found.tp == sum(c and p for c, p, _ in slides)
    assert found.fn == sum(p and not c for c, p, _ in slides)
    assert found.tn == sum(not p and not c for c, p, _ in slides)
    assert found.slides == len(slides)
    for share, hits, total in (
        (found.sensitivity, found.tp, found.tp + found.fn),
        (found.specificity, found.tn, found.tn + found.fp),
        (found.ppv, found.tp, found.tp + found.fp),
        (found.npv, found.tn, found.tn + found.fn),
    ):
        assert (share.hits, share.total) == (hits, total)
        assert share.estimate == hits / total if total else math.isnan(share.estimate)
    by = rates_by([name for *_, name in slides], [c for c, *_ in slides], [p for _, p, _ in slides])
    assert sum(part.slides for part in by.values()) == len(slides)
    for name, part in by.items():
        alone = rates([c for c, _, n in slides if n == name], [p for _, p, n in slides if n == name])
        assert part.as_json() == alone.as_json()


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_at_their_own_prevalence_predictive_values_are_the_slides(tp: int, fn: int, tn: int, fp: int) -> None:
    found = rates_of_counts(tp, fn, tn, fp)
    ppv, npv = predictive_values(found, found.prevalence)
    assert (ppv.estimate, npv.estimate) == pytest.approx((found.ppv.estimate, found.npv.estimate))
    assert ppv.estimate in ppv
    assert npv.estimate in npv


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "n", "most"),
    [(0.9, 0.7, 200, 0.96), (0.985, 0.62, 400, 0.97), (0.97, 0.9, 60, 0.99)],
)
def test_95_percent_of_predictive_values_are_held(sensitivity: float, specificity: float, n: int, most: float) -> None:
    """Few missed slides make NPV's interval wide rather than short."""
    random, share, held = np.random.default_rng(0), 0.044, np.zeros(2)
    ppv = share * sensitivity / (share * sensitivity + (1 - share) * (1 - specificity))
    npv = (1 - share) * specificity / ((1 - share) * specificity + share * (1 - sensitivity))
    found, right = random.binomial(n, sensitivity, 5000), random.binomial(n, specificity, 5000)
    known = {}
    for tp, tn in zip(found.tolist(), right.tolist(), strict=True):
        if (tp, tn) not in known:
            values = predictive_values(rates_of_counts(tp, n - tp, tn, n - tn), share)
            known[tp, tn] = np.array([ppv in values[0], npv in values[1]])
        held += known[tp, tn]
    assert (held / 5000 >= 0.94).all()
    assert (held / 5000 <= most).all()


def test_predictive_values_of_empty_kinds_and_zero_cells() -> None:
    for empty in (rates_of_counts(0, 0, 5, 5), rates_of_counts(3, 1, 0, 0)):
        assert all(math.isnan(value.estimate) and not value.known for value in predictive_values(empty, 0.1))
    ppv, npv = predictive_values(rates_of_counts(10, 0, 10, 0), 0.1)
    assert (ppv.estimate, npv.estimate) == (1, 1)
    assert ppv.method.startswith("adjusted logit")
    assert 0 < ppv.low < ppv.high < 1
    nothing, _ = predictive_values(rates_of_counts(0, 4, 4, 0), 0.1)
    assert math.isnan(nothing.estimate)
    with pytest.raises(ConfigError, match="no share"):
        predictive_values(rates_of_counts(1, 1, 1, 1), 1.5)


def test_each_group_has_its_own_truth_and_score() -> None:
    random = np.random.default_rng(0)
    labels = [*LABELS, "ascus", "ADC"]
    probabilities = random.dirichlet(np.ones(6), len(labels))
    binary = positive_scores(probabilities)
    assert score_of(probabilities) == pytest.approx(binary)
    for task in tasks(labels, binary, probabilities):
        assert task.positive[:7].tolist() == [label in REPORT_GROUPS[task.group] for label in LABELS]
        assert task.positive[7] == (task.group == "ASC-US+")
        assert task.positive[8] == (task.group != "HSIL+")
        columns = [SLIDE_CLASSES.index(c) for c in SLIDE_CLASSES if c in REPORT_GROUPS[task.group]]
        assert task.scores == pytest.approx(probabilities[:, columns].sum(axis=1))
        assert task.by == ("score" if task.group == "ASC-US+" else "classes")
    alone = tasks(labels, binary)
    assert {task.by for task in alone} == {"score"}
    assert all(task.scores == pytest.approx(binary) for task in alone)
    assert len(positive_from([])) == 0
    with pytest.raises(ConfigError, match="unknown group"):
        positive_from(labels, "CIN2+")
    with pytest.raises(ManifestError, match="not a Bethesda label"):
        positive_from(["LSIL", "CIN2"])
