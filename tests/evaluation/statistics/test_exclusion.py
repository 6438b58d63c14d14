"""Safe exclusion, sample sizes and seeds by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from stride_monai.bethesda import LABELS, REPORT_GROUPS
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.statistics import (
    auc_interval,
    exclusion_curve,
    safe_exclusion,
    seed_summary,
    slides_for_auc_width,
    slides_for_width,
)

GRADED = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(LABELS)), min_size=1, max_size=30)


@given(GRADED)
def test_the_curve_counts_what_is_below_each_threshold(slides: list[tuple[int, str]]) -> None:
    scores, labels = np.array([k / 8 for k, _ in slides]), np.array([label for _, label in slides])
    curve = exclusion_curve(scores, labels.tolist())
    assert curve.threshold.tolist()[:-1] == sorted(set(scores.tolist()))
    assert (curve.excluded[0], curve.excluded[-1]) == (0, 1)
    assert list(curve.lost) == [label for label in LABELS[1:] if label in labels]
    for k, threshold in enumerate(curve.threshold):
        out = scores < threshold
        assert curve.excluded[k] == pytest.approx(out.mean())
        for label, lost in curve.lost.items():
            assert lost[k] == pytest.approx(out[labels == label].mean())
        if "NILM" in labels:
            assert curve.negatives[k] == pytest.approx(out[labels == "NILM"].mean())
        else:
            assert math.isnan(curve.negatives[k])
    few = exclusion_curve(scores, labels.tolist(), points=3)
    assert set(few.threshold.tolist()) <= set(curve.threshold.tolist())
    assert few.excluded[-1] == 1


@given(GRADED, st.sampled_from([0.5, 0.9, 1.0]))
def test_exclusion_keeps_the_lesions_that_it_was_told_to(slides: list[tuple[int, str]], target: float) -> None:
    scores, labels = np.array([k / 8 for k, _ in slides]), [label for _, label in slides]
    severe = np.array([label in REPORT_GROUPS["HSIL+"] for label in labels])
    if severe.all() or not severe.any():
        with pytest.raises(ManifestError, match="slide among the"):
            safe_exclusion(scores, labels, target=target)
        return
    found = safe_exclusion(scores, labels, target=target)
    assert (scores[severe] >= found.threshold).mean() >= target
    higher = [s for s in scores.tolist() if s > found.threshold]
    assert all((scores[severe] >= s).mean() < target for s in higher)
    assert found.excluded.hits == (scores < found.threshold).sum()
    assert sum(share.total for share in found.lost.values()) + found.negatives.total == len(labels)
    assert set(found.as_json()["lost"]) == set(labels) - {"NILM"}


def test_odd_slides_are_refused() -> None:
    for scores, labels in (([], []), ([math.nan], ["NILM"])):
        with pytest.raises(ManifestError, match="not finite"):
            exclusion_curve(scores, labels)
    with pytest.raises(ManifestError, match="not a Bethesda label"):
        exclusion_curve([0.1], ["CIN3"])


@given(st.floats(0, 1), st.floats(0.01, 0.5))
def test_one_slide_less_is_too_few(share: float, width: float) -> None:
    cases = slides_for_width(share, width).cases

    def wide(n: int) -> float:
        low, high = proportion_confint(share * n, n, method="wilson")
        return float(high - low)

    assert wide(cases) <= width + 1e-9
    assert cases == 1 or wide(cases - 1) > width - 1e-9


def test_sample_sizes_allow_for_the_rare_kind() -> None:
    cases, slides = slides_for_width(0.95, 0.02, kind=0.044)
    assert slides == math.ceil(cases / 0.044)
    assert abs(cases - 4 * norm.ppf(0.975) ** 2 * 0.95 * 0.05 / 0.02**2) < 20  # the normal approximation
    area = slides_for_auc_width(0.9, 0.06, 0.2)
    random = np.random.default_rng(0)
    positive = np.arange(area.slides) < area.cases
    widths = []
    for _ in range(40):  # exponential scores, of which the formula is
        scores = random.exponential(size=area.slides) * np.where(positive, 9.0, 1.0)
        widths.append(auc_interval(scores, positive).width)
    assert np.mean(widths) == pytest.approx(0.06, rel=0.05)
    for wrong in (lambda: slides_for_width(0.9, 0), lambda: slides_for_auc_width(1, 0.1, 0.1)):
        with pytest.raises(ConfigError, match="no sample size"):
            wrong()


def test_three_seeds() -> None:
    runs = [{"auc": 0.951, "f1": 0.4}, {"auc": 0.949, "f1": 0.5}, {"auc": 0.95, "f1": 0.6}]
    found = seed_summary(runs)
    assert list(found) == ["auc", "f1"]
    assert found["f1"].text() == "0.500 +- 0.100 (n = 3)"
    half = t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (found["f1"].mean.low, found["f1"].mean.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert (found["f1"].lowest, found["f1"].highest) == (0.4, 0.6)
    alone = seed_summary(runs[:1])["auc"]
    assert alone.text() == "0.951 (n = 1)"
    assert alone.as_json()["sd"] is None
    assert seed_summary([{"a": math.nan}, {"a": 1.0}])["a"].as_json()["mean"]["estimate"] is None
    for wrong in ([], [{"a": 1.0}, {"b": 1.0}]):
        with pytest.raises(ValueError, match="the same figures"):
            seed_summary(wrong)
