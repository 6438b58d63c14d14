"""Choosing an operating point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.operating_points import choose_operating_point, chosen_shares, share
from stride_monai.metrics.slide import specificity_at_sensitivity
from stride_monai.operating_point import ChosenOn, HoldsFor

ON, FOR = ChosenOn(0, 0, 0, ""), HoldsFor()


@given(st.integers(0, 40), st.integers(1, 40))
def test_shares_have_the_interval_of_clopper_and_pearson(found: int, of: int) -> None:
    found = min(found, of)
    said = share(np.arange(of) < found)
    assert (said.found, said.of, said.value) == (found, of, found / of)
    assert (said.low, said.high) == pytest.approx(proportion_confint(found, of, 0.05, "beta"), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.sampled_from(["plain", "conformal"]), st.integers(0, 99))
def test_a_slide_whose_score_was_rounded_is_called_as_it_was_counted(scores: list[float], rule: str, seed: int) -> None:
    """Scores are chosen from as findings state them, and called as they are."""
    rng = np.random.default_rng(seed)
    exact = np.r_[np.array(scores), rng.random(80)]
    positive = rng.random(len(exact)) < 0.9
    positive[:2] = True, False
    rounded = exact.round(6)
    if positive.sum() < 59:
        return
    point = choose_operating_point(rounded, positive, ON, FOR, rule=rule, step=1e-6)
    called = exact >= point.threshold
    assert called[positive].sum() == point.sensitivity.found
    assert (~called[~positive]).sum() == point.specificity.found


def test_the_other_rule_stands_beside_the_one_that_was_asked_for() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(300) < 150
    scores = np.clip(rng.normal(np.where(positive, 0.7, 0.4), 0.15), 0, 1)
    plain, sure = (choose_operating_point(scores, positive, ON, FOR, rule=rule) for rule in ("plain", "conformal"))
    assert plain.threshold == specificity_at_sensitivity(scores, positive).threshold
    assert (plain.confidence, sure.confidence) == (None, 0.95)
    assert sure.sensitivity.low > plain.sensitivity.low
    assert sure.specificity.value < plain.specificity.value
    assert plain.others["conformal"]["specificity"] == sure.specificity.value
    assert sure.others["plain"]["threshold"] == plain.threshold
    few = choose_operating_point(scores[100:], positive[100:], ON, FOR)
    assert "50 positive slides are too few" in few.others["conformal"]["why_not"]
    with pytest.raises(ManifestError, match=r"50 positive slides are too few .* give 59 or more"):
        choose_operating_point(scores[100:], positive[100:], ON, FOR, rule="conformal")


def test_the_interval_of_a_chosen_threshold_covers_95_percent() -> None:
    """The lower bound exactly, the upper one at least: 5,000 draws, and the sensitivity of a uniform score is 1 - t."""
    rng = np.random.default_rng(3)
    truth = np.r_[np.ones(200, bool), False]
    below = above = 0
    for _ in range(5000):
        scores = np.r_[rng.random(200), 0.5]
        point = specificity_at_sensitivity(scores, truth)
        sensitivity, _ = chosen_shares(scores, truth, point.threshold)
        below += 1 - point.threshold < sensitivity.low
        above += 1 - point.threshold > sensitivity.high
    assert 0.015 <= below / 5000 <= 0.035
    assert above / 5000 <= 0.035


@pytest.mark.parametrize(
    ("target", "rule", "says"),
    [(0.0, "plain", "invalid target 0"), (1.5, "plain", "1.5"), (1.0, "conformal", "invalid"), (0.9, "best", "'best'")],
)
def test_other_targets_and_rules_are_refused(target: float, rule: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_operating_point(np.array([0.2, 0.8]), np.array([False, True]), ON, FOR, target, rule)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_slides_of_one_kind_are_refused(positive: list[bool]) -> None:
    with pytest.raises(ManifestError, match="give slides of both kinds"):
        choose_operating_point(np.array([0.2, 0.8]), np.array(positive), ON, FOR)
